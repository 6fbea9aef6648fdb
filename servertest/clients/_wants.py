"""What a read may wait for, each as a rule over a ReceiveBuffer. No socket, no clock.

A want is made for one read. It is asked again whenever bytes have come, remembers how far it has looked, and leaves the
buffer alone until it has all that it needs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._support import Mismatch, UsageError, byte_diff, count_bytes, first_difference, preview

if TYPE_CHECKING:
    from ._buffer import ReceiveBuffer

__all__ = (
    "Everything",
    "Exactly",
    "Line",
    "Literally",
    "Matching",
    "Some",
    "Until",
    "Want",
    "require_bytes",
    "show_pattern",
    "wanted",
)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")

_CHUNK = 65536


class Want(Generic[T]):
    """A rule that says when a read is complete. ``str()`` of it completes "waited for ..."."""

    def take(self, buffer: ReceiveBuffer) -> T | None:
        """Remove the result from the buffer, or return None if more has to come.

        Raises:
            Mismatch: Whatever comes, it cannot be right any more. The buffer is left as it is.
        """
        raise NotImplementedError

    def at_end(self, buffer: ReceiveBuffer) -> T | None:
        """The result now that the peer is done, or None if that was too early."""
        return None

    def hint(self, buffer: ReceiveBuffer) -> int:
        """How many bytes to ask the system for. A want that knows its size takes no more out of the kernel, so that
        a peer feels a reader that takes little at a time.
        """
        return _CHUNK


class Some(Want[bytes]):
    """Whatever comes first, up to a size; nothing at the end."""

    def __init__(self, size: int) -> None:
        self.size = _size(size, least=1)

    def __str__(self) -> str:
        return "any bytes"

    def take(self, buffer: ReceiveBuffer) -> bytes | None:
        return buffer.take(self.size) if buffer else None

    def at_end(self, buffer: ReceiveBuffer) -> bytes | None:
        return b""

    def hint(self, buffer: ReceiveBuffer) -> int:
        return self.size


class Exactly(Want[bytes]):
    """A number of bytes."""

    def __init__(self, size: int) -> None:
        self.size = _size(size, least=0)

    def __str__(self) -> str:
        return count_bytes(self.size)

    def take(self, buffer: ReceiveBuffer) -> bytes | None:
        return buffer.take(self.size) if len(buffer) >= self.size else None

    def hint(self, buffer: ReceiveBuffer) -> int:
        return min(self.size - len(buffer), _CHUNK)


class Until(Want[bytes]):
    """Everything up to a separator, which is included."""

    def __init__(self, separator: bytes, max_bytes: int) -> None:
        if not separator:
            raise UsageError("a separator is at least one byte")
        self.separator = separator
        self.max_bytes = _size(max_bytes, least=1)
        self._searched = 0

    def __str__(self) -> str:
        return f"bytes up to {self.separator!r}"

    def take(self, buffer: ReceiveBuffer) -> bytes | None:
        found = buffer.data.find(self.separator, self._searched)
        size = found + len(self.separator) if found >= 0 else len(buffer)
        if size > self.max_bytes or (found < 0 and size == self.max_bytes):
            raise Mismatch(
                f"{buffer.source} sent {len(buffer)} bytes and no {self.separator!r} within the first"
                f" {self.max_bytes} (max_bytes): {preview(buffer.data)}"
            )
        # The separator may have come in part: its beginning is looked at again.
        self._searched = max(0, len(buffer) - len(self.separator) + 1)
        return buffer.take(size) if found >= 0 else None


class Line(Until):
    """A line with its line feed; at the end, what there is, as with a file."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(b"\n", max_bytes)

    def __str__(self) -> str:
        return "a line"

    def at_end(self, buffer: ReceiveBuffer) -> bytes | None:
        return buffer.take(len(buffer))


class Everything(Want[bytes]):
    """All that comes until the peer is done."""

    def __str__(self) -> str:
        return "the end of the stream"

    def take(self, buffer: ReceiveBuffer) -> bytes | None:
        return None

    def at_end(self, buffer: ReceiveBuffer) -> bytes | None:
        return buffer.take(len(buffer))


class Literally(Want[bytes]):
    """These bytes and no others; fails at the first wrong one."""

    def __init__(self, expected: bytes) -> None:
        self.expected = expected
        self._agreed = 0

    def __str__(self) -> str:
        return preview(self.expected)

    def take(self, buffer: ReceiveBuffer) -> bytes | None:
        size = len(self.expected)
        came = buffer.data[self._agreed : size]
        if first_difference(self.expected[self._agreed : self._agreed + len(came)], came) is not None:
            raise Mismatch(
                f"{buffer.source} sent something else than was expected\n{byte_diff(self.expected, buffer.data)}"
            )
        self._agreed += len(came)
        return buffer.take(size) if self._agreed == size else None


class Matching(Want[re.Match[bytes]]):
    r"""The shortest beginning of the stream that a pattern matches.

    The shortest, because how the network cuts the stream must not decide what a greedy ``.*`` gets: two lines that come in
    one piece and two that come one by one give the same match. A pattern that matches some bytes is taken to match them
    with more behind them too, which is so unless it ends in ``$``, ``\Z``, ``\b`` or a negative lookahead.
    """

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern

    def __str__(self) -> str:
        return f"bytes that match {show_pattern(self.pattern)}"

    def take(self, buffer: ReceiveBuffer) -> re.Match[bytes] | None:
        if self.pattern.match(buffer.data) is None:
            return None
        low, high = 0, len(buffer)
        while low < high:
            middle = (low + high) // 2
            if self.pattern.match(buffer.data, 0, middle) is None:
                low = middle + 1
            else:
                high = middle
        # Matched once more on a copy: the match object looks into its string whenever it is asked for a group.
        match = self.pattern.match(bytes(buffer.data[:high]))
        buffer.take(match.end() if match else 0)
        return match


def wanted(expected: bytes | re.Pattern[bytes]) -> Want[Any]:
    """The want for what a caller expects: bytes literally, or what a pattern over bytes matches.

    Raises:
        UsageError: It is neither.
    """
    require_bytes(expected)
    return Matching(expected) if isinstance(expected, re.Pattern) else Literally(bytes(expected))


def require_bytes(expected: object) -> None:
    """Refuse what cannot be expected of a socket, such as text."""
    inner = expected.pattern if isinstance(expected, re.Pattern) else expected
    if not isinstance(inner, (bytes, bytearray, memoryview)):
        raise UsageError(f"expect() takes bytes or a compiled pattern over bytes, not {expected!r}")


def show_pattern(pattern: re.Pattern[bytes]) -> str:
    """A pattern as one would write it, with single backslashes."""
    text = pattern.pattern.decode("latin-1")
    raw = text.isascii() and text.isprintable() and "'" not in text
    return f"rb'{text}'" if raw else preview(pattern.pattern)


def _size(size: int, least: int) -> int:
    if size < least:
        raise UsageError(f"a number of bytes to read is at least {least}, not {size}")
    return size
