"""Faults at work on real sockets, written down with their times: what the pictures of the catalogue are drawn from."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from time import monotonic
from typing import Any

from servertest import faulty, launch, servers
from servertest.faults import (
    AcceptError,
    Bandwidth,
    Blackhole,
    Coalesce,
    Corrupt,
    Drip,
    Duplicate,
    DuplicateBytes,
    FailCall,
    FailFork,
    FailThreadStart,
    Fault,
    FullBacklog,
    Garbage,
    GilbertElliott,
    HalfClose,
    InsertBytes,
    Interrupt,
    Latency,
    LimitData,
    Loss,
    Partition,
    Plan,
    RandomDataThenClose,
    Reorder,
    ResetPeer,
    ShortReads,
    ShortWrites,
    Slicer,
    SlowAccept,
    SlowClose,
    SpuriousReadiness,
    Stall,
    Timeout,
    Trace,
    Truncate,
    TruncateDatagram,
    ZeroWindow,
    downstream,
    upstream,
)
from servertest.proxy import link
from servertest.transcript import Close, Data, Datagram, HalfClose as Finished, Transcript
from tests.docs._drawing import Chip, Mark, Scene

__all__ = ("pictured", "play")

SEED = 7
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PIECES = (LETTERS[:6], LETTERS[6:12], LETTERS[12:18], LETTERS[18:24])
PACE = 0.05
LATE, TRIES = 0.003, 20  # a machine that is busy draws another picture
UNTIL = 0.4
DATAGRAMS = tuple(LETTERS[start : start + 3] for start in range(0, 30, 3))

#: What shows best. A fault that is not here is drawn as its example is.
PICTURED: dict[str, Fault | Plan] = {
    "accept_error": AcceptError(nth=2),
    "bandwidth": Bandwidth(90),
    "blackhole": Blackhole(),
    "coalesce": Coalesce(size=12, delay=0.2),
    "corrupt": Corrupt(probability=0.15),
    "drip": Drip(size=2, pause=0.025),
    "duplicate": Duplicate(0.4),
    "duplicate_bytes": DuplicateBytes(size=4, at=8),
    "fail_call": FailCall("recv", "ECONNRESET", nth=3),
    "fail_fork": FailFork(nth=2),
    "fail_thread_start": FailThreadStart(nth=2),
    "full_backlog": FullBacklog(duration=0.25),
    "garbage": Garbage(after_bytes=8),
    "gilbert_elliott": GilbertElliott(p=0.3, r=0.4),
    "half_close": HalfClose(after_bytes=10),
    "insert_bytes": InsertBytes(data=b"???", at=8),
    "interrupt": Interrupt("recv", nth=2),
    "latency": Latency(0.08),
    "limit_data": LimitData(10),
    "loss": Loss(0.3),
    "partition": Partition(duration=0.12, after=0.08),
    "random_data_then_close": RandomDataThenClose(size=14),
    "reorder": Reorder(0.3, gap=2),
    "reset_peer": ResetPeer(after_bytes=10),
    "short_reads": ShortReads(2),
    "short_writes": ShortWrites(2),
    "slicer": Slicer(average_size=3, delay=0.025),
    "slow_accept": SlowAccept(0.08),
    "slow_close": SlowClose(0.12),
    "spurious_readiness": SpuriousReadiness("recv", nth=2),
    "stall": Stall(duration=0.15, after_bytes=8),
    "timeout": Timeout(after=0.25),
    "truncate": Truncate(10),
    "truncate_datagram": TruncateDatagram(2, probability=0.5),
    "zero_window": ZeroWindow(after_bytes=10),
}


def pictured(kind: type[Fault]) -> Fault:
    """The fault that the picture shows."""
    fault = PICTURED.get(kind.name) or kind.example()
    assert isinstance(fault, Fault)
    return fault


def play(kind: type[Fault], tries: int = TRIES) -> Scene:
    """Let a fault work, and write down what is seen on both sides."""
    for _ in range(tries):
        _Clock.late = 0.0
        scene = _played(kind)
        if _Clock.late < LATE:
            break
    return scene


def _played(kind: type[Fault]) -> Scene:
    fault = pictured(kind)
    if fault.place == "listener":
        return _clients(fault)
    if fault.place == "calls":
        return _writes(fault) if kind is ShortWrites else _reads(fault)
    return _stream(fault) if "stream" in kind.carried_by else _datagrams(fault)


class _Clock:
    """Paces what is sent, from its own beginning; and says whether the machine kept up."""

    late = 0.0

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.begun = monotonic()

    def now(self) -> float:
        return monotonic() - self.begun

    def until(self, time: float) -> None:
        threading.Event().wait(max(0.0, time - self.now()))
        _Clock.late = max(_Clock.late, self.now() - time)


def _stream(fault: Fault) -> Scene:
    """A server sends four pieces and the end; the link is between it and its client."""
    clock = _Clock()
    begun = threading.Event()

    class Speaker(servers.BaseRequestHandler):
        def handle(self) -> None:
            clock.start()
            begun.set()
            with contextlib.suppress(OSError):
                for number, piece in enumerate(PIECES):
                    clock.until(number * PACE)
                    self.request.sendall(piece)
                clock.until(len(PIECES) * PACE)
                self.request.shutdown(socket.SHUT_WR)
            clock.until(UNTIL)

    with (
        launch(Speaker) as server,
        link(server, downstream(fault), seed=SEED) as made,
        made.connect() as client,
    ):
        reader = threading.Thread(target=lambda: _drain(client.socket))
        reader.start()
        assert begun.wait(5)
        clock.until(UNTIL)
        scene = Scene(f"{fault!r} on what a server sends", ("server sends", "client gets"))
        scene.until, scene.nothing_lost = UNTIL, fault.lossless
        scene.sent = _seen(server.transcript, clock, "server", others=_resets(made.upstream_transcript))
        scene.came = _seen(made.transcript, clock, "server")
        made.disable()
        reader.join(5)
    return scene


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(65536):
            pass


def _resets(transcript: Transcript | None) -> list[tuple[float, Mark]]:
    """A reset that reached the server's side."""
    assert transcript is not None
    return [
        (transcript.started + event.time, Mark(0, "RST", bad=True))
        for event in transcript.events
        if isinstance(event, Close) and event.how == "rst"
    ]


