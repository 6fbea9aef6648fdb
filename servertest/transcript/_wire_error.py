"""What is said of a `.wire` file that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._support import UsageError

__all__ = ("Place", "WireSyntaxError")

# A terminal line, without the indentation.
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A column of a line of a file; both count from 1.

    Attributes:
        text: The whole line.
        path: The file, if it is one.
    """

    line: int
    column: int
    text: str
    path: str = ""


class WireSyntaxError(UsageError):
    """A text is not in the `.wire` form; the message shows the line with a caret below the place.

    Attributes:
        line: The line, from 1.
        column: The column in characters, from 1; one more than the line has where something is missing at its end.
        path: The file's name, or "" for a text that is no file.
        reason: The message without place and line.
    """

    def __init__(self, reason: str, place: Place) -> None:
        where = (
            f"{place.path}:{place.line}:{place.column}"
            if place.path
            else f"line {place.line}, column {place.column}"
        )
        picture = f"\n{_pointed_at(place)}" if place.text else ""
        super().__init__(f"{where}: {reason}{picture}")
        self.reason = reason
        self.line = place.line
        self.column = place.column
        self.path = place.path
        self._place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self._place)


def _pointed_at(place: Place) -> str:
    """The line, or what of a long one is near the place, and a caret below."""
    start = max(0, min(place.column - 1 - _WIDTH // 2, len(place.text) - _WIDTH))
    shown = "".join(
        character if character.isprintable() else "?" for character in place.text[start : start + _WIDTH]
    )
    before = "... " if start else ""
    after = " ..." if start + _WIDTH < len(place.text) else ""
    return f"    {before}{shown}{after}\n    {' ' * (len(before) + place.column - 1 - start)}^"
