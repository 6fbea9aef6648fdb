"""The faults of a link: added, changed and taken away by name while connections live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

from .._support import UsageError
from ..faults import Entry, Plan

__all__ = ("Standing", "StandingPlan")


@dataclass(frozen=True, slots=True, repr=False)
class StandingPlan(Plan):
    """A plan whose entries keep the names that they were given when it joined others.

    Attributes:
        names: The name of each entry.
    """

    names: tuple[str, ...] = ()

    def named(self) -> tuple[tuple[str, Entry], ...]:
        """See `Plan.named`."""
        return tuple(zip(self.names, self.entries, strict=True))


class Standing:
    """Groups of faults in the order in which bytes meet them.

    A fault keeps its name for as long as it stands, whatever others come and go: its random numbers and the decision on
    which connections it works hang on that.
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
        self._get(key)
        others = [group for name, group in self.groups.items() if name != key]
        self.groups[key] = made = self._name(faults, others)
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

    def _name(self, faults: Plan, others: Iterable[StandingPlan]) -> StandingPlan:
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
        return StandingPlan(faults.entries, tuple(names))
