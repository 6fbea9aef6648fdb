"""Datagrams that arrive more than once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Send
from ._fault import Fault
from ._fields import count, seconds, share
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("Duplicate",)


@dataclass(frozen=True)
class Duplicate(Fault):
    """Some datagrams arrive more than once. As netem's ``duplicate``.

    Attributes:
        probability: How likely a datagram is hit.
        copies: How many more arrive of each that is hit.
        delay: Seconds by which each copy is later than the one before.
    """

    probability: float = share(0.1)
    copies: int = count(1)
    delay: float = seconds(0.0)

    carried_by: ClassVar = frozenset({"datagram"})
    why_not: ClassVar = "TCP throws away what came already: use DuplicateBytes for a peer that sends twice"

    def stage(self, site: Site) -> Stage:
        """Begin to draw."""
        return _Duplicating(self, site)


class _Duplicating(Stage):
    def __init__(self, fault: Duplicate, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._count = 0

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        fault = self._fault
        self._count += 1
        if self._site.draws.random() >= fault.probability:
            return (Send(data),)
        self._site.note(now, f"duplicates datagram {self._count}")
        return [Send(data, after=number * fault.delay) for number in range(fault.copies + 1)]
