"""Faults inside a server, around its own sockets: as its handlers see the network."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._support import Deadline, UsageError
from ..faults import plan as to_plan
from ..wire._faulty import listening_behind
from ..wire._faulty_calls import system_error
from ..wire._faulty_driver import FaultDriver
from ..wire._faulty_numbers import Numbers, SharedNumbers
from ._instrument import has_base

if TYPE_CHECKING:
    import socket

    from ..faults import Entry, Faults, Plan as FaultPlan
    from ._host import Plan
    from ._kinds import Kind

__all__ = ("FaultSetup", "ServerFaults", "check_faults", "takes_down")

#: What holds up a loop that serves connections as well.
_HOLD_UP = ("full_backlog",)


@dataclass(frozen=True, slots=True)
class FaultSetup:
    """What goes wrong at a server from its beginning.

    Attributes:
        faults: The faults.
        seed: Where random numbers come from.
        control: Where the server process learns of changes; None for a server in this process.
    """

    faults: FaultPlan
    seed: int | str = 0
    control: str | None = None


def check_faults(faults: Faults, target: Any, kind: Kind) -> FaultPlan:
    """Read the faults that a server is to have.

    Raises:
        UsageError: They cannot work there; the message says why, and what to do.
    """
    wanted = to_plan(faults)
    if type(target).__name__ == "CommandTarget" and not (wanted and all(map(takes_down, wanted))):
        raise UsageError(
            f"faults= cannot get into {target.name}, which is a program of its own: put a proxy in front of it"
        )
    wanted.check(kind.transport)
    if kind.tls:
        for entry in wanted:
            if entry.fault.place == "calls":
                raise UsageError(
                    f"{type(entry.fault).__name__} cannot be done under TLS: OpenSSL makes the calls by itself, past the "
                    "socket object. Take a kind without TLS, or a fault of what passes"
                )
    return wanted


def takes_down(entry: Entry) -> bool:
    """Whether a fault is not for the server's sockets, but takes the server down: a `Refuse` that is for all."""
    return entry.fault.name == "refuse" and entry.trigger is None


class ServerFaults:
    """The faults of one server, where that server is.

    Attributes:
        driver: Puts its sockets behind them.
    """

    def __init__(self, setup: FaultSetup, plan: Plan) -> None:
        observer = plan.observer
        self._kind = plan.kind
        self._patience = plan.timeout
        self._server: Any = None
        self._loops = False
        self._control: Any = None
        self._control_path = setup.control
        self._pid = os.getpid()
        self._shared = plan.kind.concurrency == "prefork" and plan.kind.transport == "stream"
        self._numbers = SharedNumbers() if self._shared else Numbers()
        self.driver = FaultDriver(
            setup.faults,
            seed=setup.seed,
            transport=plan.kind.transport,
            tell=(lambda decision: None) if observer is None else observer.decided,
            numbers=self._numbers,
        )
        if plan.kind.forks:
            # A child gives back what it has of the relay, and never waits for its thread.
            warnings.filterwarnings(
                "ignore",
                message=r"This process .* is multi-threaded, use of fork\(\)",
                category=DeprecationWarning,
            )

    # -- where the server's sockets come from

    def listen(self, listener: socket.socket, *, server: Any) -> socket.socket:
        """Put behind faults what a server accepts from now on. The listener stays the same object."""
        self.begin(server=server, loops=has_base(server, "SelectorMixIn"))
        return listening_behind(self.driver, listener)

    def datagrams(self, sock: socket.socket, *, server: Any = None) -> socket.socket:
        """Put a datagram socket behind faults. Use the one that is returned."""
        if server is not None:
            self.begin(server=server)
        return self.driver.datagrams(sock)

    def begin(self, *, server: Any = None, loops: bool = False) -> None:
        """The server is built, and about to begin.

        Args:
            server: The server, if it is one in the style of `socketserver`.
            loops: Whether an event loop accepts, which serves connections as well.

        Raises:
            UsageError: It cannot have these faults.
        """
        self._server, self._loops = server, loops
        self.driver.forks = has_base(server, "ForkingMixIn")
        for faults in self.driver.plans.values():
            self._check(faults)
        if not self._shared:
            # Held from the beginning to the end, so that nothing appears or goes while the server serves.
            self.driver.hold()
            self._follow()
        else:
            self.driver.before_accept = self._begin_in_worker

    def _begin_in_worker(self) -> None:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            # A worker has nobody who would end its faults: it closes its listener, and is gone.
            self.driver.after_close = lambda: self.driver.finish(
                Deadline(self._patience, "what was sent to arrive")
            )
            self.driver.hold()
            self._follow()

    def _follow(self) -> None:
        if self._control_path is not None:
            from ._faults_control import Follower

            self._control = Follower(self._control_path, self.put_all)

    # -- changes

    def put_all(self, faults: dict[str, FaultPlan]) -> None:
        """Let these be at work beside those of the beginning, and no others."""
        for wanted in faults.values():
            self._check(wanted)
        known = self.driver.plans
        for key in [key for key in known if key and key not in faults]:
            self.driver.put(key, None)
        for key, wanted in faults.items():
            if known.get(key) != wanted:
                self.driver.put(key, wanted)

    def _check(self, faults: FaultPlan) -> None:
        """Refuse what this server cannot do.

        Raises:
            UsageError: The message says what can.
        """
        faults.check(self._kind.transport)
        for entry in faults:
            name, title = entry.fault.name, type(entry.fault).__name__
            if name == "fail_thread_start" and not self._starts("ThreadingMixIn"):
                raise UsageError(
                    f"{title}: this server starts no thread for a request: take a threading kind"
                )
            if name == "fail_fork" and not self._starts("ForkingMixIn"):
                raise UsageError(f"{title}: this server forks no process for a request: take a forking kind")
            if name in _HOLD_UP and self._loops:
                raise UsageError(
                    f"{title}: the loop that would not accept serves connections as well, and would stand still: "
                    "use server.down(), or put a proxy in front"
                )

    def _starts(self, base: str) -> bool:
        return self._server is not None and has_base(self._server, base)

    def before_process_request(self) -> None:
        """A thread or a process is about to be started for a request.

        Raises:
            RuntimeError: No thread can be started.
            OSError: No process can be forked.
        """
        calls = self.driver.listening
        for call in ("thread", "fork"):
            if calls.active and self._starts("ThreadingMixIn" if call == "thread" else "ForkingMixIn"):
                for verdict in calls.verdicts(call):
                    if verdict.error is not None:
                        raise _injected(call, verdict.error)

    # -- the end

    def interrupt(self) -> None:
        """Let go on whoever waits because of a fault: the server is to stop. Safe in signal handlers."""
        self.driver.interrupt()

    def finish(self, deadline: Deadline) -> None:
        """All handlers have ended: let arrive what they have sent, and give everything back."""
        if self._control is not None:
            self._control.close()
        self.driver.finish(deadline)
        self._numbers.close()


def _injected(call: str, error: str) -> Exception:
    raised: Exception = RuntimeError("can't start new thread") if call == "thread" else system_error(error)
    # Whoever overrides handle_error() is told of it as usual; the test, which has asked for it, is not.
    raised.servertest_injected = True  # type: ignore[attr-defined]
    return raised
