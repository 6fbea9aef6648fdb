"""Bytes that arrive later than they were sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import erf, exp, sqrt
from typing import TYPE_CHECKING, ClassVar

from ._actions import Abort, Action, Finish, Send
from ._fault import Fault
from ._fields import number, one_of, seconds
from ._stage import Stage

if TYPE_CHECKING:
    import random

    from ._stage import Site

__all__ = ("Latency",)

# Bytes of a stream that share one draw: what fits into a segment on Ethernet.
_SEGMENT = 1460


@dataclass(frozen=True)
class Latency(Fault):
    """Everything arrives later, and overlaps: the flow is not slowed down. A stream stays in order, so that one late byte holds
    up those behind it; datagrams whose delays differ overtake each other. As netem's ``delay`` and Toxiproxy's ``latency``;
    unlike netem's, a correlation leaves the distribution as it is. One delay is drawn for each datagram, and for each
    1460 bytes of a stream.

    Attributes:
        delay: The mean, in seconds.
        jitter: With "uniform", seconds by which each delay may be shorter or longer; else the standard deviation in
            seconds. A delay below zero is none.
        distribution: "uniform", "normal", "lognormal" (sigma 1) or "pareto" (alpha 3); the last two have a long tail.
        correlation: How much each delay resembles the one before: from 0, not at all, to 1.
    """

    delay: float = seconds(0.1)
    jitter: float = seconds(0.0)
    distribution: str = one_of("uniform", "uniform", "normal", "lognormal", "pareto")
    correlation: float = number(0.0, least=0, most=1)

    lossless: ClassVar = True

    def stage(self, site: Site) -> Stage:
        """Begin to delay."""
        return _Varying(self, site) if self.jitter else _Delaying(self, site)


class _Delaying(Stage):
    window = 16 << 20

    def __init__(self, fault: Latency, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._delay = fault.delay

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._site.note_once(now, "delays")
        return (Send(data, self._delay),)

    def end(self, now: float) -> Iterable[Action]:
        return (Finish(self._delay),)

    def abort(self, now: float) -> Iterable[Action]:
        return (Abort(self._delay),)


class _Varying(_Delaying):
    def __init__(self, fault: Latency, site: Site) -> None:
        super().__init__(fault, site)
        self._streams = site.transport == "stream"
        self._passed = 0
        self._drawn = 0
        self._normal = 0.0

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        # The delay belongs to the segment in which the chunk begins, and segments to places of the stream.
        place = self._passed // _SEGMENT if self._streams else self._passed
        self._passed += len(data) if self._streams else 1
        draws = self._site.draws
        while self._drawn <= place:
            self._draw(draws)
        self._delay = self._seconds()
        return super().data(data, now)

    def _draw(self, draws: random.Random) -> None:
        fresh = draws.gauss()
        kept = self._fault.correlation if self._drawn else 0.0
        self._normal = kept * self._normal + sqrt(1 - kept * kept) * fresh
        self._drawn += 1

    def _seconds(self) -> float:
        fault = self._fault
        return max(0.0, fault.delay + fault.jitter * _spread(fault.distribution, self._normal))


def _spread(distribution: str, normal: float) -> float:
    """A normal draw as one of another distribution, with mean 0; but for the uniform one with deviation 1."""
    if distribution == "normal":
        return normal
    if distribution == "lognormal":
        return (exp(normal) - exp(0.5)) / sqrt((exp(1) - 1) * exp(1))
    below = min(0.5 * (1 + erf(normal / sqrt(2))), 1 - 1e-12)
    if distribution == "uniform":
        return 2 * below - 1
    tail: float = (1 - below) ** (-1 / 3)
    return (tail - 1.5) / sqrt(0.75)
