"""What programs do that no documentation mentions."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from servertest import servers
from servertest.servers import _base
from tests.servers._running import LIMIT, Echo, EchoDatagram, Held, ask, connect, join, serving

LOCAL = ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("_servertest_enter", "self.__loops().append(loop)"),
        ("_servertest_enter", "self.__end_event().clear()"),
        ("_servertest_leave", "self.__shutdown_request = False"),
        ("_servertest_leave", "self.__end_event().set()"),
        ("_servertest_leave", "loops.remove(loop)"),
    ],
)
def test_a_signal_handler_may_stop_the_server_at_any_moment(function: str, line: str) -> None:
    """A second SIGTERM comes while the first one's stop is under way; here: just before each of the lines that count."""
    source = Path(_base.__file__).read_text().splitlines()
    code = getattr(servers.BaseServer, function).__code__
    number = next(n for n, text in enumerate(source, 1) if n > code.co_firstlineno and line in text)
    rung = False

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal rung
        if frame.f_code is not code:
            return None
        if event == "line" and frame.f_lineno == number and not rung:
            rung = True
            signal.raise_signal(signal.SIGUSR1)
        return trace

    with servers.TCPServer(LOCAL, Echo) as server:
        previous = signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
        traced = sys.gettrace()
        stopper = threading.Timer(0.05, server.shutdown)
        stopper.start()
        sys.settrace(trace)
        try:
            server.serve_forever(None)
        finally:
            sys.settrace(traced)
            signal.signal(signal.SIGUSR1, previous)
            join(stopper)
    assert rung


@pytest.mark.parametrize(
    ("cls", "attribute", "more"),
    [(servers.ThreadPoolTCPServer, "pool_size", 4), (servers.ThreadingTCPServer, "max_threads", None)],
)
def test_a_limit_may_be_lifted_while_it_holds(cls: Any, attribute: str, more: int | None) -> None:
    server = cls(LOCAL, Held)
    setattr(server, attribute, 1)
    with server, serving(server, poll_interval=None), connect(server) as first, connect(server) as second:
        assert first.recv(5) == b"here\n"
        setattr(server, attribute, more)
        first.sendall(b"done\n")
        assert second.recv(5) == b"here\n"


def test_a_wrapped_datagram_socket_is_used_as_it_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrapped:
        def __init__(self, sock: socket.socket) -> None:
            self._sock = sock

        def recvfrom(self, size: int) -> Any:
            return self._sock.recvfrom(size)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

    with servers.UDPServer(LOCAL, EchoDatagram) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.socket = Wrapped(server.socket)
        client.settimeout(LIMIT)
        with serving(server):
            for _ in range(40):
                client.sendto(b"hello", server.server_address)
                assert client.recv(100) == b"HELLO"


def test_draining_a_pool_waits_for_its_requests() -> None:
    with servers.ThreadPoolTCPServer(LOCAL, Held) as server, serving(server), connect(server) as client:
        assert client.recv(5) == b"here\n"
        server.drain(0.0)
        assert client.recv(5) == b""  # the connection was shut down


