"""TLS sockets that write down the plain text that passes through them."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING, Any, Self

from ..servers._tls import take_goodbye
from ._observation import Observation
from ._observing import UNOBSERVED, Buffer, Observing, ObservingThrough

__all__ = ("ObservingTls",)

# At run time it may not be a socket itself: the layout of a mixed class must be that of the socket class alone.
if TYPE_CHECKING:
    _Mixin = ssl.SSLSocket
else:
    _Mixin = object

# The observations of sockets that are just being wrapped, by descriptor: the TLS socket is made, shakes hands and may
# fail and close itself, all within one call.
_handed_over: dict[int, Observation] = {}


class ObservingTls(ObservingThrough, _Mixin):  # type: ignore[misc] # SSLSocket names its parameters
    """The calls of a TLS socket, each with a word to its observation.

    While TLS is on, its receiving methods end in `read`; without (after ``unwrap()``, say) they are a plain socket's.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls, *args, **kwargs)
        made.servertest_observation = _handed_over.pop(kwargs.get("fileno", -1), UNOBSERVED)
        return made

    @classmethod
    def _create(cls, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        # Called by SSLContext.wrap_socket(): this is where a socket's descriptor changes hands.
        if not isinstance(sock, Observing):
            return super()._create(sock, *args, **kwargs)  # type: ignore[misc, no-any-return]
        descriptor, observation = sock.fileno(), sock.servertest_observation
        _handed_over[descriptor] = observation
        sock.servertest_observation = UNOBSERVED
        try:
            return super()._create(sock, *args, **kwargs)  # type: ignore[misc, no-any-return]
        finally:
            _handed_over.pop(descriptor, None)
            if sock.fileno() >= 0:
                sock.servertest_observation = observation

    def read(self, len: int = 1024, buffer: Buffer = None) -> Any:
        """Receive plain text, and record it."""
        try:
            got: Any = super().read(len, buffer)
        except ssl.SSLEOFError:
            self._took_end()
            raise
        except OSError as error:
            self._failed(error, "a read")
            raise
        if not got and len:
            self._took_end()
        elif buffer is not None:
            self._took_into(buffer, got)
        else:
            self.servertest_observation.took(got)
        return got

    def write(self, data: Buffer) -> int:
        """Send plain text, and record it."""
        count: int = self._try("a write", super().write, data)
        self.servertest_observation.gave(memoryview(data).cast("B")[:count])
        return count

    def unwrap(self) -> socket.socket:
        """Say goodbye. Whoever has closed meanwhile has his system answer to that with RST."""
        was_said = self.servertest_observation.alerted
        try:
            plain = super().unwrap()
        except OSError as error:
            # On Unix sockets EPIPE says that the peer has closed, in order.
            if isinstance(error, ssl.SSLWantReadError) or error.errno == errno.EPIPE:
                self.servertest_observation.alerted = True
            elif not was_said:
                self._failed(error, "a goodbye")
            raise
        self.servertest_observation.alerted = True
        return plain

    def close(self) -> None:
        """Close; a goodbye that has come since ours is not what anybody has left unread."""
        if self.servertest_observation.alerted:
            take_goodbye(self)
        super().close()

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; recorded by `read`, or here once TLS is off."""
        if self._tls_is_on():
            return ssl.SSLSocket.recv(self, buflen, flags)
        return super().recv(buflen, flags)

    def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive; recorded by `read`, or here once TLS is off."""
        if self._tls_is_on():
            return ssl.SSLSocket.recv_into(self, buffer, nbytes, flags)
        return super().recv_into(buffer, nbytes or 0, flags)

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Send plain text, and record what was taken."""
        return super().send(data, flags)

    def _took_end(self) -> None:
        self.servertest_observation.took(b"")
        self.servertest_observation.alerted = True

    def _tls_is_on(self) -> bool:
        return self._sslobj is not None  # type: ignore[attr-defined]
