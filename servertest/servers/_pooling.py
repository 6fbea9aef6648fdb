"""ThreadPoolMixIn: a bounded number of threads that are used again and again."""

from __future__ import annotations

import os
import threading
import warnings
from queue import SimpleQueue

from ._inet import TCPServer, UDPServer
from ._threading import ThreadingMixIn, _shut_down

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__: tuple[str, ...] = (
    "ThreadPoolMixIn",
    "ThreadPoolTCPServer",
    "ThreadPoolUDPServer",
)


class _Pool:
    """The workers of one server. They are started when there is work for them, and end when the pool is closed."""

    def __init__(self, server: ThreadPoolMixIn) -> None:
        self.pid = os.getpid()
        self._server = server
        self._work: SimpleQueue[tuple[Any, Any] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._workers: list[threading.Thread] = []
        self._requests: dict[int, Any] = {}  # under way or about to be, by a number of their own
        self._busy: dict[int, threading.Thread] = {}  # who handles which
        self._taken = 0
        self._closed = False

    def submit(self, request: Any, client_address: Any) -> None:
        """Hand a request to a worker that has nothing to do, or to a new one."""
        with self._changed:
            while self.is_full() and not self._closed:
                # Only where the loop does not know the gate; ours stops accepting before it comes to this.
                self._changed.wait()
            if self._closed:
                raise RuntimeError(f"{type(self._server).__name__} is closed and takes no further request")
            self._taken += 1
            number = self._taken
            self._requests[number] = request
            if len(self._requests) > len(self._workers):
                try:
                    self._start_worker()
                except BaseException:
                    del self._requests[number]
                    raise
        self._work.put((number, (request, client_address)))

    def is_full(self) -> bool:
        """Whether every worker that there may be has something to do."""
        return len(self._requests) >= self._server.pool_size

    def _start_worker(self) -> None:
        name = f"{type(self._server).__name__} worker {len(self._workers) + 1}"
        # Daemons, so that a server that was never closed does not keep the interpreter from ending.
        worker: Any = threading.Thread(target=self._run, name=name, daemon=True)
        worker.servertest_server = self._server  # whose it is, for those who find it and wonder
        worker.start()
        self._workers.append(worker)

    def _run(self) -> None:
        get, process = self._work.get, self._process
        while (item := get()) is not None:
            process(*item)
            del item  # or the last request would stay alive until the next one comes

    def _process(self, number: Any, work: tuple[Any, Any]) -> None:
        self._busy[number] = threading.current_thread()
        try:
            self._server.process_request_thread(*work)
        except SystemExit:
            pass  # ends a thread in silence; a worker goes on to the next request
        except BaseException as error:  # noqa: BLE001 - what a thread of its own would do with it
            threading.excepthook(
                threading.ExceptHookArgs(
                    (type(error), error, error.__traceback__, threading.current_thread())
                )
            )
        finally:
            with self._changed:
                del self._requests[number]
                self._busy.pop(number, None)
                self._changed.notify_all()
            if self._server._servertest_gate_is_closed() and not self.is_full():
                self._server._servertest_make_room()

    def drain(self, limit: float) -> list[threading.Thread]:
        """Wait until no request is under way, `limit` seconds at the most; then shut down the sockets of those that are, and wait once more."""
        me = threading.current_thread()
        with self._changed:
            if self._changed.wait_for(lambda: not self._others(me), limit):
                return []
            requests = self._others(me)
        for request in requests:
            _shut_down(request)
        with self._changed:
            self._changed.wait_for(lambda: not self._others(me), min(limit, 1.0))
            return [worker for worker in self._busy.values() if worker is not me]

    def _others(self, me: threading.Thread) -> list[Any]:
        return [request for number, request in self._requests.items() if self._busy.get(number) is not me]

    def close(self, limit: float | None, *, wait: bool) -> int:
        """End the workers once they have done what they are doing. Returns how many requests still run after `limit` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            workers = [worker for worker in self._workers if worker is not threading.current_thread()]
        stuck = [] if limit is None else self.drain(limit)
        for _ in self._workers:
            self._work.put(None)
        for worker in workers:
            if worker not in stuck and (wait or limit is not None):
                worker.join()
        return len(stuck)


class ThreadPoolMixIn(ThreadingMixIn):
    """Handles requests in a bounded number of threads that are used again. It goes before the server class among the bases.

    While all of them are busy no connection is accepted: clients wait in the kernel's queue, whose length is `request_queue_size`, and which
    refuses or delays further ones by itself.

    Class attributes: `pool_size` (how many threads there may be; they are started when they are needed), `block_on_close` (server_close()
    waits for the requests under way, without limit), `drain_timeout` (waits so many seconds and then shuts the connections down).
    `max_threads` and `daemon_threads` have no meaning here. As a thread serves many requests, data that a handler keeps in a threading.local is there again in a later one.
    """

    pool_size: int = 32

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand the request to a worker."""
        pool = self.__pool()
        pool.submit(request, client_address)
        if pool.is_full():
            pause = getattr(self, "_servertest_pause", None)
            if pause is not None:
                pause()
                if not pool.is_full():  # a worker was faster, and saw no gate to open
                    self._servertest_make_room()

    def drain(self, timeout: float) -> list[threading.Thread]:
        """Wait for all requests under way; shut down the sockets of those that take longer. As ThreadingMixIn.drain()."""
        pool: _Pool | None = self.__dict__.get("_ThreadPoolMixIn__workers")
        return [] if pool is None else pool.drain(timeout)

    def _servertest_gate_is_closed(self) -> bool:
        return self.__dict__.get("_servertest_gate") is not None

    def _servertest_make_room(self) -> None:
        resume = getattr(self, "_servertest_resume", None)
        if resume is not None:
            resume()

    def server_close(self) -> None:
        """Close the server, then end the workers as the class attributes say."""
        super(ThreadingMixIn, self).server_close()  # type: ignore[misc]
        pool: _Pool | None = self.__dict__.pop("_ThreadPoolMixIn__workers", None)
        if pool is None or pool.pid != os.getpid():
            return
        left = pool.close(self.drain_timeout, wait=self.block_on_close)
        if left:
            warnings.warn(
                f"{type(self).__name__}.server_close(): {left} request(s) still run after "
                f"drain_timeout={self.drain_timeout} s and after their sockets were shut down",
                ResourceWarning,
                stacklevel=2,
            )

    def __pool(self) -> _Pool:
        pool: _Pool | None = self.__dict__.get("_ThreadPoolMixIn__workers")
        if pool is None or pool.pid != os.getpid():
            # Or a fork has copied the pool, and none of its workers.
            pool = self.__dict__["_ThreadPoolMixIn__workers"] = _Pool(self)
        return pool


class ThreadPoolTCPServer(ThreadPoolMixIn, TCPServer):
    """A pool of threads for connections."""


class ThreadPoolUDPServer(ThreadPoolMixIn, UDPServer):
    """A pool of threads for datagrams."""


try:
    from ._unix import UnixDatagramServer, UnixStreamServer
except ImportError:  # a platform without Unix sockets
    pass
else:

    class ThreadPoolUnixStreamServer(ThreadPoolMixIn, UnixStreamServer):
        """A pool of threads for connections."""

    class ThreadPoolUnixDatagramServer(ThreadPoolMixIn, UnixDatagramServer):
        """A pool of threads for datagrams."""

    __all__ += (
        "ThreadPoolUnixDatagramServer",
        "ThreadPoolUnixStreamServer",
    )
