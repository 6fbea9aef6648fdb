"""What is beyond the standard module, and off unless asked for."""

from __future__ import annotations

import http.client
import http.server
import os
import select
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from servertest import servers
from tests._descriptors import new_descriptors, open_descriptors
from tests.servers._running import LIMIT, Echo, EchoDatagram, ask, connect, join, read_all, serving

LOCAL = ("127.0.0.1", 0)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on the loopback interface")


# -- addresses --------------------------------------------------------------------------------------------------------------------


@needs_ipv6
def test_the_family_may_be_taken_from_the_address() -> None:
    class Server(servers.TCPServer):
        detect_address_family = True

    with Server(("::1", 0), Echo) as server, serving(server):
        assert server.address_family == socket.AF_INET6
        assert ask(server) == b"HELLO\n"
    with Server(LOCAL, Echo) as server:
        assert server.address_family == socket.AF_INET


def test_without_asking_an_ipv6_address_fails_as_in_the_standard_module() -> None:
    with pytest.raises(OSError):
        servers.TCPServer(("::1", 0), Echo)


def test_a_path_makes_a_unix_server_where_the_family_is_detected(tmp_path: Path) -> None:
    class Server(servers.TCPServer):
        detect_address_family = True

    with Server(tmp_path / "s", Echo) as server, serving(server):
        assert server.address_family == socket.AF_UNIX
        assert ask(server) == b"HELLO\n"


@needs_ipv6
@pytest.mark.parametrize("dual", [True, False])
def test_dual_stack(dual: bool) -> None:
    class Server(servers.TCPServer):
        address_family = socket.AF_INET6
        dual_stack = dual

    with Server(("::", 0), Echo) as server:
        with socket.socket() as client:
            refused = client.connect_ex(("127.0.0.1", server.server_address[1])) != 0
        assert refused is not dual


def test_a_unix_path_is_left_behind_unless_asked_otherwise(tmp_path: Path) -> None:
    class Tidy(servers.UnixStreamServer):
        unlink_on_close = True

    for cls in (servers.UnixStreamServer, Tidy):
        path = tmp_path / cls.__name__
        with cls(str(path), Echo):
            assert path.exists()
        assert path.exists() is (cls is servers.UnixStreamServer)


def test_a_path_that_is_somebody_elses_by_now_is_not_removed(tmp_path: Path) -> None:
    class Tidy(servers.UnixStreamServer):
        unlink_on_close = True

    path = tmp_path / "s"
    with Tidy(str(path), Echo):
        path.unlink()
        other = servers.UnixStreamServer(str(path), Echo)
    assert path.exists()
    other.server_close()


def test_a_pathlib_path_is_a_path(tmp_path: Path) -> None:
    with servers.UnixDatagramServer(tmp_path / "s", EchoDatagram) as server:
        assert server.server_address == str(tmp_path / "s")


def test_a_path_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * 120))
    with pytest.raises(OSError, match="the system takes 107; bind a shorter path") as caught:
        servers.UnixStreamServer(path, Echo)
    assert path in str(caught.value)


def test_an_abstract_name_is_an_address() -> None:
    name = b"\0servertest-%d" % os.getpid()
    with servers.UnixStreamServer(name, Echo) as server, serving(server):
        assert server.server_address == name
        assert ask(server) == b"HELLO\n"


def test_a_failing_bind_leaves_nothing_open() -> None:
    before = open_descriptors()
    with servers.TCPServer(LOCAL, Echo) as server:
        for _ in range(20):
            with pytest.raises(OSError):
                servers.TCPServer(server.server_address, Echo)
    assert not new_descriptors(before)


def test_attributes_set_between_construction_and_bind_count() -> None:
    server = servers.TCPServer(LOCAL, Echo, bind_and_activate=False)
    with server:
        server.allow_reuse_address = True
        server.server_bind()
        assert server.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


