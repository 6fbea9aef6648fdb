"""A server that follows a script, so that a client can be tested against exactly what the test wants."""

from __future__ import annotations

import dataclasses
import select
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._support import (
    DEFAULT_TIMEOUT,
    STOP_TIMEOUT,
    Deadline,
    Mismatch,
    UsageError,
    format_address,
    suggests_keywords,
)
from ..faults import History, Plan, Trace, plan
from ..launch import FunctionTarget, HandlerTarget, Kind, launch
from ..transcript import Transcript, matches
from ..wire import observed_number
from ._bridge import Ferry, bridge
from ._course import Scenarios
from ._datagram_actor import DatagramActor
from ._errors import MockFailed
from ._hosting import Named, kind_for
from ._matching import check_expected, shown
from ._numbers import Numbers
from ._performance import Performance
from ._report import complaint, headline, nearest, status
from ._script import Script
from ._stream_actor import StreamActor

if TYPE_CHECKING:
    from .._support import Address, Family
    from ..faults import Decision, Faults
    from ..launch import Running
    from ..tls import Profile
    from ..transcript import Expected, Framing
    from ._values import Request

__all__ = ("MockServer",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

#: Seconds that clients who have connected get to be accepted when the server is stopped.
_ACCEPT = 1.0


class MockServer(Script):
    """A server that follows a script. It serves when it is made, and until `stop`; as a context manager, to the end of the block.

    It is itself the script for all connections that have none of their own: `banner`, `expect`, `push` and so on may be called
    at any time. Every connection plays its own copy, from the beginning; of datagrams, every peer.

    What a client did not do, or did and should not have done, is raised by `stop`, with all that helps to understand it.

    Args:
        kind: "tcp", "udp", "unix", "unix-datagram", or any kind of server that runs in a thread and does not share it between
            connections.
        framing: Where messages end; without, a stream is taken as it comes.
        address: Where, as for `launch`; a free loopback address by default.
        tls: As for `launch`: True, "mutual", a profile or the name of one.
        faults: What goes wrong on each connection, in both directions unless aimed; or where connections are accepted.
        seed: Where the random numbers of faults and of garbage come from.
        patient: Whether a request that nothing expects waits until something does, instead of ending the conversation.
        timeout: Seconds that stopping may take.

    Raises:
        UsageError: What was asked for cannot be; the message says what to do.
        AddressInUse: Something else holds the address.
    """

    @suggests_keywords
    def __init__(
        self,
        kind: str | Kind = "tcp",
        *,
        framing: Framing | None = None,
        address: Address | Family | None = None,
        tls: bool | str | Profile | None = None,
        faults: Faults = None,
        seed: int | str = 0,
        patient: bool = False,
        timeout: float = STOP_TIMEOUT,
    ) -> None:
        chosen = kind_for(kind)
        super().__init__(chosen.transport, framing, lock=threading.RLock(), changed=self._wake)
        self._whole, at_the_door = _parted(plan(faults))
        self._whole.check(chosen.transport, ("line",))
        self._seed = seed
        self._patient = patient
        self._progress = threading.Condition(self.setting.lock)
        self._scripts: list[tuple[Numbers, Script]] = []
        self._performances: list[Performance] = []
        self._requests: list[Request] = []
        self._actors: list[StreamActor] = []
        self._stopping = self._stopped = False
        self.scenarios = Scenarios(self._wake)
        #: Conversations, and scripts that nobody played, of which nothing is complained.
        self.forgiven: set[Performance | Script] = set()
        #: What faults have decided, on whatever connection.
        self.trace = Trace()
        datagram = chosen.transport == "datagram"
        #: Reaches the server that plays for connections which have no script: a connected socket, or a client for datagrams.
        self.beyond: Callable[[], Any] | None = None
        self._datagrams = DatagramActor(self._begin_peer, self._progressed) if datagram else None
        try:
            self.running: Running = launch(
                self._target(),
                kind=chosen,
                address=address,
                tls=tls,
                timeout=timeout,
                faults=at_the_door or None,
                seed=seed,
            )
        except BaseException:
            if self._datagrams is not None:
                self._datagrams.close()
            raise

    def _target(self) -> HandlerTarget | FunctionTarget:
        if self._datagrams is None:
            return HandlerTarget(Named("MockServer", self._play))
        return FunctionTarget(Named("MockServer", self._datagrams), "datagram")

    def __repr__(self) -> str:
        state = ", stopped" if self._stopped else ""
        return (
            f"<MockServer on {self.running}: {len(self)} steps, {len(self._performances)} connections{state}>"
        )

    def __str__(self) -> str:
        return f"mock server on {format_address(self.address)} ({self.running.kind})"

    # -- where it is

    @property
    def address(self) -> Address:
        """Where clients reach it: a pair, a path, or an abstract name."""
        return self.running.address

    @property
    def host(self) -> str:
        """The host of its address."""
        return self.running.host

    @property
    def port(self) -> int:
        """The port of its address."""
        return self.running.port

    @property
    def path(self) -> str:
        """The path of its Unix socket."""
        return self.running.path

    @property
    def transcript(self) -> Transcript:
        """Everything that passed."""
        transcript = self.running.transcript
        assert transcript is not None
        return transcript

    def connect(self, **options: Any) -> Any:
        """A client that is connected to it, as of `Running.connect`."""
        return self.running.connect(**options)

    async def connect_async(self, **options: Any) -> Any:
        """As `connect`, for asyncio."""
        return await self.running.connect_async(**options)

    def client_context(self) -> Any:
        """An `ssl.SSLContext` for clients of other libraries: it trusts this server's certificate."""
        return self.running.client_context()

    # -- scripts

    def on(self, connection: int | range | Iterable[int]) -> Script:
        """The script for these connections, which do not play the common one.

        Args:
            connection: Counted from 1 as they are accepted (of datagrams: peers): a number, several, or a range. For the same
                ones it is the same script.

        Raises:
            UsageError: It is none of these, or one of them has a script together with others already.
        """
        numbers = Numbers.of(connection)
        with self.setting.lock:
            for others, script in self._scripts:
                if others.chosen == numbers.chosen:
                    return script
                if numbers.meets(others):
                    raise UsageError(
                        f"on: {numbers} cannot have a script of their own beside {others}, which have one"
                    )
            script = Script(
                self.setting.transport,
                self.setting.framing,
                lock=self.setting.lock,
                changed=self._wake,
                title=str(numbers),
            )
            self._scripts.append((numbers, script))
        return script

    def _script_for(self, number: int) -> Script:
        return next((script for numbers, script in self._scripts if number in numbers.chosen), self)

    # -- what came

    @property
    def requests(self) -> list[Request]:
        """What clients have sent, message by message; without a framing, as the steps of the script have taken it."""
        with self.setting.lock:
            return list(self._requests)

    @property
    def conversations(self) -> list[Performance]:
        """The copies of the script that are, or were, played."""
        with self.setting.lock:
            return list(self._performances)

    @property
    def problems(self) -> str:
        """What a stop would complain of now; nothing if all is well."""
        return self.explain()

    def explain(self, *, ladders: bool = True) -> str:
        """`problems`, with what passed or, for reports that show it anyway, without."""
        return complaint(self, ladders=ladders)

    @property
    def scripts(self) -> list[Script]:
        """The script for connections that have none of their own, and those for some."""
        return [self, *(script for _, script in self._scripts)]

    @property
    def seed(self) -> int | str:
        """Where the random numbers of faults and of garbage come from."""
        return self._seed

    def status(self) -> str:
        """How far the script got on each connection, and what passed, for people."""
        return status(self)

    def forgive(self) -> str:
        """Let nothing that has gone wrong so far, or is owed by anybody so far, fail the test; returns what that was.

        Conversations that begin later count again.
        """
        with self.setting.lock:
            problems = self.problems
            self.forgiven.update(self._performances, self.scripts)
        return problems

    def assert_received(
        self,
        expected: Expected,
        *,
        times: int | None = None,
        connection: int | None = None,
        timeout: float = 1.0,
    ) -> list[Request]:
        """Make sure that clients have sent this, and return the requests.

        Args:
            expected: The bytes of a whole request, a pattern that it matches, or a function that returns true for the right one.
            times: Exactly so many times; at least once if left out. 0 does not wait.
            connection: On this connection only.
            timeout: Seconds to wait for it.

        Raises:
            Mismatch: They have not; the message shows what came nearest.
            UsageError: No request can be what is expected.
        """
        __tracebackhide__ = True
        check_expected("assert_received", expected)
        least = 1 if times is None else times
        deadline = Deadline(timeout, "a request")
        with self._progress:
            while len(found := self._found(expected, connection)) < least and not deadline.expired:
                self._progress.wait(deadline.remaining())
        if len(found) < least or (times is not None and len(found) > times):
            raise Mismatch(nearest(self, expected, found, times, connection))
        return found

    @property
    def histories(self) -> list[History]:
        """Faults, seeds and what was decided, of single steps, of the door and of clients too; nothing if there was nothing."""
        own = History("mock server", self._whole, self._seed, self.trace, self.transcript.started)
        return [*([own] if self._whole or self.trace else []), *self.running.histories]

    def _found(self, expected: Expected, connection: int | None) -> list[Request]:
        return [
            request
            for request in self._requests
            if connection in (None, request.connection) and matches(expected, request.data)
        ]

    @suggests_keywords
    def wait_for(
        self,
        expected: Expected | None = None,
        *,
        times: int = 1,
        requests: int | None = None,
        connections: int | None = None,
        finished: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Wait until everything that is asked for here has happened; at once if it already has.

        Args:
            expected: A request like this has come ...
            times: ... so many times at least.
            requests: At least so many requests have come in all.
            connections: At least so many connections have been made.
            finished: Nothing is owed by anybody any more.
            timeout: Seconds.

        Raises:
            DeadlineExceeded: It has not happened in time; the message says what has.
            UsageError: Nothing was asked for, or something that no request can be.
        """
        wanted = [
            "" if expected is None else f"{shown(expected)}" + (f" {times} times" if times != 1 else ""),
            "" if requests is None else f"{requests} requests",
            "" if connections is None else f"{connections} connections",
            "the script to be finished" * finished,
        ]
        if not any(wanted):
            raise UsageError(
                "wait_for() was not told what to wait for: give a request, or requests=, connections=, finished="
            )
        if expected is not None:
            check_expected("wait_for", expected)
        deadline = Deadline(timeout, f"{', and '.join(filter(None, wanted))} at {self}")
        with self._progress:
            while not (
                (expected is None or len(self._found(expected, None)) >= times)
                and (requests is None or len(self._requests) >= requests)
                and (connections is None or len(self._performances) >= connections)
                and (not finished or self._is_finished())
            ):
                deadline.check(note=self.status() if deadline.expired else "")
                self._progress.wait(deadline.remaining())

    def _is_finished(self) -> bool:
        return all(
            (played := [p for p in self._performances if p.script is script])
            and not any(p.owed for p in played)
            for script in self.scripts
            if len(script)
        )

    # -- its end

    def stop(self, timeout: float | None = None) -> None:
        """Stop it, and raise what there is to complain of. The second time nothing happens.

        Args:
            timeout: Seconds, instead of those given to the class.

        Raises:
            MockFailed: A client did not do what the script says, or did something else.
            StillRunning: Something had to be forced.
            HandlerFailed: The server itself had errors, such as a failed TLS handshake, that were not claimed.
        """
        __tracebackhide__ = True
        if self._stopped:
            return
        self._stopped = True
        self._let_in()
        self._settle(timeout)
        try:
            self.running.stop(timeout)
        finally:
            if self._datagrams is not None:
                self._datagrams.close()
        self.verify()

    def verify(self) -> None:
        """Raise what there is to complain of by now, while it serves on or afterwards.

        Raises:
            MockFailed: A client has not done what the script says, or did something else.
        """
        __tracebackhide__ = True
        if text := self.problems:
            raise MockFailed(text, headline(self))

    def _let_in(self) -> None:
        """Clients that have connected are heard, even if that was a moment ago."""
        listener = getattr(self.running.server, "socket", None)
        if self._datagrams is not None or not hasattr(select, "poll"):
            return
        if listener is None or listener.fileno() < 0:
            return  # nobody can come in any more
        busy = self.running.kind.concurrency == "sync" and any(not actor.settled for actor in self._actors)
        poll = select.poll()
        poll.register(listener.fileno(), select.POLLIN)
        deadline = Deadline(0 if busy else _ACCEPT, "clients to be accepted")
        with self._progress:
            while self.running.running and poll.poll(0) and not deadline.expired:
                self._progress.wait(deadline.remaining())

    def _settle(self, timeout: float | None) -> None:
        """Have everybody take in what has come."""
        self._stopping = True
        deadline = Deadline(STOP_TIMEOUT if timeout is None else timeout, "conversations to end")
        with self._progress:
            actors: list[Any] = [*self._actors, *([] if self._datagrams is None else [self._datagrams])]
            for actor in actors:
                actor.stop()
            while not all(actor.settled for actor in actors) and not deadline.expired:
                self._progress.wait(deadline.remaining())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        try:
            self.stop()
        except MockFailed as failure:
            if error is None:
                raise
            # What the block raised is mostly a consequence of this.
            error.add_note(str(failure))

    # -- playing

    def _play(self, request: Any, client_address: Any, server: Any) -> None:
        number = observed_number(request) or len(self._performances) + 1
        if self.beyond is not None and self._script_for(number) is self:
            actor, play = bridge(request, self.beyond(), self._progressed)
        else:
            actor = StreamActor(request, self._begin(number), self._progressed)
            play = actor.play
        with self._progress:
            self._actors.append(actor)
            self._progress.notify_all()
        if self._stopping:
            actor.stop()
        play()

    def _begin_peer(self, address: Any, sock: Any) -> Performance | Ferry:
        number = observed_number(sock, address) or len(self._performances) + 1
        if self.beyond is not None and self._script_for(number) is self:
            return Ferry(self.beyond())
        return self._begin(number)

    def _begin(self, number: int) -> Performance:
        def heard(request: Request) -> None:
            with self._progress:
                self._requests.append(
                    dataclasses.replace(request, time=request.time - self.transcript.started)
                )
                self._progress.notify_all()

        def note(decision: Decision) -> None:
            self.trace(decision)
            self.transcript.note(number, f"{decision.fault}: {decision.what}")

        with self._progress:
            performance = Performance(
                self._script_for(number),
                number,
                seed=self._seed,
                faults=self._whole,
                scenarios=self.scenarios,
                patient=self._patient,
                heard=heard,
                note=note,
            )
            self._performances.append(performance)
        return performance

    def _progressed(self) -> None:
        with self._progress:
            self._progress.notify_all()

    def _wake(self) -> None:
        for actor in list(getattr(self, "_actors", ())):
            actor.wake()
        if getattr(self, "_datagrams", None) is not None:
            self._datagrams.wake()  # type: ignore[union-attr]


def _parted(faults: Plan) -> tuple[Plan, Plan]:
    """Those that work on what passes, or claim to; and those that work where connections are accepted, which is the server's affair."""
    at_the_door = Plan(tuple(entry for entry in faults if entry.fault.place == "listener"))
    return Plan(tuple(entry for entry in faults if entry.fault.place != "listener")), at_the_door
