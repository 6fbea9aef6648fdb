"""What became of each client, in columns: eight bytes a value."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from ..clients.behaviours import HOWS

if TYPE_CHECKING:
    from ..clients.behaviours._course import Course

__all__ = ("TIMES", "Ledger")

TIMES = ("begun", "connected", "first_byte", "ended")
"""The columns that hold times: seconds since the swarm began, or None."""

_NUMBERS = {name: number for number, name in enumerate(HOWS)}


class Ledger:
    """Where an engine writes down what happens. Of a client with many connections the columns hold the last one.

    Args:
        numbers: The clients of this engine.
        roles: For each of them the number of its part.
        started: When the swarm began, on the engine's clock.
    """

    def __init__(self, numbers: Sequence[int], roles: Sequence[int], started: float) -> None:
        self._first = numbers[0] if numbers else 1
        self._step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        self._roles = roles
        self._started = started
        count = len(numbers)
        self._how = bytearray(count)
        self._times = {name: array("d", [nan]) * count for name in TIMES}
        self._late = array("d", [0.0]) * count
        self._sent = array("q", [0]) * count
        self._received = array("q", [0]) * count
        self._counts: Counter[tuple[int, str]] = Counter()
        self._errors: Counter[str] = Counter()
        self.connections = 0
        self.connected = 0
        self.ended = 0

    def began(self, course: Course) -> None:
        """A connection begins."""
        place = self._place(course)
        self.connections += 1
        self._how[place] = _NUMBERS["connecting"]
        self._times["begun"][place] = course.begun - self._started
        for name in TIMES[1:]:
            self._times[name][place] = nan

    def ended_as(self, course: Course) -> None:
        """A connection has ended, or is taken away."""
        place = self._place(course)
        self.ended += 1
        self._how[place] = _NUMBERS[course.how]
        for name in TIMES[1:]:
            time = getattr(course, name)
            self._times[name][place] = nan if time is None else time - self._started
        self._late[place] = max(self._late[place], course.late)
        self._sent[place] += course.sent
        self._received[place] += course.received
        self._counts[self._roles[place], course.how] += 1
        if course.error:
            self._errors[course.error] += 1

    def never_began(self, course_number: int, error: str) -> None:
        """A client could not even begin."""
        place = (course_number - self._first) // self._step
        self._how[place] = _NUMBERS["failed"]
        self._counts[self._roles[place], "failed"] += 1
        self._errors[error] += 1
        self.connections += 1
        self.ended += 1

    def counts(self) -> dict[str, int]:
        """How the connections that have ended did so."""
        counts: Counter[str] = Counter()
        for (_, how), count in self._counts.items():
            counts[how] += count
        return dict(counts)

    def as_dict(self) -> dict[str, Any]:
        """All of it, as plain data."""
        return {
            "first": self._first,
            "step": self._step,
            "connections": self.connections,
            "counts": [[role, how, count] for (role, how), count in sorted(self._counts.items())],
            "errors": dict(self._errors.most_common(20)),
            "columns": {
                "role": list(self._roles),
                "how": list(self._how),
                **{name: list(map(_plain, column)) for name, column in self._times.items()},
                "late": [round(each, 6) for each in self._late],
                "sent": list(self._sent),
                "received": list(self._received),
            },
        }

    def _place(self, course: Course) -> int:
        return (course.number - self._first) // self._step


def _plain(time: float) -> float | None:
    return None if isnan(time) else round(time, 6)
