"""ForkingMixIn: a process for each request; and FinishInChildMixIn, where the handler decides."""

from __future__ import annotations

import functools
import os
import selectors
import socket
import sys
from time import monotonic

from ._base import _front, is_own, standard
from ._inet import TCPServer, UDPServer, unshared

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import Any

__all__: tuple[str, ...] = ("FinishInChildMixIn", "ForkingMixIn", "ForkingTCPServer", "ForkingUDPServer")

#: So many children are asked one by one. What a process touches while it has children must be copied, page by page: less code is faster.
_FEW = 8


@standard
class ForkingMixIn:
    """Handles each request in a child process. It goes before the server class among the bases.

    Class attributes, as in the standard module: `timeout` (seconds that handle_request() waits before it looks after children), `max_children` (requests
    handled at a time), `block_on_close` (server_close() waits for the children), and `active_children` (None or the set of their pids).

    Unlike the standard module, a server with all children busy goes on: it accepts no further request until one of its children has ended, but stops
    when told to, and never waits for a child that is not its own. What a child has printed is flushed before it ends.

    From Python 3.12 os.fork() warns in a process with several threads, for good reasons (CPython issue 100228): run
    such a server in the main thread of a process of its own.
    """

    timeout: float | None = 300
    active_children: set[int] | None = None
    max_children: int = 40
    block_on_close: bool = True

    __is_full = False

    def collect_children(self, *, blocking: bool = False) -> None:
        """Take note of the children that have ended. If `blocking`, wait until all have."""
        children = self.active_children
        tell = self._servertest_child_ended
        if children and (blocking or len(children) <= _FEW or not _collected(children, tell)):
            for pid in tuple(children):
                if _has_ended(pid, wait=blocking, tell=tell):
                    children.discard(pid)
        if self.__is_full and (not children or len(children) < self.max_children):
            self.__go_on()

    def handle_timeout(self) -> None:
        """Look after the children when no request came. May be overridden."""
        self.collect_children()

    def service_actions(self) -> None:
        """Look after the children at each turn of the loop. May be overridden."""
        self.collect_children()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Fork a child for the request; the parent closes its copy of it."""
        server: Any = self
        pid = self._servertest_fork()
        if pid:
            server.close_request(request)
            return
        status = 1
        try:
            for other, _ in getattr(server, "_servertest_left", ()):
                other.close()  # the parent's to see to; a copy here would keep it open
            server.finish_request(request, client_address)
            status = 0
        except Exception:  # noqa: BLE001 - handlers may raise anything; handle_error() is where it goes
            server.handle_error(request, client_address)
        finally:
            try:
                server.shutdown_request(request)
            finally:
                _end_child(status)

    def server_close(self) -> None:
        """Close the server, then wait for the children unless block_on_close is false."""
        super().server_close()  # type: ignore[misc]
        self.collect_children(blocking=self.block_on_close)

    def _servertest_fork(self) -> int:
        """Fork; in the parent the child is counted, and if it is the last one allowed, no further request is accepted."""
        _flush()  # or the child would print once more what the parent has printed
        kept = unshared.copy()
        pid: int = _front().os.fork()
        if pid:
            unshared.update(kept)  # the child handles one request, and accepts none
            if self.active_children is None:
                self.active_children = set()
            self.active_children.add(pid)
            if len(self.active_children) >= self.max_children:
                self.__pause()
        return pid

    def _servertest_at_once(self, limit: int) -> int:
        if not is_own(self, ForkingMixIn, "process_request"):
            return 1
        return min(limit, self.max_children - len(self.active_children or ()))

    def _servertest_child_ended(self, pid: int, status: int) -> None:
        """A child was collected, with this exit code, or minus the number of the signal that killed it: for whoever watches the server."""

    # -- max_children -----------------------------------------------------------------------------------------------------

    def __pause(self) -> None:
        self.collect_children()
        if not self.active_children or len(self.active_children) < self.max_children:
            return
        pause = getattr(self, "_servertest_pause", None)
        if pause is None:
            # A loop that is not ours, and does not know of the gate.
            self._servertest_await_child(None)
            return
        self.__is_full = True
        pause()
        loop = self._servertest_loop()  # type: ignore[attr-defined]
        if loop is not None:
            self.__watch(loop)

    def __watch(self, loop: Any) -> None:
        """Have the loop wake up when a child ends, so that waiting for room needs no polling."""
        watched: dict[int, tuple[Any, int]] = self.__dict__.setdefault("_ForkingMixIn__pidfds", {})
        for pid in (self.active_children or set()) - watched.keys():
            fd = _pidfd(pid)
            if fd is not None:
                watched[pid] = (loop, fd)
                loop.watch(fd, selectors.EVENT_READ, self.__on_child)

    def __on_child(self, events: int) -> None:
        self.collect_children()

    def __go_on(self) -> None:
        self.__is_full = False
        watched: dict[int, tuple[Any, int]] | None = self.__dict__.get("_ForkingMixIn__pidfds")
        if watched:
            here = self._servertest_loop()  # type: ignore[attr-defined]
            while watched:
                _, (loop, fd) = watched.popitem()
                if loop is here:
                    _unwatch(loop, fd)
                elif loop.selector is None:
                    os.close(fd)  # that loop has ended
                else:
                    loop.call_soon(functools.partial(_unwatch, loop, fd))
        if self.__dict__.get("_servertest_gate") is not None:
            self._servertest_resume()  # type: ignore[attr-defined]

    def _servertest_ended(self, loop: Any) -> None:
        watched: dict[int, tuple[Any, int]] = self.__dict__.get("_ForkingMixIn__pidfds", {})
        for pid, (owner, fd) in list(watched.items()):
            if owner is loop:
                del watched[pid]
                _unwatch(loop, fd)
        super()._servertest_ended(loop)  # type: ignore[misc]

    def _servertest_await_resume(self, gate: threading.Event, timeout: float | None) -> None:
        self._servertest_await_child(timeout)

    def _servertest_await_child(self, timeout: float | None) -> None:
        """Wait until there is room for another child: in handle_request(), where no loop watches them."""
        deadline = None if timeout is None else monotonic() + timeout
        while self.active_children and len(self.active_children) >= self.max_children:
            rest = None if deadline is None else deadline - monotonic()
            if rest is not None and rest <= 0:
                return
            _wait_for_any(self.active_children, rest)
            self.collect_children()


class FinishInChildMixIn(ForkingMixIn):
    """A synchronous server whose handlers may answer part of a request at once and leave the rest to a child process.

    A handler calls `self.server.finish_in_child(self, work, *args)` and returns. The client keeps its connection; the server is free for the next one.
    `max_children`, `active_children` and `block_on_close` mean what they mean for ForkingMixIn.
    """

    def process_request(self, request: Any, client_address: Any) -> None:
        """See the request through here, as a synchronous server does."""
        super(ForkingMixIn, self).process_request(request, client_address)  # type: ignore[misc]

    def finish_in_child(self, handler: Any, work: Callable[..., object], *args: Any) -> int:
        """Go on with `work(*args)` in a child process, which then calls the handler's finish() and ends the request.

        In the parent, the connection is closed without telling the client: `rfile` and `wfile` must not be used after this call. An exception in `work` goes to
        handle_error(), in the child.

        Args:
            handler: the request handler that calls.
            work: a function; what it returns is ignored.
            args: its arguments.

        Returns:
            The pid of the child. In the child, this call does not return.
        """
        server: Any = self
        wfile = getattr(handler, "wfile", None)
        if wfile is not None:
            wfile.flush()  # before the fork, or both would send it
        pid = self._servertest_fork()
        if pid:
            _let_go(handler)
            return pid
        status = 1
        try:
            try:
                work(*args)
            finally:
                handler.finish()
            status = 0
        except Exception:  # noqa: BLE001 - work may raise anything; handle_error() is where it goes
            server.handle_error(handler.request, handler.client_address)
        finally:
            try:
                server.shutdown_request(handler.request)
            finally:
                _end_child(status)
        raise AssertionError("the child has ended")  # pragma: no cover - for the type checker


def _unwatch(loop: Any, fd: int) -> None:
    loop.unwatch(fd)
    os.close(fd)


def _let_go(handler: Any) -> None:
    """Close this process's copies, so that ending the request here neither tells the client nor fails."""
    for name in ("wfile", "rfile"):
        file = getattr(handler, name, None)
        if file is not None:
            file.close()
    close = getattr(handler.request, "close", None)
    if close is not None:
        close()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # no such stream, closed, or nobody reads it


