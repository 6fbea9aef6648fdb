"""Streams that arrive in small pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from ._actions import Action, Send
from ._fault import Fault
from ._stage import Site, Stage

__all__ = ("Slicer",)


@dataclass(frozen=True)
class Slicer(Fault):
    """The stream arrives in pieces: a reader that takes a read for a message is found out.

    Attributes:
        average_size: Bytes of a piece.
        size_variation: Bytes by which a piece may be smaller or larger.
        delay: Seconds between two pieces.
    """

    average_size: int
    size_variation: int = 0
    delay: float = 0.0

    carried_by: ClassVar = frozenset({"stream"})

    def stage(self, site: Site) -> Stage:
        """Begin to cut."""
        return _Slicing(self, site)


class _Slicing(Stage):
    def __init__(self, fault: Slicer, site: Site) -> None:
        self._fault = fault
        self._site = site
        # The cuts are at places of the stream: however it comes, it is cut there.
        self._left = self._draw()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
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
