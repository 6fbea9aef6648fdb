"""Single clients that behave badly, for threads and for asyncio, against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import pytest

from servertest import servers
from servertest._support import PeerRefused, UnknownKeyword, UsageError
from servertest.clients import connect, connect_async
from servertest.clients.behaviours import (
    ConnectAndDrop,
    DribbledHandshake,
    Flooder,
    HalfCloser,
    HalfOpen,
    Honest,
    IdleAfterConnect,
    IdleMidRequest,
    NeverCloses,
    NeverReads,
    Outcome,
    Pipeliner,
    Resetter,
    SlowBody,
    SlowReader,
    SlowWriter,
    StalledHandshake,
)

ON_STREAMS = ["ThreadingTCPServer", "ThreadingUnixStreamServer", "ThreadingTCPServer+tls"]


class Upper(servers.StreamRequestHandler):
    timeout = 0.2

    def handle(self) -> None:
        with contextlib.suppress(TimeoutError):
            for line in self.rfile:
                self.wfile.write(line.upper())


class Patient(Upper):
    timeout = 20


class Page(servers.StreamRequestHandler):
    """Sends more than the buffers of a connection hold."""

    timeout = 0.2

    def handle(self) -> None:
        self.rfile.readline()
        with contextlib.suppress(OSError):
            self.wfile.write(b"x" * 20_000_000)


class Echo(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


class Threads:
    """The clients for threads, as they are."""

    def connect(self, server: Any, behaviour: Any, **options: Any) -> Any:
        return server.connect(behaviour, **options)

    def close(self) -> None:
        pass


class Asyncio:
    """The clients for asyncio, each call run to its end."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def connect(self, server: Any, behaviour: Any, **options: Any) -> Any:
        return _Run(self._runner.run(server.connect_async(behaviour, **options)), self._runner)

    def close(self) -> None:
        self._runner.close()


class _Run:
    def __init__(self, client: Any, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._client.close())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def run(self, seconds: float | None = None) -> Outcome:
        return self._runner.run(self._client.run(seconds))  # type: ignore[no-any-return]


