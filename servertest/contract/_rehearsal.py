"""Holding a planned conversation with a handler, here and now: no server, no port that anybody knows, no waiting."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from .._support import SocketDirectory
from ..launch import HandlerTarget, Kind
from ..transcript import describe_error
from ._belongings import Belongings, Meter
from ._clock import Clock, virtual_time
from ._plan import DatagramPlan, Delivery, Ended, Failed, Family, Plan, Record
from ._script import Silence, Spinning
from ._script_socket import ScriptSocket, connection
from ._steps import Stepper, subject_files
from ._waits import waits_ask_tapes

__all__ = ("Stage", "rehearse")

#: How many turns an inner conversation gets, and seconds after the outer one.
_TURNS, _LAST_TURN = 50, 1.0
#: Conversations that go before those after which is counted what is left behind.
_WARM_UP = 3


#: Seconds of real time that a conversation in a process of its own may take, and one that is held often or measured.
_LIMIT, _LONG_LIMIT = 5.0, 60.0


def rehearse(handler: Any, plan: Plan | DatagramPlan, *, apart: bool = False) -> Any:
    """Hold one planned conversation with a request handler, in this process.

    Args:
        handler: A request handler class, or what is called like one; a `HandlerTarget` if its server has attributes.
        plan: What the client does.
        apart: Whether to hold it in a process of its own, where a handler that hangs, spins, exits or takes much memory does no harm.

    Returns:
        What came of it: a `Record`, or a `Delivery` for datagrams.
    """
    if apart:
        from ._subject import Bench

        target = handler if isinstance(handler, HandlerTarget) else HandlerTarget(handler)
        limit = _LONG_LIMIT if plan.measure or plan.times > 1 else _LIMIT
        with Bench(target) as bench:
            return bench.rehearse([plan], limit=limit)[0]
    with Stage(handler) as stage:
        return stage.play(plan)


class Stage:
    """A handler with a server that was never put up, for one conversation after the other.

    Args:
        handler: A request handler class, or a target of one.
    """

    def __init__(self, handler: Any) -> None:
        self._target = handler if isinstance(handler, HandlerTarget) else HandlerTarget(handler)
        self._clock = Clock()
        self._sockets: dict[int, ScriptSocket] = {}
        self._stack = ExitStack()
        self._failures: list[Failed] = []
        self._notes: list[str] = []
        self._handler: Any = None
        self._files = subject_files(self._target.handler)
        self._servers: dict[tuple[str, Family], Any] = {}
        self._listeners: dict[Family, socket.socket] = {}
        self._datagram_ends: dict[Family, socket.socket] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(virtual_time(self._clock, self._files.modules))
            stack.enter_context(waits_ask_tapes(self._sockets, self._files.modules))
            stack.enter_context(threads_report(self._failures.append))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- the server that is none

    def _server(self, transport: Any, family: Family) -> Any:
        server = self._servers.get((transport, family))
        if server is None:
            server = self._servers[transport, family] = self._make_server(transport, family)
        return server

    def _make_server(self, transport: Any, family: Family) -> Any:
        kind = Kind(transport, family, "threading")
        address: Any = "/servertest/rehearsal"
        if family != "unix":
            address = ("127.0.0.1", 0) if family == "inet" else ("::1", 0, 0, 0)
            if transport == "stream":
                address = self._listener(family).getsockname()
        server = kind.server_class(address, self._create, bind_and_activate=False)
        self._stack.callback(server.server_close)
        # Where handlers of HTTP look.
        server.server_name, server.server_port = "localhost", 0 if family == "unix" else address[1]
        server.shutdown = lambda: self._note("shuts the whole server down")
        for name, value in self._target.attributes.items():
            setattr(server, name, value)
        return server

    def _create(self, *arguments: Any) -> Any:
        self._handler = self._target.handler(*arguments)
        return self._handler

    def _note(self, what: str) -> None:
        if what not in self._notes:
            self._notes.append(what)

    def _listener(self, family: Family) -> socket.socket:
        if family not in self._listeners:
            listener = self._stack.enter_context(
                socket.socket(socket.AF_INET if family == "inet" else socket.AF_INET6)
            )
            listener.bind(("127.0.0.1" if family == "inet" else "::1", 0))
            listener.listen(8)
            self._listeners[family] = listener
        return self._listeners[family]

    def _look_at_server(self, key: tuple[str, Family]) -> None:
        """Whether the handler has done to the server what is not its to do."""
        server = self._servers[key]
        if server.socket.fileno() < 0:
            self._note("closes the listening socket")
            del self._servers[key]
        if socket.getdefaulttimeout() is not None:
            self._note("sets a time-out for all new sockets of the process")
            socket.setdefaulttimeout(None)

    # -- one plan

    def play(self, plan: Plan | DatagramPlan) -> Any:
        """Hold a conversation, with all that goes before it, happens in its midst and comes after it.

        Returns:
            What came of it.
        """
        self._failures.clear()
        self._notes.clear()
        hold = self._deliver if isinstance(plan, DatagramPlan) else self._play_stream
        if plan.times > 1:
            record: Any = self._repeat(plan, hold)
        else:
            meter = Meter() if plan.measure else None
            record = hold(plan)
            if meter is not None:
                memory, cpu = meter.read()
                record = replace(
                    record, memory=memory, **({"cpu": cpu} if isinstance(record, Record) else {})
                )
        if self._failures and record.failure is None:
            record = replace(record, failure=self._failures[0])
        return replace(record, notes=tuple(self._notes))

    def _play_stream(self, plan: Any) -> Record:
        for earlier in plan.before:
            self._hold(earlier)
        record = self._hold(plan)
        return (
            replace(record, after=tuple(self._hold(following) for following in plan.after))
            if plan.after
            else record
        )

    def _repeat(self, plan: Plan | DatagramPlan, hold: Callable[[Any], Any]) -> Any:
        """Often, and count what is left behind: in two halves, as what has to be there once may come late."""
        for _ in range(_WARM_UP):
            hold(plan)
        times = plan.times // 2
        all_of_it = Belongings()
        growths = []
        for _ in range(2):
            half = Belongings()
            for _ in range(times):
                record = hold(plan)
            growths.append(half.growth(times))
            del half
        return replace(record, left=all_of_it.left(2 * times), growth=min(growths))

    # -- one conversation, and what interrupts it

    def _hold(self, plan: Plan, take: Callable[[Any], None] | None = None) -> Record:
        server = self._server("stream", plan.family)
        listener = None if plan.family == "unix" else self._listener(plan.family)
        self._handler = None
        with connection(plan, self._clock, threading.active_count(), listener) as (tape, sock, address):
            if take is not None:
                take(tape)
            interruption = Interruption(self, plan, tape)
            stepper = self._stepper(plan, interruption)
            number = sock.fileno()
            self._sockets[number] = sock
            try:
                ended = self._handle(server, sock, address, stepper)
            finally:
                self._sockets.pop(number, None)
            times = tape.elapsed, tape.silence
            self._look_at_files()
            with contextlib.suppress(OSError):
                server.shutdown_request(sock)
            tape.drain()
            record = self._record(tape, ended, times, interruption, stepper)
        self._look_at_server(("stream", plan.family))
        return record

    def _stepper(self, plan: Plan, interruption: Interruption) -> Stepper | None:
        if plan.count_steps or plan.at_step is not None:
            return Stepper(self._files, plan.at_step, interruption)
        return None

    def _record(
        self,
        side: Any,
        ended: tuple[Ended, Failed | None],
        times: tuple[float, float],
        interruption: Interruption,
        stepper: Stepper | None,
    ) -> Record:
        """What has come of a conversation that is over.

        Args:
            side: The client's side: what it received, and what it was asked.
            ended: How the handler came back, and with what.
            times: Virtual seconds that it took, and of silence at its end.
            interruption: What happened in its midst.
            stepper: What counted its steps.
        """
        outcome, failure = ended
        elapsed, silence = times
        inner, held_up = interruption.result()
        return Record(
            outcome=outcome,
            received=bytes(side.received),
            waits=tuple(side.waits),
            failure=failure,
            elapsed=elapsed,
            silence=silence,
            ended_before=side.unsent,
            held_up=held_up,
            inner=inner,
            steps=stepper.seen if stepper is not None else (),
            events=tuple(side.events),
        )

    def _handle(
        self, server: Any, sock: socket.socket, address: Any, stepper: Stepper | None
    ) -> tuple[Ended, Failed | None]:
        try:
            with stepper or contextlib.nullcontext():
                server.finish_request(sock, address)
        except Silence:
            return "silent", None
        except Spinning:
            return "spinning", None
        except BaseException as error:  # noqa: BLE001 - whatever leaves a handler is what is looked for
            return "raised", failed(error)
        return "returned", None

    def _look_at_files(self) -> None:
        """Whether setup() and finish() of the base class have done their work."""
        handler, self._handler = self._handler, None
        bases = {base.__name__ for base in type(handler).__mro__}
        if "StreamRequestHandler" not in bases:
            return
        if not hasattr(handler, "connection"):
            self._note(
                "does not call setup() of its base class: there is no connection, and no time-out is set"
            )
        for name in ("rfile", "wfile"):
            file = getattr(handler, name, None)
            if file is not None and not file.closed:
                self._note(f"does not call finish() of its base class: {name} is left open")

    def hold_inner(self, plan: Plan, take: Callable[[Any], None]) -> Record:
        """An inner conversation, in the thread that it is called in; somebody is told of its tape."""
        return self._hold(plan, take)

    # -- datagrams

    def _deliver(self, plan: Any) -> Delivery:
        server = self._server("datagram", plan.family)
        size = getattr(server, "max_packet_size", 8192)
        replies: list[tuple[tuple[int, bytes], ...]] = []
        with _datagram_sockets(plan) as (spare, peers):
            own = self._own_datagram_socket(plan.family, spare)
            for number, (peer, data) in enumerate(plan.datagrams):
                address = _peer_address(peers[peer], plan)
                outcome, failure = self._handle_datagram(server, (data[:size], own), address)
                if outcome != "returned":
                    return Delivery(outcome, tuple(replies), failure, number)
                replies.append(tuple((at, got) for at, sock in enumerate(peers) for got in _waiting(sock)))
        self._look_at_server(("datagram", plan.family))
        return Delivery("returned", tuple(replies))

    def _handle_datagram(self, server: Any, request: Any, address: Any) -> tuple[Ended, Failed | None]:
        try:
            server.finish_request(request, address)
        except BaseException as error:  # noqa: BLE001 - as above
            return "raised", failed(error)
        return "returned", None

    def _own_datagram_socket(self, family: Family, spare: socket.socket) -> socket.socket:
        """The server's socket: always the same, as a handler may remember it. On Unix sockets its path goes with each plan."""
        if family == "unix":
            return spare
        if family not in self._datagram_ends:
            self._datagram_ends[family] = self._stack.enter_context(spare.dup())
        return self._datagram_ends[family]


