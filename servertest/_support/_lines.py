"""Text for people."""

from __future__ import annotations

__all__ = ("shorten_lines",)

#: Nobody reads more of one line: it may hold the repr of a whole request.
_LINE_LIMIT = 2_000


def shorten_lines(text: str) -> str:
    """Each line of a text, or its beginning and how many characters more it has."""
    if len(text) <= _LINE_LIMIT:
        return text
    return "\n".join(map(_shorten, text.split("\n")))


def _shorten(line: str) -> str:
    if len(line) <= _LINE_LIMIT:
        return line
    return f"{line[:_LINE_LIMIT]}... ({len(line) - _LINE_LIMIT:,} more characters)"