# -- sockets that exist already ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_descriptor", [True, False])
def test_adopting_a_listener(as_descriptor: bool) -> None:
    listener = socket.create_server(LOCAL)
    address = listener.getsockname()
    with servers.ThreadingTCPServer.adopt(listener.detach() if as_descriptor else listener, Echo) as server:
        assert server.server_address == address
        with serving(server):
            assert ask(server) == b"HELLO\n"


@needs_ipv6
def test_adopting_takes_the_family_of_the_socket() -> None:
    with servers.TCPServer.adopt(socket.create_server(("::1", 0), family=socket.AF_INET6), Echo) as server:
        assert server.address_family == socket.AF_INET6


def test_adopting_a_socket_of_the_wrong_type_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(
            ValueError, match="TCPServer serves stream sockets; the socket to adopt is a datagram socket"
        ):
            servers.TCPServer.adopt(sock, Echo)


def test_adopting_hands_further_arguments_to_the_constructor() -> None:
    class Named(servers.TCPServer):
        def __init__(self, address: Any, handler: Any, name: str, bind_and_activate: bool = True) -> None:
            self.name = name
            super().__init__(address, handler, bind_and_activate)

    with Named.adopt(socket.create_server(LOCAL), Echo, "of mine") as server:
        assert server.name == "of mine"


# -- errors, HTTP -----------------------------------------------------------------------------------------------------------------


class Failing(servers.StreamRequestHandler):
    def handle(self) -> None:
        raise ZeroDivisionError(self.rfile.readline())


class Collecting(servers.ErrorCollectorMixIn, servers.ThreadingTCPServer):
    pass


def test_errors_are_collected_and_raised_once() -> None:
    with Collecting(LOCAL, Failing) as server, serving(server):
        ask(server)
        server._threads.join()
        with pytest.raises(ZeroDivisionError) as caught:
            server.raise_collected_errors()
        assert caught.value.__notes__[0].startswith("while serving a request from ('127.0.0.1'")
        server.raise_collected_errors()


def test_several_errors_are_raised_together() -> None:
    with Collecting(LOCAL, Failing) as server, serving(server):
        ask(server)
        ask(server)
        server._threads.join()
        with pytest.raises(ExceptionGroup, match="2 requests to Collecting failed"):
            server.raise_collected_errors()


def test_the_collector_is_for_the_loop_to_call() -> None:
    with Collecting(LOCAL, Failing) as server, pytest.raises(RuntimeError, match="outside an except block"):
        server.handle_error(None, None)


def test_http_without_a_look_up_of_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_look_up(*args: object) -> str:
        raise AssertionError("a reverse look-up")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: object) -> None:
            pass

    (tmp_path / "a.txt").write_text("served")
    monkeypatch.setattr(socket, "getfqdn", no_look_up)
    with servers.ThreadingHTTPServer(LOCAL, Handler) as server, serving(server):
        assert (server.server_name, server.server_port) == server.server_address
        host, port = server.server_address
        client = http.client.HTTPConnection(host, port, timeout=LIMIT)
        client.request("GET", "/a.txt")
        assert client.getresponse().read() == b"served"
        client.close()


# -- TLS --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Errors(servers.ErrorCollectorMixIn):
    request_queue_size = 16


class ThreadingTLS(Errors, servers.ThreadingMixIn, servers.TLSMixIn, servers.TCPServer):
    pass


class PoolTLS(Errors, servers.ThreadPoolMixIn, servers.TLSMixIn, servers.TCPServer):
    pass


class PlainTLS(Errors, servers.TLSMixIn, servers.TCPServer):
    pass


def ask_tls(server: Any, context: ssl.SSLContext) -> bytes:
    with context.wrap_socket(connect(server), server_hostname="127.0.0.1") as client:
        client.sendall(b"hello\n")
        reply = client.recv(100)
        client.unwrap()  # says goodbye and waits for the server's goodbye
        return reply


@pytest.fixture(params=[ThreadingTLS, PoolTLS, PlainTLS])
def tls_server(request: pytest.FixtureRequest, server_context: ssl.SSLContext) -> Any:
    class Server(request.param):  # type: ignore[misc, name-defined]
        tls_context = server_context

    with Server(LOCAL, Echo) as server, serving(server):
        yield server


