"""Bytes as hex beside text."""

from __future__ import annotations

__all__ = ("hexdump",)

# More than sixteen in a line cannot be counted at a glance.
_MOST = 16
_FEWEST = 4

# Text is broken where its lines end, so that each line of a protocol begins a line here.
_PRINTABLE = frozenset(range(0x20, 0x7F))
_TEXT = _PRINTABLE | frozenset(b"\t\r\n")

_SHOWN_AS = bytes(byte if byte in _PRINTABLE else ord(".") for byte in range(256))


def hexdump(data: bytes, *, width: int = 80, max_lines: int | None = None) -> list[str]:
    """Lines of hex beside text.

    Args:
        data: What to show.
        width: Columns at most, as far as four bytes in a line allow.
        max_lines: The middle is left out, and the gap is told, where there would be more lines than this.

    Returns:
        At least one line; none ends in white space.
    """
    columns = max(_FEWEST, min(_MOST, (width - 3) // 4))
    rows = _rows(data, columns)
    if max_lines is not None and len(rows) > max(3, max_lines):
        return _cut(data, rows, max(3, max_lines), columns)
    return [_line(data[start:stop], columns) for start, stop in rows]


def _cut(data: bytes, rows: list[tuple[int, int]], most: int, columns: int) -> list[str]:
    tail = (most - 1) // 3
    head = most - 1 - tail
    before, after = rows[:head], rows[len(rows) - tail :]
    left_out = (after[0][0] if after else len(data)) - before[-1][1]
    lines = [_line(data[start:stop], columns) for start, stop in before]
    lines.append(f"... {left_out:,} B left out ...")
    return lines + [_line(data[start:stop], columns) for start, stop in after]


def _rows(data: bytes, columns: int) -> list[tuple[int, int]]:
    rows = []
    start = 0
    while start < len(data):
        stop = min(start + columns, len(data))
        newline = data.find(b"\n", start, stop)
        if newline >= 0 and _TEXT.issuperset(data[start:newline]):
            stop = newline + 1
        rows.append((start, stop))
        start = stop
    return rows or [(0, 0)]


def _line(data: bytes, columns: int) -> str:
    left, right = data[: columns // 2].hex(" "), data[columns // 2 :].hex(" ")
    halves = f"{left}  {right}" if right else left
    return f"{halves:<{columns * 3}}  {data.translate(_SHOWN_AS).decode('ascii')}".rstrip()
