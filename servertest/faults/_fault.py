"""What all faults have in common: fields that are checked, a name, composition, aim and trigger."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast

from .._support import UsageError
from ._declared import Declared
from ._triggers import Numbers, Trigger

if TYPE_CHECKING:
    from .._support import Transport
    from ..transcript import Direction
    from ._calls import Calls
    from ._stage import Site, Stage

__all__ = (
    "Entry",
    "Fault",
    "Faults",
    "Place",
    "Plan",
    "downstream",
    "plan",
    "registry",
    "upstream",
)

_registry: dict[str, type[Fault]] = {}
registry: Mapping[str, type[Fault]] = MappingProxyType(_registry)
"""Every kind of fault that exists, by the name that it has in text."""

Place: TypeAlias = Literal["line", "calls", "listener"]
"""Where a fault works: on what passes, on the calls of a socket, or where connections are accepted."""


class _Composed:
    """What can be joined with others, and triggered: faults and plans."""

    def __or__(self, other: Faults) -> Plan:
        return Plan(plan(cast("Faults", self)).entries + plan(other).entries)

    def __ror__(self, other: Faults) -> Plan:
        return Plan(plan(other).entries + plan(cast("Faults", self)).entries)

    def on(
        self,
        *,
        connection: Numbers | None = None,
        every: int | None = None,
        first: int | None = None,
        probability: float | None = None,
        after_bytes: int | None = None,
        pattern: bytes | re.Pattern[bytes] | None = None,
        between: tuple[float, float] | None = None,
        datagram: Numbers | None = None,
        when: Callable[[Site], bool] | None = None,
    ) -> Plan:
        """The same, but only where and when all of these conditions hold; see `Trigger`.

        Args:
            connection: On these connections, counted from 1 (of datagrams: peers): a number, several, or a range.
            every: On every nth connection.
            first: On the first so many connections, then never again.
            probability: How likely a connection is hit; drawn once for each.
            after_bytes: After so many bytes have passed in its direction.
            pattern: After these bytes, or a match of this expression, have passed; of datagrams those that contain it.
            between: Between two times in seconds since the connection was made.
            datagram: These datagrams of a direction, counted from 1.
            when: Is given the `Site` at the start of each direction, and says whether the fault works there.

        Raises:
            UsageError: A value is outside its range, conditions contradict each other, or there are none.
        """
        trigger = Trigger(
            connection=connection,
            every=every,
            first=first,
            probability=probability,
            after_bytes=after_bytes,
            pattern=pattern,
            between=between,
            datagram=datagram,
            when=when,
        )
        if not trigger:
            raise UsageError("on: give at least one condition, such as connection=1")
        return Plan(
            tuple(
                replace(entry, trigger=entry.trigger.joined(trigger) if entry.trigger else trigger)
                for entry in plan(cast("Faults", self))
            )
        )


class Fault(_Composed, Declared):
    """One thing that goes wrong. Subclasses are frozen dataclasses, and are known by name as soon as they are defined.

    Faults are joined with ``|``; bytes meet them from left to right, in both directions unless aimed with
    `upstream` or `downstream`. `on` says when they work.

    Attributes:
        name: What it is called in text: the class name in small letters, with underscores.
        carried_by: The transports on which it makes sense.
        why_not: Why it makes none on the others, and what to use there.
        place: Where it works: "line", on what passes; "calls", on the calls of a socket; "listener", where connections
            are accepted.
        at_connect: Whether a fault of listeners can be had at a client, too: what it does to ``accept`` there befalls ``connect``.
        usual_direction: On which way it works where it is not aimed; None for both.
        lossless: Whether every byte or datagram arrives once and unchanged, if perhaps late; at the latest when the fault
            is taken away.
    """

    carried_by: ClassVar[frozenset[Transport]] = frozenset({"stream", "datagram"})
    why_not: ClassVar[str] = ""
    place: ClassVar[Place] = "line"
    at_connect: ClassVar[bool] = False
    usual_direction: ClassVar[Direction | None] = None
    lossless: ClassVar[bool] = False

    def __init_subclass__(cls, *, abstract: bool = False) -> None:
        super().__init_subclass__()
        if not abstract and not cls.__name__.startswith("_"):
            _registry[cls.name] = cls

    def __str__(self) -> str:
        return Plan.of(self).text

    def stage(self, site: Site) -> Stage:
        """Begin to work on one direction of one connection.

        Args:
            site: Where, and the random numbers.

        Raises:
            UsageError: The fault does not work on what passes.
        """
        raise UsageError(f"{type(self).__name__} does not work on what passes: its place is the {self.place}")

    def calls(self, site: Site) -> Calls:
        """Begin to work on the calls of one socket, or of one listener.

        Args:
            site: Where, and the random numbers.

        Raises:
            UsageError: The fault does not work on calls.
        """
        raise UsageError(f"{type(self).__name__} does not work on calls: its place is the {self.place}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A fault's place in a plan.

    Attributes:
        fault: What goes wrong.
        direction: On which way; None for both.
        trigger: When; None for always.
    """

    fault: Fault
    direction: Direction | None = None
    trigger: Trigger | None = None

    @property
    def value(self) -> str:
        """The kind and the value of the fault: the beginning of the name of its random stream."""
        return f"{self.fault.name} {self.fault!r}"

    @property
    def source(self) -> str:
        """As it stands in a Python expression, but for the aim."""
        return f"{self.fault!r}.on({self.trigger.arguments})" if self.trigger else repr(self.fault)