def test_two_handlers_may_close_the_server_at_once() -> None:
    together = threading.Barrier(2)

    class Closer(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            together.wait(LIMIT)
            self.server.shutdown()
            self.server.server_close()
            self.wfile.write(b"closed\n")

    server = servers.ThreadingTCPServer(LOCAL, Closer)
    loop = threading.Thread(target=server.serve_forever)
    loop.start()
    with connect(server) as first, connect(server) as second:
        for client in (first, second):
            client.sendall(b"x\n")
        assert first.recv(10) == second.recv(10) == b"closed\n"
    join(loop)


def test_a_replaced_listener_with_the_same_number_is_followed() -> None:
    turned = threading.Event()

    class Server(servers.SelectorTCPServer):
        allow_reuse_address = True

        def service_actions(self) -> None:
            super().service_actions()
            turned.set()

    class Handler(servers.SelectorStreamRequestHandler):
        async def handle(self) -> None:
            await self.wfile.write((await self.rfile.readline()).upper())

    with Server(LOCAL, Handler) as server, serving(server, poll_interval=0.01):
        assert ask(server) == b"HELLO\n"
        number = server.socket.fileno()
        replacement = socket.create_server(LOCAL)
        old, server.socket = server.socket, replacement
        server.server_address = replacement.getsockname()
        del number
        turned.clear()
        assert turned.wait(LIMIT)
        turned.clear()
        assert turned.wait(LIMIT)
        old.close()
        assert ask(server) == b"HELLO\n"


def test_handle_request_calls_handle_timeout_while_there_is_no_room() -> None:
    class Server(servers.ThreadingTCPServer):
        max_threads = 1
        timeout = 0.01

        def handle_timeout(self) -> str:
            return "no room"

    with Server(LOCAL, Held) as server, connect(server) as first, connect(server) as second:
        server.handle_request()
        assert first.recv(5) == b"here\n"
        assert server.handle_request() == "no room"
        first.sendall(b"done\n")
        server._threads.join()
        server.handle_request()
        assert second.recv(5) == b"here\n"
        second.sendall(b"done\n")


def test_a_list_of_threads_of_the_programs_own_gets_ours() -> None:
    with servers.ThreadingTCPServer(LOCAL, Echo) as server:
        mine: list[threading.Thread] = []
        server._threads = mine
        with connect(server):
            server.handle_request()
        assert len(mine) == 1
        join(mine[0])
        server._threads = servers._NoThreads()


def test_adopting_leaves_a_refused_descriptor_open() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError):
            servers.TCPServer.adopt(sock.fileno(), Echo)
        sock.getsockname()


def test_an_adopted_http_server_knows_its_name() -> None:
    with servers.HTTPServer.adopt(socket.create_server(LOCAL), Echo) as server:
        assert (server.server_name, server.server_port) == server.server_address


def test_tls_is_not_for_datagrams() -> None:
    import ssl

    class Server(servers.TLSMixIn, servers.UDPServer):
        tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    with pytest.raises(ValueError, match="TLS is for streams"):
        Server(LOCAL, EchoDatagram)


def test_a_bare_base_server_cannot_serve() -> None:
    with pytest.raises(ValueError, match="Invalid file object"):
        servers.BaseServer(LOCAL, Echo).serve_forever()


@pytest.mark.parametrize("mix_in", [servers.PreForkMixIn, servers.SelectorMixIn])
def test_a_loop_of_ones_own_needs_a_server_of_ours(mix_in: Any) -> None:
    import socketserver

    class Foreign(mix_in, socketserver.TCPServer):  # type: ignore[misc]
        pass

    handler: Any = servers.BaseRequestHandler
    with (
        Foreign(LOCAL, handler) as server,
        pytest.raises(TypeError, match=r"needs a server class of servertest\.servers"),
    ):
        server.serve_forever()


def test_where_warnings_are_errors_a_truncated_datagram_is_an_error_of_its_request() -> None:
    class Server(servers.ErrorCollectorMixIn, servers.UDPServer):
        report_truncation = True
        max_packet_size = 10

    with Server(LOCAL, EchoDatagram) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(LIMIT)
        with serving(server):
            client.sendto(b"x" * 11, server.server_address)
            client.sendto(b"whole", server.server_address)
            assert client.recv(100) == b"WHOLE"
        [error] = server.collected_errors
        assert isinstance(error, servers.TruncatedDatagramWarning)


def test_several_loops_and_a_get_request_that_takes_its_time() -> None:
    """As where TLS is spoken in accept(): a client that is slow there holds up one loop, not all."""
    slow, go_on = threading.Event(), threading.Event()

    class Server(servers.TCPServer):
        def get_request(self) -> Any:
            got = super().get_request()
            if not slow.is_set():
                slow.set()
                assert go_on.wait(LIMIT)
            return got

    with Server(LOCAL, Echo) as server:
        loops = [threading.Thread(target=server.serve_forever, args=(0.01,)) for _ in range(2)]
        for loop in loops:
            loop.start()
        with connect(server):
            assert slow.wait(LIMIT)
            assert ask(server) == b"HELLO\n"
            go_on.set()
        server.shutdown()
        with socket.socket() as last:  # for a loop that was too late at accept(), as in the standard module
            last.connect_ex(server.server_address)
            for loop in loops:
                join(loop)