class Interruption:
    """Holds the inner conversation of a plan once, at its moment, in a thread of its own: it may have to wait for the outer one."""

    def __init__(self, stage: Any, plan: Plan, tape: Any) -> None:
        self._stage = stage
        self._plan = plan
        self._thread: threading.Thread | None = None
        self._tape: Any = None
        self._record: Record | None = None
        self._held_up = False
        if plan.inner is not None:
            if plan.at_wait is not None:
                tape.on_wait = self._at_wait
            elif plan.at_send is not None:
                tape.on_send = self._at_send

    def _at_wait(self, number: int) -> None:
        if number == self._plan.at_wait:
            self()

    def _at_send(self, received: int) -> None:
        assert self._plan.at_send is not None
        if received >= self._plan.at_send:
            self()

    def __call__(self) -> None:
        """Now."""
        if self._thread is not None or self._plan.inner is None:
            return
        self._thread = threading.Thread(
            target=self._run, args=(self._plan.inner,), name="inner conversation", daemon=True
        )
        self._thread.start()
        for _ in range(_TURNS):
            before = self._progress()
            self._thread.join(self._plan.turn)
            self._held_up = self._thread.is_alive()
            if not self._held_up or self._progress() == before:
                break

    def _run(self, plan: Plan) -> None:
        self._record = self._stage.hold_inner(plan, self._take)

    def _take(self, tape: Any) -> None:
        self._tape = tape

    def _progress(self) -> tuple[int, ...]:
        return () if self._tape is None else (self._tape.sent, self._tape.written, len(self._tape.received))

    def result(self) -> tuple[Record | None, bool]:
        """What came of it, and whether it had to wait for the outer one; None and True if it still waits."""
        if self._thread is not None:
            self._thread.join(_LAST_TURN)
        return self._record, self._held_up


