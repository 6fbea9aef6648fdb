"""One request: the order of the hooks, and that its end comes exactly once whatever fails."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from servertest import servers
from tests.servers._running import (
    LIMIT,
    Echo,
    EchoDatagram,
    Held,
    ask,
    connect,
    join,
    read_all,
    serving,
    third_comes_when_first_goes,
)
from tests.servers._witness import WitnessMixIn

LOCAL = ("127.0.0.1", 0)


class Noted(servers.BaseRequestHandler):
    def setup(self) -> None:
        self.server.calls.append("setup")

    def handle(self) -> None:
        self.server.calls.append("handle")
        self.server.fail("handle")

    def finish(self) -> None:
        self.server.calls.append("finish")


class Noting(WitnessMixIn):
    """Notes the calls of its hooks and of its handler's."""

    def __init__(self, **failing: BaseException) -> None:
        super().__init__(Noted, **failing)


IN = ["get_request", "verify_request", "process_request", "finish_request", "setup", "handle", "finish"]
OUT = ["shutdown_request", "close_request"]


def run(server: Noting) -> list[str]:
    with server, connect(server) as client:
        server.handle_request()
        assert client.recv(1) == b""
    return server.calls


def test_the_order_of_the_hooks() -> None:
    assert run(Noting()) == IN + OUT


def test_the_order_when_the_handler_raises() -> None:
    assert run(Noting(handle=ValueError())) == [*IN, "handle_error", *OUT]


def test_a_refused_request_is_only_shut_down() -> None:
    assert run(Noting(refuse=ValueError())) == ["get_request", "verify_request", *OUT]


@pytest.mark.parametrize("interrupt", [SystemExit(), KeyboardInterrupt()])
def test_an_interrupt_in_the_handler_ends_the_request_and_goes_on(interrupt: BaseException) -> None:
    server = Noting(handle=interrupt)
    with pytest.raises(type(interrupt)):
        run(server)
    assert server.calls == IN + OUT


def test_a_failing_verify_request_ends_the_request_and_goes_on() -> None:
    """The standard module leaves the connection open until the garbage collector comes."""
    server = Noting(verify_request=ValueError())
    with pytest.raises(ValueError):
        run(server)
    assert server.calls == ["get_request", "verify_request", *OUT]


def test_a_failing_handle_error_ends_the_request_and_goes_on() -> None:
    server = Noting(handle=ValueError(), handle_error=LookupError())
    with pytest.raises(LookupError):
        run(server)
    assert server.calls == [*IN, "handle_error", *OUT]


