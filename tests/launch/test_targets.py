"""Whatever people have can be put up, and gets the same guarantees."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import http.server
import socket
import socketserver
import sys
import threading
import wsgiref.simple_server
import wsgiref.util
import xmlrpc.client
import xmlrpc.server
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from servertest import servers
from servertest._support import AddressInUse, HandlerFailed, UsageError, have_ipv6
from servertest.launch import (
    AsyncioTarget,
    CommandTarget,
    FactoryTarget,
    FunctionTarget,
    HandlerTarget,
    Running,
    ServerClassTarget,
    WsgiTarget,
    kinds,
    launch,
)

from ._handlers import DatagramUpper, Upper, echo


def get(running: Running, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection(running.host, running.port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


class StandardUpper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class StandardDatagramUpper(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


# -- handlers


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadPoolUnixStreamServer"])
def test_a_handler_of_the_standard_module(kind: str) -> None:
    with launch(StandardUpper, kind) as running:
        echo(running)


def test_a_callable_that_takes_what_a_handler_takes(tmp_path: Path) -> None:
    (tmp_path / "greeting").write_bytes(b"hello")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with launch(handler) as running:
        assert get(running, "/greeting") == b"hello"


def test_a_function_with_three_parameters_is_a_handler() -> None:
    def handle(request: socket.socket, client_address: object, server: object) -> None:
        request.sendall(b"bye")

    with launch(handle) as running, running.connect() as client:
        assert client.read_eof() == b"bye"


def test_attributes_are_set_on_the_handlers_server() -> None:
    class Greeter(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.server.greeting)

    with launch(Greeter, attributes={"greeting": b"hello"}) as running, running.connect() as client:
        assert client.read_eof() == b"hello"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue is full a little later")
@pytest.mark.parametrize("kind", ["UnixStreamServer", "UnixStreamServer+process"])
def test_the_length_of_the_queue_is_that_of_the_listener(kind: str) -> None:
    class Busy(servers.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # those who wait leave without reading
                self.wfile.write(b"busy\n")
                self.rfile.read()

    with (
        launch(Busy, kind, attributes={"request_queue_size": 2}) as running,
        contextlib.ExitStack() as stack,
        running.connect() as first,
    ):
        assert first.readline() == b"busy\n"
        waiting = []
        with pytest.raises(BlockingIOError):  # Linux lets one more wait than it is told
            for _ in range(10):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(running.path)
                waiting.append(client)
        assert len(waiting) == 3


def test_datagram_handlers_get_a_datagram_kind_by_default() -> None:
    with launch(StandardDatagramUpper) as running:
        assert str(running.kind) == "ThreadingUDPServer"
        echo(running)


@pytest.mark.parametrize("kind", kinds(host="thread"), ids=str)
def test_what_the_handler_gets_is_what_it_always_gets(kind: Any) -> None:
    seen: list[tuple[Any, Any, Any]] = []

    def handle(request: Any, client_address: Any, server: Any) -> None:
        seen.append((request, client_address, server))
        if kind.transport == "stream":
            request.sendall(b"x")
        else:
            request[1].sendto(b"x", client_address)

    with launch(HandlerTarget(handle), kind) as running:
        with running.connect() as client:
            if kind.transport == "datagram":
                client.send(b"data")
            assert (client.receive() if kind.transport == "datagram" else client.read_exactly(1)) == b"x"
        server = running.server
    ((request, client_address, its_server),) = seen
    sock = request if kind.transport == "stream" else request[1]
    assert isinstance(sock, socket.socket)
    assert its_server is server
    assert type(server) is kind.server_class
    if kind.transport == "datagram":
        assert request[0] == b"data"
    if kind.family == "inet":
        assert client_address[0] == "127.0.0.1"


# -- whole servers


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/bad":
            raise LookupError("bad path")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("cls", [http.server.HTTPServer, http.server.ThreadingHTTPServer])
def test_http_server(cls: type[Any]) -> None:
    with launch(cls, Quiet) as running:
        assert type(running.server) is cls
        assert get(running) == b"ok"
        with (
            running.expects_error(LookupError, match="bad path"),
            pytest.raises(http.client.RemoteDisconnected),
        ):
            get(running, "/bad")
        running.restart()
        assert get(running) == b"ok"


@pytest.mark.skipif(not have_ipv6(), reason="no ::1 on this machine")
def test_http_server_over_ipv6() -> None:
    with launch(http.server.ThreadingHTTPServer, Quiet, address="::1") as running:
        assert running.host == "::1"
        assert get(running) == b"ok"


def answer() -> int:
    return 42


def xmlrpc_server(address: Any) -> xmlrpc.server.SimpleXMLRPCServer:
    server = xmlrpc.server.SimpleXMLRPCServer(address, logRequests=False, allow_none=True)
    server.register_function(answer, "answer")
    return server


def test_an_xmlrpc_server_from_a_factory() -> None:
    with launch(FactoryTarget(xmlrpc_server)) as running:
        for _ in range(2):
            with xmlrpc.client.ServerProxy(f"http://{running.host}:{running.port}/") as proxy:
                assert proxy.answer() == 42
            running.restart()


def test_an_xmlrpc_server_class_with_further_arguments() -> None:
    with launch(xmlrpc.server.SimpleXMLRPCServer, logRequests=False) as running:
        running.server.register_introspection_functions()
        with xmlrpc.client.ServerProxy(f"http://{running.host}:{running.port}/") as proxy:
            assert "system.listMethods" in proxy.system.listMethods()  # type: ignore[operator]


class Greeting(socketserver.TCPServer):
    """A class of somebody's own: other arguments, and no bind_and_activate."""

    def __init__(self, address: Any, handler: Any, greeting: bytes, *, loud: bool = False) -> None:
        self.greeting = greeting.upper() if loud else greeting
        self.calls: list[str] = []
        super().__init__(address, handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.calls.append("verify")
        return super().verify_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.calls.append("finish")
        super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.calls.append("shutdown")
        super().shutdown_request(request)

    def close_request(self, request: Any) -> None:
        self.calls.append("close")
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.calls.append("error")

    def shutdown(self) -> None:
        self.calls.append("stop")
        super().shutdown()

    def server_close(self) -> None:
        self.calls.append("closed")
        super().server_close()


class Greeter(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.server.greeting)  # type: ignore[attr-defined]


class Failing(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        raise ZeroDivisionError


def test_a_subclass_with_further_arguments_comes_back_to_its_address() -> None:
    with launch(Greeting, Greeter, b"hello", loud=True) as running:
        for _ in range(3):
            with running.connect() as client:
                # The server closes first, so its address is in TIME_WAIT.
                assert client.read_eof() == b"HELLO"
            running.restart()


def test_overridden_methods_are_called_in_their_order() -> None:
    with launch(Greeting, Greeter, b"x") as running:
        with running.connect() as client:
            client.read_eof()
        server = running.server
    assert [call for call in server.calls if call != "stop"] == [
        "verify",
        "finish",
        "shutdown",
        "close",
        "closed",
    ]
    assert server.calls.count("stop") == 1


def test_an_overridden_handle_error_is_called_and_the_error_counts() -> None:
    with launch(Greeting, Failing, b"") as running:
        with running.expects_error(ZeroDivisionError), running.connect() as client:
            client.read_eof()
        server = running.server
    of_the_request = [call for call in server.calls if call not in ("stop", "closed")]
    assert of_the_request == ["verify", "finish", "error", "shutdown", "close"]


def test_nothing_stays_on_a_server_that_was_stopped() -> None:
    server = Greeting(("127.0.0.1", 0), Greeter, b"x")
    own = set(vars(server))
    with launch(server) as running:
        running.connect().read_eof()
        assert "get_request" in vars(server)
    assert set(vars(server)) <= own | {"_BaseServer__shutdown_request"}


def test_attributes_that_were_on_a_server_object_are_called_and_stay() -> None:
    server = servers.ThreadingTCPServer(("127.0.0.1", 0), Upper)
    calls: list[str] = []

    def process_request_thread(request: Any, client_address: Any) -> None:
        calls.append(threading.current_thread().name)
        type(server).process_request_thread(server, request, client_address)

    server.process_request_thread = process_request_thread  # type: ignore[method-assign]
    with launch(server) as running:
        echo(running)
    assert len(calls) == 1
    assert "process_request_thread" in calls[0]
    assert server.process_request_thread is process_request_thread


def test_a_handler_on_a_server_class_of_ones_own() -> None:
    class Own(servers.ThreadingMixIn, servers.TCPServer):
        greeting = b"own"

    with launch(Greeter, kind=Own) as running, running.connect() as client:
        assert type(running.server) is Own
        assert client.read_eof() == b"own"


def test_a_server_object() -> None:
    with launch(Greeting(("127.0.0.1", 0), Greeter, b"hi")) as running:
        assert running.address == running.server.server_address
        with running.connect() as client:
            assert client.read_eof() == b"hi"
        with pytest.raises(UsageError, match="cannot be restarted"):
            running.restart()


def test_a_unix_server_class() -> None:
    with launch(socketserver.ThreadingUnixStreamServer, StandardUpper) as running:
        assert running.kind.family == "unix"
        echo(running)
        running.restart()
        echo(running)


def test_a_datagram_server_class_records() -> None:
    with launch(socketserver.ThreadingUDPServer, StandardDatagramUpper) as running:
        echo(running)
        assert running.transcript is not None
        (conversation,) = running.transcript.connections
    assert (conversation.upstream, conversation.downstream) == (b"hi", b"HI")


def test_a_factory_may_return_an_object_that_has_a_server() -> None:
    class Holder:
        def __init__(self, address: Any) -> None:
            self.server = socketserver.TCPServer(address, StandardUpper)

    with launch(FactoryTarget(Holder)) as running:
        echo(running)


@pytest.mark.parametrize("module", [socketserver, servers])
@pytest.mark.parametrize("name", ["ThreadingTCPServer", "UDPServer", "ThreadingUnixStreamServer"])
@pytest.mark.parametrize("made_by", ["somebody", "a factory"])
def test_a_server_object_that_was_not_bound_yet_is_bound(
    module: Any, name: str, made_by: str, tmp_path: Path
) -> None:
    handler = DatagramUpper if "UDP" in name else StandardUpper
    address: Any = str(tmp_path / "s") if "Unix" in name else ("127.0.0.1", 0)

    def make(ignored: object = None) -> Any:
        return getattr(module, name)(address, handler, bind_and_activate=False)

    transport: Any = "datagram" if "UDP" in name else "stream"
    with launch(FactoryTarget(make, transport) if made_by == "a factory" else make()) as running:
        assert running.address != ("127.0.0.1", 0)
        echo(running)


def test_a_server_object_that_cannot_be_bound_says_so() -> None:
    with launch(Upper) as holder:
        server = socketserver.TCPServer((holder.host, holder.port), StandardUpper, bind_and_activate=False)
        with server, pytest.raises(AddressInUse, match="TCPServer cannot be bound"):
            launch(server)


class StartStop:
    """A server that is started and stopped, in a thread of its own; like aiosmtpd's Controller."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def start(self) -> None:
        self.tcp = socketserver.ThreadingTCPServer(
            (self.host, self.port), StandardUpper, bind_and_activate=False
        )
        self.tcp.allow_reuse_address = True
        self.tcp.server_bind()
        self.tcp.server_activate()
        self.thread = threading.Thread(target=self.tcp.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self) -> None:
        self.tcp.shutdown()
        self.thread.join()
        self.tcp.server_close()


def test_a_factory_may_return_an_object_with_start_and_stop() -> None:
    with launch(FactoryTarget(lambda address: StartStop(*address), held_port=True)) as running:
        assert running.port != 0
        echo(running)
        running.restart()
        echo(running)


def test_a_start_that_fails_is_raised_at_once() -> None:
    class Broken(StartStop):
        def start(self) -> None:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        launch(FactoryTarget(lambda address: Broken(*address), held_port=True))


# -- programs and applications


def test_a_program_that_is_told_a_path_alone_gets_one() -> None:
    program = (
        "import socketserver, sys\n"
        "class Upper(socketserver.StreamRequestHandler):\n"
        "    def handle(self):\n"
        "        for line in self.rfile: self.wfile.write(line.upper())\n"
        "socketserver.ThreadingUnixStreamServer(sys.argv[1], Upper).serve_forever()\n"
    )
    if not hasattr(socketserver, "ThreadingUnixStreamServer"):  # before Python 3.12 under another name only
        program = program.replace("ThreadingUnixStreamServer", "UnixStreamServer")
    with launch(CommandTarget([sys.executable, "-c", program, "{path}"])) as running:
        assert running.kind.family == "unix"
        echo(running)


def test_what_an_application_raises_is_not_printed_as_well(capfd: pytest.CaptureFixture[str]) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        print("before", file=environ["wsgi.errors"])
        environ["wsgi.errors"].writelines(["more\n"])
        environ["wsgi.errors"].flush()
        raise LookupError("of the application")

    with launch(WsgiTarget(application)) as running:
        with running.expects_error(LookupError, match="of the application"):
            get(running)
    assert capfd.readouterr().err == "before\nmore\n"


# -- functions


def answer_all(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(connection.recv(100).upper())


def test_a_function_that_gets_the_listening_socket() -> None:
    with launch(answer_all) as running:
        for data in (b"one", b"two"):
            with running.connect() as client:
                client.send_all(data)
                assert client.read_eof() == data.upper()
        assert running.transcript is not None
        assert [one.upstream for one in running.transcript.connections] == [b"one", b"two"]


@pytest.mark.parametrize("address", ["127.0.0.1", "unix", "abstract"])
def test_a_function_that_waits_for_a_client_is_stopped(address: Any) -> None:
    with launch(answer_all, address=address) as running:
        assert running.running


def test_a_function_that_waits_for_more_from_its_client_is_stopped() -> None:
    ends: list[bytes] = []

    def serve_one(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"?")
            ends.append(connection.recv(100))

    with launch(serve_one) as running:
        running.connect().read_exactly(1)
    assert ends == [b""]


def test_a_function_may_return_when_it_is_done() -> None:
    def serve_one(listener: socket.socket) -> None:
        listener.accept()[0].close()

    with launch(serve_one) as running:
        with running.connect() as client:
            assert client.read_eof() == b""


def test_what_a_function_raises_counts() -> None:
    def serve_one(listener: socket.socket) -> None:
        with listener.accept()[0]:
            raise ValueError("broken")

    with launch(serve_one) as running, running.expects_error(ValueError, match="broken"):
        running.connect().close()


def test_a_function_with_datagrams() -> None:
    def answer_datagrams(sock: socket.socket) -> None:
        while True:
            data, address = sock.recvfrom(100)
            sock.sendto(data.upper(), address)

    with launch(answer_datagrams, "UDPServer") as running:
        echo(running)
        assert running.transcript is not None
        (conversation,) = running.transcript.connections
        assert conversation.upstream == b"hi"
    with launch(FunctionTarget(answer_datagrams), "UnixDatagramServer", transcript=False) as running:
        echo(running)


# -- asyncio


async def answer_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "UnixStreamServer+abstract", "TCPServer+tls"])
def test_an_asyncio_callback(kind: str) -> None:
    with launch(answer_lines, kind) as running:
        echo(running)
        running.restart()
        echo(running)
    assert running.transcript is not None
    assert [one.downstream for one in running.transcript.connections] == [b"HI\n"] * 2
    assert not any(one.is_open for one in running.transcript.connections)


def test_an_asyncio_callback_that_waits_is_given_end_of_file() -> None:
    ends: list[bytes] = []

    async def wait_for_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"?")
        ends.append(await reader.read())
        writer.close()

    with launch(wait_for_more) as running:
        running.connect().read_exactly(1)
    assert ends == [b""]


def test_what_an_asyncio_callback_raises_counts_and_the_client_is_not_left_waiting() -> None:
    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        raise KeyError("lost")

    with launch(fail) as running, running.connect() as client:
        with running.expects_error(KeyError, match="lost") as expected:
            client.send_all(b"x\n")
            assert client.read_eof() == b""
        assert expected.error is not None
        assert expected.error.connection == 1


def test_what_fails_elsewhere_in_the_event_loop_counts() -> None:
    class Broken(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            raise RuntimeError("in a protocol")

    with launch(Broken) as running, running.connect() as client, running.expects_error(RuntimeError):
        client.send_all(b"x")


class UpperProtocol(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


class StubbornProtocol(UpperProtocol):
    def eof_received(self) -> bool:
        return True  # keeps the connection open


@pytest.mark.parametrize("protocol", [UpperProtocol, StubbornProtocol])
@pytest.mark.parametrize("kind", ["TCPServer", "TCPServer+tls"])
def test_an_asyncio_protocol(protocol: type[asyncio.Protocol], kind: str) -> None:
    with launch(protocol, kind) as running:
        client = running.connect()
        client.send_all(b"hi")
        assert client.read_exactly(2) == b"HI"


def test_an_asyncio_datagram_protocol() -> None:
    class UpperDatagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.transport.sendto(data.upper(), address)

    with launch(UpperDatagrams) as running:
        echo(running)
        assert running.transcript is not None
        assert running.transcript.connections[0].upstream == b"hi"


def test_an_asyncio_factory_is_told_from_a_callback() -> None:
    with launch(AsyncioTarget(lambda: UpperProtocol())) as running, running.connect() as client:
        client.send_all(b"hi")
        assert client.read_exactly(2) == b"HI"


def test_a_task_that_a_callback_leaves_behind_is_cancelled() -> None:
    cancelled: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append("cancelled")

    tasks: list[asyncio.Task[None]] = []

    async def leave_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)
        writer.write(b"!")
        writer.close()

    with launch(leave_one) as running, running.connect() as client:
        assert client.read_eof() == b"!"
    assert cancelled == ["cancelled"]


# -- WSGI


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/bad":
        raise LookupError("bad path")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/late":
        return late_failure()
    if environ["PATH_INFO"] == "/url":
        return [wsgiref.util.request_uri(environ).encode()]
    return [b"hello"]


def late_failure() -> Iterator[bytes]:
    yield b"first"
    raise LookupError("bad chunk")


@pytest.mark.parametrize(
    "kind", ["TCPServer", "ThreadingTCPServer", "ThreadPoolTCPServer", "ForkingTCPServer"]
)
def test_a_wsgi_application(kind: str) -> None:
    with launch(WsgiTarget(application), kind) as running:
        assert get(running) == b"hello"
        assert get(running, "/url") == f"http://127.0.0.1:{running.port}/url".encode()


@pytest.mark.parametrize(("path", "message"), [("/bad", "bad path"), ("/late", "bad chunk")])
def test_what_a_wsgi_application_raises_counts(path: str, message: str) -> None:
    with launch(WsgiTarget(application)) as running, running.expects_error(LookupError, match=message):
        get(running, path)


def test_a_wsgi_application_on_a_unix_socket() -> None:
    with launch(WsgiTarget(application), "UnixStreamServer") as running, running.connect() as client:
        client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_eof().endswith(b"hello")


def test_a_wsgi_server_of_the_standard_library() -> None:
    class QuietHandler(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    def make(address: tuple[str, int]) -> wsgiref.simple_server.WSGIServer:
        return wsgiref.simple_server.make_server(*address, application, handler_class=QuietHandler)

    with launch(FactoryTarget(make)) as running:
        assert get(running) == b"hello"


# -- what is what


@pytest.mark.parametrize(
    ("thing", "arguments", "target"),
    [
        (Upper, (), HandlerTarget),
        (http.server.HTTPServer, (Quiet,), ServerClassTarget),
        (answer_all, (), FunctionTarget),
        (answer_lines, (), AsyncioTarget),
        (UpperProtocol, (), AsyncioTarget),
        (functools.partial(http.server.SimpleHTTPRequestHandler, directory="/"), (), HandlerTarget),
    ],
)
def test_things_say_what_they_are(thing: Any, arguments: tuple[Any, ...], target: type) -> None:
    with launch(thing, *arguments) as running:
        assert type(running.target) is target


def test_unclaimed_errors_of_any_target_fail_the_test() -> None:
    with pytest.raises(HandlerFailed, match="ZeroDivisionError"):
        with launch(Greeting, Failing, b"") as running, running.connect() as client:
            client.read_eof()


# -- elsewhere, and at the edges


@pytest.mark.parametrize(
    ("thing", "arguments"),
    [
        (answer_all, ()),
        (answer_lines, ()),
        (WsgiTarget(application), ()),
        (socketserver.TCPServer, (StandardUpper,)),
    ],
    ids=["function", "asyncio", "wsgi", "class"],
)
def test_other_targets_in_a_process(thing: Any, arguments: tuple[Any, ...]) -> None:
    with launch(thing, *arguments, host="process") as running:
        with running.connect() as client:
            client.send_all(b"GET / HTTP/1.0\r\n\r\n")
            client.half_close()
            # To the end: a client that leaves bytes unread resets its connection.
            assert client.read_eof().startswith((b"GET", b"HTTP/1.0 200"))
    assert running.transcript is not None
    assert running.transcript.connections[0].upstream.startswith(b"GET")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_asyncio_callback_that_ends_its_loop_is_told_once(error: type[BaseException]) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        raise error

    with launch(leave) as running, running.connect() as client:
        assert client.read_eof() == b""
        assert running.errors.pop().is_a(error)
    assert not running.errors


def test_an_asyncio_server_with_tls_and_without_a_transcript() -> None:
    with launch(answer_lines, tls=True, transcript=False) as running:
        echo(running)


def test_an_asyncio_callback_need_not_be_a_coroutine() -> None:
    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    with launch(AsyncioTarget(hang_up)) as running, running.connect() as client:
        assert client.read_eof() == b""


def test_a_buffered_protocol() -> None:
    class Buffered(asyncio.BufferedProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.buffer = transport, bytearray(100)

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.transport.write(bytes(self.buffer[:nbytes]).upper())

    for tls in (False, True):
        with launch(Buffered, tls=tls) as running, running.connect() as client:
            client.send_all(b"hi")
            assert client.read_exactly(2) == b"HI"


def test_what_an_asyncio_tls_server_writes_in_pieces_and_cuts_off() -> None:
    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.writelines([b"one ", b"two"])
        await writer.drain()
        assert writer.transport.get_write_buffer_size() == 0
        writer.transport.abort()

    with launch(write, tls=True) as running:
        with running.connect() as client:
            assert client.read_exactly(7) == b"one two"
        assert running.transcript is not None
        running.transcript.wait_for(closed=1)
    (conversation,) = running.transcript.connections
    assert (conversation.downstream, conversation.closed_by) == (b"one two", "server")


def test_a_factory_on_a_unix_socket() -> None:
    def make(address: Any) -> Any:
        return socketserver.UnixStreamServer(address, StandardUpper)

    for held in (False, True):
        with launch(FactoryTarget(make, held_port=held), address="unix") as running:
            echo(running)


def test_a_stop_that_raises_counts() -> None:
    class Broken(StartStop):
        def stop(self) -> None:
            super().stop()
            raise RuntimeError("in stop")

    with pytest.raises(HandlerFailed, match="in stop"):
        with launch(FactoryTarget(lambda address: Broken(*address), held_port=True)):
            pass


@pytest.mark.parametrize("where", ["server_address", "sockets", "given"])
def test_where_an_object_listens(where: str) -> None:
    class Elsewhere:
        def __init__(self, address: Any) -> None:
            self.tcp = socketserver.TCPServer(address, StandardUpper, bind_and_activate=False)
            self.tcp.allow_reuse_address = True
            self.tcp.server_bind()
            self.tcp.server_activate()
            if where == "server_address":
                self.server_address = self.tcp.server_address
            elif where == "sockets":
                self.sockets = [self.tcp.socket]

        def start(self) -> None:
            self.thread = threading.Thread(target=self.tcp.serve_forever, args=(0.01,))
            self.thread.start()

        def stop(self) -> None:
            self.tcp.shutdown()
            self.thread.join()
            self.tcp.server_close()

    with launch(FactoryTarget(Elsewhere, held_port=where == "given")) as running:
        echo(running)
        assert "runs by itself" in running.dump()


def test_a_function_that_polls_its_listener() -> None:
    def poll(listener: socket.socket) -> None:
        listener.settimeout(0.01)
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.close()

    with launch(poll) as running, running.connect() as client:
        assert client.read_eof() == b""


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "UDPServer"])
def test_an_error_of_a_function_s_socket_is_its_own_before_the_stop(kind: str) -> None:
    def fail(sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.type == socket.SOCK_STREAM:
            sock.accept()
        else:
            sock.recvfrom(1)

    with launch(fail, kind) as running:
        assert running.errors.pop().is_a(BlockingIOError)


def test_a_request_that_is_no_socket() -> None:
    """As Radicale and others have it: the request is what get_request() says it is."""

    class Wrapping(servers.TCPServer):
        def get_request(self) -> Any:
            request, client_address = super().get_request()
            return (request, client_address), client_address

        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request[0])

    class Wrapped(servers.BaseRequestHandler):
        def handle(self) -> None:
            self.request[0].sendall(b"%d" % self.request[1][1])

    with launch(Wrapping, Wrapped) as running, running.connect() as client:
        assert client.read_eof() == b"%d" % client.local_address[1]
