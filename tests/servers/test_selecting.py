"""SelectorMixIn: the life of a request, whose handler waits while others are served in the same thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import os
import queue
import select
import socket
import socketserver
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from servertest import servers
from servertest.servers import BaseRequestHandler, StreamRequestHandler, serve_together
from servertest.servers._selecting import (
    SelectorRequestHandler,
    SelectorStreamRequestHandler,
    SelectorTCPServer,
)
from tests._descriptors import new_descriptors, open_descriptors
from tests.servers._running import LIMIT, ask, connect, join, read_all, serving
from tests.servers._selecting import Handler, Upper, Witness, converse, turns


def provoke(server: Any, line: bytes = b"hello\n") -> bytes:
    """What a client gets that sends a line to a handler which may not read it, and so may reset the connection."""
    got = b""
    with connect(server) as client, contextlib.suppress(ConnectionError):
        client.sendall(line)
        while data := client.recv(100):
            got += data
    return got


class Generating(Handler):
    def handle(self) -> Iterator[Any]:
        while line := (yield from self.rfile.readline()):
            yield from self.wfile.write(line.upper())


class Iterating(Handler):
    async def handle(self) -> None:
        async for line in self.rfile:
            await self.wfile.write(line.upper())


class Plain(Handler):
    """Says its piece at once."""

    def handle(self) -> None:
        self.wfile.write(b"HELLO\n")


class Yielding(Handler):
    """Lets the others have their turn."""

    def handle(self) -> Iterator[Any]:
        yield
        yield from self.wfile.write((yield from self.rfile.readline()).upper())
        yield


class Lambda(Handler):
    """Returns what is to be waited for, as a short handler may."""

    def handle(self) -> Any:
        return self.wfile.write(b"HELLO\n")


class Raw(SelectorRequestHandler):
    """Works on the socket itself."""

    async def handle(self) -> None:
        await self.readable(self.request)
        data = self.request.recv(100)
        await self.writable(self.request.fileno())
        self.request.sendall(data.upper())


READERS = [Upper, Generating, Iterating, Yielding]


@pytest.mark.parametrize("handler", [*READERS, Plain, Lambda, Raw])
def test_each_kind_of_handler(handler: type) -> None:
    with serving(SelectorTCPServer(("127.0.0.1", 0), handler)) as server:
        assert [(ask if handler in READERS else provoke)(server) for _ in range(3)] == [b"HELLO\n"] * 3


def test_connections_are_served_while_others_wait() -> None:
    with (
        serving(SelectorTCPServer(("127.0.0.1", 0), Upper)) as server,
        connect(server) as first,
        connect(server) as second,
    ):
        first.sendall(b"one, but not the wh")
        second.sendall(b"two\n")
        assert second.recv(100) == b"TWO\n"
        first.sendall(b"ole line\n")
        assert first.recv(100) == b"ONE, BUT NOT THE WHOLE LINE\n"


def test_all_in_one_thread() -> None:
    threads = set()

    class Noting(Upper):
        def setup(self) -> None:
            super().setup()
            threads.add(threading.current_thread().name)

        def finish(self) -> None:
            super().finish()
            threads.add(threading.current_thread().name)

    with serving(SelectorTCPServer(("127.0.0.1", 0), Noting)) as server:
        for _ in range(3):
            ask(server)
    assert threads == {"serving"}


def test_half_close() -> None:
    """A client that has nothing more to say still gets its answers."""

    class Later(Handler):
        async def handle(self) -> None:
            data = await self.rfile.read()
            await self.sleep(0.001)
            await self.wfile.write(data[::-1])

    with serving(SelectorTCPServer(("127.0.0.1", 0), Later)) as server:
        assert ask(server, b"abc") == b"cba"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_unix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from servertest.servers._selecting import SelectorUnixStreamServer

    monkeypatch.chdir(tmp_path)
    with serving(SelectorUnixStreamServer("s", Upper)) as server:
        assert ask(server) == b"HELLO\n"


def test_ipv6() -> None:
    class Server6(SelectorTCPServer):
        address_family = socket.AF_INET6

    try:
        server = Server6(("::1", 0), Upper)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with serving(server):
        assert ask(server) == b"HELLO\n"


# -- the order of the calls -------------------------------------------------------------------------------------------------------

BEFORE = ["get_request", "verify_request", "process_request", "finish_request", "setup"]
AFTER = ["finish", "shutdown_request", "close_request"]


def noting(calls: list[str], base: type = Upper) -> Any:
    """`base`, whose methods note that they were called."""

    class Noting(base):  # type: ignore[misc]
        def setup(self) -> None:
            calls.append("setup")
            super().setup()

        async def handle(self) -> None:
            calls.append("handle")
            await super().handle()
            calls.append("handled")

        def finish(self) -> None:
            calls.append("finish")
            super().finish()

    return Noting


def test_the_order_of_the_calls() -> None:
    calls: list[str] = []
    server = Witness(noting(calls))
    server.calls = calls
    with serving(server):
        assert ask(server) == b"HELLO\n"
    assert calls == [*BEFORE, "handle", "handled", *AFTER]


class Failing(Handler):
    """Fails where the client says."""

    where = ""

    def fail(self, here: str) -> None:
        if self.where == here:
            raise RuntimeError(f"failed in {here}")

    def setup(self) -> None:
        super().setup()
        self.fail("setup")

    def handle(self) -> Any:
        self.fail("handle")
        return self.steps()

    async def steps(self) -> None:
        self.fail("the first step")
        await self.wfile.write(await self.rfile.readline())
        self.fail("a later step")

    def finish(self) -> None:
        super().finish()
        self.fail("finish")


@pytest.mark.parametrize("where", ["setup", "handle", "the first step", "a later step", "finish"])
def test_a_failure_goes_to_handle_error_and_the_loop_goes_on(where: str) -> None:
    calls: list[str] = []
    server = Witness(type("Handler", (Failing,), {"where": where}))
    server.calls = calls
    with serving(server):
        expected = b"hello\n" if where in ("a later step", "finish") else b""
        assert [provoke(server), provoke(server)] == [expected, expected]
    once = [*BEFORE[:-1], "handle_error", "shutdown_request", "close_request"]
    assert calls == once + once
    assert [str(error) for error in server.errors] == [f"failed in {where}"] * 2


@pytest.mark.parametrize(
    ("where", "finished"),
    [("setup", False), ("handle", True), ("the first step", True), ("a later step", True)],
)
def test_finish_is_called_unless_setup_failed(where: str, finished: bool) -> None:
    finishes = []

    class Noting(Failing):
        def finish(self) -> None:
            finishes.append(self._servertest_failed)
            super().finish()

    with serving(Witness(type("Handler", (Noting,), {"where": where}))) as server:
        provoke(server)
    assert finishes == [True] * finished


def test_setup_handle_and_finish_may_all_wait() -> None:
    class Waiting(Handler):
        async def setup(self) -> None:
            super().setup()
            await self.wfile.write(b"220 ready\n")
            self.name = await self.rfile.readline()

        def handle(self) -> Iterator[Any]:
            yield from self.sleep(0.001)
            yield from self.wfile.write(b"250 " + self.name)

        async def finish(self) -> None:
            await self.sleep(0.001)
            await self.wfile.write(b"221 bye\n")
            super().finish()

    with serving(Witness(Waiting)) as server:
        assert ask(server) == b"220 ready\n250 hello\n221 bye\n"
    assert server.errors == []


def test_system_exit_ends_the_loop_and_nothing_else() -> None:
    """As on a synchronous server; the other connections rest until there is a loop again."""

    class Exiting(Upper):
        async def handle(self) -> None:
            if await self.rfile.readline() == b"exit\n":
                raise SystemExit(3)
            await super().handle()

    server = Witness(Exiting)
    with connect(server) as other, connect(server) as fatal:
        other.sendall(b"stay\n")
        fatal.sendall(b"exit\n")
        with pytest.raises(SystemExit):
            server.serve_forever()
        assert fatal.recv(100) == b""
        assert server.calls.count("shutdown_request") == 1
        assert server.errors == []
        with serving(server):
            other.sendall(b"still there?\n")
            assert other.recv(100) == b"STILL THERE?\n"


def test_system_exit_does_not_wait_for_what_is_to_be_sent() -> None:
    class Exiting(Handler):
        def handle(self) -> None:
            self.wfile.write(bytes(50_000_000))
            raise SystemExit

    server = Witness(Exiting)
    with connect(server) as client, pytest.raises(SystemExit):
        server.serve_forever()
    server.server_close()
    assert client.fileno() == -1


def test_handle_error_that_fails_ends_the_loop_and_the_request() -> None:
    class Strict(Witness):
        def handle_error(self, request: Any, client_address: Any) -> None:
            raise

    server = Strict(type("Handler", (Failing,), {"where": "a later step"}))
    with connect(server) as client:
        client.sendall(b"x\n")
        with pytest.raises(RuntimeError, match="failed in a later step"):
            server.serve_forever()
        assert read_all(client) == b"x\n"
    server.server_close()
    assert server.calls.count("shutdown_request") == 1


def test_a_request_that_is_not_wanted() -> None:
    class Choosy(Witness):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return False

    with serving(Choosy(Upper)) as server, connect(server) as client:
        assert client.recv(100) == b""
    assert server.calls == ["get_request", "shutdown_request", "close_request"]


def test_finish_request_that_fails_when_the_handler_has_begun() -> None:
    finishes: list[str] = []

    class Wrapping(Witness):
        def finish_request(self, request: Any, client_address: Any) -> None:
            super().finish_request(request, client_address)
            raise RuntimeError("too late")

    server = Wrapping(noting(finishes))
    with serving(server), connect(server) as client:
        assert client.recv(100) == b""
    assert finishes == ["setup", "handle", "finish"]
    assert server.calls.count("shutdown_request") == 1
    assert [str(error) for error in server.errors] == ["too late"]


def test_the_request_that_is_shut_down_is_the_one_that_was_accepted() -> None:
    """finish_request() may hand another object to the handler."""

    class Proxy:
        def __init__(self, sock: Any) -> None:
            self.sock = sock

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    accepted, ended = [], []

    class Wrapping(Witness):
        def get_request(self) -> Any:
            request, address = super().get_request()
            accepted.append(request)
            return request, address

        def finish_request(self, request: Any, client_address: Any) -> None:
            self.RequestHandlerClass(Proxy(request), client_address, self)

        def shutdown_request(self, request: Any) -> None:
            ended.append(request)
            super().shutdown_request(request)

    with serving(Wrapping(Upper)) as server:
        assert ask(server) == b"HELLO\n"
    assert accepted == ended


# -- what handlers may get wrong ----------------------------------------------------------------------------------------------------


class Blocking(StreamRequestHandler):
    pass


class StandardBlocking(socketserver.StreamRequestHandler):
    pass


class Coroutine(BaseRequestHandler):
    async def handle(self) -> None:  # type: ignore[override]
        pass


class StandardGenerator(socketserver.BaseRequestHandler):
    def handle(self) -> Iterator[None]:  # type: ignore[override]
        yield


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (
            Blocking,
            "Blocking reads from a blocking rfile, .* SelectorTCPServer. Make it from SelectorStreamRequestHandler",
        ),
        (StandardBlocking, "StandardBlocking reads from a blocking rfile"),
        (functools.partial(Blocking, server=None), "Blocking reads from a blocking rfile"),
        (Coroutine, r"Coroutine.handle\(\) has to be run step by step, which BaseRequestHandler does not do"),
        (StandardGenerator, r"StandardGenerator.handle\(\) has to be run"),
    ],
)
def test_a_handler_that_cannot_work_is_refused(handler: Any, message: str) -> None:
    before = open_descriptors()
    with pytest.raises(TypeError, match=message):
        SelectorTCPServer(("127.0.0.1", 0), handler)
    assert not new_descriptors(before)
    with SelectorTCPServer(("127.0.0.1", 0), Upper) as server:
        with pytest.raises(TypeError, match=message):
            server.RequestHandlerClass = handler
        assert server.RequestHandlerClass is Upper


def test_the_flags_are_those_of_inspect() -> None:
    from servertest.servers._selecting import _STEPWISE

    assert inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR == _STEPWISE


def test_a_server_that_was_never_initialised_has_no_handler() -> None:
    server = SelectorTCPServer.__new__(SelectorTCPServer)
    with pytest.raises(
        AttributeError, match="'SelectorTCPServer' object has no attribute 'RequestHandlerClass'"
    ):
        _ = server.RequestHandlerClass
    assert hasattr(SelectorTCPServer, "RequestHandlerClass")


def test_a_synchronous_handler_is_called_as_on_a_synchronous_server() -> None:
    class Synchronous(BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(self.request.recv(100).upper())

    with serving(Witness(Synchronous)) as server:
        assert ask(server) == b"HELLO\n"
    assert server.calls.count("shutdown_request") == 1


def test_a_function_as_handler() -> None:
    with serving(
        SelectorTCPServer(("127.0.0.1", 0), lambda request, address, server: Upper(request, address, server))
    ) as server:
        assert ask(server) == b"HELLO\n"


class WithoutFrom(Handler):
    def handle(self) -> Iterator[Any]:
        yield self.rfile.readline()


class OfAsyncio(Handler):
    async def handle(self) -> None:
        await asyncio.sleep(0.01)


class AsyncGenerator(Handler):
    async def handle(self) -> AsyncIterator[None]:
        yield


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (WithoutFrom, "write `yield from self.rfile.readline"),
        (
            OfAsyncio,
            "no running event loop",
        ),  # asyncio's own; what it would wait for is refused too: see the tests of the files
        (AsyncGenerator, "is an asynchronous generator: use `await` in it without `yield`"),
    ],
)
def test_handlers_that_wait_in_the_wrong_way(handler: Any, message: str) -> None:
    with serving(Witness(handler)) as server:
        assert provoke(server) == b""
    assert message in str(server.errors[0])


# -- where no loop runs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer", "ThreadPoolTCPServer"])
def test_such_handlers_work_on_other_servers(kind: str) -> None:
    server_class = getattr(servers, kind)
    with serving(server_class(("127.0.0.1", 0), Upper)) as server:
        assert [ask(server), ask(server)] == [b"HELLO\n"] * 2


def test_handle_request_sees_one_request_through() -> None:
    with Witness(Upper) as server, connect(server) as client:
        client.sendall(b"one\ntwo\n")
        client.shutdown(socket.SHUT_WR)
        server.handle_request()
        assert read_all(client) == b"ONE\nTWO\n"
        assert server.calls.count("shutdown_request") == 1


def test_a_loop_of_somebody_else_sees_requests_through() -> None:
    with Witness(Upper) as server, connect(server) as client:
        client.sendall(b"one\n")
        client.shutdown(socket.SHUT_WR)
        assert select.select([server], [], [], LIMIT)[0] == [server]
        server._handle_request_noblock()
        assert read_all(client) == b"ONE\n"


def test_errors_in_handle_request_go_to_handle_error() -> None:
    with Witness(type("Handler", (Failing,), {"where": "a later step"})) as server, connect(server) as client:
        client.sendall(b"x\n")
        server.handle_request()
        assert [str(error) for error in server.errors] == ["failed in a later step"]
        assert server.calls[-3:] == ["handle_error", "shutdown_request", "close_request"]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_errors_after_a_wait_where_no_loop_runs(error: type[BaseException]) -> None:
    finishes: list[str] = []

    async def script(handler: Any, peer: socket.socket) -> None:
        await handler.sleep(0.001)
        raise error("later")

    with pytest.raises(error, match="later"):
        converse(script, noting(finishes, Handler))
    assert finishes[-1] == "finish"


def test_an_interruption_where_no_loop_runs_ends_the_handler() -> None:
    finishes: list[str] = []

    async def script(handler: Any, peer: socket.socket) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        handler._servertest_task.loop.call_soon(interrupt)
        try:
            await handler.rfile.readline()
        finally:
            finishes.append("finally")

    with pytest.raises(KeyboardInterrupt):
        converse(script, noting(finishes, Handler))
    assert finishes[-2:] == ["finally", "finish"]


def test_a_handler_that_closes_its_connection_itself() -> None:
    """The number of the descriptor may then be that of the next connection, which is left alone."""
    closed = threading.Event()
    numbers = []

    class Closing(Handler):
        async def handle(self) -> None:
            line = await self.rfile.readline()
            numbers.append(self.request.fileno())
            if line == b"close\n":
                self.request.close()
                closed.set()
                await self.readable(going_on)
                return
            await self.wfile.write(line)
            while line := await self.rfile.readline():
                await self.wfile.write(line)

    going_on, go_on = socket.socketpair()
    second = socket.socket()  # made now, so that it does not take the number itself
    with going_on, go_on, second, serving(Witness(Closing)) as server, connect(server) as first:
        first.sendall(b"close\n")
        assert first.recv(100) == b""
        assert closed.wait(LIMIT)
        with second:
            second.connect(server.server_address)
            second.sendall(b"one\n")
            assert second.recv(100) == b"one\n"
            go_on.send(b"x")
            assert ask(server, b"another\n") == b"another\n"
            second.sendall(b"two\n")
            assert second.recv(100) == b"two\n"
    assert numbers[0] in numbers[1:]
    assert server.errors == []


def test_writing_to_a_connection_that_has_ended() -> None:
    """Even if its handler's finish() closes nothing, as one may forget to call the original."""
    ended: list[Handler] = []

    class Careless(Handler):
        def handle(self) -> None:
            for other in ended:
                with pytest.raises(ValueError, match="I/O operation on closed file"):
                    other.wfile.write(b"late")
            self.wfile.write(b"done\n")

        def finish(self) -> None:
            ended.append(self)

    with serving(Witness(Careless)) as server:
        assert [provoke(server), provoke(server)] == [b"done\n"] * 2
    assert server.errors == []


