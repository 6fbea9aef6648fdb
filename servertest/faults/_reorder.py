"""Datagrams that are overtaken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from ._actions import Abort, Action, Finish, Send
from ._fault import Fault
from ._fields import count, seconds, share
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("Reorder",)


@dataclass(frozen=True)
class Reorder(Fault):
    """Some datagrams are held back until others have overtaken them. In netem, ``reorder`` lets some overtake those that its
    ``delay`` holds back; here no delay is needed, and the number that overtakes is exact.

    Attributes:
        probability: How likely a datagram is held back.
        gap: How many that come later overtake it.
        delay: Seconds after which it arrives even if there were not so many.
    """

    probability: float = share(0.1)
    gap: int = count(1)
    delay: float = seconds(0.5)

    carried_by: ClassVar = frozenset({"datagram"})
    why_not: ClassVar = "TCP puts everything in order again: use Stall or Latency"
    lossless: ClassVar = True

    def stage(self, site: Site) -> Stage:
        """Begin to draw."""
        return _Reordering(self, site)


class _Late:
    """A datagram that is held back."""

    def __init__(self, data: bytes, gap: int, until: float) -> None:
        self.data = data
        self.gap = gap
        self.until = until


class _Reordering(Stage):
    def __init__(self, fault: Reorder, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._count = 0
        self._late: list[_Late] = []

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._count += 1
        if self._site.draws.random() < self._fault.probability:
            self._site.note(now, f"holds datagram {self._count} back")
            self._late.append(_Late(data, self._fault.gap, now + self._fault.delay))
            return self._ready(now)
        return [Send(data), *self.bypassed(now)]

    def bypassed(self, now: float) -> Iterable[Action]:
        for late in self._late:
            late.gap -= 1
        return self._ready(now)

    def end(self, now: float) -> Iterable[Action]:
        return [*self._ready(inf), Finish()]

    def abort(self, now: float) -> Iterable[Action]:
        return [*self._ready(inf), Abort()]

    def wake(self, now: float) -> Iterable[Action]:
        return self._ready(now)

    def leave(self, now: float) -> Iterable[Action]:
        return self._ready(inf)

    def _ready(self, now: float) -> list[Action]:
        ready: list[Action] = [Send(late.data) for late in self._late if late.gap <= 0 or late.until <= now]
        self._late = [late for late in self._late if late.gap > 0 and late.until > now]
        self.held = sum(len(late.data) for late in self._late)
        self.wake_at = min((late.until for late in self._late), default=None)
        return ready
