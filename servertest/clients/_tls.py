"""TLS over memory: records in, records out. Whoever uses it moves them, so that waiting stays in one place.

This is why half-close works on TLS here, in the asyncio twin as well: ``close_notify`` (RFC 8446, 6.1) closes one direction
only, and OpenSSL goes on reading after having sent it, while ``SSLSocket.unwrap`` waits for the peer's and asyncio's
transports close both directions. It is also why a deadline in the middle of a record loses nothing.
"""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING

from .._support import UsageError

if TYPE_CHECKING:
    from ._buffer import ReceiveBuffer

__all__ = ("TlsSession",)

_RECORD = 16384  # the most that one record carries (RFC 8446, 5.1)


class TlsSession:
    """The client's end of a TLS connection.

    Args:
        context: Decides whom to trust and which versions to speak.
        server_hostname: The name or IP address that the certificate must be for; None for none.

    Attributes:
        object: OpenSSL's view: certificate, version, cipher.
        unsent: Records that wait to be sent, oldest first.
        lock: Held around each step, since one thread may read while another one writes.
        ragged_eof: Whether the connection ended without the peer's ``close_notify``.

    Raises:
        UsageError: It is no context; or it checks names, and there is none to check.
    """

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        if not hasattr(context, "wrap_bio"):
            raise UsageError(f"tls= is an ssl.SSLContext, not {context!r}")
        if context.check_hostname and not server_hostname:
            raise UsageError(
                "this context checks the server's name: give server_hostname=, or set check_hostname off"
            )
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self.unsent = bytearray()
        self.lock = threading.Lock()
        self.ragged_eof = False
        self._notified = False

    def handshake(self) -> bool:
        """Go on with the handshake; tells whether it is done. `unsent` may have to be sent either way.

        Raises:
            ssl.SSLError: It failed; `unsent` then holds the alert for the server.
        """
        with self.lock:
            try:
                self.object.do_handshake()
            except ssl.SSLWantReadError:
                return False
            finally:
                self._collect()
            return True

    def feed(self, records: bytes) -> None:
        """Add what has come from the network."""
        with self.lock:
            self._incoming.write(records)

    def decrypt_into(self, buffer: ReceiveBuffer) -> None:
        """Move all that can be decrypted into the buffer, and note there if the peer has said that it is done.

        Raises:
            ssl.SSLError: The peer sent an alert, or what is no TLS. What came before it is in the buffer.
        """
        with self.lock:
            try:
                while data := self.object.read(_RECORD):
                    buffer.feed(data)
                buffer.feed_eof()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                buffer.feed_eof()
            finally:
                self._collect()

    def end_of_stream(self, buffer: ReceiveBuffer) -> None:
        """Note that the network connection has ended."""
        if not buffer.eof:
            self.ragged_eof = True
            buffer.feed_eof()

    def encrypt(self, data: memoryview) -> int:
        """Put data, at most a record of it, into `unsent`; tells how many bytes."""
        with self.lock:
            count = self.object.write(data[:_RECORD])
            self._collect()
            return count

    def close_notify(self) -> None:
        """Put the alert that closes our direction into `unsent`, once."""
        with self.lock:
            if self._notified:
                return
            self._notified = True
            try:
                self.object.unwrap()
            except ssl.SSLError:
                # Usually WantRead: ours is written, the peer's has not come. Any other error says that there is no
                # session to close; then nothing was written, and there is nothing to tell the peer.
                pass
            self._collect()

    def _collect(self) -> None:
        if self._outgoing.pending:
            self.unsent += self._outgoing.read()
