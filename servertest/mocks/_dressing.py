"""The faults of a conversation, and of single steps in it, as what a line puts to work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from ..faults import Plan, start

if TYPE_CHECKING:
    from .._support import Transport
    from ..faults import Decision, Stage
    from ..transcript import Direction

__all__ = ()

Stages: TypeAlias = "list[tuple[str, Callable[[], Stage]]]"


@dataclass(slots=True)
class Dressing:
    """Starts faults for one conversation.

    Attributes:
        whole: What goes wrong on all of it.
        seed: Where random numbers come from.
        connection: Its number.
        transport: "stream" or "datagram".
        note: Is told what faults decide.
        opened: When it began.
    """

    whole: Plan
    seed: int | str
    connection: int
    transport: Transport
    note: Callable[[Decision], None]
    opened: float = 0.0

    def stages(self, direction: Direction, of_step: Plan | None = None, name: str = "") -> Stages:
        """What is at work in one direction: the faults of the whole conversation, and behind them those of a step.

        Args:
            direction: Which.
            of_step: The step's, aimed or not: what is not aimed works on what the server does.
            name: What tells this time of this step from all others.
        """
        found = self._started(self.whole, direction, self.seed)
        if of_step:
            theirs = self._started(_aimed(of_step, direction), direction, f"{self.seed} {name}")
            found += [(f"{name} {key}", make) for key, make in theirs]
        return found

    def _started(self, faults: Plan, direction: Direction, seed: int | str) -> Stages:
        return start(
            faults,
            seed=seed,
            connection=self.connection,
            direction=direction,
            transport=self.transport,
            opened=self.opened,
            note=self.note,
        )


def _aimed(faults: Plan, direction: Direction) -> Plan:
    """Those of a step that work in this direction: on what the server does, unless they are aimed at what the client sends."""
    return Plan(
        tuple(replace(e, direction=direction) for e in faults if (e.direction or "downstream") == direction)
    )
