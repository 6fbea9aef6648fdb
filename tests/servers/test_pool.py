"""ThreadPoolMixIn: bounded, used again, and a queue in the kernel behind it."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from servertest import servers
from tests.servers._running import LIMIT, Echo, EchoDatagram, Held, ask, connect, join, serving

LOCAL = ("127.0.0.1", 0)


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "worker" in thread.name]


def test_one_client_after_another_is_served_by_one_thread() -> None:
    idents: set[int] = set()

    class Handler(Echo):
        def finish(self) -> None:
            super().finish()
            idents.add(threading.get_ident())

    with servers.ThreadPoolTCPServer(LOCAL, Handler) as server, serving(server):
        for _ in range(10):
            assert ask(server) == b"HELLO\n"
            assert server.drain(LIMIT) == []  # the client has its answer before the request is quite over
        assert len(workers()) == 1
        assert len(idents) == 1
    assert workers() == []


def test_a_full_pool_stops_at_once_and_waits_for_its_requests_when_closed() -> None:
    class Server(servers.ThreadPoolTCPServer):
        pool_size = 1

    server = Server(LOCAL, Held)
    with connect(server) as client:
        loop = threading.Thread(target=server.serve_forever, args=(None,))
        loop.start()
        assert client.recv(5) == b"here\n"
        server.shutdown()
        join(loop)
        closer = threading.Thread(target=server.server_close)
        closer.start()
        client.sendall(b"done\n")
        join(closer)


def test_many_more_clients_than_workers() -> None:
    class Server(servers.ThreadPoolTCPServer):
        pool_size = 3
        request_queue_size = 64

    replies: list[bytes] = []
    with Server(LOCAL, Echo) as server, serving(server):
        clients = [
            threading.Thread(target=lambda: replies.extend(ask(server) for _ in range(10))) for _ in range(8)
        ]
        for client in clients:
            client.start()
        for client in clients:
            join(client)
    assert replies == [b"HELLO\n"] * 80


def test_a_pool_for_datagrams() -> None:
    with servers.ThreadPoolUDPServer(LOCAL, EchoDatagram) as server, serving(server):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(LIMIT)
            for number in range(50):
                client.sendto(b"a%d" % number, server.server_address)
            assert {client.recv(100) for _ in range(50)} == {b"A%d" % number for number in range(50)}


def test_errors_go_to_handle_error_and_the_worker_goes_on() -> None:
    class Server(servers.ErrorCollectorMixIn, servers.ThreadPoolTCPServer):
        pool_size = 1

    class Handler(Echo):
        def handle(self) -> None:
            line = self.rfile.readline()
            if line == b"fail\n":
                raise ValueError(line)
            if line == b"exit\n":
                raise SystemExit
            self.wfile.write(line)

    with Server(LOCAL, Handler) as server, serving(server):
        for _ in range(3):
            assert ask(server, b"fail\n") == ask(server, b"exit\n") == b""
            assert ask(server, b"fine\n") == b"fine\n"
        with pytest.raises(ExceptionGroup) as caught:
            server.raise_collected_errors()
    assert [str(error) for error in caught.value.exceptions] == [r"b'fail\n'"] * 3


def test_process_request_thread_may_be_replaced_on_the_instance() -> None:
    with servers.ThreadPoolTCPServer(LOCAL, Echo) as server, serving(server):

        def own(request: Any, client_address: Any) -> None:
            request.recv(100)
            request.sendall(b"own\n")
            server.shutdown_request(request)

        server.process_request_thread = own  # type: ignore[method-assign]
        assert ask(server) == b"own\n"


def test_a_closed_pool_can_serve_again_after_its_server_was_made_anew() -> None:
    server = servers.ThreadPoolTCPServer(LOCAL, Echo)
    with serving(server):
        ask(server)
    servers.ThreadPoolTCPServer.__init__(server, LOCAL, Echo)
    with serving(server):
        assert ask(server) == b"HELLO\n"


def test_draining_a_pool_says_how_many_requests_run_on() -> None:
    release = threading.Event()

    class Stuck(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"here\n")
            assert release.wait(LIMIT)

    class Server(servers.ThreadPoolTCPServer):
        drain_timeout = 0.01

    server = Server(LOCAL, Stuck)
    with connect(server) as client:
        loop = threading.Thread(target=server.serve_forever)
        loop.start()
        assert client.recv(5) == b"here\n"
        server.shutdown()
        join(loop)
        with pytest.warns(ResourceWarning, match=r"1 request\(s\) still run"):
            server.server_close()
    release.set()
    for worker in workers():
        join(worker)


def test_a_handler_may_close_its_server() -> None:
    class Closer(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.server.shutdown()
            self.server.server_close()
            self.wfile.write(b"closed\n")

    server = servers.ThreadPoolTCPServer(LOCAL, Closer)
    loop = threading.Thread(target=server.serve_forever)
    loop.start()
    assert ask(server) == b"closed\n"
    join(loop)
    for worker in workers():
        join(worker)
