"""What keeps the faulty sockets of one server, or of one client, together: plan, seed, trace, numbers, and the changes on the way."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from .._support import UsageError, hard_reset
from ..faults import Trace, plan as to_plan, start_calls, start_listener
from ._faulty_calls import CallFaults, system_error
from ._faulty_datagrams import datagrams_between
from ._faulty_keeper import keeper
from ._faulty_numbers import Numbers
from ._faulty_stream import between

if TYPE_CHECKING:
    from .._support import Deadline, Transport
    from ..faults import Decision, Faults, Plan, Verdict
    from ..transcript import Side
    from ._relay import Relay

__all__ = ("FaultDriver", "TurnedAway")

#: Seconds after which a peer that says nothing more is no longer waited for: it has probably gone.
_MOMENT = 0.5

#: What `accept` says of somebody who has come and is gone again.
_GONE = ("ECONNABORTED", "ECONNREFUSED", "EPROTO")


class TurnedAway(ConnectionAbortedError):  # noqa: N818 - named by what happened
    """A client was refused after it had come: to whoever accepts it is as if it had gone by itself."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))


class FaultDriver:
    """Puts sockets behind faults.

    Args:
        faults: The faults with which each connection begins.
        seed: Where random numbers come from.
        side: Whose sockets they are.
        transport: "stream" or "datagram".
        tell: Is told each decision.
        numbers: Counts the connections.

    Attributes:
        listening: What goes wrong where connections are accepted.
        forks: Whether children hold the sockets, so that closing one here says nothing.
        before_accept: Is called before each connection that is accepted, if it is set.
        listener: The listener whose queue faults may shorten, if there is one.
        after_close: Is called when the listener was closed, if it is set.

    Raises:
        UsageError: A fault is for the other transport.
    """

    def __init__(
        self,
        faults: Faults,
        *,
        seed: int | str = 0,
        side: Side = "server",
        transport: Transport = "stream",
        tell: Callable[[Decision], None] | None = None,
        numbers: Numbers | None = None,
    ) -> None:
        self.seed = seed
        self.side = side
        self.transport = transport
        self.tell: Callable[[Decision], None] = Trace() if tell is None else tell
        self.listening = CallFaults(0)
        self.forks = False
        self.listener: socket.socket | None = None
        self._short = False
        self.before_accept: Callable[[], object] | None = None
        self.after_close: Callable[[], object] | None = None
        self._numbers = numbers or Numbers()
        self._plans: dict[str, Plan] = {}
        self._calls: WeakSet[CallFaults] = WeakSet()
        # What is at work on each passage. Changed in the relay's thread, once a passage is there.
        self._relay: Relay | None = None
        self._applied: dict[Any, dict[str, Plan]] = {}
        self._changed = threading.Condition()
        self._pid = os.getpid()
        self._holds = False
        self.put("", to_plan(faults))

    # -- faults that come and go

    @property
    def plans(self) -> dict[str, Plan]:
        """The faults at work, by key."""
        return dict(self._plans)

    def put(self, key: str, faults: Plan | None) -> None:
        """Let these faults be at work, on what lives and on what comes, in the place of those of this key; None for none.

        When this returns they are. What those before held goes on at once.
        """
        if faults is not None:
            faults.check(self.transport)
        with self._changed:
            self._plans = {other: plan for other, plan in self._plans.items() if other != key}
            if faults is not None:
                self._plans[key] = faults
            self._arm_listener(key, faults)
            for calls in list(self._calls):
                self._arm(calls, key, faults)
            self._of_this_process()
            relay = self._relay
        if relay is not None:
            # Also if nothing is known to pass: something may be about to.
            with contextlib.suppress(UsageError):  # it has ended, and so has all that passed
                relay.call(self._apply)

    def _apply(self) -> None:
        """Let be at work what shall be, and no more. In the relay's thread, so that the last change is the last."""
        wanted = self._plans
        for passage, known in list(self._applied.items()):
            for key in known.keys() - wanted.keys():
                passage.remove_faults(key)
            for key, faults in wanted.items():
                if known.get(key) != faults:
                    passage.replace_faults(key, faults)
            if passage in self._applied:
                self._applied[passage] = wanted

    def _arm(self, calls: CallFaults, key: str, faults: Plan | None) -> None:
        if faults is None:
            calls.put(key, None)
            return
        started = start_calls(
            faults,
            seed=self.seed,
            connection=max(calls.number, 1),
            receives="upstream" if self.side == "server" else "downstream",
            transport=self.transport,
            opened=calls.opened,
            note=self.tell,
        )
        calls.put(key, started)

    def _arm_listener(self, key: str, faults: Plan | None) -> None:
        self._arm(self.listening, f"{key} calls", faults)
        started = None
        if faults is not None:
            started = start_listener(
                faults,
                seed=self.seed,
                transport=self.transport,
                opened=monotonic(),
                note=self.tell,
                number=lambda: self._numbers.attempt,
            )
        self.listening.put(key, started)
        self.set_backlog()

    def set_backlog(self) -> None:
        """Make the listener's queue as long as its faults let it be."""
        listener = self.listener
        limits = [one.limit for one in self.listening.verdicts("listen") if one.limit is not None]
        if listener is None or listener.fileno() < 0 or not (limits or self._short):
            return
        self._short = bool(limits)
        listener.listen(min(limits, default=socket.SOMAXCONN))

    def calls_for(self, number: int) -> CallFaults:
        """What goes wrong in the calls on the socket of a connection."""
        calls = CallFaults(number)
        with self._changed:
            for key, faults in self._plans.items():
                self._arm(calls, key, faults)
            self._calls.add(calls)
        return calls

    # -- sockets

    def stream(self, real: socket.socket, number: int | None = None) -> socket.socket:
        """Put a connected stream socket behind faults. Use the one that is returned."""
        number = self._numbers.take() if number is None else number
        calls = self.calls_for(number)
        relay = self._enter()
        try:
            made = between(
                relay,
                real,
                self._begin,
                side=self.side,
                seed=self.seed,
                number=number,
                tell=self.tell,
                on_end=self._ended,
            )
        except BaseException:
            keeper.leave()
            raise
        made.servertest_calls = calls
        assert made.servertest_guise is not None
        made.servertest_guise.holders += self.forks
        return made

    def datagrams(self, real: socket.socket) -> socket.socket:
        """Put a datagram socket behind faults. Use the one that is returned."""
        calls = self.calls_for(1)
        relay = self._enter()
        try:
            made = datagrams_between(
                relay,
                real,
                _Live(self),
                self._begin,
                side=self.side,
                seed=self.seed,
                next_number=self._numbers.take,
                tell=self.tell,
                on_end=self._ended,
            )
        except BaseException:
            keeper.leave()
            raise
        made.servertest_calls = calls
        return made

    def _of_this_process(self) -> dict[Any, dict[str, Plan]]:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._applied = {}
            self._holds = False
            self._relay = None
        return self._applied

    def _enter(self) -> Relay:
        relay = keeper.enter()
        with self._changed:
            self._of_this_process()
            self._relay = relay
        return relay

    def _begin(self, passage: Any) -> None:
        """Something begins to pass. In the relay's thread: what changes after this changes it, too."""
        with self._changed:
            plans = self._of_this_process()[passage] = self._plans
        try:
            passage.begin(plans)
        except BaseException:  # a trigger's own function, say
            with self._changed:
                self._applied.pop(passage, None)
            raise

    def _ended(self, passage: Any) -> None:
        with self._changed:
            self._of_this_process().pop(passage, None)
            self._changed.notify_all()
        keeper.leave()

    # -- accepting

    def accept(
        self, listener: socket.socket, accept: Callable[[], tuple[socket.socket, Any]]
    ) -> tuple[socket.socket, Any]:
        """Accept a connection from a listener, with all that may go wrong, and put it behind faults.

        Args:
            listener: The listener.
            accept: Its own way to accept.
        """
        if self.before_accept is not None:
            self.before_accept()
        if not self.listening.active:
            connection, peer = accept()
            return self.stream(connection), peer
        with self._numbers.alone(self.listening):
            self._before_accept(listener, accept)
            connection, peer = accept()
            number = self._numbers.take()
        return self.stream(connection, number), peer

    def _before_accept(
        self, listener: socket.socket, accept: Callable[[], tuple[socket.socket, Any]]
    ) -> None:
        timeout = listener.gettimeout()
        if timeout is None and not os.get_blocking(listener.fileno()):
            timeout = 0.0  # several processes wait for the same client, and those who come too late must not wait on
        if not _somebody_has_come(listener, timeout):
            # Said here: to the call itself somebody could have come by now, past the faults.
            raise system_error("EAGAIN") if timeout == 0 else TimeoutError("timed out")
        for verdict in self.listening.verdicts("accept"):
            self._suffer(verdict, timeout, accept)

    def _suffer(
        self, verdict: Verdict, timeout: float | None, accept: Callable[[], tuple[socket.socket, Any]]
    ) -> None:
        if verdict.delay:
            self.listening.wait(verdict.delay)
            self.set_backlog()  # it may be over now
        if verdict.error is None or verdict.error == "EINTR":
            return
        if verdict.error == "EAGAIN" and timeout != 0:
            return
        if verdict.error in _GONE:
            hard_reset(accept()[0])
            self._numbers.take()  # it was a connection, if only for a moment
        elif verdict.error != "EAGAIN":  # which was no attempt at all
            self._numbers.failures += 1
        raise TurnedAway() if verdict.error == "ECONNREFUSED" else system_error(verdict.error)

    # -- the end

    def hold(self) -> None:
        """Keep the relay from now on, also while there is nothing to carry."""
        with self._changed:
            self._of_this_process()
            if not self._holds:
                self._holds = True
                self._relay = keeper.enter()

    def interrupt(self) -> None:
        """Whoever waits because of a fault of its calls goes on: there is to be an end."""
        self.listening.stop()
        self._numbers.interrupt()
        for calls in list(self._calls):
            calls.stop()

    def finish(self, deadline: Deadline) -> None:
        """Everybody who used the sockets has ended: carry what was sent, and end the rest.

        Args:
            deadline: Until when. Peers that have finished sending are waited for no longer than a moment.
        """
        self.interrupt()
        with self._changed:
            passages = list(self._of_this_process())
        if passages:
            relay = passages[0].relay
            relay.call(lambda: [passage.wind_up() for passage in passages])
            rest = deadline.remaining()
            if not self._wait(_MOMENT if rest is None else min(_MOMENT, rest)):
                relay.call(
                    lambda: [one.force() for one in passages if one.end is None and one.peer_has_finished()]
                )
                if not self._wait(deadline.remaining()):
                    relay.call(lambda: [one.force() for one in passages if one.end is None])
        with self._changed:
            holds, self._holds = self._holds, False
        if holds:
            keeper.leave()

    def _wait(self, seconds: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._of_this_process(), seconds)


class _Live(dict[str, "Plan"]):
    """The plans of a driver as they are when they are asked for."""

    def __init__(self, driver: FaultDriver) -> None:
        super().__init__()
        self._driver = driver

    def items(self) -> Any:
        return self._driver.plans.items()

    def values(self) -> Any:
        return self._driver.plans.values()


def _somebody_has_come(listener: socket.socket, timeout: float | None) -> bool:
    import select

    if not hasattr(select, "poll"):
        return bool(select.select([listener], [], [], timeout)[0])
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def require_socket(sock: object) -> None:
    """Refuse what cannot be put behind faults.

    Raises:
        UsageError: It is no real socket, it is closed, or it speaks TLS already.
    """
    import sys

    if not isinstance(sock, socket.socket):
        raise UsageError(f"only real sockets can have faults, and this is a {type(sock).__qualname__}")
    if sock.fileno() < 0:
        raise UsageError("faulty: the socket is closed")
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise UsageError(
            "faulty: give the plain socket, and begin TLS on what is returned: faults go below TLS"
        )