def _seen(
    transcript: Transcript | None, clock: _Clock, by: str, *, others: Iterable[tuple[float, Mark]] = ()
) -> list[Chip | Mark]:
    """What one side of a connection says from now on, and its end, until the picture ends."""
    assert transcript is not None
    found: list[Chip | Mark] = []
    ended = False
    for event in transcript.events:
        time = transcript.started + event.time - clock.begun
        if time > UNTIL:
            break
        if isinstance(event, Data | Datagram) and (event.direction == "downstream") == (by == "server"):
            found.append(Chip(max(time, 0), event.data))
        elif isinstance(event, Finished) and event.by == by and not ended:
            found.append(Mark(time, "end"))
            ended = True
        elif isinstance(event, Close) and event.by == by and not ended:
            found.append(Mark(time, "RST", bad=True) if event.how == "rst" else Mark(time, "end"))
            ended = True
    for moment, mark in others:
        if not ended:
            found.append(Mark(moment - clock.begun, mark.text, mark.bad))
    return found


def _datagrams(fault: Fault) -> Scene:
    """A client sends datagrams; the link is between it and the server."""

    class Silent(servers.DatagramRequestHandler):
        def handle(self) -> None:
            pass

        def finish(self) -> None:
            pass

    with launch(Silent, kind="UDPServer") as server, link(server, upstream(fault), seed=SEED) as made:
        with made.connect() as client:
            clock = _Clock()
            for number, data in enumerate(DATAGRAMS):
                clock.until(number * 0.03)
                client.send(data)
            clock.until(UNTIL)
            scene = Scene(f"{fault!r} on what a client sends", ("client sends", "server gets"), until=UNTIL)
            scene.sent = _seen(made.transcript, clock, "client")
            scene.came = _seen(made.upstream_transcript, clock, "client")
    return scene


