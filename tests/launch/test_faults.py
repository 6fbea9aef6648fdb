"""Faults inside servers, around their own sockets: every kind, in threads and in processes."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servertest import Kind, kinds, launch, servers
from servertest._support import DeadlineExceeded, HandlerFailed, PeerRefused, PeerReset, UsageError
from servertest.faults import (
    AcceptError,
    Blackhole,
    Decision,
    FailCall,
    FailFork,
    FailThreadStart,
    FullBacklog,
    Latency,
    Loss,
    Plan,
    Refuse,
    ResetPeer,
    ShortReads,
    ShortWrites,
    Slicer,
    SlowAccept,
    Stall,
    Trace,
    downstream,
    plan,
    upstream,
)
from servertest.launch import FactoryTarget, FunctionTarget, Running
from servertest.launch._command_target import CommandTarget
from servertest.wire._faulty_keeper import keeper
from tests.launch._handlers import DatagramUpper, Upper, echo, handler_for

EVERY_KIND = [*kinds(), *kinds(concurrency="selector", tls=(False, True))]
TLS = [
    "ThreadingTCPServer+tls",
    "ForkingTCPServer+tls",
    "PreForkUnixStreamServer+tls",
    "TCPServer+tls+process",
]
HOSTS = ["ThreadingTCPServer", "ThreadingTCPServer+process", "ForkingUnixStreamServer", "PreForkTCPServer"]


class SelectorUpper(servers.SelectorStreamRequestHandler):
    async def handle(self) -> None:
        while line := await self.rfile.readline():
            await self.wfile.write(line.upper())


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()


def upper_function(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb", buffering=0) as file:
            for line in file:
                file.write(line.upper())


def seen(running: Running) -> str:
    """Who has come, strangers included."""
    assert running.transcript is not None
    return f"{running.transcript.render()}\n{running.fault_report}"


def delays(running: Running) -> set[tuple[str, int]]:
    return {(decision.direction, decision.connection) for decision in running.hits}


@pytest.mark.parametrize("kind", EVERY_KIND, ids=str)
def test_every_kind(kind: Kind) -> None:
    handler = SelectorUpper if kind.concurrency == "selector" else handler_for(kind)
    with launch(handler, kind=kind, faults=Latency(0.03), seed=5) as running:
        for _ in range(2):
            began = time.monotonic()
            echo(running)
            assert time.monotonic() - began >= 0.06
        assert delays(running) == {(way, number) for way in ("upstream", "downstream") for number in (1, 2)}
        assert running.transcript is not None
        assert [one.upstream for one in running.transcript.connections][:1] in ([b"hi\n"], [b"hi"], [])


@pytest.mark.parametrize("kind", TLS)
def test_under_tls_faults_go_below(kind: str) -> None:
    with launch(Upper, kind=kind, faults=Slicer(average_size=3)) as running:
        echo(running)
        assert running.transcript is not None
        assert running.transcript.connections[0].upstream == b"hi\n", "what the handler sees is plain text"
        assert len(running.hits) == 2


@pytest.mark.parametrize("options", [{}, {"tls": True}, {"host": "process"}], ids=str)
@pytest.mark.parametrize("target", [upper, upper_function], ids=lambda target: target.__name__)
def test_event_loops_and_plain_functions(target: Any, options: dict[str, Any]) -> None:
    with launch(target, faults=Latency(0.02), **options) as running:
        echo(running)
        assert delays(running) == {("upstream", 1), ("downstream", 1)}


def test_datagram_endpoints_of_event_loops_and_functions() -> None:
    class Protocol(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data.upper(), address)

    def function(sock: socket.socket) -> None:
        while True:
            data, address = sock.recvfrom(100)
            sock.sendto(data.upper(), address)

    for target in (Protocol, FunctionTarget(function, "datagram")):
        with launch(target, faults=Latency(0.02)) as running:
            echo(running)
            assert delays(running) == {("upstream", 1), ("downstream", 1)}


@pytest.mark.parametrize("host", ["thread", "process"])
def test_servers_of_the_standard_module(host: Any) -> None:
    class Plain(socketserver.StreamRequestHandler):
        handle = Upper.handle

    with launch(socketserver.ThreadingTCPServer, Plain, faults=Slicer(average_size=1), host=host) as running:
        echo(running)
        assert running.hits.counts == {"slicer": 2}


def test_an_http_server(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("hello")

    def handler(*args: Any) -> http.server.SimpleHTTPRequestHandler:
        return http.server.SimpleHTTPRequestHandler(*args, directory=str(tmp_path))

    with (
        launch(
            http.server.ThreadingHTTPServer, handler, faults=Slicer(average_size=10) | ShortWrites(7)
        ) as running,
        running.connect() as client,
    ):
        client.send_all(b"GET /page HTTP/1.0\r\n\r\n")
        assert client.read_eof().endswith(b"\r\n\r\nhello")
        running.output  # noqa: B018 - it has printed its line somewhere else than here


def test_handlers_see_the_real_addresses() -> None:
    class Who(servers.StreamRequestHandler):
        def handle(self) -> None:
            names = (self.request.getsockname(), self.request.getpeername(), self.client_address)
            self.wfile.write(repr(names).encode())

    for kind in ("ThreadingTCPServer", "ThreadingTCPServer+tls", "ForkingTCPServer+dual"):
        if Kind.parse(kind).reason:
            continue  # no IPv6 here
        with launch(Who, kind=kind, faults=plan(None)) as running, running.connect() as client:
            here, there, address = eval(client.read_eof())
            assert here[1] == running.port
            assert there == address
            assert there[:2] == client.local_address[:2]


# -- what goes wrong


@pytest.mark.parametrize("kind", HOSTS)
def test_a_trigger_counts_the_server_s_connections(kind: str) -> None:
    with launch(Upper, kind=kind, faults=downstream(ResetPeer(after_bytes=0)).on(connection=3)) as running:
        echo(running)
        echo(running)
        with running.expects_error(ConnectionResetError), pytest.raises(OSError):
            with running.connect() as client:
                client.read_exactly(1)
        echo(running)
        assert {decision.connection for decision in running.hits} == {3}, seen(running)


def test_a_reset_in_the_middle_of_a_reply_is_a_real_one() -> None:
    with launch(Upper, faults=downstream(ResetPeer(after_bytes=2))) as running:
        with running.connect() as client, pytest.raises(PeerReset):
            client.send_all(b"hi\n")
            client.read_exactly(3)
        with contextlib.suppress(IndexError):
            running.errors.pop()


def test_the_same_seed_decides_the_same() -> None:
    def run(seed: Any) -> list[str]:
        faults = Slicer(average_size=5, size_variation=4) | Latency(0.001, jitter=0.001)
        with launch(Upper, faults=faults, seed=seed) as running, running.connect() as client:
            client.send_all(b"x" * 300 + b"\n")
            client.readline()
            assert running.seed == seed
            return sorted(f"{one.direction} {one.fault} {one.what}" for one in running.hits)

    assert run(7) == run(7)


def test_short_reads_and_writes() -> None:
    with launch(Upper, faults=ShortReads() | ShortWrites(2)) as running:
        echo(running)
        assert running.hits.counts == {"short_reads": 1, "short_writes": 1}


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingTCPServer", "TCPServer+process"])
def test_a_call_that_fails_in_the_handler_is_the_handler_s_error(kind: str) -> None:
    with launch(Upper, kind=kind, faults=FailCall("recv", "EIO").on(connection=1)) as running:
        with running.expects_error(OSError, match="Input/output"), running.connect() as client:
            client.send_all(b"hi\n")
            client.read_eof()
        echo(running)


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ECONNABORTED"])
@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingTCPServer"])
def test_accept_fails_and_the_server_goes_on(kind: str, error: str) -> None:
    with launch(Upper, kind=kind, faults=AcceptError(error)) as running:
        if error == "ECONNABORTED":
            with pytest.raises(OSError), running.connect() as client:
                client.send_all(b"hi\n")
                client.read_exactly(3)
        echo(running)
        assert [decision.what for decision in running.hits] == [f"fails accept 1 with {error}"]


def test_a_slow_accept() -> None:
    with launch(Upper, faults=SlowAccept(0.1)) as running:
        began = time.monotonic()
        echo(running)
        assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize(
    ("kind", "fault"), [("ThreadingTCPServer", FailThreadStart()), ("ForkingTCPServer", FailFork())]
)
def test_what_would_serve_a_request_cannot_be_started(kind: str, fault: Any) -> None:
    """That was asked for, and nobody can do anything about it: it is no error of the test's."""
    with launch(Upper, kind=kind, faults=fault) as running:
        with running.connect() as client:
            assert client.read_eof() == b""
        echo(running)
        assert len(running.hits) == 1


