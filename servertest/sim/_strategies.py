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

__all__ = ("Place", "RandomStrategy", "ReplayStrategy", "Schedule", "Strategy")

Place: TypeAlias = tuple[int, int]
"""A task's number, and how many decisions it was asked for before."""

Schedule: TypeAlias = Mapping[Place, int]
"""At which places another task goes on than in the plain order, and which."""


class Strategy:
    """The plain order: a task runs until it has to wait, and who has waited longest is next."""

    #: Whether the history shall say where a thread made way.
    tells = False

    def __init__(self) -> None:
        self.taken: dict[Place, int] = {}

    def interrupt(self, task: Task, ready: list[Task], kind: str) -> Task | None:
        """Whether a task that could go on has to make way, and for whom. It has come to something that others may notice."""
        task.decisions += 1
        return None

    def next(self, task: Task, ready: list[Task]) -> Task:
        """Who goes on when a task has to wait."""
        task.decisions += 1
        return ready[0]

    def draw(self) -> float:
        """A random number from 0 to 1, for what else is left to chance."""
        return 0.0


class RandomStrategy(Strategy):
    """Draws each decision from a stream of its own.

    Args:
        seed: Of the simulation.
        switches: How likely it is that a task makes way where it could go on, by what it is about to do: "io", "line".
    """

    def __init__(self, seed: int | str, switches: Mapping[str, float]) -> None:
        super().__init__()
        self._random = random.Random(derived_seed(seed, "schedule"))  # noqa: S311 - it has to repeat
        self.draw = self._random.random  # type: ignore[method-assign]
        self._switches = switches

    def interrupt(self, task: Task, ready: list[Task], kind: str) -> Task | None:
        """See `Strategy`."""
        place = task.number, task.decisions
        task.decisions += 1
        draw = self.draw()
        chance = self._switches[kind]
        if draw >= chance:
            return None
        chosen = ready[int(draw / chance * len(ready))]
        self.taken[place] = chosen.number
        return chosen

    def next(self, task: Task, ready: list[Task]) -> Task:
        """See `Strategy`."""
        place = task.number, task.decisions
        task.decisions += 1
        if len(ready) == 1:
            return ready[0]
        index = int(self.draw() * len(ready))
        if index:
            self.taken[place] = ready[index].number
        return ready[index]


class ReplayStrategy(Strategy):
    """The plain order except where a schedule says something else."""

    tells = True

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self._schedule = dict(schedule)

    def interrupt(self, task: Task, ready: list[Task], kind: str) -> Task | None:
        """See `Strategy`."""
        return self._wanted(task, ready)

    def next(self, task: Task, ready: list[Task]) -> Task:
        """See `Strategy`."""
        return self._wanted(task, ready) or ready[0]

    def _wanted(self, task: Task, ready: list[Task]) -> Task | None:
        place = task.number, task.decisions
        task.decisions += 1
        number = self._schedule.get(place)
        if number is None:
            return None
        for other in ready:
            if other.number == number:
                self.taken[place] = number
                return other
        return None
