"""The API's own server: the framework's, with a thread for each connection."""

from __future__ import annotations

import socket
import sys
import threading
from types import TracebackType
from typing import Any, Self

from ..._support import STOP_TIMEOUT, AddressInUse, StillRunning, UsageError, format_address
from ...servers import ThreadingHTTPServer
from .._settings import is_loopback
from ._collection import Collection
from ._http import Handler

__all__ = ("ApiServer",)


class Listener(ThreadingHTTPServer):
    """A server that knows which of its connections wait for a request: those need not be waited for."""

    request_queue_size = 128
    max_threads = 128

    def __init__(self, address: tuple[str, int], collection: Collection, *, exposed: bool) -> None:
        self.collection = collection
        self.exposed = exposed
        self.errors: list[BaseException] = []
        self.stopping = False
        self._idle: dict[int, socket.socket] = {}
        self._guard = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def is_idle(self, connection: socket.socket) -> bool:
        """This one waits for a request; False if it should not, for the server stops."""
        with self._guard:
            if not self.stopping:
                self._idle[id(connection)] = connection
            return not self.stopping

    def is_busy(self, connection: socket.socket) -> None:
        """This one has a request to answer."""
        with self._guard:
            self._idle.pop(id(connection), None)

    is_over = is_busy

    def let_go(self) -> None:
        """Close those that wait for a request; the others end with theirs."""
        with self._guard:
            self.stopping = True
            for connection in self._idle.values():
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the client was quicker

    def failed(self, error: BaseException) -> None:
        """A request could not be answered, and that is our fault."""
        self.errors.append(error)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection has ended with an error. Clients that go away are no news."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError | EOFError):
            self.errors.append(error)


class ApiServer:
    """Serves Toxiproxy's HTTP API, from its making to `stop`. As a context manager it is stopped at the end of the block.

    Args:
        collection: The proxies; those of a new `Collection` if left out, which then ends with the server.
        host: Where to listen: a loopback address, or "localhost".
        port: Which port; 0 for a free one.
        expose: Let it listen where other machines can reach it. Whoever does can make this one connect anywhere.

    Attributes:
        collection: The proxies.

    Raises:
        UsageError: The host is no loopback address.
        AddressInUse: Something else holds the address.
    """

    def __init__(
        self,
        collection: Collection | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 8474,
        expose: bool = False,
    ) -> None:
        if not expose and not is_loopback(host):
            raise UsageError(f"the API on {host} could be reached from other machines: take 127.0.0.1")
        self._own = collection is None
        self.collection = Collection() if collection is None else collection
        self._listener = self._bound("127.0.0.1" if host == "localhost" else host, port, exposed=expose)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(None,), name="servertest api", daemon=True
        )
        self._thread.start()
        self._stopped = False

    def __repr__(self) -> str:
        return f"<ApiServer {self.url}: {len(self.collection)} proxies>"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.server_address[:2]
        return str(host), int(port)

    @property
    def url(self) -> str:
        """What clients are given."""
        return f"http://{format_address(self.address)}"

    @property
    def errors(self) -> list[BaseException]:
        """What went wrong here, and not at the client: such requests were answered with status 500."""
        return list(self._listener.errors)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop: requests that are under way are answered, connections that wait for one are closed. Twice is once.

        Args:
            timeout: Seconds.

        Raises:
            StillRunning: A request was not answered in time.
        """
        if self._stopped:
            return
        self._stopped = True
        self._listener.shutdown()
        self._thread.join(timeout)
        self._listener.let_go()
        left = self._listener.drain(timeout)
        self._listener.server_close()
        if self._own:
            self.collection.stop(timeout)
        if left:
            names = ", ".join(thread.name for thread in left)
            raise StillRunning(f"{self!r}: requests are not answered after {timeout:g} s: {names}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _bound(self, host: str, port: int, *, exposed: bool) -> Listener:
        try:
            return Listener((host, port), self.collection, exposed=exposed)
        except OSError as error:
            where = format_address((host, port))
            if error.errno == AddressInUse("").errno:
                raise AddressInUse(f"the API cannot listen on {where}: something else does") from None
            raise UsageError(f"the API cannot listen on {where}: {error}") from None
        except OverflowError:
            raise UsageError(f"the API's port is from 0 to 65535, not {port}") from None