def test_the_same_for_the_standard_module_and_datagrams() -> None:
    told: list[str] = []

    class Server(socketserver.ThreadingUDPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            told.append(repr(sys.exception()))

    class Plain(socketserver.DatagramRequestHandler):
        handle = DatagramUpper.handle

    with launch(Server, Plain, faults=FailThreadStart()) as running:
        with running.connect() as client:
            client.send(b"lost")
            client.send(b"served")
            assert client.receive() == b"SERVED"
    assert told == ['RuntimeError("can\'t start new thread")'], "a server's own hook is asked as ever"


def test_accept_and_never_answer() -> None:
    with launch(Upper, faults=downstream(Blackhole())) as running, running.connect() as client:
        client.send_all(b"hi\n")
        with pytest.raises(DeadlineExceeded):
            client.readline(timeout=0.1)
    assert running.transcript is not None
    assert running.transcript.connections[0].downstream == b"HI\n", "the handler has answered"


# -- changes


@pytest.mark.parametrize("kind", [*HOSTS, "ThreadPoolUnixStreamServer", "ForkingTCPServer+tls"])
def test_faults_come_and_go_on_connections_that_live_and_that_come(kind: str) -> None:
    with launch(Upper, kind=kind, faults=plan(None)) as running, running.connect() as client:

        def seconds() -> float:
            began = time.monotonic()
            client.send_all(b"hi\n")
            assert client.readline() == b"HI\n"
            return time.monotonic() - began

        seconds()
        with running.faults(downstream(Latency(0.1))):
            assert seconds() >= 0.1
            began = time.monotonic()
            echo(running)
            assert time.monotonic() - began >= 0.1
            with running.faults(upstream(Latency(0.1))):
                assert seconds() >= 0.2
        hits = len(running.hits)
        seconds()
        assert len(running.hits) == hits >= 3


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "PreForkTCPServer"])
def test_equal_faults_in_separate_blocks_draw_apart(kind: str) -> None:
    half = upstream(Latency(0.001)).on(probability=0.5)
    with launch(Upper, kind=kind, faults=half, seed=1) as running:
        with running.faults(half), running.faults(half):
            for _ in range(12):
                echo(running)
        found: dict[str, set[int]] = {}
        for decision in running.hits:
            found.setdefault(decision.fault, set()).add(decision.connection)
    assert found.keys() == {"latency", "latency#2", "latency#3"}
    assert len(set(map(frozenset, found.values()))) == 3


