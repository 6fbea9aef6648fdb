"""A history as a ladder: a column for each thread, time running down."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ("draw_ladder",)

_WIDTH = 38


def draw_ladder(entries: Sequence[tuple[int, str, str]], *, lines: int = 60) -> str:
    """Draw what happened.

    Args:
        entries: Nanoseconds, who, and what.
        lines: How many lines at most: the last ones.
    """
    shown = entries[-lines:]
    names = list(dict.fromkeys(who for _, who, _ in shown))
    head = " " * 12 + "".join(f"{name[: _WIDTH - 2]:<{_WIDTH}}" for name in names)
    rows = [head.rstrip()]
    if len(entries) > lines:
        rows.append(f"  ... {len(entries) - lines} lines before")
    for now, who, what in shown:
        indent = " " * (_WIDTH * names.index(who))
        rows.append(f"{now / 1e9:10.6f}  {indent}{what}".rstrip())
    return "\n".join(rows)