def test_handle_error_may_raise_again_what_is_being_handled() -> None:
    class Passing(servers.TCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            raise  # called inside an except block, by contract

    class Failing(servers.BaseRequestHandler):
        def handle(self) -> None:
            raise ZeroDivisionError

    with Passing(LOCAL, Failing) as server, connect(server), pytest.raises(ZeroDivisionError):
        server.handle_request()


def test_handle_error_prints_who_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(servers.BaseRequestHandler):
        def handle(self) -> None:
            raise ZeroDivisionError("of mine")

    with servers.TCPServer(LOCAL, Failing) as server, connect(server) as client:
        server.handle_request()
        address = client.getsockname()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == lines[-1] == "-" * 40
    assert lines[1] == f"Exception occurred during processing of request from {address}"
    assert lines[-2] == "ZeroDivisionError: of mine"


def test_the_handler_may_be_any_callable_and_what_it_returns_is_ignored() -> None:
    def handler(request: socket.socket, client_address: Any, server: Any) -> str:
        request.recv(100)
        request.sendall(b"a function")
        return "ignored"

    with servers.TCPServer(LOCAL, handler) as server, serving(server):
        assert ask(server) == b"a function"


# -- handlers ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wbufsize", [0, -1, 4096])
def test_what_a_handler_wrote_arrives_with_each_buffer_size(wbufsize: int) -> None:
    class Handler(Echo):
        pass

    Handler.wbufsize = wbufsize
    with servers.TCPServer(LOCAL, Handler) as server, serving(server):
        assert ask(server, b"a\n" * 10_000) == b"A\n" * 10_000


def test_the_unbuffered_writer_says_how_many_bytes_it_took() -> None:
    left, right = socket.socketpair()
    with left, right:
        writer = servers._SocketWriter(left)
        assert writer.write(b"abc") == 3
        assert writer.write(memoryview(b"\0" * 8).cast("I")) == 8
        assert writer.writable()
        assert writer.fileno() == left.fileno()
        assert right.recv(100) == b"abc" + b"\0" * 8


def test_a_peer_that_has_gone_is_no_error_of_a_buffered_handler() -> None:
    class Handler(servers.StreamRequestHandler):
        wbufsize = -1

        def handle(self) -> None:
            self.wfile.write(b"x" * 100)
            self.connection.shutdown(socket.SHUT_RDWR)

    server = Noting()
    with server, connect(server):
        server.RequestHandlerClass = Handler
        server.handle_request()
    assert "handle_error" not in server.calls


def test_timeout_and_nagle() -> None:
    seen: list[Any] = []

    class Handler(servers.StreamRequestHandler):
        timeout = 12.5
        disable_nagle_algorithm = True

        def handle(self) -> None:
            seen.append(self.connection.gettimeout())
            seen.append(self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with servers.TCPServer(LOCAL, Handler) as server, connect(server):
        server.handle_request()
    assert seen == [12.5, 1]


def test_a_setup_that_fails_leaves_nothing_open() -> None:
    """In the standard module rfile keeps the descriptor until the garbage collector comes."""
    opened: list[Any] = []

    class Handler(servers.StreamRequestHandler):
        def setup(self) -> None:
            super().setup()
            opened.extend([self.request, self.rfile, self.wfile])
            raise ValueError("in setup")

        def finish(self) -> None:
            opened.append("finish() is not called")

    server = Noting()
    with server, connect(server):
        server.RequestHandlerClass = Handler
        server.handle_request()
    request, rfile, wfile = opened
    assert rfile.closed
    assert wfile.closed
    assert request.fileno() == -1


def test_finish_runs_when_handle_fails() -> None:
    assert run(Noting(handle=ValueError())).index("finish") > 0


# -- datagrams --------------------------------------------------------------------------------------------------------------------


def receive(client: socket.socket) -> bytes:
    client.settimeout(LIMIT)
    return client.recv(65536)


@pytest.fixture
def client() -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def test_a_datagram_and_its_reply(client: socket.socket) -> None:
    with servers.UDPServer(LOCAL, EchoDatagram) as server, serving(server):
        client.sendto(b"hello", server.server_address)
        assert receive(client) == b"HELLO"


class Silent(servers.DatagramRequestHandler):
    def handle(self) -> None:
        if self.packet == b"speak":
            self.wfile.write(b"spoken")
        elif self.packet == b"fail":
            self.wfile.write(b"half of a rep")
            raise ValueError("in handle")


def test_a_handler_that_writes_nothing_sends_an_empty_datagram(client: socket.socket) -> None:
    with servers.UDPServer(LOCAL, Silent) as server, serving(server):
        client.sendto(b"hush", server.server_address)
        assert receive(client) == b""


def test_reply_only_if_written(client: socket.socket) -> None:
    class Handler(Silent):
        reply_only_if_written = True

    class Quiet(servers.ErrorCollectorMixIn, servers.UDPServer):
        pass

    with Quiet(LOCAL, Handler) as server, serving(server):
        for packet in (b"hush", b"fail", b"speak"):
            client.sendto(packet, server.server_address)
        assert receive(client) == b"spoken"
        assert len(server.collected_errors) == 1


def test_an_unbound_unix_client_cannot_be_answered_and_that_is_no_error(tmp_path: Any) -> None:
    class Server(servers.ErrorCollectorMixIn, servers.UnixDatagramServer):
        pass

    with Server(str(tmp_path / "s"), EchoDatagram) as server, serving(server):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
            nobody.sendto(b"hello", server.server_address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as somebody:
            somebody.bind(str(tmp_path / "c"))
            somebody.sendto(b"hello", server.server_address)
            assert receive(somebody) == b"HELLO"
        assert server.collected_errors == []


def test_many_datagrams_at_once_are_all_answered_in_order(client: socket.socket) -> None:
    with servers.UDPServer(LOCAL, EchoDatagram) as server:
        for number in range(60):
            client.sendto(b"%d" % number, server.server_address)
        with serving(server):
            assert [int(receive(client)) for _ in range(60)] == list(range(60))


def test_shutdown_in_the_midst_of_a_bunch_stops_after_the_datagram_at_hand(client: socket.socket) -> None:
    handled: list[bytes] = []

    class Handler(servers.DatagramRequestHandler):
        def handle(self) -> None:
            handled.append(self.packet)
            if self.packet == b"30":
                self.server.shutdown()

    with servers.UDPServer(LOCAL, Handler) as server:
        for number in range(60):
            client.sendto(b"%d" % number, server.server_address)
        server.serve_forever()
    assert handled == [b"%d" % number for number in range(31)]


def test_an_overridden_get_request_sees_every_datagram(client: socket.socket) -> None:
    class Server(servers.UDPServer):
        got = 0

        def get_request(self) -> Any:
            self.got += 1
            return super().get_request()

    with Server(LOCAL, EchoDatagram) as server, serving(server):
        for _ in range(40):
            client.sendto(b"x", server.server_address)
        for _ in range(40):
            receive(client)
        assert server.got == 40


def test_truncation_is_reported_where_asked_for(client: socket.socket) -> None:
    class Server(servers.UDPServer):
        report_truncation = True
        max_packet_size = 10

    with Server(LOCAL, EchoDatagram) as server:
        client.sendto(b"x" * 10, server.server_address)
        server.handle_request()
        client.sendto(b"x" * 11, server.server_address)
        with pytest.warns(servers.TruncatedDatagramWarning, match="cut to max_packet_size=10 bytes"):
            server.handle_request()


def test_a_truncated_datagram_may_be_dropped(client: socket.socket) -> None:
    class Server(servers.UDPServer):
        report_truncation = True
        max_packet_size = 10

        def handle_truncation(self, request: Any, client_address: Any) -> None:
            raise OSError("dropped")

    with Server(LOCAL, EchoDatagram) as server, serving(server):
        client.sendto(b"x" * 11, server.server_address)
        client.sendto(b"whole", server.server_address)
        assert receive(client) == b"WHOLE"


# -- threads ----------------------------------------------------------------------------------------------------------------------


def test_each_live_request_has_a_thread_with_a_name_of_its_own() -> None:
    names: list[str] = []

    class Handler(Held):
        def handle(self) -> None:
            names.append(threading.current_thread().name)
            super().handle()

    with servers.ThreadingTCPServer(LOCAL, Handler) as server, serving(server):
        with connect(server) as first, connect(server) as second:
            assert first.recv(5) == second.recv(5) == b"here\n"
            assert len(server._threads) == 2
    assert len(set(names)) == 2
    assert all(name.endswith("(process_request_thread)") for name in names)


def test_threads_that_have_ended_are_not_kept() -> None:
    with servers.ThreadingTCPServer(LOCAL, Echo) as server, serving(server):
        for _ in range(20):
            ask(server)
        server._threads.join()
        assert len(server._threads) == 0


def test_a_thread_list_of_the_programs_own_does_not_grow() -> None:
    threads = servers._Threads()
    for _ in range(100):
        thread = threading.Thread(target=len, args=("",))
        thread.start()
        threads.append(thread)
        join(thread)
    assert len(threads) <= 8
    threads.join()
    assert len(threads) == 0


def test_daemon_threads_are_not_waited_for() -> None:
    class Server(servers.ThreadingTCPServer):
        daemon_threads = True

    with Server(LOCAL, Held) as server, serving(server), connect(server) as client:
        assert client.recv(5) == b"here\n"
        assert len(server._threads) == 0
        server.server_close()


def test_a_thread_that_cannot_be_started_is_an_error_of_the_request_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Server(servers.ErrorCollectorMixIn, servers.ThreadingTCPServer):
        pass

    with Server(LOCAL, Echo) as server, connect(server) as client:
        with monkeypatch.context() as patch:
            patch.setattr(
                threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("can't start"))
            )
            server.handle_request()
        assert client.recv(1) == b""
        with pytest.raises(RuntimeError, match="can't start"):
            server.raise_collected_errors()


def test_a_full_server_stops_at_once() -> None:
    class Server(servers.ThreadingTCPServer):
        max_threads = 1
        daemon_threads = True

    with Server(LOCAL, Held) as server, serving(server, poll_interval=None), connect(server) as client:
        assert client.recv(5) == b"here\n"


#: Servers that see to so many requests at a time, and no more.
LIMITED = [(servers.ThreadingTCPServer, "max_threads"), (servers.ThreadPoolTCPServer, "pool_size")]


@pytest.mark.parametrize(("base", "limit"), LIMITED)
def test_a_limit_leaves_further_clients_in_the_queue(base: Any, limit: str) -> None:
    with type("Server", (base,), {limit: 2})(LOCAL, Held) as server, serving(server, poll_interval=None):
        third_comes_when_first_goes(server)


@pytest.mark.parametrize(("base", "limit"), LIMITED)
def test_a_limit_holds_under_a_loop_of_the_programs_own(base: Any, limit: str) -> None:
    # A loop of its own knows of no gate: it waits in process_request(), or in handle_request() itself.
    for gate in ({}, {"_servertest_pause": lambda self: None}):
        attributes = {limit: 1} | (gate if base is servers.ThreadPoolTCPServer else {})
        with type("Server", (base,), attributes)(LOCAL, Held) as server:
            with connect(server) as first, connect(server) as second:
                server.handle_request()
                assert first.recv(5) == b"here\n"
                waiter = threading.Thread(target=server.handle_request)
                waiter.start()
                first.sendall(b"done\n")
                assert second.recv(5) == b"here\n"
                second.sendall(b"done\n")
                join(waiter)


@pytest.mark.parametrize(("base", "limit"), LIMITED)
def test_draining_shuts_down_what_takes_too_long(base: Any, limit: str) -> None:
    server = type("Server", (base,), {"drain_timeout": 0.01})(LOCAL, Held)
    with server, serving(server), connect(server) as client:
        assert client.recv(5) == b"here\n"
        server.server_close()
        assert read_all(client) == b""


def test_draining_waits_for_requests_in_daemon_threads_too() -> None:
    finished = threading.Event()

    class Handler(Held):
        def finish(self) -> None:
            super().finish()
            finished.set()

    class Server(servers.ThreadingTCPServer):
        daemon_threads = True
        drain_timeout = LIMIT

    with Server(LOCAL, Handler) as server, serving(server), connect(server) as client:
        assert client.recv(5) == b"here\n"
        client.sendall(b"done\n")
        server.server_close()
        assert finished.is_set()


def test_draining_says_what_runs_on() -> None:
    release = threading.Event()

    class Stuck(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"here\n")
            assert release.wait(LIMIT)

    class Server(servers.ThreadingTCPServer):
        drain_timeout = 0.01

    server = Server(LOCAL, Stuck)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with connect(server) as client:
        assert client.recv(5) == b"here\n"
        server.shutdown()
        join(thread)
        with pytest.warns(ResourceWarning, match=r"1 request\(s\) still run after drain_timeout=0.01 s"):
            server.server_close()
        [left] = server.drain(0)
        release.set()
        join(left)


def test_idle_connections_cost_the_next_one_nothing_to_speak_of() -> None:
    """The standard module looks through all threads at each request."""
    checks = 0

    class Counted(threading.Thread):
        def is_alive(self) -> bool:
            nonlocal checks
            checks += 1
            return super().is_alive()

    class Server(servers.ThreadingTCPServer):
        daemon_threads = False
        request_queue_size = 64

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "Thread", Counted)
        with Server(LOCAL, Held) as server, serving(server):
            clients = [connect(server) for _ in range(30)]
            for client in clients:
                client.recv(5)
            assert checks == 0
            for client in clients:
                client.close()


def test_the_module_globals_that_programs_reach_are_there() -> None:
    module: Any = servers
    assert module.time is time.monotonic
    assert module.socket is socket
    assert module.threading is threading
    assert module.__version__ == "0.4"
