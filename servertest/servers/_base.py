"""BaseServer: the life of a server and the order of its calls, for whatever it serves."""

from __future__ import annotations

import errno
import os
import sys
import threading
from time import monotonic

from ._loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, Self, TypeVar

    _Class = TypeVar("_Class", bound=type)

__all__ = ("BaseServer", "serve_together")

#: What accept() says when the process or the machine has run out of something: asking again at once only burns the processor.
_STARVED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


#: The public module, in which programs replace names such as _ServerSelector. It puts itself here.
public_module: Any = None


def _front() -> Any:
    """The public module, to look names up in at each call. Not by sys.modules, from which test runners take modules away."""
    return public_module


#: What each standard class was made with, for a program may replace a method of the class itself.
_made_with: dict[type, dict[str, Any]] = {}


def standard(cls: _Class) -> _Class:
    """Marks a class of the standard module: it says that it is from there, in whose place it may stand."""
    cls.__module__ = "socketserver"
    _made_with[cls] = dict(vars(cls))
    return cls


def is_own(server: object, base: type, name: str) -> bool:
    """Whether a method of the server is the one that `base` was made with: nobody has overridden or replaced it."""
    return getattr(type(server), name) is _made_with[base][name] and name not in server.__dict__


class _StopFlag:
    """`_BaseServer__shutdown_request`: kept in the instance's __dict__, and wakes the loops when it is set.

    Programs write it from handlers and signal handlers as a stop that does not wait, read it there, or shadow it in a subclass.
    """

    name = "_BaseServer__shutdown_request"

    def __get__(self, server: BaseServer | None, owner: type | None = None) -> Any:
        return self if server is None else server.__dict__.get(self.name, False)

    def __set__(self, server: BaseServer, value: Any) -> None:
        server.__dict__[self.name] = value
        if value:
            server._servertest_wake()


class _EndEvent(threading.Event):
    """`_BaseServer__is_shut_down`: unset until a loop has ended, and remembers whether any loop has begun.

    A subclass may run a loop of its own between clear() and set(); shutdown() has to wait for that one too.
    """

    begun = False

    def clear(self) -> None:
        self.begun = True
        super().clear()


