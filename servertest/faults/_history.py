"""Faults with their seed and what they have decided: what repeats a run, and what a report shows of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ._fault import Plan, plan
from ._trace import Trace

if TYPE_CHECKING:
    from ._trace import Decision

__all__ = ("History",)

_Place = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class History:
    """What went wrong in one place.

    Attributes:
        who: What had the faults, such as "link 1".
        faults: The faults.
        seed: Where their random numbers came from.
        trace: What they have decided.
        started: The time from which a report counts, on the clock of the decisions.
    """

    who: str
    faults: Plan
    seed: int | str
    trace: Trace
    started: float = 0.0

    def render(self, *, max_lines: int = 20) -> str:
        """Faults, seed, and which of them hit which connection, when, and how; for people.

        Args:
            max_lines: How many lines at most say what was hit.
        """
        return "\n".join([f"faults: {self.faults!r}", f"seed: {self.seed!r}", *self.hits(max_lines)])

    def hits(self, max_lines: int = 20) -> list[str]:
        """Which fault hit which connection, when, and how: a line for each direction of each connection that it has hit."""
        places: dict[_Place, list[Decision]] = {}
        for decision in self.trace:
            where = decision.connection, decision.direction, decision.fault
            places.setdefault(where, []).append(decision)
        if not places:
            return ["nothing was hit"]
        lines = [self._line(found) for found in places.values()]
        if len(lines) > max_lines:
            lines[max_lines:] = [f"... and {len(lines) - max_lines} more like these"]
        if missing := self.trace.missing:
            lines.append(f"{missing} decisions more were only counted")
        return lines

    def _line(self, found: list[Decision]) -> str:
        first, last = found[0], found[-1]
        text = f"{first.time - self.started:9.3f} s  connection {first.connection} {first.direction:<10}  {first.fault}: {first.what}"
        if len(found) > 1:
            text += f" (and {len(found) - 1} more, the last at {last.time - self.started:.3f} s)"
        return text

    def lines(self) -> Iterator[str]:
        """As JSON, one object a line; `read` takes it."""
        try:
            text: str | None = self.faults.text
        except UsageError:
            text = None  # a function decides: that cannot be written down
        yield json.dumps({"who": self.who, "faults": text, "shown": repr(self.faults), "seed": self.seed})
        yield from self.trace.lines()

    @classmethod
    def read(cls, lines: Iterable[str], source: object = "history") -> tuple[History, bool]:
        """What `lines` has given.

        Args:
            lines: The lines.
            source: Where they are from, for messages.

        Returns:
            The history, and whether its faults could be written down; if not, they are empty.

        Raises:
            UsageError: It is something else; the message names the source.
        """
        head, *rest = lines
        try:
            record: dict[str, Any] = json.loads(head)
            who, text, seed = record["who"], record["faults"], record["seed"]
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{source}: this is no history of faults: {error}") from None
        return cls(str(who), plan(text), seed, Trace.read(rest, source)), text is not None
