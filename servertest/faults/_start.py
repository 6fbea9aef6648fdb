"""From a plan to the stages of one direction of one connection."""

from __future__ import annotations

from collections.abc import Callable
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
    for name, stream, entry in plan.streams():
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
            # Thousands of connections whose decisions nobody wants to know need not remember whom not to tell.
            **({} if note is untold else {"note": teller(note, connection, direction, name)}),
        )
        if entry.trigger is None or entry.trigger.meets(site):
            stages.append((f"{stream}: {entry.fault!r} {entry.trigger!r}", partial(_make, entry, site)))
    return stages


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
