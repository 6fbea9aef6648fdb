"""What somebody waits for a transcript to hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .._support import UsageError, preview

if TYPE_CHECKING:
    import re

    from ._events import Direction

__all__ = ("Wanted",)

Content: TypeAlias = "bytes | re.Pattern[bytes] | None"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Conditions that must all be met; those that are None do not count."""

    connections: int | None
    closed: int | None
    failures: int | None
    upstream: Content
    downstream: Content
    until: Callable[[], bool] | None

    def __post_init__(self) -> None:
        if not str(self):
            raise UsageError(
                "wait_for() was not told what to wait for: say connections=, closed=, upstream= ..."
            )

    def __str__(self) -> str:
        parts = []
        if self.connections is not None:
            parts.append(_count(self.connections, "connection"))
        if self.closed is not None:
            parts.append(_count(self.closed, "connection") + " to end")
        if self.failures is not None:
            parts.append(_count(self.failures, "failure"))
        if self.upstream is not None:
            parts.append(f"{_content(self.upstream)} from a client")
        if self.downstream is not None:
            parts.append(f"{_content(self.downstream)} from the server")
        if self.until is not None:
            parts.append("until() to return true")
        return ", and ".join(parts)

    def met(
        self,
        opened: int,
        closed: int,
        failed: int,
        find: Callable[[Direction, bytes | re.Pattern[bytes]], bool],
    ) -> bool:
        """Whether all conditions hold, given the counts and a way to look for content."""
        return (
            (self.connections is None or opened >= self.connections)
            and (self.closed is None or closed >= self.closed)
            and (self.failures is None or failed >= self.failures)
            and (self.upstream is None or find("upstream", self.upstream))
            and (self.downstream is None or find("downstream", self.downstream))
            and (self.until is None or self.until())
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _content(content: bytes | re.Pattern[bytes]) -> str:
    return preview(content) if isinstance(content, bytes) else f"something like {preview(content.pattern)}"
