"""One of the two sockets of a relayed connection."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .._support import hard_reset
from ._relay_poller import ENDED, FAILED, READABLE, WRITABLE

if TYPE_CHECKING:
    from ..transcript import CloseKind, Recorder, Side
    from ._relay_flow import Flow

__all__ = ("Leg", "make_prompt")

_UNIX = getattr(socket, "AF_UNIX", None)
#: A socket's family as a plain number: the property of `socket.socket` looks up the enumeration each time.
_family: Callable[[socket.socket], int] = socket.SocketType.family.__get__
_SCRAP = memoryview(bytearray(1 << 16))


class Leg:
    """A stream socket that never blocks, what is known of its readiness, and where its events are written down.

    Args:
        sock: The socket; the leg owns it from now on.
        peer: Who is at the other end of it: "client" or "server".
        recorder: Where its events go; None for nowhere.
        number: Its number there.

    Attributes:
        incoming: The direction that reads from it.
        outgoing: The direction that writes to it.
        drains: Whether a read that gets less than it asked for has got all that there is.
        spent: Whether the end of what the peer sends has been read.
    """

    __slots__ = (
        "drains",
        "fd",
        "incoming",
        "number",
        "outgoing",
        "peer",
        "readable",
        "recorder",
        "recv_into",
        "send",
        "sock",
        "spent",
        "writable",
    )

    incoming: Flow
    outgoing: Flow

    #: Whether the end of sending is more than FIN.
    says_goodbye: ClassVar = False

    def __init__(self, sock: socket.socket, peer: Side, recorder: Recorder | None, number: int) -> None:
        if sock.gettimeout() != 0:
            sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.recorder = recorder
        self.number = number
        self.readable = self.spent = False
        self.writable = True
        # Bound once: they are called for each piece that passes.
        self.recv_into: Callable[[memoryview], int] = sock.recv_into
        self.send: Callable[[Any], int] = sock.send
        # A Unix socket stops reading where descriptors came along.
        self.drains = _family(sock) != _UNIX

    def ready(self, events: int) -> None:
        """The socket has become ready."""
        if events & ENDED:
            self.drains = False
        if events & WRITABLE:
            self.writable = True
            if self.outgoing.pending:
                self.outgoing.flush()
        if events & (READABLE | ENDED):
            self.readable = True
            if self.incoming.reading:
                self.incoming.pump()
            elif events & FAILED:
                self.incoming.source_failed_late()

    def failed(self, error: Exception) -> None:
        """Working for it has raised: what it belongs to cannot go on."""
        self.incoming.connection.fail(error)

    def finish_sending(self) -> None:
        """Give the peer FIN."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is gone already
        self._record_finished()

    def close(self, how: CloseKind = "fin") -> None:
        """Close it in order. What the peer has sent is discarded first: left unread it would make a RST of the FIN."""
        if self.sock.fileno() < 0:
            return
        if not self.spent:
            with contextlib.suppress(OSError):
                while self._discard(_SCRAP):
                    pass
        self._record_close(self.us, how)
        self.sock.close()

    def reset(self) -> None:
        """Cut it off: the peer gets RST."""
        if self.sock.fileno() < 0:
            return
        self._record_close(self.us, "rst")
        hard_reset(self.sock)

    def was_cut_off(self, how: CloseKind) -> None:
        """The peer has reset the connection, or the system has given it up."""
        self._record_close(None if how == "timeout" else self.peer, how)

    @property
    def us(self) -> Side:
        """Whose part the relay plays here."""
        return "server" if self.peer == "client" else "client"

    def _discard(self, room: memoryview) -> int:
        return self.sock.recv_into(room)

    def _record_finished(self) -> None:
        if self.recorder is not None:
            self.recorder.half_close(self.number, self.us)

    def _record_close(self, by: Side | None, how: CloseKind) -> None:
        if self.recorder is not None:
            self.recorder.close(self.number, by, how)


def make_prompt(sock: socket.socket) -> None:
    """Let small pieces leave at once: the relay adds no delay of its own (Nagle's algorithm)."""
    if _family(sock) != _UNIX:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # cut off already; contextlib.suppress takes longer than the call
            pass
