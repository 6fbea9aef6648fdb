"""Clients that send slowly, or stop sending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...faults import Drip, Plan, Stall, upstream
from ...faults._fields import byte_count, byte_rate, byte_string, optional_count, share
from ._behaviour import Behaviour
from ._script import Script

if TYPE_CHECKING:
    from ..._support import Transport

__all__ = ("DribbledHandshake", "IdleMidRequest", "Pipeliner", "SlowBody", "SlowWriter", "StalledHandshake")


@dataclass(frozen=True)
class _Slow(Behaviour):
    """What slow writers have in common; the pause after a chunk is what gives the rate on average."""

    def _drip(self, rate: float, chunk: int, variation: int, jitter: float) -> Drip:
        if rate <= 0:
            raise self.refuse(
                "bytes_per_second", "more than 0 (for a client that sends nothing: IdleAfterConnect)"
            )
        if variation >= chunk:
            raise self.refuse("variation", f"less than chunk, {chunk}")
        pause = chunk / rate
        return Drip(chunk, variation, pause, pause * jitter)


@dataclass(frozen=True)
class SlowWriter(_Slow):
    """Sends its request a few bytes at a time, and holds the server up meanwhile: slowloris, for any protocol. Then it stays, and
    reads what comes.

    Attributes:
        payload: The request.
        bytes_per_second: How fast, on average.
        chunk: Bytes at a time, on average.
        variation: Bytes by which a chunk may be smaller or larger.
        jitter: The part of each pause by which it may be shorter or longer.
        repeat: How often the request is sent; None for as long as the connection lasts.
    """

    payload: bytes = byte_string(b"hello\n", least=1)
    bytes_per_second: float = byte_rate(1)
    chunk: int = byte_count(1, least=1)
    variation: int = byte_count(0)
    jitter: float = share(0.0)
    repeat: int | None = optional_count(1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._drip(self.bytes_per_second, self.chunk, self.variation, self.jitter)

    def script(self, transport: Transport = "stream") -> Script:
        """Drips all of it."""
        drip = self._drip(self.bytes_per_second, self.chunk, self.variation, self.jitter)
        return Script(payload=self.payload, repeat=self.repeat, faults=upstream(drip))


@dataclass(frozen=True)
class SlowBody(_Slow):
    """Sends the beginning of a request at once, and the rest a few bytes at a time, for ever if asked to: the head of HTTP without its
    end, or a body that was announced.

    Attributes:
        head: What is sent at once.
        body: What is sent slowly.
        bytes_per_second: How fast, on average.
        chunk: Bytes at a time, on average.
        variation: Bytes by which a chunk may be smaller or larger.
        jitter: The part of each pause by which it may be shorter or longer.
        repeat: How often the body is sent; None for as long as the connection lasts.
    """

    head: bytes = byte_string(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4096\r\n\r\n", least=1)
    body: bytes = byte_string(b"x", least=1)
    bytes_per_second: float = byte_rate(1)
    chunk: int = byte_count(1, least=1)
    variation: int = byte_count(0)
    jitter: float = share(0.0)
    repeat: int | None = optional_count(4096)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._drip(self.bytes_per_second, self.chunk, self.variation, self.jitter)

    def script(self, transport: Transport = "stream") -> Script:
        """Drips from the first byte of the body on."""
        drip = self._drip(self.bytes_per_second, self.chunk, self.variation, self.jitter)
        return Script(
            head=self.head,
            payload=self.body,
            repeat=self.repeat,
            faults=upstream(drip.on(after_bytes=len(self.head))),
        )


@dataclass(frozen=True)
class IdleMidRequest(Behaviour):
    """Begins a request and never goes on.

    Attributes:
        payload: The request.
        after_bytes: Bytes of it that are sent; None for all but the last one.
    """

    payload: bytes = byte_string(b"hello\n", least=1)
    after_bytes: int | None = byte_count(None)

    def script(self, transport: Transport = "stream") -> Script:
        """Stalls for ever."""
        after = len(self.payload) - 1 if self.after_bytes is None else self.after_bytes
        return Script(payload=self.payload, faults=upstream(Stall(None, after_bytes=after)), enough=None)


@dataclass(frozen=True)
class Pipeliner(Behaviour):
    """Sends many requests at once, without waiting for replies; then it reads them all.

    Attributes:
        request: One request.
        times: How many.
        reply_bytes: Bytes of all replies together; with fewer at the end the server has cut it off.
    """

    request: bytes = byte_string(b"hello\n", least=1)
    times: int = byte_count(100, least=1)
    reply_bytes: int = byte_count(0)

    def script(self, transport: Transport = "stream") -> Script:
        """Nothing is wrong with its line: that it does not wait is the rudeness."""
        return Script(payload=self.request, repeat=self.times, enough=self.reply_bytes)


@dataclass(frozen=True)
class DribbledHandshake(_Slow):
    """Shakes hands a few bytes at a time; TLS records as such, so that the server waits in the middle of its handshake.

    Attributes:
        bytes_per_second: How fast, on average.
        chunk: Bytes at a time, on average.
        variation: Bytes by which a chunk may be smaller or larger.
        jitter: The part of each pause by which it may be shorter or longer.
        payload: What is sent once hands are shaken, as slowly.
    """

    bytes_per_second: float = byte_rate(10)
    chunk: int = byte_count(1, least=1)
    variation: int = byte_count(0)
    jitter: float = share(0.0)
    payload: bytes = byte_string(b"")

    needs_tls: ClassVar = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._drip(self.bytes_per_second, self.chunk, self.variation, self.jitter)

    def script(self, transport: Transport = "stream") -> Script:
        """Drips beneath TLS."""
        drip = self._drip(self.bytes_per_second, self.chunk, self.variation, self.jitter)
        return Script(payload=self.payload, faults=upstream(drip), beneath_tls=True)


@dataclass(frozen=True)
class StalledHandshake(Behaviour):
    """Begins to shake hands and never goes on.

    Attributes:
        after_bytes: Bytes of TLS records that are sent.
    """

    after_bytes: int = byte_count(16)

    needs_tls: ClassVar = True

    def script(self, transport: Transport = "stream") -> Script:
        """Stalls for ever, beneath TLS."""
        stall: Plan = upstream(Stall(None, after_bytes=self.after_bytes))
        return Script(faults=stall, enough=None, beneath_tls=True)
