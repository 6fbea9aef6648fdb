"""Datagrams that arrive without their end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Send
from ._fault import Fault
from ._fields import byte_count, share
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("TruncateDatagram",)


@dataclass(frozen=True)
class TruncateDatagram(Fault):
    """Only the beginning of a datagram arrives, as when a buffer on its way was too small.

    Attributes:
        size: Bytes that arrive; 0 leaves an empty datagram.
        probability: How likely a datagram is hit.
    """

    size: int = byte_count(64)
    probability: float = share(1.0)

    carried_by: ClassVar = frozenset({"datagram"})
    why_not: ClassVar = "a stream is cut with Truncate, or with LimitData"

    def stage(self, site: Site) -> Stage:
        """Begin to draw."""
        return _Cutting(self, site)


class _Cutting(Stage):
    def __init__(self, fault: TruncateDatagram, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._count = 0

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._count += 1
        if self._site.draws.random() >= self._fault.probability or len(data) <= self._fault.size:
            return (Send(data),)
        self._site.note(now, f"truncates datagram {self._count}")
        return (Send(data[: self._fault.size]),)
