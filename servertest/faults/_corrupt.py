"""Bytes that arrive changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from ._actions import Action, Send
from ._fault import Fault
from ._fields import byte_count, count, share
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("Corrupt",)


@dataclass(frozen=True)
class Corrupt(Fault):
    """Bits are flipped in what arrives; its length stays. On a stream, as by a broken device behind the checksums; in datagrams,
    as netem's ``corrupt``, one byte of each one that is hit.

    Attributes:
        probability: How likely a byte of a stream is hit, or a datagram.
        at: The place that is hit, counted from 0: in a stream that one byte instead of random ones; in a datagram that
            is hit this byte.
        bits: How many bits of a byte are flipped, from 1 to 8.
    """

    probability: float = share(0.01)
    at: int | None = byte_count(None)
    bits: int = count(1, most=8)

    def stage(self, site: Site) -> Stage:
        """Begin to draw."""
        return (_Flipping if site.transport == "stream" else _FlippingDatagrams)(self, site)


class _Flipping(Stage):
    """Knows the next place that is hit, so that chunks do not matter."""

    def __init__(self, fault: Corrupt, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._passed = 0
        self._next: int | None = None
        self._next = fault.at if fault.at is not None else self._after(-1)

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        start = self._passed
        self._passed += len(data)
        if self._next is None or self._next >= self._passed:
            return (Send(data),)
        changed = bytearray(data)
        while self._next is not None and self._next < self._passed:
            _flip(self._fault, self._site, changed, self._next - start)
            self._site.note(now, f"corrupts byte {self._next}")
            self._next = None if self._fault.at is not None else self._after(self._next)
        return (Send(bytes(changed)),)

    def _after(self, place: int) -> int | None:
        """The next place that is hit: the gaps between hits are distributed geometrically."""
        probability = self._fault.probability
        if not probability:
            return None
        if probability == 1:
            return place + 1
        return place + 1 + int(log(1.0 - self._site.draws.random()) / log(1 - probability))


class _FlippingDatagrams(Stage):
    def __init__(self, fault: Corrupt, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._count = 0

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._count += 1
        draws = self._site.draws_at(self._count)
        hit = draws.random() < self._fault.probability
        place = draws.randrange(len(data)) if self._fault.at is None and data else self._fault.at or 0
        if not hit or place >= len(data):
            return (Send(data),)
        changed = bytearray(data)
        for bit in draws.sample(range(8), self._fault.bits):
            changed[place] ^= 1 << bit
        self._site.note(now, f"corrupts byte {place} of datagram {self._count}")
        return (Send(bytes(changed)),)


def _flip(fault: Corrupt, site: Site, data: bytearray, place: int) -> None:
    for bit in site.draws.sample(range(8), fault.bits):
        data[place] ^= 1 << bit
