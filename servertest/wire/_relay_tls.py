"""A leg on which TLS ends: faults and transcripts see plain text."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any, ClassVar

from ._relay_leg import Leg

if TYPE_CHECKING:
    from ..transcript import Recorder, Side

__all__ = ("TlsLeg",)


class TlsLeg(Leg):
    """A `Leg` over a TLS socket that has shaken hands."""

    __slots__ = ("_tls",)

    says_goodbye: ClassVar = True

    def __init__(self, sock: ssl.SSLSocket, peer: Side, recorder: Recorder | None, number: int) -> None:
        super().__init__(sock, peer, recorder, number)
        self._tls = sock
        self.recv_into = self._read
        self.send = self._write
        self.drains = False  # OpenSSL may keep what the system has given it

    def ready(self, events: int) -> None:
        """The socket has become ready. A record that is begun may keep a read from ending: see `Leg.ready`."""
        super().ready(events)
        self.drains = False

    def _read(self, room: memoryview) -> int:
        try:
            return self._tls.recv_into(room)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def _write(self, data: Any) -> int:
        """As much as the system takes: OpenSSL takes a record at a time."""
        sent = 0
        with memoryview(data) as view:
            while sent < len(view):
                try:
                    sent += self._tls.send(view[sent:])
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    break
        return sent

    def finish_sending(self) -> None:
        """Give the peer ``close_notify`` and FIN. What it sends is read on: TLS, too, closes one direction at a time."""
        with contextlib.suppress(OSError, ValueError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            # Below TLS: the TLS socket's own method would forget the session, and what comes could not be read.
            socket.socket.shutdown(self._tls, socket.SHUT_WR)
            self._record_finished()

    def _discard(self, room: memoryview) -> int:
        return socket.socket.recv_into(self._tls, room)
