"""Streams that arrive in small pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Send
from ._fault import Fault
from ._fields import byte_count, seconds
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("Slicer",)


@dataclass(frozen=True)
class Slicer(Fault):
    """The stream arrives in pieces: a reader that takes a read for a message is found out. The cuts are at places of the
    stream, however it was sent. As Toxiproxy's ``slicer``, with the time in seconds.

    Attributes:
        average_size: Bytes of a piece.
        size_variation: Bytes by which a piece may be smaller or larger; less than ``average_size``.
        delay: Seconds between two pieces.
    """

    average_size: int = byte_count(64, least=1)
    size_variation: int = byte_count(0)
    delay: float = seconds(0.0)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "a datagram arrives whole or not at all: use TruncateDatagram"
    lossless: ClassVar = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size_variation >= self.average_size:
            raise self.refuse("size_variation", f"less than average_size, {self.average_size}")

    def stage(self, site: Site) -> Stage:
        """Begin to cut."""
        return _Slicing(self, site)


class _Slicing(Stage):
    # One piece needs a hundred bytes of memory: fewer may wait than elsewhere.
    window = 1 << 16

    def __init__(self, fault: Slicer, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._left = self._draw()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._site.note_once(now, "slices")
        start = 0
        while start < len(data):
            piece = data[start : start + self._left]
            start += len(piece)
            self._left -= len(piece)
            if not self._left:
                self._left = self._draw()
            yield Send(piece, takes=self._fault.delay)

    def _draw(self) -> int:
        fault = self._fault
        if not fault.size_variation:
            return fault.average_size
        return fault.average_size + self._site.draws.randint(-fault.size_variation, fault.size_variation)
