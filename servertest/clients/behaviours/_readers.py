"""Clients that read slowly, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...faults import Drip, ZeroWindow, downstream
from ...faults._fields import byte_count, byte_string, count, seconds, share
from ._behaviour import Behaviour
from ._script import Script

if TYPE_CHECKING:
    from ..._support import Transport

__all__ = ("NeverReads", "SlowReader")


@dataclass(frozen=True)
class SlowReader(Behaviour):
    """Asks, and reads the reply a few bytes at a time. Its receive window is set before it connects, as it has to be for the server to
    notice early. Linux gives no less than 2304 bytes, of which about half are for data.

    Attributes:
        request: What is sent.
        repeat: How often, at once.
        window: The receive buffer, in bytes.
        size: Bytes of a read.
        pause: Seconds after a read.
        jitter: The part of each pause by which it may be shorter or longer.
        reply_bytes: Bytes of the whole reply; with fewer at the end the server has cut it off.
    """

    request: bytes = byte_string(b"GET / HTTP/1.0\r\n\r\n")
    repeat: int = count(1)
    window: int = byte_count(1024, least=1)
    size: int = byte_count(5, least=1)
    pause: float = seconds(1.0)
    jitter: float = share(0.0)
    reply_bytes: int = byte_count(0)

    def script(self, transport: Transport = "stream") -> Script:
        """What comes drips."""
        return Script(
            payload=self.request,
            repeat=self.repeat,
            faults=downstream(Drip(self.size, 0, self.pause, self.pause * self.jitter)),
            enough=self.reply_bytes,
            window=self.window,
            read_size=self.size,
        )


@dataclass(frozen=True)
class NeverReads(Behaviour):
    """Asks and never reads a byte of the reply: the server's writes block once all buffers are full.

    Attributes:
        request: What is sent.
        repeat: How often, at once.
        window: The receive buffer, in bytes.
    """

    request: bytes = byte_string(b"GET / HTTP/1.0\r\n\r\n")
    repeat: int = count(1)
    window: int = byte_count(1024, least=1)

    def script(self, transport: Transport = "stream") -> Script:
        """Nothing is taken from the server."""
        return Script(
            payload=self.request,
            repeat=self.repeat,
            faults=downstream(ZeroWindow()),
            enough=None,
            window=self.window,
        )
