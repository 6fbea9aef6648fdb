"""Clients that end their connections too early, half, rudely, or again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...faults import Drip, Plan, ResetPeer, SlowClose, upstream
from ...faults._fields import byte_count, byte_string, number, optional_seconds, seconds
from ._behaviour import Behaviour
from ._script import Script

if TYPE_CHECKING:
    from ..._support import Transport

__all__ = ("ConnectAndDrop", "Flooder", "HalfCloser", "Resetter")


@dataclass(frozen=True)
class ConnectAndDrop(Behaviour):
    """Connects and closes without a word, again and again: port scanners, health checks, load balancers.

    Attributes:
        hold: Seconds until it closes.
        every: Seconds from one connection to the next; None for a single one.
    """

    hold: float = seconds(0.0)
    every: float | None = optional_seconds(1.0)

    def script(self, transport: Transport = "stream") -> Script:
        """Its end is late, if it is held."""
        faults = upstream(SlowClose(self.hold)) if self.hold else Plan()
        return Script(repeat=0, ending="close", faults=faults, every=self.every)


@dataclass(frozen=True)
class Resetter(Behaviour):
    """Cuts its connection off with a RST, in the middle of its request or at its end.

    Attributes:
        payload: The request.
        after_bytes: Bytes of it that are sent; None for all.
        after: Seconds from then until the RST.
        every: Seconds from one connection to the next; None for a single one.
    """

    payload: bytes = byte_string(b"hello\n")
    after_bytes: int | None = byte_count(None)
    after: float = seconds(0.0)
    every: float | None = optional_seconds(None)

    def script(self, transport: Transport = "stream") -> Script:
        """The line resets at a byte."""
        place = len(self.payload) if self.after_bytes is None else self.after_bytes
        reset = upstream(ResetPeer(self.after, min(place, len(self.payload))))
        return Script(payload=self.payload, faults=reset, enough=None, every=self.every)


@dataclass(frozen=True)
class HalfCloser(Behaviour):
    """Sends its request and then FIN, and goes on reading: the server reads the end of the stream, and may still reply.

    Attributes:
        request: What is sent.
        reply_bytes: Bytes of the reply; with fewer at the end the server has cut it off.
    """

    request: bytes = byte_string(b"hello\n")
    reply_bytes: int = byte_count(0)

    def script(self, transport: Transport = "stream") -> Script:
        """Nothing is wrong with its line: who takes the one end for the other is found out."""
        return Script(payload=self.request, ending="finish", enough=self.reply_bytes)


@dataclass(frozen=True)
class Flooder(Behaviour):
    """Sends datagrams at a rate, and does not care for replies. On streams: opens connections at a rate, and leaves each with a RST as
    soon as the payload is sent.

    Attributes:
        payload: The datagram; or what is sent on each connection.
        per_second: How many a second.
    """

    payload: bytes = byte_string(b"hello\n")
    per_second: float = number(100, least=0.001, most=100_000)

    carried_by: ClassVar = frozenset({"stream", "datagram"})

    def script(self, transport: Transport = "stream") -> Script:
        """One at a time."""
        if transport == "datagram":
            drip = upstream(Drip(pause=1 / self.per_second))
            return Script(payload=self.payload, repeat=None, faults=drip)
        reset = upstream(ResetPeer(after_bytes=len(self.payload)))
        return Script(payload=self.payload, faults=reset, enough=None, every=1 / self.per_second)
