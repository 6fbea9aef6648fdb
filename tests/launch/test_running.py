"""The handle of a running server: where it is, how to reach it, what it tells."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from typing import Any

import pytest

from servertest import servers
from servertest._support import AddressInUse, DeadlineExceeded, SocketDirectory, UsageError, bound_socket
from servertest.clients import AsyncStreamClient, DatagramClient, StreamClient
from servertest.launch import FunctionTarget, Kind, launch
from tests._descriptors import new_descriptors, open_descriptors

from ._handlers import DatagramUpper, Upper, echo


class Silent(servers.StreamRequestHandler):
    """Reads, and never answers."""

    def handle(self) -> None:
        self.rfile.read()


# -- where it is


def test_host_and_port() -> None:
    with launch(Upper) as running:
        assert running.address == (running.host, running.port)
        assert running.host == "127.0.0.1"
        assert running.port == running.server.server_address[1]
        assert running.pid is None
        with pytest.raises(UsageError, match="has no path"):
            _ = running.path


def test_path() -> None:
    with launch(Upper, "UnixStreamServer") as running:
        assert running.path == running.address
        assert os.path.exists(running.path)
        for name in ("host", "port"):
            with pytest.raises(UsageError, match=f"has no {name}"):
                getattr(running, name)


def test_an_abstract_name_is_no_path() -> None:
    with launch(Upper, "UnixStreamServer+abstract") as running:
        assert isinstance(running.address, bytes)
        with pytest.raises(UsageError, match="its address is @"):
            _ = running.path


def test_its_repr_says_what_where_and_whether() -> None:
    with launch(Upper, "TCPServer+tls") as running:
        assert repr(running) == f"<TCPServer+tls serving Upper on 127.0.0.1:{running.port}>"
    assert repr(running) == f"<TCPServer+tls serving Upper on 127.0.0.1:{running.port}, stopped>"


# -- the address that was asked for


def test_a_port_of_ones_own() -> None:
    with bound_socket("stream", "inet") as holder:
        address = holder.getsockname()
    with launch(Upper, address=address) as running:
        assert running.address == address
        echo(running)


@pytest.mark.parametrize(
    ("address", "family"),
    [
        ("127.0.0.1", "inet"),
        ("localhost", "inet"),
        (("127.0.0.1", 0), "inet"),
        ("inet", "inet"),
        ("unix", "unix"),
        ("abstract", "abstract"),
        ("::1", "inet6"),
        (("::1", 0), "inet6"),
        ("inet6", "inet6"),
        ("dual", "dual"),
    ],
)
def test_an_address_decides_on_the_family(address: Any, family: str) -> None:
    if (reason := Kind(family=family).reason) is not None:  # type: ignore[arg-type]
        pytest.skip(reason)
    with launch(Upper, address=address) as running:
        assert running.kind.family == family
        echo(running)


def test_a_path_of_ones_own_is_removed_at_the_end() -> None:
    with SocketDirectory() as directory:
        path = directory.path()
        with launch(Upper, address=path) as running:
            assert running.path == path
            echo(running)
            running.restart()
            echo(running)
        assert not os.path.exists(path)


def test_an_abstract_name_of_ones_own() -> None:
    name = f"\0servertest-test-{os.getpid()}"
    with launch(DatagramUpper, "UnixDatagramServer", address=name) as running:
        assert running.address == name.encode()
        echo(running)
        running.restart()
        echo(running)


@pytest.mark.parametrize("kind", ["TCPServer", "UDPServer"])
@pytest.mark.parametrize("whole", [False, True])
def test_an_address_in_use_is_said_at_once(kind: str, whole: bool) -> None:
    transport = Kind.parse(kind).transport
    handler = DatagramUpper if transport == "datagram" else Upper
    with bound_socket(transport, "inet") as taken:
        address = taken.getsockname()
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{address[1]}"):
            if whole:
                launch(Kind.parse(kind).server_class, handler, address=address)
            else:
                launch(handler, kind, address=address)


def test_restart_says_when_somebody_else_took_the_address() -> None:
    with launch(Upper) as running:
        running.stop()
        with bound_socket("stream", "inet", address=running.address):
            with pytest.raises(AddressInUse):
                running.restart()


def test_restart_after_stop() -> None:
    with launch(Upper) as running:
        echo(running)
        running.stop()
        running.restart()
        echo(running)
        assert running.running


def test_restart_after_stop_on_a_unix_path_leaves_nothing_either() -> None:
    with launch(Upper, "UnixStreamServer") as running:
        path = running.path
        for _ in range(2):
            running.stop()
            assert not os.path.exists(os.path.dirname(path))
            running.restart()
            assert running.path == path
            echo(running)
            running.restart()
            echo(running)
    assert not os.path.exists(os.path.dirname(path))


def test_restart_keeps_errors_and_transcript() -> None:
    class Once(servers.StreamRequestHandler):
        def handle(self) -> None:
            raise ValueError("first")

    with launch(Once) as running:
        running.connect().read_eof()
        running.restart()
        assert running.transcript is not None
        assert len(running.transcript.connections) == 1
        assert running.errors.pop().is_a(ValueError)


# -- clients


def test_a_client_of_the_right_sort() -> None:
    with launch(Upper) as running:
        assert type(running.connect()) is StreamClient
    with launch(DatagramUpper) as running:
        assert type(running.connect()) is DatagramClient


def test_an_asyncio_client() -> None:
    async def talk() -> bytes:
        client = await running.connect_async(timeout=5)
        assert type(client) is AsyncStreamClient
        async with client:
            await client.send_all(b"hi\n")
            return bytes(await client.readline())

    with launch(Upper, "ThreadingTCPServer+tls") as running:
        assert asyncio.run(talk()) == b"HI\n"


def test_a_deadline_that_passes_shows_what_the_server_does() -> None:
    with launch(Silent) as running:
        client = running.connect()
        client.send_all(b"hello\n")
        assert running.transcript is not None
        running.transcript.wait_for(upstream=b"hello\n")
        with pytest.raises(DeadlineExceeded) as caught:
            client.readline(timeout=0.02)
    text = str(caught.value)
    assert f"{running}: running" in text
    assert "connection 1 from 127.0.0.1:" in text
    assert "in its handler" in text
    assert "received 6 bytes, last b'hello\\n'" in text
    assert "self.rfile.read()" in text


def test_a_connection_that_fails_shows_the_server_too() -> None:
    with launch(Upper) as running:
        pass
    with pytest.raises(ConnectionRefusedError) as caught:
        running.connect()
    assert "stopped" in caught.value.__notes__[-1]


def test_clients_that_are_closed_are_not_kept() -> None:
    with launch(Upper) as running:
        for _ in range(100):
            running.connect().close()
        assert len(running._clientele._clients) < 40


# -- the dump


def test_the_dump_shows_connections_threads_and_errors() -> None:
    class Raising(servers.StreamRequestHandler):
        def handle(self) -> None:
            if self.rfile.readline() == b"raise\n":
                raise ValueError("asked for")
            self.rfile.read()

    with launch(Raising) as running:
        with running.connect() as client:
            client.send_all(b"raise\n")
            client.read_eof()
        client = running.connect()
        client.send_all(b"wait\n")
        assert running.transcript is not None
        running.transcript.wait_for(connections=2, upstream=b"wait\n")
        text = running.dump()
        running.errors.pop()
    assert re.search(r"connection 2 from 127\.0\.0\.1:\d+: in its handler, in thread", text)
    assert "received 5 bytes, last b'wait\\n'" in text
    assert "the serving loop:" in text
    assert "error: ValueError: asked for (in handle, connection 1)" in text


@pytest.mark.parametrize("target", ["function", "asyncio"])
def test_the_dump_of_other_targets(target: str) -> None:
    begun = threading.Event()

    def function(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            begun.set()
            connection.recv(1)

    async def callback(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await reader.read()
        writer.close()

    with launch(function if target == "function" else callback) as running:
        running.connect()
        begun.wait(5)
        text = running.dump()
    assert "connection 1 from 127.0.0.1:" in text
    assert ("connection.recv(1)" if target == "function" else "await reader.read()") in text


def test_a_connection_nobody_handles_yet_is_described() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(servers.ThreadingTCPServer):
        def process_request(self, request: Any, client_address: Any) -> None:
            begun.set()
            go_on.wait(5)
            super().process_request(request, client_address)

    with launch(Slow, Upper) as running:
        running.connect()
        begun.wait(5)
        text = running.dump()
        go_on.set()
    assert "accepted, but no handler has begun" in text


# -- life


def test_a_running_server_is_not_started_again() -> None:
    with launch(Upper) as running, pytest.raises(UsageError, match="runs already"):
        running.start()


def test_a_failed_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unmakeable(servers.TCPServer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("not today")

    def no_context(self: object) -> None:
        raise RuntimeError("no context")

    before = open_descriptors()
    with pytest.raises(RuntimeError, match="not today"):
        launch(Unmakeable, Upper)
    for target in ((Upper,), (servers.TCPServer, Upper), (FunctionTarget(print),)):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no context"):
            patch.setattr("servertest.tls.ServerCredential.server_context", no_context)
            launch(*target, tls=True)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no thread"):
        patch.setattr("threading.Thread.start", lambda self: (_ for _ in ()).throw(RuntimeError("no thread")))
        launch(Upper, "UnixStreamServer")
    assert not new_descriptors(before)


def test_the_package_can_be_called_by_the_functions_name() -> None:
    import servertest

    # By now the attribute is the package, which importing it has put there.
    package: Any = __import__("sys").modules["servertest.launch"]
    for call in (package, package.launch, servertest.launch):
        with call(Upper) as running:
            echo(running)
