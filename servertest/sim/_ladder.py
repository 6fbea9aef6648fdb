"""A history as a ladder: a lane for each thread, time running down."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ("draw_ladder",)

#: More lanes than this would leave no room for what is said.
_LANES = 20
_NAME = 24


def draw_ladder(entries: Sequence[tuple[int, str, str]], *, lines: int = 60) -> str:
    """Draw what happened: each thread has a lane, and on each line the one that acts is marked, with ``>`` where it was made to make way.

    Args:
        entries: Nanoseconds, who, and what.
        lines: How many lines at most: the last ones.
    """
    shown = entries[-lines:]
    names = list(dict.fromkeys(who for _, who, _ in shown))
    lanes = min(len(names), _LANES)
    width = min(max((len(name) for name in names), default=0), _NAME)
    rows = []
    if len(entries) > lines:
        rows.append(f"... {len(entries) - lines} lines before")
    before: int | None = None
    for now, who, what in shown:
        lane = names.index(who)
        mark = ">" if what.startswith("makes way") else "*"
        rungs = "".join(f" {mark if at == min(lane, lanes - 1) else '|'}" for at in range(lanes))
        time = "" if now == before else f"{now / 1e9:.6f}"
        rows.append(f"{time:>11} {rungs}  {_short(who, width):<{width}}  {what}".rstrip())
        before = now
    return "\n".join(rows)


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 3] + "..."
