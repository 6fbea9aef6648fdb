"""What became of each client, in columns: eight bytes a value."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from math import ceil, isnan, nan
from typing import TYPE_CHECKING, Any

from ..clients.behaviours import HOWS

if TYPE_CHECKING:
    from ..clients.behaviours._course import Course

__all__ = ("BINS", "STATES", "TIMES", "Ledger")

TIMES = ("begun", "connected", "first_byte", "ended")
"""The columns that hold times: seconds since the swarm began, or None."""

STATES = ("connecting", "connected", "finished", "cut off", "turned away")
"""The states of clients over time. Who was refused, timed out or failed was turned away; who has not begun is in none."""

BINS = 500
"""Into how many parts the time is divided for the states over time."""

_STATE_OF = {
    "connecting": 0,
    "held": 1,
    "finished": 2,
    "closed": 3,
    "reset": 3,
    "refused": 4,
    "timed_out": 4,
    "failed": 4,
}
_NUMBERS = {name: number for number, name in enumerate(HOWS)}


class Ledger:
    """Where an engine writes down what happens. Of a client with many connections the columns hold the last one, and the bytes of all.

    Args:
        numbers: The clients of this engine, at even steps.
        roles: For each of them the number of its part.
        started: When the swarm began, on the engine's clock.
        duration: How long it may go on, in seconds.
    """

    def __init__(self, numbers: range, roles: Sequence[int], started: float, duration: float) -> None:
        self._first = numbers.start
        self._step = numbers.step
        self._roles = roles
        self._started = started
        self._per_second = BINS / max(duration, 0.001)
        self._changes = [array("l", [0]) * (BINS + 1) for _ in STATES]
        count = len(numbers)
        self._how = bytearray(count)
        self._times = {name: array("d", [nan]) * count for name in TIMES}
        self._late = array("d", [0.0]) * count
        self._sent = array("q", [0]) * count
        self._received = array("q", [0]) * count
        self._counts: Counter[tuple[int, str]] = Counter()
        self._errors: Counter[str] = Counter()
        self._names: dict[str, array[int]] = {}
        self.connections = 0
        self.connected = 0
        self.ended = 0

    def began(self, course: Course) -> None:
        """A connection begins."""
        place = self._place(course)
        self.connections += 1
        # One that comes again leaves the state in which it was before.
        self._moved(_STATE_OF.get(HOWS[self._how[place]]), 0, course.begun)
        self._how[place] = _NUMBERS["connecting"]
        self._times["begun"][place] = course.begun - self._started
        for name in TIMES[1:]:
            self._times[name][place] = nan

    def takes_back(self, course: Course) -> None:
        """A connection that began does not count: it is tried elsewhere."""
        assert course.connected is None
        self.connections -= 1

    def named(self, name: object) -> None:
        """A connection comes from this address."""
        host, port = (name[0], name[1]) if isinstance(name, tuple) else ("", 0)
        self._names.setdefault(host, array("H")).append(port)

    def ended_as(self, course: Course) -> None:
        """A connection has ended, or is taken away."""
        place = self._place(course)
        self.ended += 1
        self.connected += course.connected is not None
        state = 0
        if course.connected is not None:
            self._moved(0, 1, course.connected)
            state = 1
        if course.ended is not None:
            self._moved(state, _STATE_OF[course.how], course.ended)
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
            "connected": self.connected,
            "counts": [[role, how, count] for (role, how), count in sorted(self._counts.items())],
            "errors": dict(self._errors.most_common(20)),
            "names": {host: list(ports) for host, ports in self._names.items()},
            "changes": [list(each) for each in self._changes],
            "columns": {
                "role": list(self._roles),
                "how": list(self._how),
                **{name: list(map(_plain, column)) for name, column in self._times.items()},
                "late": [round(each, 6) for each in self._late],
                "sent": list(self._sent),
                "received": list(self._received),
            },
        }

    def _moved(self, old: int | None, new: int, time: float) -> None:
        """A client went from one state into another."""
        part = min(BINS, max(0, ceil((time - self._started) * self._per_second)))
        if old is not None:
            self._changes[old][part] -= 1
        self._changes[new][part] += 1

    def _place(self, course: Course) -> int:
        return (course.number - self._first) // self._step


def _plain(time: float) -> float | None:
    return None if isnan(time) else round(time, 6)
