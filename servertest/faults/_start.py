"""From a plan to the stages of one direction of one connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from ._gate import Gate
from ._stage import Site, Stage
from ._trace import Decision

if TYPE_CHECKING:
    from .._support import Transport
    from ..transcript import Direction
    from ._fault import Entry, Plan

__all__ = ("start",)


def untold(decision: Decision) -> None:
    """Decisions that nobody wants to know."""


def start(
    plan: Plan,
    *,
    seed: int | str = 0,
    connection: int = 1,
    direction: Direction = "downstream",
    transport: Transport = "stream",
    opened: float = 0.0,
    note: Callable[[Decision], None] = untold,
) -> list[tuple[str, Callable[[], Stage]]]:
    """What a line needs to carry one direction of one connection through a plan: give it to `Line.set_stages`.

    Faults that are aimed the other way, or not triggered on this connection, are left out; so are those that work on
    calls or listeners. A key stays the same for as long as fault and trigger do: a line keeps the state of what stays.

    Args:
        plan: The faults.
        seed: The seed of the run.
        connection: The connection's number, from 1; for datagrams the peer's.
        direction: "upstream" (client to server) or "downstream".
        transport: "stream" or "datagram".
        opened: When the connection was made, on the clock that drives the line.
        note: Is told each decision, such as a `Trace`.

    Raises:
        UsageError: A fault is for the other transport.
    """
    plan.check(transport)
    stages: list[tuple[str, Callable[[], Stage]]] = []
    for name, stream, entry in streams(plan):
        aim = entry.direction or entry.fault.usual_direction
        if entry.fault.place != "line" or aim not in (None, direction):
            continue
        site = Site(
            seed,
            stream,
            connection=connection,
            direction=direction,
            transport=transport,
            opened=opened,
            note=teller(note, connection, direction, name),
        )
        if entry.trigger is None or entry.trigger.meets(site):
            key = f"{stream} {entry.trigger!r}" if entry.trigger else stream
            stages.append((key, partial(_make, entry, site)))
    return stages


def streams(plan: Plan) -> Iterator[tuple[str, str, Entry]]:
    """For each entry its name, the name of its random stream, and itself.

    A stream is named by the fault's value, and from the second of equal ones by its number too: whatever is added before
    or behind, on a live connection or not, changes nobody's draws.
    """
    seen: Counter[str] = Counter()
    for name, entry in plan.named():
        value = f"{entry.fault.name} {entry.fault!r}"
        seen[value] += 1
        yield name, f"{value} {seen[value]}", entry


def teller(
    note: Callable[[Decision], None], connection: int, direction: Direction, fault: str
) -> Callable[[float, str], None]:
    """What turns the words of a stage into a decision."""

    def tell(time: float, what: str) -> None:
        note(Decision(time, connection, direction, fault, what))

    return tell


def _make(entry: Entry, site: Site) -> Stage:
    stage = entry.fault.stage(site)
    if entry.trigger is not None and entry.trigger.dynamic:
        return Gate(stage, entry.trigger, site)
    return stage
