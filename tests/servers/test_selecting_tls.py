"""TLS on a selector server: handshakes, reading and writing in the loop, where nobody may hold up the others."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from servertest.servers import BaseRequestHandler, TCPServer, TLSMixIn
from servertest.servers._selecting import SelectorMixIn
from tests.servers._running import LIMIT, connect, join, serving
from tests.servers._selecting import Handler, Upper, WitnessMixIn


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server and for its clients."""
    import trustme

    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


class Server(WitnessMixIn, SelectorMixIn, TLSMixIn, TCPServer):
    pass


def make(context: ssl.SSLContext, handler: Any = Upper, **attributes: Any) -> Any:
    return type("Server", (Server,), {"tls_context": context, **attributes})(handler)


@contextlib.contextmanager
def tls(server: Any, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with context.wrap_socket(connect(server), server_hostname="localhost") as client:
        yield client


def read_all(client: ssl.SSLSocket) -> bytes:
    with client.makefile("rb") as file:
        return file.read()


def test_a_dialogue(contexts: Any) -> None:
    server = make(contexts[0])
    with serving(server):
        for _ in range(2):
            with tls(server, contexts[1]) as client:
                client.sendall(b"hello\nand again\n")
                assert client.makefile("rb").read(16) == b"HELLO\nAND AGAIN\n"
                client.unwrap()
    assert server.errors == []
    once = [
        "get_request",
        "verify_request",
        "process_request",
        "finish_request",
        "shutdown_request",
        "close_request",
    ]
    assert server.calls == once * 2


def test_a_silent_client_holds_up_nobody_and_has_an_end(contexts: Any) -> None:
    server = make(contexts[0])
    with serving(server), connect(server) as silent, tls(server, contexts[1]) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
        server.handshake_timeout = 0.05
        with connect(server) as limited:
            assert limited.recv(100) == b""
        silent.shutdown(socket.SHUT_WR)
        while silent.recv(100):
            pass  # an alert
        client.sendall(b"still here\n")
        assert client.recv(100) == b"STILL HERE\n"
    assert [str(error) for error in server.errors][:1] == [
        "the TLS handshake was not done after handshake_timeout=0.05 s"
    ]
    assert isinstance(server.errors[1], OSError)
    assert server.calls.count("shutdown_request") == 3
    assert server.calls.count("finish_request") == 1


def test_a_handshake_in_single_bytes(contexts: Any) -> None:
    server = make(contexts[0])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    speaker = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
    with serving(server), connect(server) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def until_done(step: Any) -> Any:
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    result = None
                for byte in outgoing.read():
                    wire.send(bytes([byte]))
                if result is not None:
                    return result
                incoming.write(wire.recv(65536))

        until_done(lambda: speaker.do_handshake() or True)
        speaker.write(b"drop by drop\n")
        assert until_done(lambda: speaker.read(100)) == b"DROP BY DROP\n"
    assert all(isinstance(error, ConnectionError) for error in server.errors)


def test_a_handshake_that_fails(contexts: Any) -> None:
    server = make(contexts[0])
    with serving(server):
        with connect(server) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while plain.recv(100):
                    pass
        with connect(server) as gone:
            gone.close()
        with tls(server, contexts[1]) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"HELLO\n"
    assert server.calls.count("handle_error") == 2
    assert server.calls.count("shutdown_request") == 3
    assert all(isinstance(error, OSError) for error in server.errors)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_much_data_both_ways(contexts: Any, version: ssl.TLSVersion) -> None:
    """More than the kernel holds, in records of which a receive takes apart: what OpenSSL keeps is not forgotten."""
    size = 1_000_000

    class Back(Handler):
        timeout = LIMIT

        async def handle(self) -> None:
            total = b""
            while len(total) < size:
                piece = await self.rfile.read1(10_000)
                assert piece
                total += piece
            for start in range(0, size, 70_000):
                await self.wfile.write(total[start : start + 70_000])
            self.wfile.write(b"the end")

    data = bytes(range(250)) * (size // 250)
    contexts[1].maximum_version = version
    server = make(contexts[0], Back)
    try:
        with serving(server), tls(server, contexts[1]) as client:
            client.sendall(data)
            assert read_all(client) == data + b"the end"
    finally:
        contexts[1].maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert server.errors == []


def test_a_slow_reader(contexts: Any) -> None:
    class Sending(Handler):
        timeout = LIMIT

        def setup(self) -> None:
            super().setup()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

        async def handle(self) -> None:
            await self.wfile.write((await self.rfile.readline()) * 30_000)

    server = make(contexts[0], Sending)
    with serving(server), tls(server, contexts[1]) as client, tls(server, contexts[1]) as other:
        client.sendall(b"0123456789\n")
        other.sendall(b"x\n")
        assert read_all(other) == b"x\n" * 30_000
        assert read_all(client) == b"0123456789\n" * 30_000
    assert server.errors == []


def test_records_that_came_together_are_read_one_after_the_other(contexts: Any) -> None:
    """A handler that asks for little at a time gives way in between, and no event tells of what OpenSSL holds already."""
    server = make(contexts[0])
    with serving(server), tls(server, contexts[1]) as client:
        lines = [b"line %d\n" % number for number in range(200)]
        for line in lines:
            client.send(line)
        with client.makefile("rb") as file:
            assert [file.readline() for _ in lines] == [line.upper() for line in lines]


def test_closed_during_a_handshake(contexts: Any) -> None:
    server = make(contexts[0])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with connect(server) as silent, tls(server, contexts[1]) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
        server.server_close()
        assert silent.recv(100) == b""
        assert client.recv(100) == b""
    join(thread)
    assert server.errors == []
    assert server.calls.count("shutdown_request") == 2


def test_a_handler_that_fails_at_once_after_the_handshake(contexts: Any) -> None:
    class Failing(Handler):
        def handle(self) -> None:
            raise RuntimeError("at once")

    server = make(contexts[0], Failing)
    with serving(server), tls(server, contexts[1]) as client:
        assert client.recv(100) == b""
    assert [str(error) for error in server.errors] == ["at once"]
    assert server.calls[-3:] == ["handle_error", "shutdown_request", "close_request"]


def test_an_exit_right_after_the_handshake_ends_the_loop(contexts: Any) -> None:
    class Exiting(Handler):
        def handle(self) -> None:
            raise SystemExit("now")

    server = make(contexts[0], Exiting)
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            server.serve_forever()
        except SystemExit as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with tls(server, contexts[1]) as client:
        assert client.recv(100) == b""
    join(thread)
    server.server_close()
    assert [str(error) for error in failures] == ["now"]
    assert server.calls[-2:] == ["shutdown_request", "close_request"]


def test_no_more_connections_than_allowed_counts_handshakes(contexts: Any) -> None:
    server = make(contexts[0], max_connections=1)
    with serving(server):
        for _ in range(3):
            with tls(server, contexts[1]) as client:
                client.sendall(b"hello\n")
                assert client.recv(100) == b"HELLO\n"


def test_a_synchronous_handler_gets_a_blocking_connection(contexts: Any) -> None:
    class Synchronous(BaseRequestHandler):
        def handle(self) -> None:
            assert self.request.gettimeout() is None
            self.request.sendall(self.request.recv(100).upper())

    server = make(contexts[0], Synchronous)
    with serving(server), tls(server, contexts[1]) as client:
        client.sendall(b"hello\n")
        assert read_all(client) == b"HELLO\n"


def test_where_no_loop_runs(contexts: Any) -> None:
    server = make(contexts[0])
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with tls(server, contexts[1]) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
    join(thread)
    server.server_close()
    assert server.errors == []


class Contrary:
    """An SSL socket that wants to write when it is to read, and the other way round, as for new keys."""

    def __init__(self, sock: socket.socket) -> None:
        self.fileno = sock.fileno
        self.wants: list[type[ssl.SSLError]] = []
        self.done: list[str] = []

    def _do(self, what: str) -> None:
        if self.wants:
            raise self.wants.pop(0)
        self.done.append(what)

    def recv(self, size: int) -> bytes:
        self._do("recv")
        return b"data"

    def send(self, data: bytes) -> int:
        self._do("send")
        return min(len(data), 3)

    def do_handshake(self) -> None:
        self._do("do_handshake")


class Limits:
    timeout = LIMIT


def test_openssl_wants_the_opposite() -> None:
    from servertest.servers._selector_task import Task, run_alone
    from servertest.servers._selector_tls import TLSChannel

    ours, theirs = socket.socketpair()
    contrary = Contrary(ours)

    def life() -> Generator[Any, None, None]:
        channel = task.channel = TLSChannel(contrary, task)
        for wants in ([ssl.SSLWantWriteError, ssl.SSLWantReadError], [ssl.SSLWantWriteError]):
            contrary.wants = list(wants)
            theirs.send(b"x")
            yield from channel.shake_hands()
            contrary.wants = list(wants)
            assert (yield from channel.receive(10)) == b"data"
            contrary.wants = [ssl.SSLWantReadError, *wants]
            yield from channel.put(b"12345678")
        loop = task.loop
        assert loop is not None
        loop.call_soon(lambda: contrary.done.append("others"))
        for _ in range(10):
            yield from channel.receive(10)
        channel.close()

    with ours, theirs:
        task = Task(life(), Limits(), "client")
        run_alone(task)
    once = ["do_handshake", "recv", "send", "send", "send"]
    assert contrary.done[:10] == once * 2
    assert sorted(contrary.done[10:]) == ["others"] + ["recv"] * 10
    assert contrary.done[-1] == "recv"  # it has given way in between


def test_nothing_is_left_for_the_garbage_collector(contexts: Any) -> None:
    server = make(contexts[0])
    with serving(server), tls(server, contexts[1]) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        with tls_dialogue(make(contexts[0]), contexts[1]):
            pass
        gc.collect()
        kept = [
            thing
            for thing in gc.garbage
            if type(thing).__module__.startswith("servertest") or isinstance(thing, Handler)
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert kept == []


@contextlib.contextmanager
def tls_dialogue(server: Any, context: ssl.SSLContext) -> Iterator[None]:
    with serving(server), tls(server, context) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
        yield
