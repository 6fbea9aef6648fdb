"""Datagrams that do not arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import erf, sqrt
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Send
from ._fault import Fault
from ._fields import number, optional_seconds, seconds, share
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("GilbertElliott", "Loss", "Partition")

_AGAIN = "TCP would have sent it again: use Stall or Latency"


class _Losing(Stage):
    """Draws once for each datagram, whatever becomes of it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._count = 0

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._count += 1
        if not self._loses():
            return (Send(data),)
        self._site.note(now, f"loses datagram {self._count}")
        return ()

    def _loses(self) -> bool:
        raise NotImplementedError


@dataclass(frozen=True)
class Loss(Fault):
    """Each datagram may be lost, independently of the others or not. As netem's ``loss random``; unlike there, a correlation
    leaves the share that is lost as it is.

    Attributes:
        probability: How likely a datagram is lost.
        correlation: How much the fate of each resembles that of the one before: from 0, not at all, to 1.
    """

    probability: float = share(0.1)
    correlation: float = number(0.0, least=0, most=1)

    carried_by: ClassVar = frozenset({"datagram"})
    why_not: ClassVar = _AGAIN

    def stage(self, site: Site) -> Stage:
        """Begin to draw."""
        return _LosingSome(self, site)


class _LosingSome(_Losing):
    def __init__(self, fault: Loss, site: Site) -> None:
        super().__init__(site)
        self._fault = fault
        self._normal: float | None = None

    def _loses(self) -> bool:
        fresh = self._site.draws.gauss()
        kept = self._fault.correlation
        last = fresh if self._normal is None else kept * self._normal + sqrt(1 - kept * kept) * fresh
        self._normal = last
        return 0.5 * (1 + erf(last / sqrt(2))) < self._fault.probability


@dataclass(frozen=True)
class GilbertElliott(Fault):
    """Datagrams are lost in bursts: the network is in a good or in a bad state, each with its own loss, and changes between them.
    The model of Gilbert (1960) and Elliott (1963), with the parameters of netem's ``loss gemodel``.

    Attributes:
        p: How likely a good state turns bad, at each datagram.
        r: How likely a bad state turns good.
        bad_loss: How likely a datagram is lost in the bad state (netem's 1-h).
        good_loss: How likely in the good one (netem's 1-k).
    """

    p: float = share(0.02)
    r: float = share(0.25)
    bad_loss: float = share(1.0)
    good_loss: float = share(0.0)

    carried_by: ClassVar = frozenset({"datagram"})
    why_not: ClassVar = _AGAIN

    def stage(self, site: Site) -> Stage:
        """Begin in the good state."""
        return _LosingBursts(self, site)


class _LosingBursts(_Losing):
    def __init__(self, fault: GilbertElliott, site: Site) -> None:
        super().__init__(site)
        self._fault = fault
        self._bad = False

    def _loses(self) -> bool:
        fault, draws = self._fault, self._site.draws
        if draws.random() < (fault.r if self._bad else fault.p):
            self._bad = not self._bad
        return draws.random() < (fault.bad_loss if self._bad else fault.good_loss)


@dataclass(frozen=True)
class Partition(Fault):
    """No datagram arrives, for a time or for ever; aimed, only on one way. As a route that is gone.

    Attributes:
        duration: Seconds; None for ever (or until the fault is taken away).
        after: Seconds from the moment at which the fault meets the peer's first datagram.
    """

    duration: float | None = optional_seconds(None)
    after: float = seconds(0.0)

    carried_by: ClassVar = frozenset({"datagram"})
    why_not: ClassVar = "TCP would send it again once the way is free: use Stall, or Blackhole"

    def stage(self, site: Site) -> Stage:
        """Begin to wait for the time."""
        return _Parting(self, site)


class _Parting(_Losing):
    def __init__(self, fault: Partition, site: Site) -> None:
        super().__init__(site)
        self._fault = fault
        self._parted = False

    def begin(self, now: float) -> Iterable[Action]:
        self._parted = not self._fault.after
        self.wake_at = self._until(now) if self._parted else now + self._fault.after
        return ()

    def wake(self, now: float) -> Iterable[Action]:
        self._parted = not self._parted
        self.wake_at = self._until(now) if self._parted else None
        return ()

    def _until(self, now: float) -> float | None:
        return None if self._fault.duration is None else now + self._fault.duration

    def _loses(self) -> bool:
        return self._parted