@pytest.mark.parametrize("kind", ["ThreadingUDPServer", "PreForkUnixDatagramServer"])
def test_datagrams_too(kind: str) -> None:
    with launch(DatagramUpper, kind=kind, faults=Plan()) as running, running.connect() as client:
        with running.faults(upstream(Loss(1.0))):
            client.send(b"lost")
            with pytest.raises(DeadlineExceeded):
                client.receive(timeout=0.1)
        client.send(b"hi")
        assert client.receive() == b"HI"


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "PreForkTCPServer"])
def test_a_full_backlog_and_its_end(kind: str) -> None:
    with launch(Upper, kind=kind, faults=Plan()) as running:
        with running.faults(FullBacklog()):
            client = running.connect()
            client.send_all(b"hi\n")
            with pytest.raises(DeadlineExceeded):
                client.readline(timeout=0.1)
        assert client.readline() == b"HI\n"
        client.close()


LISTENING = ["ThreadingTCPServer", "PreForkTCPServer", "PreForkUnixStreamServer", "ForkingTCPServer+process"]


@pytest.mark.parametrize("kind", LISTENING)
@pytest.mark.parametrize(
    ("faults", "hit"),
    [
        (Refuse().on(connection=[2, 4]), {2, 4}),
        (Refuse().on(every=3), {3, 6}),
        (AcceptError("ECONNABORTED", nth=3, times=2), {3, 4}),
        (AcceptError("ECONNABORTED", nth=2).on(first=4), {2}),
    ],
    ids=str,
)
def test_faults_of_a_listener_count_over_all_its_processes(kind: str, faults: Any, hit: set[int]) -> None:
    with launch(Upper, kind=kind, faults=faults) as running:
        cut_off = set()
        for number in range(1, 7):
            try:
                echo(running)
            except OSError:
                cut_off.add(number)
        assert cut_off == hit, seen(running)
        assert {decision.connection for decision in running.hits} == hit, seen(running)