def test_a_handler_made_by_a_handler() -> None:
    """It goes on by itself; the server knows nothing of its request."""
    results: queue.Queue[bytes] = queue.Queue()

    class Inner(SelectorRequestHandler):
        async def handle(self) -> None:
            await self.readable(self.request)
            results.put(self.request.recv(10))
            if results.qsize() > 1:
                raise RuntimeError("inner")

    class Outer(Handler):
        async def handle(self) -> None:
            await self.rfile.read()
            for _ in range(2):
                ours, theirs = socket.socketpair()
                with ours, theirs:
                    Inner(ours, "inner", self.server)
                    theirs.send(b"x")
                    await turns(self)
            await self.wfile.write(b"done\n")

    with serving(Witness(Outer)) as server:
        assert ask(server) == b"done\n"
    assert results.qsize() == 2
    assert [str(error) for error in server.errors] == ["inner"]
    assert server.calls.count("shutdown_request") == 1


# -- several servers in a loop --------------------------------------------------------------------------------------------------------


class Synchronous(StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.readline().lower())


@contextlib.contextmanager
def serving_together(*together: Any, threads: int = 1) -> Iterator[None]:
    """Several servers in one loop, or a single one in several."""
    found = [threading.Thread(target=serve_together, args=together) for _ in range(threads)]
    for thread in found:
        thread.start()
    try:
        yield
    finally:
        for server in together:
            server.shutdown()
        for thread in found:
            join(thread)
        for server in together:
            server.server_close()


