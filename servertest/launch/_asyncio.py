"""asyncio's servers: an event loop of their own, in whatever thread or process the host gives them."""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, cast

from ._active import FORCED_GRACE, ActivityBook, stack_of
from ._asyncio_tap import TappedProtocol
from ._listener import StoppableListener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._support import Address, Deadline
    from ._active import Activity
    from ._faults import ServerFaults
    from ._host import Plan

__all__ = ("AsyncioServable",)

#: Turns of the loop from the moment when it accepts a connection until the callback is called, at most.
_ROUNDS = 4


class AsyncioServable:
    """A stream server from a ``client_connected`` callback or a protocol factory, or a datagram endpoint.

    To stop it, the loop accepts nothing more, and the connections see end of file; it ends when all callbacks have come
    back. What else runs in the loop is cancelled then, as `asyncio.run` does.
    """

    def __init__(
        self, plan: Plan, *, callback: Callable[..., Any] | None = None, factory: Any = None
    ) -> None:
        assert plan.listener is not None
        self.server: object = None
        self.address = cast("Address", plan.listener.getsockname())
        self._book = ActivityBook(plan.observer)
        self._callback = callback
        self._factory = factory
        self._ssl = None if plan.tls is None else plan.tls.server_context()
        self._datagrams = plan.kind.transport == "datagram"
        self.faults = self._put_behind_faults(plan)
        self._socket = self._open_socket(plan.listener)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._ended = threading.Event()
        self.settled = threading.Event()  # as for socket servers
        self._tasks: set[asyncio.Task[Any]] = set()
        self._main_task: asyncio.Task[Any] | None = None
        self._thread: threading.Thread | None = None
        self._forced: list[str] = []

    def _put_behind_faults(self, plan: Plan) -> ServerFaults | None:
        if plan.faults is None:
            return None
        from ._faults import ServerFaults

        faults = ServerFaults(plan.faults, plan)
        faults.begin(loops=True)
        return faults

    def _open_socket(self, listener: socket.socket) -> socket.socket:
        listener.setblocking(False)
        if self._datagrams:
            sock = listener if self.faults is None else self.faults.datagrams(listener)
            return self._book.observe_datagrams(sock)
        # Under TLS the bytes of the socket say nothing: there the protocol is observed instead.
        return StoppableListener(
            listener, self._book, observed=self._ssl is None, for_loop=True, faults=self.faults
        )

    # -- serving

    def serve(self) -> None:
        """Run the event loop until the server is stopped and its callbacks have come back."""
        self._thread = threading.current_thread()
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._loop.set_exception_handler(self._on_exception)
                runner.run(self._main())
        except BaseException as error:
            # If it is what a callback raised, that was reported; it has ended the loop as well.
            if error is not self._book.fatal:
                raise
        finally:
            self._ended.set()

    async def _main(self) -> None:
        self._main_task = asyncio.current_task()
        self._end = asyncio.Event()
        if self._book.stopping:
            return
        server = await self._start()
        self.server = server
        self.settled.set()
        if not self._book.stopping:
            await self._end.wait()
        server.close()
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._close_transports()

    async def _start(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._datagrams:
            transport, _ = await loop.create_datagram_endpoint(self._factory, sock=self._socket)
            return transport
        make = self._factory if self._callback is None else self._stream_protocol
        if self._ssl is not None:
            make = self._tapped(make)
        return await loop.create_server(make, sock=self._socket, ssl=self._ssl)

    def _stream_protocol(self) -> asyncio.StreamReaderProtocol:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        return asyncio.StreamReaderProtocol(reader, self._connected, loop=loop)

    def _tapped(self, make: Callable[[], Any]) -> Callable[[], Any]:
        def make_tapped() -> Any:
            protocol = make()
            if self._book.recorder is None or isinstance(protocol, asyncio.BufferedProtocol):
                return protocol
            return TappedProtocol(protocol, self._book)

        return make_tapped

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Call the callback; what it does further is done in a task of ours, so that none is there of which a stop would not know."""
        assert self._callback is not None
        # Found now: when it has failed, its socket may be gone.
        activity = self._book.by_descriptor(writer.get_extra_info("socket").fileno())
        try:
            result = self._callback(reader, writer)
        except BaseException as error:
            self._give_up(activity, error, writer)
            if not isinstance(error, Exception):
                raise
            return
        if asyncio.iscoroutine(result):
            task = asyncio.get_running_loop().create_task(result)
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._done(task, activity, writer))

    def _done(self, task: asyncio.Task[Any], activity: Activity | None, writer: asyncio.StreamWriter) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            writer.transport.close()
        elif (error := task.exception()) is not None:
            self._give_up(activity, error, writer)

    def _give_up(self, activity: Activity | None, error: BaseException, writer: asyncio.StreamWriter) -> None:
        self._book.failed(activity, error, where="client_connected")
        # As asyncio does from 3.12 on; before, the client would wait for ever.
        writer.transport.close()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught: in a protocol's method, in a task of its own, in a callback of the loop."""
        error = context.get("exception") or RuntimeError(context["message"])
        transport = context.get("transport")
        sock = None if transport is None else transport.get_extra_info("socket")
        activity = None if sock is None else self._book.by_descriptor(sock.fileno())
        self._book.failed(activity, error, where="event loop")

    # -- stopping

    def stop(self) -> None:
        """Ask the loop to end, and let all connections see end of file."""
        if self.faults is not None:
            self.faults.interrupt()
        self._book.stop()
        self._call(lambda: self._end.set() if self._end is not None else None)

    def _call(self, function: Callable[[], object]) -> None:
        """Have the loop call something, if there still is one."""
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(function)
            except RuntimeError:
                pass  # it was closed just now

    async def _close_transports(self) -> None:
        """Close connections that callbacks have left open, and those of protocols that do not end at end of file."""
        for _ in range(2):
            await asyncio.sleep(0)  # those that are closing already get the chance to
        for transport in self._transports():
            transport.abort()
        await asyncio.sleep(0)

    def _transports(self) -> list[Any]:
        # The loop's own register of selector transports; the proactor loop of Windows has none.
        register: weakref.WeakValueDictionary[int, Any] = getattr(
            self._loop, "_transports", weakref.WeakValueDictionary()
        )
        open_now = {
            activity.connection.fileno() for activity in self._book if activity.connection is not None
        }
        return [transport for number, transport in list(register.items()) if number in open_now]

    def close(self, deadline: Deadline) -> list[str]:
        """Cancel what did not end by itself, and close the socket."""
        self.stop()
        forced = self._forced
        if self._loop is not None and not self._ended.is_set():
            forced.append(self._what_holds())
            self._call(self._cancel_all)
            self._ended.wait(FORCED_GRACE)
        if self._ended.is_set() or self._loop is None:
            self._socket.close()
        elif isinstance(self._socket, StoppableListener):
            self._socket.interrupt()  # clients are refused; the descriptor is the loop's, if it ever goes on
        if self.faults is not None:
            self.faults.finish(deadline)
        return forced

    def end_within(self, seconds: float) -> None:
        """Have the loop itself force what has not ended by then: where it has the only thread, nobody else could."""
        self._call(lambda: asyncio.get_running_loop().call_later(seconds, self._force))

    def _force(self) -> None:
        if self._tasks:
            self._forced.append(self._what_holds())
            self._cancel_all()

    def _what_holds(self) -> str:
        return f"the event loop did not end:\n{self.describe()}"

    def remains(self) -> Iterator[Any]:
        """Threads and descriptors that a forced stop could not end."""
        if self._loop is None or self._ended.is_set():
            return
        yield self._loop
        yield self._socket
        yield from (one.connection for one in self._book if one.connection is not None)

    def _cancel_all(self) -> None:
        """End the callbacks. The loop's own task then closes what they leave, and ends too."""
        for activity in self._book:
            activity.forced = True
        for task in self._tasks:
            task.cancel()

    def describe(self) -> str:
        """Its connections and its tasks; and where the loop is, if that is no place for a loop to wait."""
        self._book.forget_closed()
        parts = [self._book.describe(), self._what_blocks(), self._describe_tasks()]
        return "\n".join(part for part in parts if part)

    def _describe_tasks(self) -> str:
        from ._dump import describe_tasks

        if self._loop is None or self._loop.is_closed():
            return ""
        return describe_tasks(asyncio.all_tasks(self._loop) - {cast("asyncio.Task[Any]", self._main_task)})

    def _what_blocks(self) -> str:
        """The stack of a loop that is held up by what it calls: no other connection is served meanwhile."""
        from ._dump import frames_by_thread

        if self._thread is None or self._thread is threading.current_thread():
            return ""
        frame = frames_by_thread().get(self._thread.ident or 0)
        if frame is None or frame.f_code.co_filename == selectors.__file__:
            return ""
        return f"the event loop is held up:\n{stack_of(self._thread)}"
