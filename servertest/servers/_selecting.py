"""SelectorMixIn: one thread for thousands of connections, and the request handlers that share it."""

from __future__ import annotations

import os
import select
import selectors
import socket
import sys
import threading
import warnings
from contextlib import ExitStack
from time import monotonic

from ._base import BaseServer, _front
from ._handlers import BaseRequestHandler
from ._inet import TCPServer
from ._loop import Loop, PollSelector
from ._selector_channel import make_channel
from ._selector_files import IncompleteReadError, SelectorReader, SelectorWriter
from ._selector_task import (
    DONE,
    GIVE_WAY,
    READ,
    WRITE,
    Ready,
    Sleep,
    Task,
    end,
    is_unfinished,
    run_alone,
    steps,
    waits,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from ._selector_task import Wait

    class _BaseHandler:
        """BaseRequestHandler, to a type checker: its methods return None there, where ours may return something to wait for."""

        request: Any
        client_address: Any
        server: Any
        _servertest_failed: bool

        def _servertest_abandon(self) -> None: ...

else:
    _BaseHandler = BaseRequestHandler

__all__: tuple[str, ...] = (
    "IncompleteReadError",
    "SelectorMixIn",
    "SelectorReader",
    "SelectorRequestHandler",
    "SelectorStreamRequestHandler",
    "SelectorTCPServer",
    "SelectorWriter",
)

#: The flags of a code object that say generator, coroutine, asynchronous generator: inspect.CO_*, which would take longer to import than all else here.
_STEPWISE = 0x20 | 0x80 | 0x200

#: Seconds that server_close() waits, beyond drain_timeout, for a loop in another thread to let go of the connections.
_PATIENCE = 5.0


class SelectorRequestHandler(_BaseHandler):
    """Handles one request and may wait while it does, without holding up the thread that it shares with others.

    setup(), handle() and finish() may each be a coroutine (`async def`), a generator, or a plain function that returns at once. In a coroutine `await`, in a
    generator `yield from` what the methods below return. Nothing else may take long: for that time no other connection is served.

    On a server that is no SelectorMixIn, and wherever no loop runs, such a handler works as well: it is seen through to its end when it is made.

    Class attributes: `timeout` (seconds that each single wait may take, or None; after that TimeoutError is raised where handle() waits).
    """

    timeout: float | None = None

    _servertest_task: Task

    def __init__(self, request: Any, client_address: Any, server: Any) -> None:
        self.request = request
        self.client_address = client_address
        self.server = server
        self._servertest_task = Task(self.__live(), self, client_address)
        if isinstance(server, SelectorMixIn):
            server._servertest_begin(self._servertest_task)
        else:
            run_alone(self._servertest_task)

    def setup(self) -> Any:
        """Called before handle(). May be overridden."""

    def handle(self) -> Any:
        """Do the work. To be overridden."""

    def finish(self) -> Any:
        """Called after handle(). May be overridden."""

    @waits
    def __live(self) -> Generator[Wait, None, None]:
        """The whole life. Closing this generator ends it early, in good order as far as that needs no waiting."""
        task = self._servertest_task
        try:
            yield from steps(self.setup())
            may_wait = True
            work: Any = DONE
            try:
                work = steps(self.handle())
                yield from work
            except BaseException as error:
                self._servertest_failed = True
                may_wait = isinstance(error, Exception) and not task.closing
                if not task.closing or not isinstance(error, RuntimeError) or not is_unfinished(work):
                    raise
                end(work)  # a finally block in handle() waits for something
            finally:
                yield from steps(self.finish())
                if may_wait and task.channel is not None:
                    yield from task.channel.drain()
        finally:
            if task.channel is not None:
                task.channel.close()

    @waits
    def sleep(self, seconds: float) -> Generator[Wait, None, None]:
        """Wait for so many seconds, even if `timeout` is shorter. With 0, let the others have their turn."""
        yield Sleep(seconds) if seconds > 0 else GIVE_WAY

    @waits
    def readable(self, fileobj: Any) -> Generator[Wait, None, None]:
        """Wait until something can be read from `fileobj`, a descriptor or what has a fileno(). Raises TimeoutError after `timeout` seconds."""
        channel = self._servertest_task.channel
        yield channel if channel is not None and channel.is_for(fileobj) else Ready(fileobj, READ)

    @waits
    def writable(self, fileobj: Any) -> Generator[Wait, None, None]:
        """Wait until something can be written to `fileobj`, a descriptor or what has a fileno(). Raises TimeoutError after `timeout` seconds."""
        channel = self._servertest_task.channel
        if channel is not None and channel.is_for(fileobj):
            yield from channel.writable()
        else:
            yield Ready(fileobj, WRITE)


class SelectorStreamRequestHandler(SelectorRequestHandler):
    """A handler of a stream connection, with `rfile` and `wfile` over it, both of which are awaited.

    Class attributes: `timeout` (seconds for which the client may send nothing while handle() reads, or take nothing while it writes), `wbufsize`
    (bytes that are gathered before they are sent; 0 sends each write at once), `disable_nagle_algorithm` (sets TCP_NODELAY), `max_line` (bytes
    of the longest line that the client may send).
    """

    wbufsize: int = 0
    disable_nagle_algorithm: bool = False
    max_line: int = 65536

    # Declared without values: attributes that exist only after setup().
    connection: Any
    rfile: SelectorReader
    wfile: SelectorWriter

    def setup(self) -> Any:
        """Make `connection`, `rfile` and `wfile`."""
        self.connection = self.request
        self.connection.setblocking(False)
        if self.disable_nagle_algorithm:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        channel = self._servertest_task.channel = make_channel(self.connection, self._servertest_task)
        self.rfile = SelectorReader(channel, self.max_line)
        self.wfile = SelectorWriter(channel, self.wbufsize)

    def finish(self) -> Any:
        """Close the files. What was written goes on its way before the connection ends; a client that has gone in the meantime is no error."""
        try:
            self.wfile.close()
        except OSError:
            pass
        self.rfile.close()


class _Handlers:
    """`RequestHandlerClass` of a selector server: refuses, when it is set, one that would block the loop."""

    name = "RequestHandlerClass"

    def __get__(self, server: Any, owner: type | None = None) -> Any:
        if server is None:
            return self
        try:
            return server.__dict__[self.name]
        except KeyError:
            raise AttributeError(f"{type(server).__name__!r} object has no attribute {self.name!r}") from None

    def __set__(self, server: Any, handler: Any) -> None:
        _check(handler, server)
        server.__dict__[self.name] = handler


class _Table:
    """The documentation's explicit table of partially finished requests, and what is needed to end them."""

    def __init__(self) -> None:
        self.tasks: dict[Task, bool] = {}  # whether it is a TLS handshake
        self.begun: dict[int, Task] = {}  # by thread: a handler that was made this moment
        self.loops: list[Loop] = []  # those that serve now
        self.draining: Loop | None = None
        self.was_blocking = True
        self.is_to_end = False  # whether server_close() was called
        self.ending = threading.RLock()
        self.ended = threading.Event()
        self.inherited: _Table | None = None


class SelectorMixIn:
    """Handles all requests in the thread of the loop, which goes from one to the next whenever a handler waits. It goes before the server class among the bases.

    Handlers are made from SelectorStreamRequestHandler, whose handle() is a coroutine or a generator, or from SelectorRequestHandler. Others are called as on a
    synchronous server, and as there everybody waits while they work; those that read from a blocking `rfile` are refused with a TypeError.

    A connection whose handler waits outlives shutdown(): the next serve_forever() goes on with it. server_close() ends it: the handler is interrupted where it
    waits, so that `finally` blocks and finish() run, and the connection is closed. handle_request() sees one request through to its end.

    With TLSMixIn (between this class and the server class) the handshakes are done in the loop too, within its `handshake_timeout`.

    Class attributes:

    * `max_connections`: how many there may be at a time; further ones are not accepted until one has ended, and wait in the kernel's queue. None: as
      many as the process may have descriptors.
    * `drain_timeout`: seconds for which server_close() lets the handlers go on before it ends those that are left; None: at once.
    * `request_queue_size` is as large as the system allows.
    """

    max_connections: int | None = None
    drain_timeout: float | None = None
    request_queue_size: int = getattr(socket, "SOMAXCONN", 128)
    RequestHandlerClass: Any = _Handlers()

    #: Connections to accept before those that are open have their turn again.
    _servertest_burst = 64

    def serve_forever(self, poll_interval: float | None = 0.5) -> None:
        """Serve all connections in this thread until shutdown() is called or the server is closed.

        Raises:
            TypeError: The server class is not one of servertest.servers, whose loop the handlers need.
        """
        if not isinstance(self, BaseServer):
            raise TypeError(
                f"{type(self).__name__}: SelectorMixIn needs a server class of servertest.servers"
            )
        super().serve_forever(poll_interval)  # type: ignore[misc]

    # -- one request ------------------------------------------------------------------------------------------------------

    def process_request(self, request: Any, client_address: Any) -> None:
        """Make the handler, after the TLS handshake if there is one. If it waits for something, the loop goes on with it."""
        ssl = sys.modules.get("ssl")
        if ssl is not None and isinstance(request, ssl.SSLSocket):
            self.__shake_hands(request, client_address)
        else:
            self.__handle(request, client_address)

    def __handle(self, request: Any, client_address: Any) -> None:
        server: Any = self
        begun, here = self.__table().begun, threading.get_ident()
        begun.pop(here, None)
        try:
            server.finish_request(request, client_address)
        except BaseException:
            task = begun.pop(here, None)
            if task is not None:  # finish_request() was overridden, and failed when the handler had been made
                task.close()
            raise
        task = begun.pop(here, None)
        if task is None:
            server.shutdown_request(request)
        else:
            self.__keep(task, request, client_address, is_handshake=False)

    def __shake_hands(self, request: Any, client_address: Any) -> None:
        from ._selector_tls import handshake_task

        task = handshake_task(request, client_address, getattr(self, "handshake_timeout", 10.0))
        loop = self.__loop()
        if loop is None:
            run_alone(task)
        elif task.start(loop, self):
            self.__keep(task, request, client_address, is_handshake=True)
            return
        self.__handle(request, client_address)

    def __keep(self, task: Task, request: Any, client_address: Any, *, is_handshake: bool) -> None:
        task.request, task.client_address = request, client_address
        tasks = self.__table().tasks
        tasks[task] = is_handshake
        if self.max_connections is not None and len(tasks) >= self.max_connections:
            self._servertest_pause()  # type: ignore[attr-defined]  # the server class has it, if the loop is ours

    def _servertest_begin(self, task: Task) -> None:
        """Called by a handler that is being made: run it as far as it goes."""
        loop = self.__loop()
        if loop is None:
            run_alone(task)
        elif task.start(loop, self):
            self.__table().begun[loop.ident] = task

    def _servertest_task_ended(self, task: Task, error: BaseException | None) -> None:
        """Called by a task that has come to its end in the loop; inside the except block if there is an error."""
        server: Any = self
        is_handshake = self.__table().tasks.pop(task, None)
        try:
            if is_handshake is None:  # not a request of ours, but a handler that another one has made
                if isinstance(error, Exception):
                    server.handle_error(task.request, task.client_address)
            elif is_handshake and error is None:
                self.__after_handshake(task.request, task.client_address)
            else:
                self.__conclude(task.request, task.client_address, error)
        finally:
            self.__make_room()

    def __after_handshake(self, request: Any, client_address: Any) -> None:
        try:
            self.__handle(request, client_address)
        except BaseException as failure:
            self.__conclude(request, client_address, failure)
            if not isinstance(failure, Exception):
                raise

    def __conclude(self, request: Any, client_address: Any, error: BaseException | None) -> None:
        server: Any = self
        try:
            if isinstance(error, Exception):
                server.handle_error(request, client_address)
        finally:
            server.shutdown_request(request)

    def __make_room(self) -> None:
        if self.max_connections is not None and len(self.__table().tasks) < self.max_connections:
            self._servertest_resume()  # type: ignore[attr-defined]

    # -- loops come and go ------------------------------------------------------------------------------------------------

    def _servertest_selector(self) -> Any:
        """An epoll, or whatever is as good, unless the program has chosen another selector."""
        chosen = _front()._ServerSelector
        if chosen is not PollSelector and chosen is not selectors.SelectSelector:
            return chosen()
        if hasattr(select, "epoll"):
            from ._selector_epoll import EpollSelector

            return EpollSelector()
        return selectors.DefaultSelector()

    def _servertest_started(self, loop: Loop) -> None:
        """A loop begins: whatever rests goes on in it."""
        super()._servertest_started(loop)  # type: ignore[misc]
        table = self.__table()
        with table.ending:
            table.ended.clear()
            table.loops.append(loop)
            if len(table.loops) == 1:
                # Among several loops only one gets a connection. The others must not wait for the next while theirs wait for them.
                table.was_blocking = self.__set_blocking(False)
            for task in list(table.tasks):
                if task.loop is None:
                    task.attach(loop)

    def _servertest_ended(self, loop: Loop) -> None:
        """A loop ends: its tasks rest, or end too if the server was closed."""
        super()._servertest_ended(loop)  # type: ignore[misc]
        table = self.__table()
        for task in list(table.tasks):
            if task.loop is loop:
                task.detach()
        # In this order, as server_close() first sets the flag and then looks at the list: one of us sees the other.
        if loop in table.loops:
            table.loops.remove(loop)
        if not table.loops:
            self.__set_blocking(table.was_blocking)
        if table.is_to_end:
            self.__end_connections()

    def __set_blocking(self, blocking: bool) -> bool:
        """Set the mode of the listening socket, below what socket.gettimeout() and accepted sockets know of. Returns what it was."""
        if sys.platform != "linux" or getattr(self, "socket_type", None) != socket.SOCK_STREAM:
            return True
        try:
            fd: int = self.fileno()  # type: ignore[attr-defined]
            before = os.get_blocking(fd)
            os.set_blocking(fd, blocking)
        except OSError:
            return True  # it is closed
        return before

    def __loop(self) -> Loop | None:
        """The loop of the calling thread that this server's handlers can wait in."""
        loop: Loop | None = self._servertest_loop()  # type: ignore[attr-defined]
        if loop is None:
            draining = self.__table().draining
            return draining if draining is not None and draining.is_here else None
        return loop

    def __table(self) -> _Table:
        try:
            table: _Table = self.__dict__["_SelectorMixIn__requests"]
        except KeyError:
            table = self.__dict__.setdefault("_SelectorMixIn__requests", _Table())
        return table

    # -- the end ----------------------------------------------------------------------------------------------------------

    def server_close(self) -> None:
        """Close the server, then end its connections, after `drain_timeout` seconds if that is set.

        From inside the loop (a handler, service_actions()) it returns at once, and the connections are ended when the loop ends, which is at once as well. Where
        several servers are served together, the others wait meanwhile.
        """
        table = self.__table()
        table.is_to_end = True
        super().server_close()  # type: ignore[misc]
        if not table.loops:
            self.__end_connections()
        elif self._servertest_loop() is None:  # type: ignore[attr-defined]
            limit = (self.drain_timeout or 0.0) + _PATIENCE
            if not table.ended.wait(limit):
                warnings.warn(
                    f"{type(self).__name__}.server_close(): the loop is busy in a handler that does not return, "
                    f"and after {limit} s still {len(table.tasks)} connection(s) are open",
                    ResourceWarning,
                    stacklevel=2,
                )

    def drain(self, timeout: float) -> int:
        """Let the handlers go on in the calling thread, where no loop may run, until all have ended.

        Args:
            timeout: seconds after which to give up.

        Returns:
            How many connections are open even then.
        """
        tasks = self.__table().tasks
        self.__go_on(lambda: tasks, monotonic() + timeout)
        return len(tasks)

    def __go_on(self, unfinished: Callable[[], object], until: float | None) -> None:
        """Go on with what rests, without accepting anything new."""
        table = self.__table()
        with table.ending, self._servertest_selector() as selector:
            if table.draining is not None:
                return  # from a handler, which must not wait for itself
            loop = table.draining = Loop(())
            loop.selector = selector
            try:
                for task in list(table.tasks):
                    if task.loop is None:
                        task.attach(loop)
                loop.run_while(selector, unfinished, until)
            finally:
                table.draining = None
                for task in list(table.tasks):
                    if task.loop is loop:
                        task.detach()

    def _servertest_await_resume(self, gate: threading.Event, timeout: float | None) -> None:
        """In handle_request(), with all max_connections resting: have them go on until one has ended."""
        self.__go_on(lambda: not gate.is_set(), None if timeout is None else monotonic() + timeout)

    def __end_connections(self) -> None:
        table = self.__table()
        with table.ending:  # two may come at a time: server_close(), and the loop on its end
            try:
                if table.tasks and self.drain_timeout is not None:
                    self.drain(self.drain_timeout)
            finally:
                with ExitStack() as stack:  # whatever one raises, all are ended
                    for task in reversed(list(table.tasks)):
                        if task.loop is None:
                            stack.callback(self.__end, task)
            if not table.loops:
                table.is_to_end = False
                table.ended.set()

    def _servertest_forget_loops(self) -> None:
        """In a forked child the connections are the parent's: it may neither go on with them nor end them."""
        super()._servertest_forget_loops()  # type: ignore[misc]
        table = _Table()
        table.inherited = self.__table()  # kept, for without it the handlers would come to their ends
        self.__dict__["_SelectorMixIn__requests"] = table

    def __end(self, task: Task) -> None:
        if self.__table().tasks.pop(task, None) is None:
            return  # it has just ended by itself, in the loop of another thread
        try:
            task.close()
        except BaseException as failure:
            self.__conclude(task.request, task.client_address, failure)
            if not isinstance(failure, Exception):
                raise
        else:
            self.__conclude(task.request, task.client_address, None)


class SelectorTCPServer(SelectorMixIn, TCPServer):
    """One thread for all connections."""


try:
    from ._unix import UnixStreamServer
except ImportError:  # a platform without Unix sockets
    pass
else:

    class SelectorUnixStreamServer(SelectorMixIn, UnixStreamServer):
        """One thread for all connections."""

    __all__ += ("SelectorUnixStreamServer",)


def _check(handler: Any, server: Any) -> None:
    """Refuse a handler that would hold up everybody, or whose handle() nobody would run.

    Raises:
        TypeError: it is one of those.
    """
    made_by = handler
    while hasattr(made_by, "func"):  # functools.partial
        made_by = made_by.func
    if not isinstance(made_by, type) or issubclass(made_by, SelectorRequestHandler):
        return
    # By name, for a handler may well be made from the standard module's class.
    bases = {base.__name__ for base in made_by.__mro__ if base.__module__ == "socketserver"}
    name, server_name = made_by.__name__, type(server).__name__
    if "StreamRequestHandler" in bases:
        raise TypeError(
            f"{name} reads from a blocking rfile, which would hold up all connections of a {server_name}. Make it from "
            "SelectorStreamRequestHandler, with `async def handle(self)`; or let it run on a threading or pooling server"
        )
    code = getattr(getattr(made_by, "handle", None), "__code__", None)
    if code is not None and code.co_flags & _STEPWISE and bases:
        raise TypeError(
            f"{name}.handle() has to be run step by step, which {min(bases)} does not do: make it from SelectorStreamRequestHandler "
            "or SelectorRequestHandler"
        )
