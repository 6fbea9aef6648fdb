"""Bytes that arrive later than they were sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ._actions import Action, Finish, Send
from ._fault import Fault
from ._fields import seconds
from ._stage import Site, Stage

__all__ = ("Latency",)


@dataclass(frozen=True)
class Latency(Fault):
    """Everything arrives later, and overlaps: it does not slow the flow down.

    Attributes:
        delay: Seconds.
        jitter: Seconds by which each delay may be shorter or longer.
    """

    delay: float = seconds(0.1)
    jitter: float = seconds(0.0)

    def stage(self, site: Site) -> Stage:
        """Begin to delay."""
        return _Delaying(self, site)


class _Delaying(Stage):
    window = 16 << 20

    def __init__(self, fault: Latency, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._passed = 0

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        yield Send(data, after=self._delay())
        self._passed += len(data)

    def end(self, now: float) -> Iterable[Action]:
        yield Finish(after=self._delay())

    def _delay(self) -> float:
        fault = self._fault
        if not fault.jitter:
            return fault.delay
        draw = self._site.draws_at(self._passed).uniform(-fault.jitter, fault.jitter)
        return max(0.0, fault.delay + draw)
