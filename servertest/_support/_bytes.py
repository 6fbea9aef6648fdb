"""Bytes for human eyes: cut sensibly, or two of them side by side."""

from __future__ import annotations

__all__ = ("byte_diff", "count_bytes", "first_difference", "preview", "what_came")

# byte_diff() shows what fits a terminal line in hex, and that many bytes of it before the first difference.
_WIDTH = 28
_BEFORE = 12


def preview(data: bytes | bytearray, limit: int = 120) -> str:
    """``data`` as Python writes it; the middle is left out where it is longer than ``limit`` bytes."""
    if len(data) <= limit:
        return repr(bytes(data))
    tail = limit // 4
    head = limit - tail
    return f"{bytes(data[:head])!r} ... {bytes(data[-tail:])!r} ({len(data)} bytes)"


def count_bytes(number: int) -> str:
    """``1 byte``, ``2 bytes``."""
    return f"{number} byte" if number == 1 else f"{number} bytes"


def what_came(so_far: bytes | bytearray) -> str:
    """The bytes that came before something went wrong, as the end of a sentence."""
    return f"{count_bytes(len(so_far))} came: {preview(so_far)}" if so_far else "nothing came"


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
    start = 0 if position <= _WIDTH - _BEFORE else position - _BEFORE
    wanted = _window(expected, start)
    got = _window(received, start)
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


def _window(data: bytes | bytearray, start: int) -> tuple[str, str]:
    stop = start + _WIDTH
    part = bytes(data[start:stop])
    before = "... " if start else ""
    after = " ..." if stop < len(data) else ""
    return f"{before}{part!r}{after}", f"{before}{part.hex(' ')}{after}"


def _ending(expected: bytes | bytearray, received: bytes | bytearray, position: int) -> str:
    if position == len(received):
        return f": nothing came after that; {count_bytes(len(expected) - position)} missing"
    if position == len(expected):
        return f": {count_bytes(len(received) - position)} too many"
    return ""