def test_faults_of_a_listener_that_come_later_know_how_many_there_were() -> None:
    for kind in ("ThreadingTCPServer", "PreForkTCPServer"):
        with launch(Upper, kind=kind, faults=plan(None)) as running:
            echo(running)
            with running.faults(Refuse().on(connection=[1, 3])):
                echo(running)
                with pytest.raises(OSError):
                    echo(running)
            echo(running)


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "PreForkTCPServer"])
def test_a_stop_does_not_wait_for_those_who_accept_late(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decided, add = threading.Event(), Trace.add

    def add_and_tell(self: Trace, decision: Decision) -> None:
        add(self, decision)
        decided.set()

    monkeypatch.setattr(Trace, "add", add_and_tell)
    with launch(Upper, kind=kind, faults=SlowAccept(60)) as running:
        clients = [socket.create_connection(running.address) for _ in range(3)]  # type: ignore[arg-type]
        assert decided.wait(10)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    for client in clients:
        client.close()


def test_what_a_change_holds_is_not_lost() -> None:
    with launch(Upper, faults=Plan()) as running, running.connect() as client:
        with running.faults(upstream(Stall())):
            client.send_all(b"held\n")
            with pytest.raises(DeadlineExceeded):
                client.readline(timeout=0.05)
        assert client.readline() == b"HELD\n"


# -- its life


@pytest.mark.parametrize(
    "kind", ["ThreadingTCPServer", "PreForkTCPServer", "ForkingTCPServer", "TCPServer+process"]
)
def test_what_was_sent_before_the_stop_arrives(kind: str) -> None:
    class Late(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"x" * 200_000)

    with launch(Late, kind=kind, faults=downstream(Latency(0.3))) as running:
        client = socket.create_connection(running.address)  # type: ignore[arg-type]
        client.sendall(b"\n")
        client.settimeout(10)
        assert running.transcript is not None
        _until_sent(running, 200_000)
        running.stop()
    with client:
        got = 0
        while data := client.recv(65536):
            got += len(data)
    assert got == 200_000


def _until_sent(running: Running, size: int) -> None:
    assert running.transcript is not None
    running.transcript.wait_for(
        until=lambda transcript: sum(one.downstream_total for one in transcript.connections) >= size
    )


@pytest.mark.parametrize("fault", [Blackhole(), Stall(), Latency(30)])
def test_a_stop_does_not_wait_for_what_never_arrives(fault: Any) -> None:
    with launch(Upper, faults=downstream(fault)) as running:
        client = running.connect()
        client.send_all(b"hi\n")
        began = time.monotonic()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("kind", HOSTS)
def test_down_and_up_again(kind: str) -> None:
    with launch(Upper, kind=kind, faults=Latency(0.001)) as running:
        address = running.address
        echo(running)
        with running.down():
            with pytest.raises(OSError), running.connect():
                pass
        assert running.address == address
        echo(running)
        assert running.hits.counts == {"latency": 4}


def test_down_is_refused_by_name() -> None:
    with launch(Upper) as running, running.down(), pytest.raises(PeerRefused):
        running.connect()


def test_faults_go_on_through_a_restart() -> None:
    for kind in ("ThreadingTCPServer", "ThreadingTCPServer+process"):
        with launch(Upper, kind=kind, faults=Plan()) as running, running.faults(downstream(Latency(0.1))):
            running.restart()
            began = time.monotonic()
            echo(running)
            assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize(
    "kind", ["ThreadingTCPServer+process", "ForkingTCPServer", "PreForkUnixStreamServer"]
)
@pytest.mark.parametrize("faults", [None, Latency(0.001)], ids=["plain", "faults"])
def test_a_crash_in_mid_request_and_a_restart(kind: str, faults: Any) -> None:
    class Slow(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"begin")
            self.rfile.readline()

    with launch(Slow, kind=kind, faults=faults) as running:
        with running.connect() as client:
            client.send_all(b"\n")
            assert client.read_exactly(5) == b"begin"
            running.crash()
            with contextlib.suppress(PeerReset):
                assert client.read_eof() == b""
        with pytest.raises(OSError):
            running.connect()
        address = running.address
        running.restart()
        assert running.address == address
        with running.connect() as client:
            client.send_all(b"\n")
            assert client.read_exactly(5) == b"begin"


def test_a_server_in_this_process_cannot_crash() -> None:
    with launch(Upper) as running, pytest.raises(UsageError, match="process"):
        running.crash()


# -- what is refused, and what is told


def test_what_cannot_be_is_refused_with_the_reason() -> None:
    def refused(match: str, faults: Any, target: Any = Upper, **options: Any) -> None:
        with pytest.raises(UsageError, match=match):
            launch(target, faults=faults, **options)

    refused("TCP would have sent it again", Loss(0.1))
    refused("datagram", Slicer(), DatagramUpper)
    refused("OpenSSL makes the calls", ShortReads(), tls=True)
    refused("starts no thread", FailThreadStart(), kind="TCPServer")
    refused("forks no process", FailFork())
    refused("forks no process", FailFork(), kind="PreForkTCPServer")
    refused("would stand still", FullBacklog(), upper)
    refused("would stand still", FullBacklog(), SelectorUpper, kind="SelectorTCPServer")
    refused("put a proxy in front", Latency(1), CommandTarget(["server", "{port}"]))
    refused("put a proxy in front", Latency(1), FactoryTarget(lambda address: _StartStop()))
    assert not [thread for thread in threading.enumerate() if "faulty" in thread.name]


class _StartStop:
    def start(self) -> None: ...
    def stop(self) -> None: ...


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ThreadingTCPServer+process"])
def test_a_change_that_cannot_be_is_refused(kind: str) -> None:
    with launch(Upper, kind=kind, faults=Plan()) as running:
        for wrong in (Loss(0.1), FailFork()):
            with pytest.raises(UsageError), running.faults(wrong):
                pass
        with running.faults(Latency(0.01)):
            echo(running)


@pytest.mark.parametrize("kind", [*HOSTS, "ThreadingUnixStreamServer", "SelectorTCPServer"])
def test_a_server_refuses_for_a_while(kind: str) -> None:
    handler = SelectorUpper if kind.startswith("Selector") else Upper
    with launch(handler, kind=kind, faults=Plan()) as running:
        address = running.address
        with running.faults(Refuse() | Latency(0.01)):
            with pytest.raises(PeerRefused):
                running.connect()
            with running.faults(Refuse()), pytest.raises(PeerRefused):
                running.connect()
            with pytest.raises(PeerRefused):
                running.connect()
        assert running.address == address
        echo(running)
        assert running.hits.counts == {"refuse": 2}


def test_a_server_that_was_launched_without_faults_can_refuse() -> None:
    with launch(Upper) as running:
        with running.faults("refuse"), pytest.raises(PeerRefused):
            running.connect()
        echo(running)
    with launch(DatagramUpper) as running, pytest.raises(UsageError, match="use Partition"):
        running.faults(Refuse())


@pytest.mark.parametrize("kind", [*HOSTS, "ThreadingUnixStreamServer"])
def test_a_server_that_refuses_from_the_beginning(kind: str) -> None:
    with launch(Upper, kind=kind, faults=Refuse() | Latency(0.01)) as running:
        with pytest.raises(PeerRefused):
            running.connect()
        running.restart()
        with pytest.raises(OSError):
            running.connect()
        assert running.hits.counts == {"refuse": 1}


@pytest.mark.parametrize("serving", [Upper, SelectorUpper, upper, upper_function])
def test_a_server_refuses_single_connections(serving: Any) -> None:
    with launch(serving, faults=Refuse().on(connection=2)) as running:
        echo(running)
        with pytest.raises((OSError, EOFError)), running.connect() as client:
            client.read_exactly(1)
        echo(running)
        assert [(one.connection, one.what) for one in running.hits] == [(2, "refuses")]


def test_without_faults_there_is_nothing_to_change() -> None:
    with launch(Upper) as running:
        with pytest.raises(UsageError, match="launched without faults"):
            running.faults(Latency(1))
        with pytest.raises(UsageError, match="launched without faults"):
            running.hits  # noqa: B018
        assert running.fault_report == ""


def test_a_failure_shows_faults_and_seed() -> None:
    with (
        pytest.raises(HandlerFailed) as caught,
        launch(Upper, faults=FailCall("recv", "EIO"), seed=1234) as running,
    ):
        with running.connect() as client:
            client.read_eof()
    text = str(caught.value)
    assert "seed: 1234" in text
    assert "FailCall(error='EIO')" in text
    assert "fails recv 1 with EIO" in text


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    for thread in threading.enumerate():
        if "faulty" in thread.name:
            thread.join(5)
            assert not thread.is_alive(), vars(keeper)
    assert len(os.listdir("/proc/self/fd")) <= before + 8, (
        "some belong to the zygote, if this was its first test"
    )