def failed(error: BaseException) -> Failed:
    """An exception as plain data."""
    type_name, message, text = describe_error(error)
    mild = isinstance(error, OSError) and is_mild(text)
    return Failed(type_name, message, _without_ours(text), mild=mild)


def _without_ours(text: str) -> str:
    """A traceback without what is only there because the handler is rehearsed."""
    kept, ours = [], False
    for line in text.splitlines(keepends=True):
        if line.startswith("  File "):
            ours = line.startswith(f'  File "{_OURS}')
        elif not line.startswith("    "):
            ours = False
        if not ours:
            kept.append(line)
    return "".join(kept)


_OURS = __file__.rpartition("/")[0] + "/"


_FRAME = re.compile(r'^  File "(.*)", line \d+, in (\w+)', re.MULTILINE)


def is_mild(traceback_text: str) -> bool:
    """Whether an exception comes out of finish() as the framework has it: the last bytes of a reply to somebody who has gone."""
    frames = _FRAME.findall(traceback_text)
    places = [place for place, (_, name) in enumerate(frames) if name == "finish"]
    return bool(places) and frames[places[-1]][0].endswith(("socketserver.py", "servers/_handlers.py"))


@contextmanager
def _datagram_sockets(plan: DatagramPlan) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """The server's socket, and one for each sender."""
    count = 1 + max((peer for peer, _ in plan.datagrams), default=0)
    families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6, "unix": getattr(socket, "AF_UNIX", 0)}
    with ExitStack() as stack:
        directory = stack.enter_context(SocketDirectory()) if plan.family == "unix" else None
        found = []
        for number in range(count + 1):
            sock = stack.enter_context(socket.socket(families[plan.family], socket.SOCK_DGRAM))
            if directory is None:
                sock.bind(("127.0.0.1" if plan.family == "inet" else "::1", 0))
            elif number == 0 or not plan.nameless:
                sock.bind(directory.path())
            found.append(sock)
        yield found[0], found[1:]


def _peer_address(sock: socket.socket, plan: DatagramPlan) -> Any:
    """What recvfrom() would say; of a Unix socket that is not bound it says None."""
    return None if plan.nameless else sock.getsockname()


def _waiting(sock: socket.socket) -> Iterator[bytes]:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sock.recv(65_536)


@contextmanager
def threads_report(note: Callable[[Failed], None]) -> Iterator[None]:
    """Take what ends a thread that the handler has begun."""
    original = threading.excepthook

    def hook(arguments: Any) -> None:
        error = arguments.exc_value
        if isinstance(error, Silence | Spinning | SystemExit) or error is None:
            return
        name = arguments.thread.name if arguments.thread is not None else "?"
        note(replace(failed(error), thread=name))

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = original