@standard
class BaseServer:
    """What all servers have in common. A subclass says where requests come from.

    For the caller: `serve_forever(poll_interval=0.5)`, `handle_request()`, `shutdown()`, `server_close()`, `with`, and `fileno()` for a
    selector of one's own.

    To override: `server_bind()`, `server_activate()`, `get_request()`, `verify_request()`, `process_request()`,
    `finish_request()`, `shutdown_request()`, `close_request()`, `handle_error()`, `handle_timeout()`, `service_actions()`, and
    `handle_accept_error()`, which the standard module does not have.

    Class attributes: `timeout` (seconds that handle_request() waits; None: no limit).

    In the order of one request: get_request, verify_request, process_request, finish_request (which makes the handler), shutdown_request,
    close_request. Of these shutdown_request is called exactly once for each request that get_request returned, whatever else fails.
    """

    timeout: float | None = None

    __shutdown_request: Any = _StopFlag()

    # Set by whoever cannot take another request now; the loop watches the listener again when it is None (see _servertest_pause).
    _servertest_gate: threading.Event | None = None
    # Set when accept() failed for want of descriptors or memory; the loop then leaves the listener alone for a while.
    _servertest_starved = False

    # Requests that have been accepted, and come after the one that is being processed.
    _servertest_left: Iterable[tuple[Any, Any]] = ()

    # How many requests a turn of the loop takes at a time. More than one where a turn does much else.
    _servertest_burst = 1

    # Made when a second loop begins to serve this server.
    _servertest_turnstile: threading.Lock | None = None

    def __init__(self, server_address: Any, RequestHandlerClass: Callable[[Any, Any, Any], Any]) -> None:
        self.server_address = server_address
        self.RequestHandlerClass = RequestHandlerClass
        self.__is_shut_down = _EndEvent()
        self.__shutdown_request = False

    # -- the life of a server ---------------------------------------------------------------------------------------------

    def server_activate(self) -> None:
        """Called by the constructor to make the server ready for requests. May be overridden."""

    def serve_forever(self, poll_interval: float | None = 0.5) -> None:
        """Serve requests until shutdown() is called or the server is closed.

        Args:
            poll_interval: the longest time in seconds between two calls of service_actions(); None waits without limit. It has no
                influence on how soon shutdown() ends the loop, which is at once.
        """
        _run_loop([self], poll_interval)

    def shutdown(self) -> None:
        """Stop serve_forever(), at once, and wait until it has ended.

        It may be called from anywhere, and twice. From inside the loop (a handler, service_actions(), a signal handler in the same thread) it returns
        without waiting, and the loop ends after the request at hand. If no loop runs, the next one ends as soon as it begins, so
        that a thread that has not come as far as serve_forever() is stopped too.
        """
        self.__shutdown_request = True
        loops = self.__loops()
        if any(loop.is_here for loop in loops):
            return
        event = self.__end_event()
        if loops or getattr(event, "begun", True):
            event.wait()

    def server_close(self) -> None:
        """Called to clean up the server. May be overridden."""

    def service_actions(self) -> None:
        """Called by serve_forever() after each request, or several that came together, and at least once in a poll interval. May be overridden."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.server_close()

    # -- one request ------------------------------------------------------------------------------------------------------

    def handle_request(self) -> Any:
        """Wait for one request and handle it, at most for the time that self.timeout and the socket's timeout allow.

        Returns what handle_timeout() returns when there was none.
        """
        limits = [limit for limit in (self.__socket_timeout(), self.timeout) if limit is not None]
        deadline = monotonic() + min(limits) if limits else None
        if not self.__wait_at_gate(deadline):
            return self.handle_timeout()
        with _front()._ServerSelector() as selector:
            selector.register(self, _front().selectors.EVENT_READ)
            while True:
                rest = None if deadline is None else deadline - monotonic()
                if selector.select(rest if rest is None else max(rest, 0)):
                    return self._handle_request_noblock()
                if rest is not None and rest < 0:
                    return self.handle_timeout()

    def _handle_request_noblock(self) -> None:
        """Take one request, of which a selector has said that it is there, and see it through."""
        gate = self._servertest_gate
        if gate is not None:
            if self.__loops():
                return  # the loop watches the listener again when there is room
            self._servertest_await_resume(gate, None)
        try:
            if self._servertest_turnstile is None or not self._servertest_gets_at_once():
                request, client_address = self.get_request()  # type: ignore[attr-defined]  # subclasses have it
            else:
                request, client_address = self.__get_in_turn(self._servertest_turnstile)
        except BlockingIOError:
            return  # somebody else was faster
        except OSError as error:
            self._servertest_note_accept_error(error)
            return
        self._servertest_take(request, client_address)

    def _servertest_note_accept_error(self, error: OSError) -> None:
        self._servertest_starved = error.errno in _STARVED
        self.handle_accept_error(error)

    def _servertest_gets_at_once(self) -> bool:
        """Whether get_request() is known to take no time when something is there."""
        return False

    def __get_in_turn(self, turnstile: threading.Lock) -> Any:
        # With several loops each request wakes all of them; those that come too late would wait in accept(), where no stop reaches them.
        with turnstile, _front()._ServerSelector() as selector:
            selector.register(self, _front().selectors.EVENT_READ)
            if not selector.select(0):
                raise BlockingIOError
            return self.get_request()  # type: ignore[attr-defined]

    def _servertest_take(self, request: Any, client_address: Any) -> None:
        """See one request through that get_request() has returned."""
        try:
            wanted = self.verify_request(request, client_address)
        except BaseException:
            self.shutdown_request(request)
            raise
        if not wanted:
            self.shutdown_request(request)
            return
        self._servertest_process(request, client_address)

    def _servertest_process(self, request: Any, client_address: Any) -> None:
        """See one request through that was verified."""
        try:
            self.process_request(request, client_address)
        except Exception:  # noqa: BLE001 - handlers may raise anything; handle_error() is where it goes
            try:
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)
        except BaseException:
            self.shutdown_request(request)
            raise

    def _servertest_take_all(self, requests: Iterable[tuple[Any, Any]]) -> None:
        """See several requests through that were verified, or need not be. What ends the loop meanwhile ends it after them: the next loop would not find them any more."""
        pid = os.getpid()
        self._servertest_left = left = iter(requests)
        ending: BaseException | None = None
        while True:
            try:
                for request, client_address in left:
                    self._servertest_process(request, client_address)
                break
            except BaseException as error:  # noqa: BLE001 - raised below
                ending = ending or error
                if os.getpid() != pid:
                    break  # a child that was interrupted as it began: the others are its parent's
        self._servertest_left = ()
        if ending is not None:
            try:
                raise ending
            finally:
                ending = None  # its traceback holds this frame

    def handle_accept_error(self, error: OSError) -> None:
        """Called in the loop when get_request() raised `error`, which is then forgotten. May be overridden.

        Such errors concern a single client (it has gone, its handshake failed), or say that the process has run out of descriptors; in
        that case the loop asks again after a pause that grows from 5 ms to 1 s.
        """

    def handle_timeout(self) -> Any:
        """Called by handle_request() when no request came in time. May be overridden."""

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether to process this request. May be overridden."""
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """See one request through: finish_request() and then shutdown_request(). Overridden by the mix-ins for concurrency."""
        self.finish_request(request, client_address)
        self.shutdown_request(request)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Make a request handler, which does the work as it is made."""
        self.RequestHandlerClass(request, client_address, self)

    def shutdown_request(self, request: Any) -> None:
        """Called to end a request in good order, and then close it. May be overridden."""
        self.close_request(request)

    def close_request(self, request: Any) -> None:
        """Called to clean up a request. May be overridden."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Called inside the except block when a request failed. Prints the traceback to stderr. May be overridden."""
        import traceback

        line = "-" * 40
        print(line, file=sys.stderr)  # noqa: T201 - as the standard module does
        print("Exception occurred during processing of request from", client_address, file=sys.stderr)  # noqa: T201
        traceback.print_exc()
        print(line, file=sys.stderr)  # noqa: T201

    # -- between the loop, the mix-ins and us -----------------------------------------------------------------------------

    def _servertest_at_once(self, limit: int) -> int:
        """How many requests may be there before the first is processed, `limit` at most: more than one where process_request() only starts somebody who does the work."""
        return 1

    def _servertest_take_bunch(self, limit: int, is_there: Callable[[], bool]) -> int:
        """Handle the request of which the selector has said that it is there, and those that came with it.

        Args:
            limit: requests in all.
            is_there: asks whether another one is there, and nothing else for the loop to do.

        Returns:
            How likely it is that there will be more than one the next time: 0 is not at all.
        """
        self._handle_request_noblock()
        return 0

    def _servertest_selector(self) -> Any:
        """A new selector for this server's loop."""
        return _front()._ServerSelector()

    def _servertest_loop(self) -> Loop | None:
        """The loop that serves this server in the calling thread, if any."""
        ident, pid = threading.get_ident(), os.getpid()
        return next((loop for loop in self.__loops() if loop.ident == ident and loop.pid == pid), None)

    def _servertest_started(self, loop: Loop) -> None:
        """Called in the loop's thread when the listener is watched, before the first request."""

    def _servertest_ended(self, loop: Loop) -> None:
        """Called in the loop's thread when this server takes no further request, while the selector still lives."""

    def _servertest_forget_loops(self) -> None:
        """In a forked child that is to run a loop of its own: what was copied of the parent's loops is not ours."""
        self.__loops().clear()
        self.__is_shut_down = _EndEvent()
        self.__shutdown_request = False

    def _servertest_wake(self) -> None:
        """Make all loops of this server look around at once."""
        for loop in list(self.__loops()):  # one that leaves meanwhile must not hide the next
            loop.wake()

    def _servertest_pause(self) -> None:
        """Take no further request until _servertest_resume(): the clients wait in the kernel's queue."""
        if self._servertest_gate is None:
            self._servertest_gate = threading.Event()

    def _servertest_resume(self) -> None:
        """Take requests again."""
        gate = self._servertest_gate
        if gate is not None:
            self._servertest_gate = None
            gate.set()
            self._servertest_wake()

    def _servertest_await_resume(self, gate: threading.Event, timeout: float | None) -> None:
        """Wait in handle_request(), where no loop runs, until the gate is open."""
        gate.wait(timeout)

    def _servertest_enter(self, loop: Loop) -> None:
        # Listed first: a signal handler that comes in between then knows that it is inside this loop.
        self.__loops().append(loop)
        self.__end_event().clear()
        for other in list(self.__loops()):
            if other.pid != loop.pid:  # a fork has copied it, and its end is not seen here
                try:
                    self.__loops().remove(other)
                except ValueError:
                    pass  # by another thread
        if len(self.__loops()) > 1 and self._servertest_turnstile is None:
            self._servertest_turnstile = threading.Lock()

    def _servertest_leave(self, loop: Loop) -> None:
        loops = self.__loops()
        if loop not in loops:
            return
        loop.has_left.add(id(self))
        if all(id(self) in other.has_left for other in loops):  # else the others have still to see the flag
            self.__shutdown_request = False
            self.__end_event().set()
        loops.remove(loop)  # last, for the same reason as in _servertest_enter()

    def __loops(self) -> list[Loop]:
        # Only list operations that are atomic: a signal handler may come in between any two steps.
        loops: list[Loop] = self.__dict__.setdefault("_BaseServer__serving", [])
        return loops

    def __end_event(self) -> Any:
        # Made here for servers whose __init__ was never called.
        try:
            return self.__is_shut_down
        except AttributeError:
            return self.__dict__.setdefault("_BaseServer__is_shut_down", _EndEvent())

    def __wait_at_gate(self, deadline: float | None) -> bool:
        gate = self._servertest_gate
        if gate is not None:
            self._servertest_await_resume(gate, None if deadline is None else max(deadline - monotonic(), 0))
        return self._servertest_gate is None

    def __socket_timeout(self) -> float | None:
        timeout: float | None = self.socket.gettimeout()  # type: ignore[attr-defined]  # subclasses have one
        return timeout


def serve_together(*servers: BaseServer, poll_interval: float | None = 0.5) -> None:
    """Serve several servers in one loop, in the calling thread, until each was told to stop or was closed.

    Synchronous servers then answer one request at a time between them; those with a mix-in for concurrency hand theirs over as ever. Each
    server has its own shutdown(), which ends its part; this function returns when the last has ended.

    Args:
        servers: at least one. They share the selector of the first.
        poll_interval: as in serve_forever().

    Raises:
        ValueError: no server was given.
    """
    if not servers:
        raise ValueError("serve_together() needs at least one server")
    _run_loop(servers, poll_interval)


def _run_loop(servers: Any, poll_interval: float | None) -> None:
    loop = Loop(servers)
    entered = []
    try:
        for server in servers:
            server._servertest_enter(loop)
            entered.append(server)
        with servers[0]._servertest_selector() as selector:
            loop.run(selector, poll_interval)
    finally:
        for server in entered:
            server._servertest_leave(loop)
