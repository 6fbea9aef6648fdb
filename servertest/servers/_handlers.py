"""Request handlers: one is made for each request, and has done its work when its constructor returns."""

from __future__ import annotations

import socket
from io import BufferedIOBase, BytesIO

from ._base import standard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("BaseRequestHandler", "DatagramRequestHandler", "StreamRequestHandler", "_SocketWriter")


@standard
class BaseRequestHandler:
    """Handles one request: setup(), handle(), and finish() even if handle() fails.

    Attributes: `request` (a socket; for datagrams (bytes, socket)), `client_address`, `server`. If setup() raises, finish() is not called.
    """

    def __init__(self, request: Any, client_address: Any, server: Any) -> None:
        self.request = request
        self.client_address = client_address
        self.server = server
        try:
            self.setup()
        except BaseException:
            self._servertest_abandon()
            raise
        try:
            self.handle()
        except BaseException:
            self._servertest_failed = True
            raise
        finally:
            self.finish()

    #: Whether handle() raised; finish() can tell a reply from the beginning of one.
    _servertest_failed = False

    def _servertest_abandon(self) -> None:
        """Give back what our own setup() took, when a setup() built upon it failed."""

    def setup(self) -> None:
        """Called before handle(). May be overridden."""

    def handle(self) -> None:
        """Do the work. To be overridden."""

    def finish(self) -> None:
        """Called after handle(). May be overridden."""


class _SocketWriter(BufferedIOBase):
    """A file that sends what is written to it, all of it and at once. It asks of the socket sendall() and fileno() only."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def writable(self) -> bool:
        return True

    def write(self, b: Any) -> int:
        self._sock.sendall(b)
        if isinstance(b, bytes):
            return len(b)
        with memoryview(b) as view:
            return view.nbytes

    def fileno(self) -> int:
        return int(self._sock.fileno())


@standard
class StreamRequestHandler(BaseRequestHandler):
    """A handler of a stream connection, with `rfile` and `wfile` over it.

    Class attributes: `rbufsize` and `wbufsize` (buffer sizes in bytes as in socket.makefile(); a wbufsize of 0 sends each write at once), `timeout`
    (seconds that each single operation on the connection may take, or None), `disable_nagle_algorithm` (sets TCP_NODELAY).
    """

    rbufsize: int = -1
    wbufsize: int = 0
    timeout: float | None = None
    disable_nagle_algorithm: bool = False

    # Declared without values: attributes that exist only after setup().
    connection: Any
    rfile: Any
    wfile: Any

    def setup(self) -> None:
        """Make `connection`, `rfile` and `wfile`."""
        self.connection = self.request
        if self.timeout is not None:
            self.connection.settimeout(self.timeout)
        if self.disable_nagle_algorithm:
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.rfile = self.connection.makefile("rb", self.rbufsize)
        if self.wbufsize == 0:
            self.wfile = _SocketWriter(self.connection)
        else:
            self.wfile = self.connection.makefile("wb", self.wbufsize)

    def _servertest_abandon(self) -> None:
        for name in ("wfile", "rfile"):
            file = self.__dict__.get(name)
            try:
                if file is not None:
                    file.close()
            except OSError:
                pass  # a buffered reply to a peer that has gone

    def finish(self) -> None:
        """Flush and close the files; a peer that has gone in the meantime is no error."""
        try:
            if not self.wfile.closed:
                self.wfile.flush()
        except OSError:
            pass
        try:
            self.wfile.close()
        except OSError:
            pass  # it tries to flush once more
        finally:
            self.rfile.close()


@standard
class DatagramRequestHandler(BaseRequestHandler):
    """A handler of one datagram: `rfile` holds it, and what was written to `wfile` is sent back as one datagram.

    As in the standard module the reply is sent always: an empty one if nothing was written, the part before the error if handle() raised. With the
    class attribute `reply_only_if_written` nothing is sent in these two cases. A client without an address (a Unix socket that is
    not bound) gets no reply: there is nowhere to send it.
    """

    reply_only_if_written: bool = False

    packet: bytes
    socket: Any
    rfile: BytesIO
    wfile: BytesIO

    def setup(self) -> None:
        """Make `rfile` and `wfile`."""
        self.packet, self.socket = self.request
        self.rfile = BytesIO(self.packet)
        self.wfile = BytesIO()

    def finish(self) -> None:
        """Send the reply."""
        if not self.client_address or self.wfile.closed:
            return  # nowhere to send it; or the reply is another process's affair by now
        reply = self.wfile.getvalue()
        if self.reply_only_if_written and (self._servertest_failed or not reply):
            return
        self.socket.sendto(reply, self.client_address)