@dataclass(frozen=True, slots=True, repr=False)
class Plan(_Composed):
    """Faults in the order in which bytes meet them.

    Attributes:
        entries: The faults with their aims and triggers.
    """

    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(self.entries))

    @classmethod
    def of(cls, *faults: Fault, direction: Direction | None = None) -> Plan:
        """A plan of these faults, all aimed alike."""
        return cls(tuple(Entry(fault, direction) for fault in faults))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __repr__(self) -> str:
        if not self.entries:
            return "Plan()"
        if len(self.entries) == 1 and self.entries[0] == Entry(self.entries[0].fault):
            return f"plan({self.entries[0].source})"
        groups = []
        for direction, entries in groupby(self.entries, key=lambda entry: entry.direction):
            text = " | ".join(entry.source for entry in entries)
            groups.append(f"{direction}({text})" if direction else text)
        return " | ".join(groups)

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The plan in its text form, which `plan` reads.

        Raises:
            UsageError: A trigger calls a function: that cannot be written down.
        """
        from ._writing import written

        return written(self)

    def named(self) -> tuple[tuple[str, Entry], ...]:
        """Each entry with a name of its own, for traces and counters: that of its fault, and from the second of a kind on its
        number.
        """
        seen: dict[str, int] = {}
        named = []
        for entry in self.entries:
            name = entry.fault.name
            count = seen[name] = seen.get(name, 0) + 1
            named.append((f"{name}#{count}" if count > 1 else name, entry))
        return tuple(named)

    def streams(self) -> tuple[tuple[str, str, Entry], ...]:
        """Each entry with its name and the name of its random stream.

        A stream is named by the fault's value, and from the second of equal ones by its number too: whatever is added before
        or behind changes nobody's draws.
        """
        seen: dict[str, int] = {}
        named = []
        for name, entry in self.named():
            value = entry.value
            seen[value] = seen.get(value, 0) + 1
            named.append((name, f"{value} {seen[value]}", entry))
        return tuple(named)

    def check(self, transport: Transport, places: tuple[Place, ...] = ("line", "calls", "listener")) -> None:
        """Refuse what makes no sense on this transport, or cannot be done here.

        Args:
            transport: "stream" or "datagram".
            places: What can be done here: a proxy can work on the line alone.

        Raises:
            UsageError: A fault is for the other transport, or for another place; the message gives the reason.
        """
        for entry in self.entries:
            fault = entry.fault
            if transport not in fault.carried_by:
                reason = f": {fault.why_not}" if fault.why_not else ""
                raise UsageError(f"{type(fault).__name__} is not for a {transport}{reason}")
            if fault.place not in places and not (fault.at_connect and "calls" in places):
                raise UsageError(f"{type(fault).__name__} cannot be done here: {_ELSEWHERE[fault.place]}")
            if entry.trigger:
                entry.trigger.check(transport, fault)


_ELSEWHERE: dict[Place, str] = {
    "line": "it works on bytes that pass from one side to the other",
    "calls": "it works on the calls that a program makes on its own socket: wrap that with faulty(), or give it to serve() "
    "or connect()",
    "listener": "it works where connections are accepted: give it to the server, or to a proxy in front",
}

Faults: TypeAlias = "Fault | Plan | str | None"
"""What is accepted wherever faults are: one, several, their text, or none."""


def plan(faults: Faults) -> Plan:
    """Whatever stands for faults, as a plan.

    Args:
        faults: Faults joined with ``|``; or their text, such as ``latency:0.05,jitter:0.01|slicer:3``; or None.

    Raises:
        UsageError: It is no fault, or its text is malformed.
    """
    if faults is None:
        return Plan()
    if isinstance(faults, Plan):
        return faults
    if isinstance(faults, Fault):
        return Plan.of(faults)
    if isinstance(faults, str):
        from ._text import read  # knows all families

        return read(faults)
    raise UsageError(f"faults are Fault values, joined with |, or their text, not {faults!r}{_meant(faults)}")


def _meant(faults: Any) -> str:
    """What was probably meant, as the end of a message."""
    if isinstance(faults, type) and issubclass(faults, Fault):
        return f": write {faults.__name__}()"
    if isinstance(faults, list | tuple | set) and faults and all(isinstance(one, Fault) for one in faults):
        return f": write {' | '.join(map(repr, faults))}"
    return ""


def upstream(*faults: Faults) -> Plan:
    """Aim at what clients send.

    Raises:
        UsageError: A fault is aimed downstream already.
    """
    return _aimed("upstream", faults)


def downstream(*faults: Faults) -> Plan:
    """Aim at what servers send.

    Raises:
        UsageError: A fault is aimed upstream already.
    """
    return _aimed("downstream", faults)


def _aimed(direction: Direction, faults: tuple[Faults, ...]) -> Plan:
    whole: Plan = reduce(lambda one, other: one | other, map(plan, faults), Plan())
    for entry in whole:
        if entry.direction not in (None, direction):
            raise UsageError(f"{entry.source} is aimed {entry.direction} already, and cannot go {direction}")
    return Plan(tuple(replace(entry, direction=direction) for entry in whole))
