"""Who goes on: the decisions that make one interleaving of threads out of the many.

Each decision has a place: the number of the task that is asked, and how often it was asked before. What is decided differently from the plain
order (go on as long as you can; then who has waited longest) is kept by place, so that a schedule can be replayed and made smaller.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from ..faults import derived_seed

if TYPE_CHECKING:
    from ._task import Task

#: How likely somebody has to make way before a call, a lock, a line of watched code: from the least eager seed to the most.
_CHANCES = {"io": (0.05, 0.5), "lock": (0.01, 0.2), "line": (0.1, 0.6), "instruction": (0.02, 0.3)}

#: For how many decisions who had to make way is held up at the longest: a power of two.
_LONGEST_HOLD = 8

__all__ = ("Place", "RandomStrategy", "ReplayStrategy", "Schedule", "Strategy")

Place: TypeAlias = tuple[int, int]
"""A task's number, and how many decisions it was asked for before."""

Schedule: TypeAlias = Mapping[Place, int]
"""At which places another task goes on than in the plain order, and which."""


class Strategy:
    """The plain order: a task runs until it has to wait, and who has waited longest is next; who had to make way comes after all others.

    So one switch is enough for a race in which one thread is held up and others pass it.
    """

    #: Whether the history shall say where a thread made way.
    tells = False

    def __init__(self) -> None:
        self.taken: dict[Place, int] = {}
        self._behind: set[Task] = set()

    def plain(self, ready: list[Task]) -> Task:
        """Who is next in the plain order."""
        return next((task for task in ready if task not in self._behind), ready[0])

    def interrupt(self, task: Task, ready: list[Task], kind: str) -> Task | None:
        """Whether a task that could go on has to make way, and for whom. It has come to something that others may notice."""
        task.decisions += 1
        return None

    def next(self, task: Task, ready: list[Task]) -> Task:
        """Who goes on when a task has to wait."""
        task.decisions += 1
        return self.plain(ready)

    def draw(self) -> float:
        """A random number from 0 to 1, for what else is left to chance."""
        return 0.0


class RandomStrategy(Strategy):
    """Draws each decision from a stream of its own.

    A race is seen when one thread is held up at the wrong place for long enough that another one passes. So who has to make way is held up
    for a number of decisions, few or many; and how often somebody has to make way differs from seed to seed.

    Args:
        seed: Of the simulation.
    """

    def __init__(self, seed: int | str) -> None:
        super().__init__()
        self._random = random.Random(derived_seed(seed, "schedule"))  # noqa: S311 - it has to repeat
        self.draw = self._random.random  # type: ignore[method-assign]
        eagerness = self.draw()
        self._chances = {kind: low * (high / low) ** eagerness for kind, (low, high) in _CHANCES.items()}
        # Half the seeds hold up those who have waited, too.
        self._holds_up_sleepers = self.draw() < 0.5
        self._decided = 0
        self._held: dict[Task, int] = {}

    def interrupt(self, task: Task, ready: list[Task], kind: str) -> Task | None:
        """See `Strategy`."""
        place = task.number, task.decisions
        task.decisions += 1
        self._behind.discard(task)
        self._decided += 1
        draw = self.draw()
        chance = self._chances[kind]
        if draw >= chance:
            return None
        chosen = self._free(ready)
        if chosen is None:
            return None
        self._held[task] = self._decided + (1 << int(self.draw() * _LONGEST_HOLD))
        self.taken[place] = chosen.number
        self._behind.add(task)
        return chosen

    def next(self, task: Task, ready: list[Task]) -> Task:
        """See `Strategy`."""
        place = task.number, task.decisions
        task.decisions += 1
        self._behind.discard(task)
        self._decided += 1
        if len(ready) == 1:
            return ready[0]
        if self._holds_up_sleepers and self.draw() < self._chances["io"]:
            held_up = ready[int(self.draw() * len(ready))]
            self._held[held_up] = self._decided + (1 << int(self.draw() * _LONGEST_HOLD))
        chosen = self._free(ready) or ready[0]
        if chosen is not self.plain(ready):
            self.taken[place] = chosen.number
        return chosen

    def _free(self, ready: list[Task]) -> Task | None:
        """One of those who are not held up, if there is any."""
        held, now = self._held, self._decided
        for _ in range(4):
            task = ready[int(self.draw() * len(ready))]
            if held.get(task, 0) <= now:
                return task
        free = [task for task in ready if held.get(task, 0) <= now]
        return free[int(self.draw() * len(free))] if free else None


class ReplayStrategy(Strategy):
    """The plain order except where a schedule says something else."""

    tells = True

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = dict(schedule)
        #: Who else could have gone on, decision by decision.
        self.offered: list[tuple[Place, tuple[int, ...]]] = []
        #: How many decisions had gone before those of the schedule.
        self.reached: dict[Place, int] = {}

    def interrupt(self, task: Task, ready: list[Task], kind: str) -> Task | None:
        """See `Strategy`."""
        chosen = self._wanted(task, ready)
        if chosen is not None:
            self._behind.add(task)
        return chosen

    def next(self, task: Task, ready: list[Task]) -> Task:
        """See `Strategy`."""
        return self._wanted(task, ready) or self.plain(ready)

    def _wanted(self, task: Task, ready: list[Task]) -> Task | None:
        place = task.number, task.decisions
        task.decisions += 1
        self._behind.discard(task)
        number = self._schedule.get(place)
        if number is None:
            self.offered.append((place, tuple(other.number for other in ready)))
            return None
        for other in ready:
            if other.number == number:
                self.taken[place] = number
                self.reached[place] = len(self.offered)
                return other
        return None
