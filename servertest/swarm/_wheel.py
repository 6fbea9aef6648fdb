"""Very many timers at little cost: those that are due at about the same time share one."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..clients.behaviours._course import Course

__all__ = ("Wheel",)

TICK = 0.01
"""Seconds by which a timer may be late; far below what clients are held to."""


class Wheel:
    """Wakes courses at their time, rounded up to the next tick.

    An entry is not taken out when its course wants another time: it comes, and the course has nothing to do.
    """

    def __init__(self) -> None:
        self._slots: dict[int, list[Course]] = {}
        self._order: list[int] = []

    @property
    def next_at(self) -> float | None:
        """When something is due next."""
        return self._order[0] * TICK if self._order else None

    def add(self, course: Course) -> None:
        """Wake a course at the time that it wants."""
        assert course.wake_at is not None
        number = int(course.wake_at / TICK) + 1
        if number == course.slot:
            return
        course.slot = number
        slot = self._slots.get(number)
        if slot is None:
            self._slots[number] = [course]
            heapq.heappush(self._order, number)
        else:
            slot.append(course)

    def due(self, now: float) -> Iterator[Course]:
        """Take out what is due by now, and wants to be woken still."""
        while self._order and self._order[0] * TICK <= now:
            number = heapq.heappop(self._order)
            for course in self._slots.pop(number):
                if course.slot == number:
                    course.slot = 0
                if course.wake_at is not None and course.wake_at <= now:
                    yield course