@pytest.mark.parametrize("order", [1, -1])
def test_served_together(order: int) -> None:
    """With each other and with a synchronous server, which may be the first and then chooses the selector."""
    together: list[Any] = [
        SelectorTCPServer(("127.0.0.1", 0), Upper),
        SelectorTCPServer(("127.0.0.1", 0), Upper),
        servers.TCPServer(("127.0.0.1", 0), Synchronous),
    ][::order]
    selecting = [server for server in together if isinstance(server, SelectorTCPServer)]
    with serving_together(*together), connect(selecting[0]) as first, connect(selecting[1]) as second:
        for client in (first, second):
            client.sendall(b"a")
        assert ask(together[::order][2]) == b"hello\n"
        for client in (first, second):
            client.sendall(b"b\n")
            assert client.recv(10) == b"AB\n"
        selecting[0].shutdown()
        selecting[0].server_close()
        assert first.recv(10) == b""
        second.sendall(b"still here\n")
        assert second.recv(100) == b"STILL HERE\n"


def test_one_that_leaves_while_its_handler_gives_way_to_others() -> None:
    """The loop goes on for the other; that handler does not, until there is a loop for it again."""
    begun, end = threading.Event(), threading.Event()

    class Giving(Handler):
        async def handle(self) -> None:
            begun.set()
            while not end.is_set():
                await self.sleep(0)
            await self.wfile.write(b"done\n")

    leaving, other = Witness(Giving), SelectorTCPServer(("127.0.0.1", 0), Upper)
    with serving_together(leaving, other), connect(leaving) as client:
        assert begun.wait(LIMIT)
        leaving.shutdown()
        assert [ask(other), ask(other)] == [b"HELLO\n"] * 2
        end.set()
        with serving(leaving):
            assert client.recv(10) == b"done\n"
    assert leaving.errors == []