@pytest.fixture(params=[Threads, Asyncio], ids=["threads", "asyncio"])
def twin(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = request.param()
    yield made
    made.close()


@pytest.mark.parametrize("kind", ON_STREAMS)
def test_a_slow_writer_is_cut_off(serve: Any, twin: Any, kind: str) -> None:
    with twin.connect(serve(Upper, kind), SlowWriter(b"hello\n", bytes_per_second=1)) as slow:
        outcome = slow.run(5)
    assert outcome.how == "closed"
    assert outcome.cut_off_by_server
    assert 0.15 < outcome.ended < 2
    assert outcome.sent == 1
    assert slow.closed
    assert slow.outcome == outcome


@pytest.mark.parametrize("kind", ON_STREAMS)
def test_a_slow_writer_that_is_fast_enough_is_served(serve: Any, twin: Any, kind: str) -> None:
    with twin.connect(serve(Upper, kind), SlowWriter(b"hello\n", bytes_per_second=40, jitter=0.3)) as slow:
        outcome = slow.run(5)
    assert slow.received == b"HELLO\n"
    assert (outcome.how, outcome.sent, outcome.received) == ("finished", 6, 6)


def test_between_runs_it_does_nothing(serve: Any, twin: Any) -> None:
    with twin.connect(serve(Patient), SlowWriter(b"ab\n", bytes_per_second=10)) as slow:
        assert slow.run(0).how == "held"
        assert slow.sent == 1
        assert slow.run(0.05).sent == 1
        assert slow.run(0.3).sent == 3
        assert slow.received == b"AB\n"
    assert slow.outcome.how == "held"
    assert slow.run().how == "held"


@pytest.mark.parametrize(
    ("behaviour", "how"),
    [
        (SlowBody(b"he", b"l", bytes_per_second=1), "closed"),
        (IdleMidRequest(), "closed"),
        (IdleAfterConnect(), "closed"),
        (Pipeliner(b"a\n", times=500, reply_bytes=1000), "finished"),
        (HalfCloser(reply_bytes=6), "finished"),
        (Honest(reply_bytes=6), "finished"),
        (ConnectAndDrop(), "finished"),
        (ConnectAndDrop(hold=0.1), "finished"),
        (Resetter(), "finished"),
        (Resetter(b"hello\n", 2, 0.1), "finished"),
        (Flooder(), "finished"),
        ("resetter", "finished"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ThreadingUnixStreamServer"])
def test_how_it_ends(serve: Any, twin: Any, kind: str, behaviour: Any, how: str) -> None:
    with twin.connect(serve(Upper, kind), behaviour) as client:
        assert client.run(5).how == how


def test_who_never_closes_holds_its_side(serve: Any, twin: Any) -> None:
    with twin.connect(serve(Upper), NeverCloses()) as client:
        assert client.run(0.5).how == "held"
        assert client.received == b"HELLO\n"
        assert client.socket.recv(1) == b""  # the server has closed long ago
    assert client.outcome.how == "held"


def test_a_slow_reader_holds_the_server_up_until_it_gives_up(serve: Any, twin: Any) -> None:
    with twin.connect(serve(Page), SlowReader(b"\n", size=10, pause=0.05, reply_bytes=20_000_000)) as client:
        outcome = client.run(0.5)
        assert outcome.how == "held"
        assert 50 < outcome.received < 200
        assert client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 8192


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ThreadingUnixStreamServer"])
def test_who_never_reads_is_told_of_the_end_all_the_same(serve: Any, kind: str) -> None:
    class Short(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"short")

    with serve(Short, kind).connect(NeverReads(b"\n")) as client:
        outcome = client.run(3)
    assert outcome.how == "closed"
    assert outcome.received == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_USER_TIMEOUT and socket filters")
def test_who_is_half_open_acknowledges_nothing(serve: Any, twin: Any) -> None:
    seen: list[object] = []
    vanished, told = threading.Event(), threading.Event()

    class Waiting(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
            self.rfile.readline()
            vanished.wait(10)
            self.wfile.write(b"are you there?\n")
            try:
                self.rfile.read()
            except OSError as error:
                seen.append(error)
            told.set()

    with twin.connect(serve(Waiting), HalfOpen(b"hello\n")) as client:
        assert client.run(0.05).how == "held"
        vanished.set()
        assert told.wait(10)
    assert isinstance(seen[0], TimeoutError)


def test_a_stalled_handshake_and_a_dribbled_one(serve: Any, twin: Any) -> None:
    server = serve(Patient, "ThreadingTCPServer+tls")
    with twin.connect(server, StalledHandshake(20)) as stalled:
        assert stalled.run(0.3).how == "held"
        assert stalled.sent == 0
    with twin.connect(
        server, DribbledHandshake(bytes_per_second=20_000, chunk=100, payload=b"hello\n")
    ) as dribbled:
        dribbled.run(0.5)
        assert dribbled.received == b"HELLO\n"


@pytest.mark.parametrize("kind", ["ThreadingUDPServer", "ThreadingUnixDatagramServer"])
def test_datagrams(serve: Any, twin: Any, kind: str) -> None:
    server = serve(Echo, kind)
    with twin.connect(server, Honest(b"hi", reply_bytes=2)) as honest:
        assert honest.run().how == "finished"
        assert honest.received == b"HI"
    with twin.connect(server, Flooder(b"x", per_second=200)) as flooder:
        outcome = flooder.run(0.5)
    assert 80 <= outcome.sent <= 110


def test_rude_clients_fail_no_test(serve: Any) -> None:
    class Strict(servers.StreamRequestHandler):
        timeout = 0.1

        def handle(self) -> None:
            self.rfile.readline()

    server = serve(Strict)
    for behaviour in (IdleAfterConnect(), Resetter(b"he", after=0.05)):
        with server.connect(behaviour) as client:
            client.run(1)


def test_what_cannot_be(serve: Any, refused_address: Any) -> None:
    with pytest.raises(PeerRefused):
        connect(refused_address, IdleAfterConnect())
    with pytest.raises(UnknownKeyword, match="did you mean seed="):
        connect(refused_address, IdleAfterConnect(), sead=3)
    with pytest.raises(UsageError, match="SlowWriter is not for a datagram"):
        serve(Echo, "UDPServer").connect(SlowWriter())
    with pytest.raises(UsageError, match="handshake of TLS"):
        serve(Upper).connect(StalledHandshake())
    with (
        serve(Upper).connect(IdleAfterConnect()) as client,
        pytest.raises(UsageError, match="number of seconds"),
    ):
        client.run(-1)


def test_it_closes_in_time_though_the_server_never_answers() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        connect(listener.getsockname(), SlowWriter()) as client,
    ):
        begun = time.monotonic()
        client.run(0.2)
        assert time.monotonic() - begun < 1


def test_cancelled_runs_go_on_later(serve: Any) -> None:
    server = serve(Patient)

    async def cancel() -> bytes:
        async with await connect_async(server.address, SlowWriter(b"ab\n", bytes_per_second=20)) as client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await client.run(5)
            await client.run(0.5)
            return client.received

    assert asyncio.run(cancel()) == b"AB\n"
