"""What all faults have in common: fields that are checked, a name, composition, aim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from .._support import UsageError

if TYPE_CHECKING:
    from .._support import Transport
    from ..transcript import Direction
    from ._stage import Site, Stage

__all__ = ("Entry", "Fault", "Plan", "downstream", "plan", "registry", "upstream")

_registry: dict[str, type[Fault]] = {}
registry: Mapping[str, type[Fault]] = MappingProxyType(_registry)
"""Every kind of fault that exists, by the name that it has in text."""


class Fault:
    """One thing that goes wrong. Subclasses are frozen dataclasses, and are known by name as soon as they are defined.

    Faults are joined with ``|``; bytes meet them from left to right, in both directions unless aimed with
    `upstream` or `downstream`.

    Attributes:
        name: What it is called in text: the class name in small letters, with underscores.
        carried_by: The transports on which it makes sense.
    """

    name: ClassVar[str]
    carried_by: ClassVar[frozenset[Transport]] = frozenset({"stream", "datagram"})

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        super().__init_subclass__()
        if not abstract and not cls.__name__.startswith("_"):
            cls.name = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__).lstrip("_")
            _registry[cls.name] = cls

    def stage(self, site: Site) -> Stage:
        """Begin to work on one direction of one connection.

        Args:
            site: Where, and the random numbers.
        """
        raise NotImplementedError

    def __or__(self, other: Faults) -> Plan:
        return Plan.of(self) | other

    def __ror__(self, other: Faults) -> Plan:
        return plan(other) | self


@dataclass(frozen=True, slots=True)
class Entry:
    """A fault's place in a plan.

    Attributes:
        fault: What goes wrong.
        direction: On which way; None for both.
    """

    fault: Fault
    direction: Direction | None = None

    def __repr__(self) -> str:
        return f"{self.direction}({self.fault!r})" if self.direction else repr(self.fault)


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """Faults in the order in which bytes meet them.

    Attributes:
        entries: The faults with their aims.
    """

    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, *faults: Fault, direction: Direction | None = None) -> Plan:
        """A plan of these faults, all aimed alike."""
        return cls(tuple(Entry(fault, direction) for fault in faults))

    def __or__(self, other: Faults) -> Plan:
        return Plan(self.entries + plan(other).entries)

    def __ror__(self, other: Faults) -> Plan:
        return plan(other) | self

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.entries)) or "Plan()"

    def named(self) -> tuple[tuple[str, Entry], ...]:
        """Each entry with a name of its own: that of its fault, and from the second of a kind on its number.

        Another fault that is added changes no name, and so nobody's random numbers.
        """
        seen: dict[str, int] = {}
        named = []
        for entry in self.entries:
            name = entry.fault.name
            count = seen[name] = seen.get(name, 0) + 1
            named.append((f"{name}#{count}" if count > 1 else name, entry))
        return tuple(named)

    def check(self, transport: Transport) -> None:
        """Refuse what makes no sense on this transport.

        Raises:
            UsageError: A fault is for the other transport; the message gives the reason.
        """
        for entry in self.entries:
            if transport not in entry.fault.carried_by:
                raise UsageError(f"{entry.fault!r} is not for a {transport}")


Faults: TypeAlias = "Fault | Plan | str | None"
"""What is accepted wherever faults are: one, several, their text, or none."""


def plan(faults: Faults) -> Plan:
    """Whatever stands for faults, as a plan.

    Raises:
        UsageError: It is no fault, or its text is malformed.
    """
    if faults is None:
        return Plan()
    if isinstance(faults, Plan):
        return faults
    if isinstance(faults, Fault):
        return Plan.of(faults)
    raise UsageError(f"faults are Fault values, joined with |, or their text, not {faults!r}")


def upstream(*faults: Faults) -> Plan:
    """Aim at what clients send."""
    return _aimed("upstream", faults)


def downstream(*faults: Faults) -> Plan:
    """Aim at what servers send."""
    return _aimed("downstream", faults)


def _aimed(direction: Direction, faults: tuple[Faults, ...]) -> Plan:
    whole: Plan = reduce(lambda one, other: one | other, map(plan, faults), Plan())
    for entry in whole:
        if entry.direction not in (None, direction):
            raise UsageError(f"{entry!r} is aimed {entry.direction} already, and cannot go {direction}")
    return Plan(tuple(Entry(entry.fault, direction) for entry in whole))
