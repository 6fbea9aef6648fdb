"""The faults of a link or a server: added, changed and taken away by name while connections live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import count

from .._support import UsageError
from ._fault import Entry, Plan

__all__ = ("Standing", "StandingPlan")


@dataclass(frozen=True, slots=True, repr=False)
class StandingPlan(Plan):
    """A plan whose entries keep the names that they were given when it joined others.

    Attributes:
        names: The name of each entry.
        draws: The name of the random stream of each entry.
    """

    names: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()

    def named(self) -> tuple[tuple[str, Entry], ...]:
        """See `Plan.named`."""
        return tuple(zip(self.names, self.entries, strict=True))

    def streams(self) -> tuple[tuple[str, str, Entry], ...]:
        """See `Plan.streams`."""
        return tuple(zip(self.names, self.draws, self.entries, strict=True))


class Standing:
    """Groups of faults in the order in which bytes meet them.

    A fault keeps its name and its random numbers for as long as it stands, whatever others come and go, and also when it is
    changed: the decision on which connections it works hangs on them.
    """

    def __init__(self) -> None:
        self.groups: dict[str, StandingPlan] = {}
        self._count = 0

    def __iter__(self) -> Iterator[tuple[str, StandingPlan]]:
        return iter(tuple(self.groups.items()))

    @property
    def plan(self) -> Plan:
        """All together."""
        return reduce(lambda one, other: one | Plan(other.entries), self.groups.values(), Plan())

    def add(self, key: str | None, faults: Plan) -> tuple[str, StandingPlan]:
        """Let faults stand behind the others; returns the key and the faults with their names.

        Raises:
            UsageError: The key is taken.
        """
        if key in self.groups:
            raise UsageError(f"there are faults under the key {key!r} already: update or remove those")
        if key is None:
            self._count += 1
            key = f"faults {self._count}"
        self.groups[key] = made = self._name(faults, self.groups.values())
        return key, made

    def replace(self, key: str, faults: Plan) -> StandingPlan:
        """Put others in the place of those.

        Raises:
            UsageError: There are none under this key.
        """
        before = self._get(key)
        others = [group for name, group in self.groups.items() if name != key]
        self.groups[key] = made = self._name(faults, others, before)
        return made

    def remove(self, key: str) -> StandingPlan:
        """Take faults away.

        Raises:
            UsageError: There are none under this key.
        """
        found = self._get(key)
        del self.groups[key]
        return found

    def _get(self, key: str) -> StandingPlan:
        try:
            return self.groups[key]
        except KeyError:
            known = ", ".join(map(repr, self.groups)) or "none"
            raise UsageError(f"there are no faults under the key {key!r}; there are {known}") from None

    def _name(
        self, faults: Plan, others: Iterable[StandingPlan], before: StandingPlan | None = None
    ) -> StandingPlan:
        others = tuple(others)
        taken = {name for group in others for name in group.names}
        numbers: Counter[str] = Counter()
        names = []
        for entry in faults.entries:
            name = kind = entry.fault.name
            while name in taken:
                numbers[kind] += 1
                name = f"{kind}#{numbers[kind] + 1}"
            taken.add(name)
            names.append(name)
        return StandingPlan(faults.entries, tuple(names), _draws(faults, others, before))


def _draws(faults: Plan, others: Iterable[StandingPlan], before: StandingPlan | None) -> tuple[str, ...]:
    """What the random streams of faults are called: as they were, for those that stood in this place already."""
    left = dict(zip(before.draws, before.entries, strict=True)) if before else {}
    chosen: dict[int, str] = {}
    for like in (_equal, _of_one_kind):
        for position, entry in enumerate(faults.entries):
            if position not in chosen:
                stream = next((stream for stream, old in left.items() if like(old, entry)), None)
                if stream is not None:
                    chosen[position] = stream
                    del left[stream]
    taken = {stream for group in others for stream in group.draws} | set(chosen.values())
    for position, entry in enumerate(faults.entries):
        if position not in chosen:
            chosen[position] = next(
                stream for number in count(1) if (stream := f"{entry.value} {number}") not in taken
            )
            taken.add(chosen[position])
    return tuple(chosen[position] for position in range(len(faults.entries)))


def _equal(old: Entry, new: Entry) -> bool:
    return old.fault == new.fault


def _of_one_kind(old: Entry, new: Entry) -> bool:
    return old.fault.name == new.fault.name
