"""ThreadingMixIn: a thread for each request."""

from __future__ import annotations

import threading
from time import monotonic

from ._base import _front, is_own, standard
from ._inet import TCPServer, UDPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any

__all__ = ("ThreadingMixIn", "ThreadingTCPServer", "ThreadingUDPServer", "_NoThreads", "_Threads")


class _Threads:
    """The threads that server_close() waits for. Like a list, but a thread that has ended is not kept and costs nothing.

    The standard module searches the whole list for ended threads at each request, which takes longer the more connections are open. Here a
    thread takes itself out. Threads that somebody else has appended are looked through when their number has doubled.
    """

    def __init__(self, requests: dict[threading.Thread, Any] | None = None) -> None:
        self._requests = {} if requests is None else requests  # the server's own, which look after themselves
        self._others: list[threading.Thread] = []
        self._sweep_at = 8

    def append(self, thread: threading.Thread) -> None:
        """Remember `thread`, unless it is a daemon, which nobody waits for."""
        if thread.daemon:
            return
        self._others.append(thread)
        if len(self._others) >= self._sweep_at:
            self._others = [other for other in self._others if other.ident is None or other.is_alive()]
            self._sweep_at = max(8, 2 * len(self._others))

    def join(self, but: Collection[threading.Thread] = ()) -> None:
        """Wait for all threads except those in `but`, without limit, as the standard module does."""
        while threads := [thread for thread in self if thread not in but]:
            for thread in threads:
                thread.join()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[threading.Thread]:
        for thread in (*self._requests, *self._others):
            # After a fork, the threads of the parent are still listed in the child, and not alive.
            if not thread.daemon and thread.ident is not None and thread.is_alive():
                yield thread


class _NoThreads:
    """In place of _Threads where nobody waits for the threads."""

    def append(self, thread: threading.Thread) -> None:
        """Remember nothing."""

    def join(self) -> None:
        """Wait for nothing."""

    def __len__(self) -> int:
        return 0