def _reads(fault: Fault) -> Scene:
    """A program reads from a socket that is behind the fault."""
    import select

    ours, theirs = socket.socketpair()
    trace = Trace()
    made = faulty(theirs, fault, seed=SEED, trace=trace)
    scene = Scene(f"{fault!r} on a program that reads", ("peer sends", "recv() gives"), until=0.25)
    clock = _Clock()

    def send() -> None:
        for number, piece in enumerate(PIECES):
            clock.until(number * PACE)
            scene.sent.append(Chip(clock.now(), piece))
            ours.sendall(piece)
        clock.until(len(PIECES) * PACE)
        scene.sent.append(Mark(clock.now(), "end"))
        ours.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    with ours, made:
        made.setblocking(False)
        sender.start()
        while clock.now() < scene.until and select.select([made], [], [], scene.until - clock.now())[0]:
            try:
                data = made.recv(100)
            except OSError as error:
                scene.came.append(Mark(clock.now(), _named(error), bad=True))
                if not isinstance(error, BlockingIOError | InterruptedError):
                    break
            else:
                scene.came.append(Chip(clock.now(), data) if data else Mark(clock.now(), "end"))
                if not data:
                    break
        sender.join()
    if isinstance(fault, Interrupt):  # which Python hides
        scene.came += [Mark(decision.time - clock.begun, "EINTR", bad=True) for decision in trace]
    return scene


def _writes(fault: Fault) -> Scene:
    """A program that does not look at what send() returns."""
    ours, theirs = socket.socketpair()
    made = faulty(theirs, fault, seed=SEED)
    scene = Scene(f"{fault!r} on a program that writes", ("send() is given", "send() takes"), until=0.25)
    clock = _Clock()
    with ours, made:
        for number, piece in enumerate(PIECES):
            clock.until(number * PACE)
            scene.sent.append(Chip(clock.now(), piece))
            taken = made.send(piece)
            scene.came.append(Chip(clock.now(), piece[:taken]))
    return scene


def _clients(fault: Fault) -> Scene:
    """Clients come to a server one after another."""

    class Upper(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.read(3))

    scene = Scene(f"{fault!r} at a server", ("clients ask", "clients get"), until=UNTIL)
    if fault.name == "refuse":
        return _refused(scene, fault)
    kind = "ForkingTCPServer" if fault.name == "fail_fork" else "ThreadingTCPServer"
    lock = threading.Lock()
    with launch(Upper, kind=kind, faults=fault, seed=SEED) as server:
        clock = _Clock()

        def ask(number: int) -> None:
            data = LETTERS[3 * number : 3 * number + 3]
            clock.until(0.01 + number * 0.06)
            with lock:
                scene.sent.append(Chip(clock.now(), data))
            came = _answer(server.address, data, UNTIL - clock.now())
            with lock:
                scene.came.append(
                    Chip(clock.now(), came) if isinstance(came, bytes) else Mark(clock.now(), came, True)
                )

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.errors.clear()
    waiting = [thing for thing in scene.came if isinstance(thing, Mark) and thing.text == "timeout"]
    scene.nothing_lost = bool(waiting)
    scene.came = [thing for thing in scene.came if thing not in waiting]
    return scene


def _refused(scene: Scene, fault: Fault) -> Scene:
    with launch(servers.StreamRequestHandler) as server, link(server, fault) as made:
        clock = _Clock()
        for number in range(3):
            clock.until(0.01 + number * 0.1)
            data = LETTERS[3 * number : 3 * number + 3]
            scene.sent.append(Chip(clock.now(), data))
            came = _answer(made.address, data, 1)
            assert isinstance(came, str)
            scene.came.append(Mark(clock.now(), came, bad=True))
    return scene


def _answer(address: Any, data: bytes, seconds: float) -> bytes | str:
    try:
        with socket.create_connection(address, seconds) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return client.recv(100) or "end"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return _named(error)


def _named(error: OSError) -> str:
    import errno

    return errno.errorcode.get(error.errno or 0, type(error).__name__)
