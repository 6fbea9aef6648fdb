"""The ready-made peers, on streams and datagrams, and from the command line."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from servertest import launch
from servertest._support import UsageError, parse_address
from servertest.clients import connect
from servertest.mocks import peers as package
from servertest.mocks.peers import (
    BlackHole,
    Chargen,
    Daytime,
    Discard,
    Echo,
    KeyValueStore,
    LineChat,
    Tarpit,
    Time,
    peers,
)

STREAMS = ["ThreadingTCPServer", "ForkingTCPServer", "ThreadingUnixStreamServer+tls", "ThreadPoolTCPServer"]


def test_each_has_a_name() -> None:
    assert set(peers.values()) == {
        getattr(package, name) for name in package.__all__ if name not in ("Peer", "peers")
    }
    assert set(peers) >= {
        "echo",
        "discard",
        "chargen",
        "daytime",
        "time",
        "line-chat",
        "key-value-store",
        "black-hole",
        "tarpit",
    }


@pytest.mark.parametrize("kind", STREAMS)
def test_echo(serve: Any, kind: str) -> None:
    with serve(Echo, kind).connect() as client:
        client.send_all(b"hello")
        assert client.read_exactly(5) == b"hello"
        if "tls" not in kind:
            client.half_close()
            assert client.read_eof() == b""


@pytest.mark.parametrize("kind", ["UDPServer", "ThreadingUnixDatagramServer"])
@pytest.mark.parametrize(
    ("peer", "reply"), [(Echo, b"hello"), (Chargen, b" !"), (Daytime, b"UTC"), (Time, b"")]
)
def test_datagrams(serve: Any, kind: str, peer: type, reply: bytes) -> None:
    with serve(peer, kind).connect() as client:
        client.send(b"hello")
        received = client.receive()
        assert reply in received
        if peer is Time:
            assert len(received) == 4


@pytest.mark.parametrize("peer", [LineChat, KeyValueStore, Tarpit])
def test_those_that_talk_on_connections_alone(serve: Any, peer: type) -> None:
    server = serve(peer, "UDPServer")
    with server.expects_error(UsageError, match="talks on connections"), server.connect() as client:
        client.send(b"hello")


@pytest.mark.parametrize("peer", [Discard, BlackHole])
def test_silence_in_datagrams(serve: Any, peer: type) -> None:
    server = serve(peer, "UDPServer")
    with server.connect() as client:
        client.send(b"hello")
        server.transcript.wait_for(upstream=b"hello")
    assert not server.transcript.connections[0].downstream


@pytest.mark.parametrize("peer", [Discard, BlackHole])
def test_silence(serve: Any, peer: type) -> None:
    server = serve(peer)
    with server.connect() as client:
        client.send_all(b"hello")
        client.half_close()
        assert client.read_eof() == b""
    assert server.transcript.connections[0].downstream == b""


def test_chargen(serve: Any) -> None:
    with serve(Chargen).connect() as client:
        lines = [client.readline() for _ in range(200)]
    assert all(len(line) == 74 for line in lines)
    assert lines[0].startswith(b" !\"#$%&'()*+,-./0123456789")
    assert lines[1][:71] == lines[0][1:72]
    assert lines[95] == lines[0]


def test_a_chargen_that_nobody_reads_from_stops_at_once(serve: Any) -> None:
    server = serve(Chargen)
    client = server.connect()
    client.read_some(1)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 2


def test_the_time(serve: Any) -> None:
    with serve(Time).connect() as client:
        seconds = int.from_bytes(client.read_eof(), "big")
    assert abs(seconds - 2_208_988_800 - time.time()) < 60
    with serve(Daytime).connect() as client:
        assert time.strptime(client.read_eof().decode(), "%A, %B %d, %Y %H:%M:%S-UTC\r\n").tm_year >= 2026


def test_tarpit(serve: Any) -> None:
    class Quick(Tarpit):
        interval = 0.001
        text = b"ab"

    server = serve(Quick)
    with server.connect() as client:
        client.send_all(b"GET /\r\n")
        assert client.read_exactly(6) == b"ababab"


def test_chat(serve: Any) -> None:
    server = serve(LineChat)
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(server.connect())
        one.expect(b"* welcome, guest1\r\n")  # before another one comes, who might be faster
        two = stack.enter_context(server.connect())
        two.expect(b"* welcome, guest2\r\n")
        one.expect(b"* guest2 has come\r\n")
        two.send_all(b"/name ann\r\n")
        one.expect(b"* guest2 is ann now\r\n")
        two.expect(b"* guest2 is ann now\r\n")
        two.send_all(b"hello\r\n/name guest1\r\n/dance\r\n/who\r\n/quit\r\n")
        one.expect(b"ann: hello\r\n* ann has gone\r\n")
        assert two.read_eof() == (
            b"* 'guest1' is no name that you could have\r\n* there is no /dance: /name NAME, /who, /quit\r\n* ann, guest1\r\n"
        )


def test_the_store(serve: Any) -> None:
    server = serve(KeyValueStore)
    with server.connect() as client:
        for sent, received in (
            (b"PING", b"+PONG\r\n"),
            (b"set name 'Ann Lee'", b"+OK\r\n"),
            (b"GET name", b"$7\r\nAnn Lee\r\n"),
            (b"GET nothing", b"$-1\r\n"),
            (b"SET name x NX", b"$-1\r\n"),
            (b"SET name x ZZ", b"-ERR syntax error: of the options of SET there are NX and XX\r\n"),
            (b"INCR count", b":1\r\n"),
            (b"INCR name", b"-ERR value is not an integer or out of range\r\n"),
            (b"EXISTS name count other", b":2\r\n"),
            (b"KEYS n*", b"*1\r\n$4\r\nname\r\n"),
            (b"*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb", b"$4\r\na\r\nb\r\n"),
            (b"DEL name", b":1\r\n"),
            (b"FLUSHALL", b"+OK\r\n"),
            (b"GET", b"-ERR wrong number of arguments for 'GET'\r\n"),
            (b"DANCE", b"-ERR unknown command 'DANCE'\r\n"),
            (b"SET 'open", b"-ERR unknown command ''\r\n"),
        ):
            client.send_all(sent + b"\r\n")
            client.expect(received)
        client.send_all(b"\r\nQUIT\r\n")
        assert client.read_eof() == b"+OK\r\n"


def test_from_the_command_line() -> None:
    command = [sys.executable, "-m", "servertest", "serve", "echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving Echo as ThreadingTCPServer on ")
        with connect(parse_address(line.split()[-1])) as client:
            client.send_all(b"hi\n")
            assert client.readline() == b"hi\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_a_peer_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    from servertest.cli import main

    assert main(["serve", "ecko"]) == 2
    assert "did you mean echo?" in capsys.readouterr().err
    assert main(["serve", "zzz"]) == 2
    assert "tarpit" in capsys.readouterr().err


def test_launched_without_pytest() -> None:
    with launch(Echo) as server, server.connect() as client:
        client.send_all(b"x")
        assert client.read_exactly(1) == b"x"
