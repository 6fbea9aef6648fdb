"""What is expected to come: exact bytes, a pattern, or anything that can tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ._wire_error import WireSyntaxError
from ._wire_reader import Piece
from ._wire_scanner import Regex

if TYPE_CHECKING:
    from ._framing import Framing

__all__ = ("Exchange", "Expected", "matches")

Expected: TypeAlias = bytes | re.Pattern[bytes] | Callable[[bytes], object]
"""Exact bytes, a pattern that all of the bytes must match, or a function that returns true for the right bytes."""


def matches(expected: Expected, received: bytes) -> bool:
    """Whether ``received`` is, as a whole, what was expected."""
    if isinstance(expected, bytes):
        return received == expected
    if isinstance(expected, re.Pattern):
        return expected.fullmatch(received) is not None
    return bool(expected(received))


@dataclass(frozen=True, slots=True)
class Exchange:
    """Something that a client sends, and what it expects in return.

    Attributes:
        sent: The bytes that the client sends; none where the server speaks first.
        expected: What the server answers, as a whole; ``b""`` for nothing.
        line: The line of the file that it was read from; 0 if it was not.
        framing: Says where the answer ends, if that cannot be told from what is expected.
    """

    sent: bytes
    expected: Expected
    line: int = 0
    framing: Framing | None = None

    def answered_by(self, received: bytes) -> bool:
        """Whether ``received`` is, as a whole, what was expected."""
        return matches(self.expected, received)


def expectation(pieces: Iterable[Piece]) -> bytes | re.Pattern[bytes]:
    """What pieces from a file expect together: bytes, or a pattern if there is any in them.

    Raises:
        WireSyntaxError: The patterns cannot stand together; two groups have the same name, say.
    """
    pieces = tuple(pieces)
    patterns = [piece for piece in pieces if isinstance(piece, Regex)]
    if not patterns:
        return b"".join(piece for piece in pieces if isinstance(piece, bytes))
    # Alone, it stands in reports as it was written.
    source = (
        patterns[0].source
        if len(pieces) == 1
        else b"".join(
            b"(?:%s)" % piece.source if isinstance(piece, Regex) else re.escape(piece) for piece in pieces
        )
    )
    try:
        return re.compile(source)
    except (re.error, OverflowError, RecursionError, ValueError, Warning) as error:
        raise WireSyntaxError(
            f"the expressions from here on cannot stand together: {error}", patterns[0].place
        ) from None