class Announcing(SelectorTCPServer):
    """Says when a loop of its begins."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), Upper)

    def _servertest_started(self, loop: Any) -> None:
        super()._servertest_started(loop)
        self.begun.release()

    def await_loops(self, number: int) -> None:
        for _ in range(number):
            assert self.begun.acquire(timeout=LIMIT)


def test_several_loops_for_one_server() -> None:
    """They share the listener, and none waits in accept() for a connection that another one has got."""
    server = Announcing()
    with contextlib.ExitStack() as stack:
        with serving_together(server, threads=3):
            server.await_loops(3)
            clients = [stack.enter_context(connect(server)) for _ in range(20)]
            for client in clients:
                client.sendall(b"x\n")
            for client in clients:
                assert client.recv(10) == b"X\n"
        for client in clients:
            assert client.recv(10) == b""


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere accepted sockets take over the mode of the listener"
)
def test_the_listener_does_not_block_while_it_is_served() -> None:
    """Which nobody sees who does not look below the socket object."""
    with Announcing() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        server.await_loops(1)
        modes = [os.get_blocking(server.fileno()), server.socket.gettimeout()]
        server.shutdown()
        join(thread)
        assert modes == [False, None]
        assert os.get_blocking(server.fileno())


# -- no rubbish ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", "the first step", "a later step"])
def test_a_handler_that_has_ended_is_gone_at_once(where: str) -> None:
    """Without the help of the garbage collector, which would come when it likes."""
    gone: queue.Queue[bool] = queue.Queue()

    class Mortal(Failing):
        timeout = 5

        def setup(self) -> None:
            super().setup()
            weakref.finalize(self, gone.put, True)
            weakref.finalize(self.rfile._channel.sock, gone.put, True)

    Mortal.where = where

    class Forgetful(SelectorTCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    gc.collect()
    gc.disable()
    try:
        with serving(Forgetful(("127.0.0.1", 0), Mortal)) as server:
            provoke(server)
            assert gone.get(timeout=LIMIT)
            assert gone.get(timeout=LIMIT)
    finally:
        gc.enable()


def test_a_stream_handler_is_a_request_handler() -> None:
    assert issubclass(SelectorStreamRequestHandler, BaseRequestHandler)