def test_tls_from_the_handshake_to_the_goodbye(tls_server: Any, client_context: ssl.SSLContext) -> None:
    assert ask_tls(tls_server, client_context) == b"HELLO\n"
    assert tls_server.collected_errors == []


def test_a_client_that_answers_the_goodbye_and_reads_on_is_not_reset(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    closed = threading.Event()

    class Patient(servers.TCPServer):
        def shutdown_request(self, request: Any) -> None:
            # Between the goodbye and the close, where else the client would have to be very fast.
            assert select.select([request], [], [], LIMIT)[0]
            super().shutdown_request(request)

        def close_request(self, request: Any) -> None:
            super().close_request(request)
            closed.set()

    class Server(servers.TLSMixIn, Patient):
        tls_context = server_context

    class Silent(servers.BaseRequestHandler):
        pass

    with Server(LOCAL, Silent) as server, serving(server):
        with client_context.wrap_socket(connect(server), server_hostname="127.0.0.1") as client:
            assert client.recv(1) == b""  # the goodbye
            client.unwrap()
            assert closed.wait(LIMIT)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_the_server_says_goodbye_in_tls(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    class Once(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"bye")

    class Server(ThreadingTLS):
        tls_context = server_context

    with Server(LOCAL, Once) as server, serving(server):
        with client_context.wrap_socket(
            connect(server), server_hostname="127.0.0.1", suppress_ragged_eofs=False
        ) as client:
            assert read_all(client) == b"bye"


@pytest.mark.parametrize("tls_server", [ThreadingTLS, PoolTLS], indirect=True)
def test_a_silent_client_holds_up_nobody(tls_server: Any, client_context: ssl.SSLContext) -> None:
    with connect(tls_server):
        assert ask_tls(tls_server, client_context) == b"HELLO\n"


def test_a_handshake_has_a_deadline_as_a_whole(tls_server: Any) -> None:
    tls_server.handshake_timeout = 0.03
    errors = tls_server.collected_errors
    with connect(tls_server) as client:
        client.sendall(b"\x16\x03\x01")  # the beginning of a handshake
        assert client.recv(100) == b""
    [error] = errors
    assert isinstance(error, TimeoutError)
    assert "not done after handshake_timeout=0.03 s" in str(error)


def test_a_handshake_that_fails_is_an_error_of_the_request(
    tls_server: Any, client_context: ssl.SSLContext
) -> None:
    with connect(tls_server) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(OSError):
            while client.recv(100):
                pass
            raise OSError("or it ends in good order")
    assert ask_tls(tls_server, client_context) == b"HELLO\n"
    [error] = tls_server.collected_errors
    assert isinstance(error, ssl.SSLError)


def test_a_client_that_resets_before_it_is_wrapped_leaves_nothing_open(
    server_context: ssl.SSLContext,
) -> None:
    class Server(ThreadingTLS):
        tls_context = server_context

    before = open_descriptors()
    with Server(LOCAL, Echo) as server:
        with connect(server) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.handle_request()
    assert not new_descriptors(before)


def test_tls_without_a_context_is_refused_when_the_server_is_made() -> None:
    with pytest.raises(ValueError, match="PlainTLS has no tls_context"):
        PlainTLS(LOCAL, Echo)


def test_stopping_during_a_handshake(server_context: ssl.SSLContext) -> None:
    class Server(ThreadingTLS):
        tls_context = server_context
        daemon_threads = True

    server = Server(LOCAL, Echo)
    loop = threading.Thread(target=server.serve_forever, args=(None,))
    loop.start()
    with connect(server):
        server.shutdown()
        join(loop)
        server.server_close()


def test_extras_are_there_by_name_and_not_in_a_star_import() -> None:
    assert "ThreadPoolMixIn" in dir(servers)
    assert "ThreadPoolMixIn" not in servers.__all__
    with pytest.raises(AttributeError, match="has no attribute 'ThreadPolMixIn'"):
        servers.ThreadPolMixIn  # noqa: B018