def _end_child(status: int) -> None:
    try:
        _flush()
    finally:
        _front().os._exit(status)


def _collected(children: set[int], tell: Callable[[int, int], None]) -> bool:
    """Collect those of the children that have ended, by asking which have, instead of asking each. Returns whether that went well."""
    while hasattr(os, "waitid"):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False  # somebody has collected ours
        if ended is None:
            return True
        if ended.si_pid not in children or not _has_ended(ended.si_pid, wait=False, tell=tell):
            return False  # somebody else's, who may let it lie there
        children.discard(ended.si_pid)
    return False


def _has_ended(pid: int, *, wait: bool, tell: Callable[[int, int], None] | None = None) -> bool:
    try:
        ended, status = _front().os.waitpid(pid, 0 if wait else os.WNOHANG)
    except ChildProcessError:
        return True  # somebody else has collected it
    except OSError:
        return False
    if ended == pid and tell is not None:
        tell(pid, os.waitstatus_to_exitcode(status))
    return bool(ended == pid)


def _pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the child ends: pidfd_open(2), Linux 5.3. None where it cannot be had."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _wait_for_any(pids: set[int], timeout: float | None) -> None:
    """Wait until one of these children has ended, without collecting it; at most `timeout` seconds."""
    fds = [fd for fd in map(_pidfd, pids) if fd is not None]
    try:
        with _front()._ServerSelector() as selector:
            for fd in fds:
                selector.register(fd, selectors.EVENT_READ)
            # Where children have no descriptors, the wait is short and the caller asks again.
            selector.select(timeout if fds else 0.05)
    finally:
        for fd in fds:
            os.close(fd)


@standard
class ForkingUDPServer(ForkingMixIn, UDPServer):
    """A process for each datagram."""


@standard
class ForkingTCPServer(ForkingMixIn, TCPServer):
    """A process for each connection."""


if hasattr(socket, "AF_UNIX"):
    # From Python 3.12 in the standard module; here on each version.
    from ._unix import UnixDatagramServer, UnixStreamServer

    @standard
    class ForkingUnixStreamServer(ForkingMixIn, UnixStreamServer):
        """A process for each connection."""

    @standard
    class ForkingUnixDatagramServer(ForkingMixIn, UnixDatagramServer):
        """A process for each datagram."""

    __all__ += ("ForkingUnixDatagramServer", "ForkingUnixStreamServer")
