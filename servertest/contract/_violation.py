"""One thing that is wrong with a subject, with all that is needed to see it oneself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ("Violation",)


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that a subject does and should not.

    Attributes:
        check: The check that found it.
        kind: On which kind of server; "in memory" where no server was needed.
        explanation: What is wrong, in a sentence.
        sent: What the client sent.
        came: What it got.
        expected: What it should have got; None if that is not about bytes.
        seed: What repeats the search that found it.
        details: Traceback, stacks, figures.
        transcript: What passed.
        reproduction: A program that shows it.
        also: How many more examples of the same were seen.
    """

    check: str
    kind: str
    explanation: str
    sent: bytes = b""
    came: bytes = b""
    expected: bytes | None = None
    seed: int = 0
    details: str = ""
    transcript: str = ""
    reproduction: str = ""
    also: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; bytes as Python writes them."""
        return {
            name: repr(value) if isinstance(value, bytes) else value for name, value in asdict(self).items()
        }

    def __str__(self) -> str:
        more = f" (and {self.also} more like it)" if self.also else ""
        return f"{self.check} ({self.kind}): {self.explanation}{more}"
