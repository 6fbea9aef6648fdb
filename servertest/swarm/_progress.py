"""How a swarm stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ("Progress",)


@dataclass(frozen=True, slots=True)
class Progress:
    """How a swarm stands.

    Attributes:
        seconds: Since it began.
        waiting: Clients that have not begun.
        open: Connections that are there, or under way.
        connections: Connections that were begun so far.
        counts: How those ended that have.
    """

    seconds: float = 0.0
    waiting: int = 0
    open: int = 0
    connections: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.open:,} open"]
        if self.waiting:
            parts.append(f"{self.waiting:,} to come")
        ended = {"cut off": self.cut_off_by_server} | {
            how.replace("_", " "): self.counts.get(how, 0)
            for how in ("refused", "timed_out", "failed", "finished")
        }
        return ", ".join([*parts, *(f"{count:,} {how}" for how, count in ended.items() if count)])

    @property
    def cut_off_by_server(self) -> int:
        """Connections that the server has cut off so far."""
        return self.counts.get("closed", 0) + self.counts.get("reset", 0)
