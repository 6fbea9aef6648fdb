"""Bytes for human eyes: cut sensibly, or two of them side by side."""

from __future__ import annotations

__all__ = ("byte_diff", "first_difference", "preview")

# How many bytes byte_diff() shows on each side of the first difference: what fits a terminal line in hex.
_BEFORE = 8
_AFTER = 16


def preview(data: bytes | bytearray, limit: int = 120) -> str:
    """``data`` as Python writes it; the middle is left out where it is longer than ``limit`` bytes."""
    if len(data) <= limit:
        return repr(bytes(data))
    tail = limit // 4
    head = limit - tail
    return f"{bytes(data[:head])!r} ... {bytes(data[-tail:])!r} ({len(data)} bytes)"


def first_difference(expected: bytes | bytearray, received: bytes | bytearray) -> int | None:
    """Where two byte strings part, counted from 0; the shorter one's length if it is merely a beginning of
    the other; None if they are equal.
    """
    if expected == received:
        return None
    shared = min(len(expected), len(received))
    low, high = 0, shared
    # Comparing halves runs in C; comparing megabytes byte by byte in Python takes seconds.
    while low < high:
        middle = (low + high + 1) // 2
        if expected[low:middle] == received[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def byte_diff(expected: bytes | bytearray, received: bytes | bytearray) -> str:
    """Both byte strings around their first difference: as text, and as hex with a mark under the first wrong byte.

    Returns:
        Four or five lines without a final line break. They say so when one of the two merely ends early.
    """
    position = first_difference(expected, received)
    if position is None:
        return f"  both are {preview(expected)}"
    start = max(0, position - _BEFORE)
    wanted = _window(expected, start, position)
    got = _window(received, start, position)
    indent = 3 * (position - start) + (4 if start else 0)
    return "\n".join(
        (
            f"  expected text: {wanted[0]}",
            f"  received text: {got[0]}",
            f"  expected hex:  {wanted[1]}",
            f"  received hex:  {got[1]}",
            f"                 {' ' * indent}^^ byte {position}{_ending(expected, received, position)}",
        )
    )


def _window(data: bytes | bytearray, start: int, position: int) -> tuple[str, str]:
    stop = position + _AFTER
    part = bytes(data[start:stop])
    before = "... " if start else ""
    after = " ..." if stop < len(data) else ""
    return f"{before}{part!r}{after}", f"{before}{part.hex(' ')}{after}"


def _ending(expected: bytes | bytearray, received: bytes | bytearray, position: int) -> str:
    if position == len(received):
        return f": nothing came after that; {len(expected) - position} bytes are missing"
    if position == len(expected):
        return f": {len(received) - position} bytes too many"
    return ""
