"""A leg on which TLS ends: faults and transcripts see plain text.

TLS runs over memory here, and the relay moves the records. On a socket of its own OpenSSL would read on after it has sent
``close_notify``, and drop what the peer has answered meanwhile: half-close would be lost.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any, ClassVar

from ._relay_leg import Leg

if TYPE_CHECKING:
    from ..transcript import Recorder, Side

__all__ = ("TlsLeg", "TlsSession")

_CHUNK = 1 << 16

#: Plain bytes that are encrypted at a time: four records.
_PORTION = 1 << 16

_WAIT = (BlockingIOError, InterruptedError)


class TlsSession:
    """TLS over memory, beside a socket that does not block.

    Args:
        context: For whichever side this is.
        sock: The socket.
        server_side: Whether the peer is the client.
        server_hostname: The name to check, if the peer is the server.

    Raises:
        ValueError: The context checks names, and there is none to check.
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "_sock", "_unsent")

    def __init__(
        self,
        context: ssl.SSLContext,
        sock: socket.socket,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._sock = sock
        self._unsent = b""

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is done, and all that belongs to it was sent.

        Raises:
            ssl.SSLError: It failed; the alert was sent.
            OSError: The connection broke.
        """
        while True:
            try:
                self._object.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self.flush()
                raise
            if not self.flush():
                return False
            if done or not self._fill():
                return done

    def read(self, room: memoryview) -> int:
        """Plain text; 0 at its end.

        Raises:
            BlockingIOError: There is none now.
            OSError: The connection broke, or what came is no TLS.
        """
        while True:
            try:
                return self._object.read(len(room), room)  # type: ignore[return-value] # a count, into a buffer
            except ssl.SSLWantReadError:
                if not self._fill():
                    raise BlockingIOError from None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0  # with a goodbye, or without

    def write(self, data: Any) -> int:
        """Encrypt and send plain text.

        Returns:
            How much of it the system has taken to the last byte. Of what comes behind, the next call must begin with the
            same: a part of it may be on its way.

        Raises:
            OSError: The connection broke.
        """
        sent = 0
        with memoryview(data) as view:
            while sent < len(view):
                portion = view[sent : sent + _PORTION]
                if not self._unsent:
                    self._object.write(portion)
                    self._collect()
                if not self.flush():
                    break
                sent += len(portion)
        return sent

    def say_goodbye(self) -> None:
        """Send ``close_notify``, if the system takes it."""
        with contextlib.suppress(OSError, ValueError):
            try:
                self._object.unwrap()
            finally:
                self.flush()

    def flush(self) -> bool:
        """Send what is encrypted; whether the system has taken all of it."""
        self._collect()
        while self._unsent:
            try:
                sent = self._sock.send(self._unsent)
            except _WAIT:
                return False
            self._unsent = self._unsent[sent:]
        return True

    def _collect(self) -> None:
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()

    def _fill(self) -> bool:
        """Take what has come; whether something has, be it the end."""
        try:
            data = self._sock.recv(_CHUNK)
        except _WAIT:
            return False
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return True


class TlsLeg(Leg):
    """A `Leg` with a TLS session that has shaken hands."""

    __slots__ = ("_session",)

    says_goodbye: ClassVar = True

    def __init__(
        self, sock: socket.socket, peer: Side, recorder: Recorder | None, number: int, session: TlsSession
    ) -> None:
        super().__init__(sock, peer, recorder, number)
        self._session = session
        self.recv_into = session.read
        self.send = session.write
        self.drains = False  # the session may keep what the system has given

    def finish_sending(self) -> None:
        """Give the peer ``close_notify`` and FIN. What it sends is read on: TLS, too, closes one direction at a time."""
        self._session.say_goodbye()
        super().finish_sending()
