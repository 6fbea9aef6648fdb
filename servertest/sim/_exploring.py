"""Many seeds: is each of them one history, which is the first that fails, and what is the least that makes it fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ._errors import NotDeterministic
from ._ladder import draw_ladder
from ._simulation import Simulation
from ._strategies import ReplayStrategy, Schedule

__all__ = ("FailingSeed", "check_deterministic", "explore")

#: How often a schedule is tried while it is made smaller.
_ATTEMPTS = 400


@dataclass(frozen=True)
class FailingSeed:
    """What was found.

    Attributes:
        seed: The first seed that failed.
        error: What was raised.
        tried: How many seeds were tried, with this one.
        schedule: The fewest places at which another thread has to go on so that it still fails; give it to ``schedule=``.
        history: What happened with that schedule, line by line.
    """

    seed: int
    error: BaseException
    tried: int
    schedule: Schedule
    history: tuple[tuple[int, str, str], ...]

    def __str__(self) -> str:
        switches = f"{len(self.schedule)} switch{'' if len(self.schedule) == 1 else 'es'}"
        return (
            f"seed {self.seed} failed, after {self.tried - 1} that did not: {type(self.error).__name__}: {self.error}\n"
            f"It takes {switches} beside the plain order of things:\n{self.ladder()}"
        )

    def ladder(self, lines: int = 60) -> str:
        """The last lines of that history, with a column for each thread."""
        return draw_ladder(self.history, lines=lines)


def check_deterministic(
    scenario: Callable[[Simulation], object], seeds: Iterable[int] = range(10), **options: Any
) -> None:
    """Run a scenario twice with each seed, and compare everything that happened.

    Args:
        scenario: Is given the simulation.
        seeds: The seeds.
        options: As for `Simulation`.

    Raises:
        NotDeterministic: Two runs differ; the message shows where first.
    """
    for seed in seeds:
        first, second = (_run(scenario, seed, options) for _ in range(2))
        if first.digest != second.digest:
            raise NotDeterministic(_difference(seed, first.history, second.history))
        outcomes = _outcome(first), _outcome(second)
        if outcomes[0] != outcomes[1]:
            raise NotDeterministic(f"seed {seed}: ends with {outcomes[0]}, and again with {outcomes[1]}")


@dataclass
class _Run:
    net: Simulation
    error: BaseException | None

    @property
    def digest(self) -> str:
        return self.net.digest

    @property
    def history(self) -> list[str]:
        return self.net.history


def _run(scenario: Callable[[Simulation], object], seed: int, options: dict[str, Any]) -> _Run:
    net = Simulation(seed, **options)
    try:
        with net:
            scenario(net)
    except Exception as error:  # noqa: BLE001 - the outcome, whatever it is
        return _Run(net, error)
    return _Run(net, None)


def _outcome(run: _Run) -> str:
    return "no error" if run.error is None else f"{type(run.error).__name__}: {run.error}"


def _difference(seed: int, first: list[str], second: list[str]) -> str:
    for number, (one, other) in enumerate(itertools.zip_longest(first, second)):
        if one != other:
            before = "\n".join(f"    {line}" for line in first[max(number - 5, 0) : number])
            return f"seed {seed} gave two histories; line {number + 1} differs, after\n{before}\n  - {one}\n  + {other}"
    return f"seed {seed} gave two histories, which differ before the lines that were kept"


def explore(
    scenario: Callable[[Simulation], object],
    seeds: Iterable[int] = range(200),
    *,
    minimise: bool = True,
    **options: Any,
) -> FailingSeed | None:
    """Look for a seed with which a scenario fails.

    Args:
        scenario: Is given the simulation; fails by raising.
        seeds: The seeds, in the order in which they are tried.
        minimise: Whether to look for the smallest schedule that fails in the same way.
        options: As for `Simulation`.

    Returns:
        The first that fails, or None.
    """
    for tried, seed in enumerate(seeds, 1):
        run = _run(scenario, seed, options)
        if run.error is None:
            continue
        schedule = dict(run.net.schedule)
        if minimise:
            schedule = _smallest(scenario, seed, options, schedule, type(run.error))
        last = _replay(scenario, seed, options, schedule)
        if last.error is None:
            schedule, last = dict(run.net.schedule), run
        return FailingSeed(seed, run.error, tried, schedule, tuple(last.net.log.entries))
    return None


def _replay(
    scenario: Callable[[Simulation], object], seed: int, options: dict[str, Any], schedule: Schedule
) -> _Run:
    return _run(scenario, seed, {**options, "schedule": schedule})


def _single_switch(
    scenario: Callable[[Simulation], object], seed: int, options: dict[str, Any], kind: type[BaseException]
) -> dict[Any, int] | None:
    """One switch that is enough, if there is such: most races need no more than one at the wrong place."""
    plain = _replay(scenario, seed, options, {})
    assert isinstance(plain.net.strategy, ReplayStrategy)
    offered = [(place, number) for place, numbers in plain.net.strategy.offered for number in numbers]
    for place, number in offered[:_ATTEMPTS]:
        if type(_replay(scenario, seed, options, {place: number}).error) is kind:
            return {place: number}
    return None


def _two_switches(
    scenario: Callable[[Simulation], object],
    seed: int,
    options: dict[str, Any],
    known: dict[Any, int],
    kind: type[BaseException],
) -> dict[Any, int] | None:
    """Two switches that are enough, one of which is known to be among those that make it fail."""
    for place, number in known.items():
        strategy = _replay(scenario, seed, options, {place: number}).net.strategy
        assert isinstance(strategy, ReplayStrategy)
        middle = strategy.reached.get(place, 0)
        offered = [
            (abs(at - middle), other, one)
            for at, (other, numbers) in enumerate(strategy.offered)
            for one in numbers
        ]
        # What lies near the known one is the most likely.
        for _, other, one in sorted(offered)[: _ATTEMPTS // len(known)]:
            if type(_replay(scenario, seed, options, {place: number, other: one}).error) is kind:
                return {place: number, other: one}
    return None


def _smallest(
    scenario: Callable[[Simulation], object],
    seed: int,
    options: dict[str, Any],
    schedule: dict[Any, int],
    kind: type[BaseException],
) -> dict[Any, int]:
    """Leave out as many places as possible: halves, then quarters, then single ones (Zeller's ddmin)."""
    budget = itertools.count()

    def fails(places: list[Any]) -> bool:
        if next(budget) >= _ATTEMPTS:
            return False
        run = _replay(scenario, seed, options, {place: schedule[place] for place in places})
        return type(run.error) is kind

    kept = list(schedule)
    if not fails(kept):
        return schedule
    if fails([]):
        return {}
    single = _single_switch(scenario, seed, options, kind)
    if single is not None:
        return single
    size = max(len(kept) // 2, 1)
    while True:
        start = 0
        shrunk = False
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if fails(rest):
                kept, shrunk = rest, True
            else:
                start += size
        if size == 1 and not shrunk:
            found = {place: schedule[place] for place in kept}
            return (_two_switches(scenario, seed, options, found, kind) if len(found) > 2 else None) or found
        size = max(size // 2, 1)
