"""TLS on simulated sockets: the standard module's `SSLSocket`, unchanged, over OpenSSL that reads and writes memory."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from ._active import participant
from ._socket import SimSocket

__all__ = ("SimTls", "wrap_simulated")

_CHUNK = 65536


class SimTls:
    """Stands for the object of OpenSSL that an `SSLSocket` drives: it moves the records itself.

    Args:
        sock: The socket that carries them.
        make: Makes OpenSSL's object over two memories.
    """

    def __init__(self, sock: SimSocket, make: Callable[[ssl.MemoryBIO, ssl.MemoryBIO], Any]) -> None:
        self.__dict__["_sock"] = sock
        self.__dict__["_in"] = ssl.MemoryBIO()
        self.__dict__["_out"] = ssl.MemoryBIO()
        self.__dict__["_object"] = make(self._in, self._out)
        sock._sim_end.tls = True
        peer = getattr(sock._sim_end, "peer", None)
        if peer is not None:
            peer.tls = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_object"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._object, name, value)

    def do_handshake(self) -> None:
        """Shake hands."""
        self._drive(self._object.do_handshake)

    def read(self, size: int = 1024, buffer: Any = None) -> Any:
        """Give plain text."""
        if buffer is None:
            data = self._drive(lambda: self._object.read(size))
            self._note(data, sends=False)
            return data
        count = self._drive(lambda: self._object.read(size, buffer))
        self._note(bytes(memoryview(buffer)[:count]), sends=False)
        return count

    def write(self, data: Any) -> int:
        """Take plain text."""
        count: int = self._drive(lambda: self._object.write(data))
        self._note(bytes(memoryview(data)[:count]), sends=True)
        return count

    def shutdown(self) -> Any:
        """Say goodbye."""
        self._drive(self._object.shutdown)
        return self._sock

    def _note(self, data: bytes, *, sends: bool) -> None:
        kernel = participant()
        if kernel is not None:
            kernel.network.recorder.plain(self._sock._sim_end, data, sends=sends)

    def _drive(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                try:
                    self._flush()  # the alert
                except OSError:
                    pass
                raise
            else:
                self._flush()
                return result

    def _fill(self) -> None:
        try:
            records = SimSocket.recv(self._sock, _CHUNK)
        except BlockingIOError:
            raise ssl.SSLWantReadError(
                ssl.SSLErrorNumber.SSL_ERROR_WANT_READ, "The operation did not complete (read)"
            ) from None
        except TimeoutError:
            raise TimeoutError("The read operation timed out") from None
        if records:
            self._in.write(records)
        else:
            self._in.write_eof()

    def _flush(self) -> None:
        while self._out.pending:
            view = memoryview(self._out.read())
            while view:
                try:
                    view = view[SimSocket.send(self._sock, view) :]
                except BlockingIOError:
                    # OpenSSL would keep the rest; so does a socket whose peer reads on.
                    self._keep(view)
                    return

    def _keep(self, view: memoryview) -> None:
        self._sock._sim_end.out.send(bytes(view))


def wrap_simulated(context: ssl.SSLContext, wrap_bio: Any, sock: Any, arguments: Any, keywords: Any) -> Any:
    """What `SSLContext._wrap_socket` gives for a simulated socket.

    Args:
        context: The context.
        wrap_bio: Its method that works on memory.
        sock: The socket.
        arguments: Whether it is the server's side, and the host's name.
        keywords: The owner and the session.
    """
    return SimTls(
        sock, lambda incoming, outgoing: wrap_bio(context, incoming, outgoing, *arguments, **keywords)
    )
