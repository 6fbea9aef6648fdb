"""Clients that are there and do little or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...faults import MissingClose, upstream
from ...faults._fields import byte_count, byte_string, optional_seconds
from ._behaviour import Behaviour
from ._script import Script

if TYPE_CHECKING:
    from ..._support import Transport

__all__ = ("HalfOpen", "Honest", "IdleAfterConnect", "NeverCloses")


@dataclass(frozen=True)
class Honest(Behaviour):
    """Asks, reads the reply and closes: what most clients do.

    Attributes:
        request: What is sent.
        reply_bytes: Bytes of the reply after which it closes.
        every: Seconds from one connection to the next; None for a single one.
    """

    request: bytes = byte_string(b"hello\n")
    reply_bytes: int = byte_count(1)
    every: float | None = optional_seconds(None)

    carried_by: ClassVar = frozenset({"stream", "datagram"})

    def script(self, transport: Transport = "stream") -> Script:
        """Nothing is wrong."""
        return Script(payload=self.request, ending="reply", enough=self.reply_bytes, every=self.every)


@dataclass(frozen=True)
class IdleAfterConnect(Behaviour):
    """Connects and says nothing."""

    def script(self, transport: Transport = "stream") -> Script:
        """Nothing is sent, and nothing is enough."""
        return Script(repeat=0, enough=None)


@dataclass(frozen=True)
class NeverCloses(Behaviour):
    """Asks, reads the reply, and does not close when the server has closed: no FIN comes back, and the server's side stays half closed
    (FIN_WAIT_2).

    Attributes:
        request: What is sent.
    """

    request: bytes = byte_string(b"hello\n")

    def script(self, transport: Transport = "stream") -> Script:
        """Its end never arrives."""
        return Script(payload=self.request, faults=upstream(MissingClose()))


@dataclass(frozen=True)
class HalfOpen(Behaviour):
    """Sends something and vanishes: no byte, no FIN, no RST, and no acknowledgement any more, as when a machine loses its power. The
    server's connection is half open (RFC 9293, 3.5.1): only keep-alive probes or its own time limits tell it.

    On Linux a socket filter drops all that comes to the client's socket, so that the client's system acknowledges nothing
    and answers no probes; that needs no privilege. Elsewhere, and on Unix sockets, the client merely never reads, writes
    or closes again. At the very end the client's system has to say something: it is a RST.

    Attributes:
        request: What is sent first.
    """

    request: bytes = byte_string(b"")

    def script(self, transport: Transport = "stream") -> Script:
        """Its end never arrives, and it answers nothing."""
        return Script(payload=self.request, faults=upstream(MissingClose()), enough=None, vanishes=True)