@standard
class ThreadingMixIn:
    """Handles each request in a thread of its own. It goes before the server class among the bases.

    Class attributes, as in the standard module: `daemon_threads` (threads that the interpreter does not wait for at exit, and server_close() neither),
    `block_on_close` (server_close() waits for the other threads, without limit).

    Class attributes beyond it, all off by default:

    * `max_threads`: how many requests are handled at a time. Further ones are not accepted until one has ended: clients wait in the kernel's
      queue, whose length is `request_queue_size`.
    * `drain_timeout`: seconds that server_close() waits for requests under way, those in daemon threads included; then it shuts their sockets down,
      so that handlers which wait for a client end too. See drain().
    """

    daemon_threads: bool = False
    block_on_close: bool = True
    max_threads: int | None = None
    drain_timeout: float | None = None
    _threads: Any = _NoThreads()
    __made: dict[int, threading.Thread] | None = None  # by the id of the request, until they are started
    __requests: dict[threading.Thread, Any]  # by the thread that handles it; made with the first one

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Runs in the thread: what BaseServer does for a request, with the errors handled here. May be overridden."""
        server: Any = self
        try:
            server.finish_request(request, client_address)
        except Exception:  # noqa: BLE001 - handlers may raise anything; handle_error() is where it goes
            server.handle_error(request, client_address)
        finally:
            server.shutdown_request(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the request."""
        made = self.__made
        thread = made.pop(id(request), None) if made else None
        if thread is None:
            if self.max_threads is not None and self.__is_full():
                self.__wait_for_room()
            thread = self.__thread_for(request, client_address)
        try:
            thread.start()
        except BaseException:
            if thread.ident is None:  # else it was an interruption, and the thread runs
                self.__requests.pop(thread, None)
            raise
        if self.max_threads is not None:
            self.__pause_if_full()

    def __thread_for(self, request: Any, client_address: Any) -> threading.Thread:
        requests: dict[threading.Thread, Any] | None = self.__dict__.get("_ThreadingMixIn__requests")
        if requests is None:
            requests = self.__dict__.setdefault("_ThreadingMixIn__requests", {})
        thread: threading.Thread = _front().threading.Thread(
            target=self.__work, args=(request, client_address)
        )
        thread.daemon = self.daemon_threads
        threads = self.__dict__.get("_threads")
        if threads is None and self.block_on_close:
            threads = self.__dict__.setdefault("_threads", _Threads(requests))
        if threads is not None and getattr(threads, "_requests", None) is not requests:
            threads.append(thread)  # a list of the program's own
        requests[thread] = request
        return thread

    def _servertest_at_once(self, limit: int) -> int:
        return limit if self.max_threads is None and is_own(self, ThreadingMixIn, "process_request") else 1

    def _servertest_take_all(self, requests: Iterable[tuple[Any, Any]]) -> None:
        # First all threads, then their starts: those that run already compete with this one for the interpreter. None is kept here once it is started,
        # for from Python 3.13 on its stack is not used again until nobody holds the thread any more.
        requests = list(requests)
        made = self.__made = {}
        try:
            # In a list of the program's own, a thread that has not started would not be for its join() yet.
            if len(requests) > 1 and isinstance(self.__dict__.get("_threads"), _Threads | None):
                for request, client_address in requests:
                    made[id(request)] = self.__thread_for(request, client_address)
        except Exception:  # noqa: BLE001, S110
            pass  # process_request() makes this one again, and what it raises then is an error of the request
        finally:
            try:
                super()._servertest_take_all(requests)  # type: ignore[misc]
            finally:
                made.clear()

    def __work(self, request: Any, client_address: Any) -> None:
        # Once more, for who was interrupted as he started us may have taken us for not started.
        thread = threading.current_thread()
        self.__requests[thread] = request
        # Looked up here, for programs assign and override process_request_thread.
        try:
            self.process_request_thread(request, client_address)
        finally:
            self.__requests.pop(thread, None)
            if self.max_threads is not None or self.__dict__.get("_servertest_gate") is not None:
                self.__make_room()

    # The name tells a debugger what the thread does, and some programs use it to tell connections apart.
    __work.__name__ = "process_request_thread"

    def server_close(self) -> None:
        """Close the server, then wait for the requests under way as the class attributes say."""
        super().server_close()  # type: ignore[misc]
        if self.drain_timeout is None:
            self.__join()
            return
        left = self.drain(self.drain_timeout)
        if left:
            import warnings

            names = ", ".join(thread.name for thread in left)
            warnings.warn(
                f"{type(self).__name__}.server_close(): {len(left)} request(s) still run after drain_timeout={self.drain_timeout} s "
                f"and after their sockets were shut down: {names}",
                ResourceWarning,
                stacklevel=2,
            )

    def __join(self) -> None:
        closing: set[threading.Thread] = self.__dict__.setdefault("_ThreadingMixIn__closing", set())
        closing.add(threading.current_thread())
        try:
            if isinstance(self._threads, _Threads):
                # Handlers that close the server too would wait for us, as we for them.
                self._threads.join(but=closing)
            else:
                self._threads.join()
        finally:
            closing.discard(threading.current_thread())

    def drain(self, timeout: float) -> list[threading.Thread]:
        """Wait for all requests under way, daemon threads included; shut down the sockets of those that take longer.

        Args:
            timeout: seconds to wait before sockets are shut down, and again afterwards (one second at most) for the handlers to notice.

        Returns:
            The threads that run even then; empty if all is well.
        """
        live = self.__dict__.get("_ThreadingMixIn__requests", {})
        if _join_all(live, monotonic() + timeout):
            return []
        for thread, request in list(live.items()):
            if thread is not threading.current_thread():
                _shut_down(request)
        _join_all(live, monotonic() + min(timeout, 1.0))
        return [
            thread for thread in list(live) if thread.is_alive() and thread is not threading.current_thread()
        ]

    # -- max_threads ------------------------------------------------------------------------------------------------------

    def __is_full(self) -> bool:
        requests: Collection[threading.Thread] = self.__dict__.get("_ThreadingMixIn__requests", ())
        if self.max_threads is None or len(requests) < self.max_threads:
            return False
        return sum(thread.is_alive() or thread.ident is None for thread in list(requests)) >= self.max_threads

    def __pause_if_full(self) -> None:
        pause = getattr(self, "_servertest_pause", None)
        if pause is not None and self.__is_full():
            pause()
            # The last thread may have ended between the two, and then nobody would open the gate.
            if not self.__is_full():
                self.__make_room()

    def __make_room(self) -> None:
        room = self.__dict__.get("_ThreadingMixIn__room")
        if room is not None:
            room.set()
        resume = getattr(self, "_servertest_resume", None)
        if resume is not None and not self.__is_full():
            resume()

    def __wait_for_room(self) -> None:
        # Only where the loop is not ours and does not know of the gate: there the request that was accepted has to wait here.
        while self.__is_full():
            room = self.__dict__["_ThreadingMixIn__room"] = threading.Event()
            if self.__is_full():
                room.wait()
        self.__dict__.pop("_ThreadingMixIn__room", None)


def _join_all(live: dict[threading.Thread, Any], deadline: float) -> bool:
    for thread in list(live):
        if thread is threading.current_thread() or thread.ident is None:
            continue
        thread.join(max(deadline - monotonic(), 0))
        if thread.is_alive():
            return False
    return True


def _shut_down(request: Any) -> None:
    shutdown = getattr(request, "shutdown", None)
    if shutdown is None:
        return  # a datagram, or something of the program's own
    import socket

    try:
        if hasattr(request, "unwrap"):
            # Below TLS, for a handshake that is under way is not prepared for more.
            socket.socket.shutdown(request, socket.SHUT_RDWR)
        else:
            shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended in the meantime


@standard
class ThreadingUDPServer(ThreadingMixIn, UDPServer):
    """A thread for each datagram."""


@standard
class ThreadingTCPServer(ThreadingMixIn, TCPServer):
    """A thread for each connection."""
