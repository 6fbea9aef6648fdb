"""Whether what has come is what a step expects: yes, no, or not yet. No socket, no clock."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from .._support import Transport, UsageError, byte_diff, first_difference, preview
from ..transcript import BadFrame, Expected, Framing, check_framing
from ._partial import could_become, fits_up_to
from ._values import Expectable, Frame, Raw

__all__ = ()


@dataclass(frozen=True, slots=True)
class Found:
    """It is what was expected.

    Attributes:
        size: How many of the bytes it takes.
        message: What it says.
        variables: What was captured.
    """

    size: int
    message: bytes
    variables: Mapping[str, bytes] = field(default_factory=dict)


Answer: TypeAlias = Found | Literal["no", "maybe", "unsure"]
"""Found; or no, whatever comes; or only more bytes can tell; or nobody can tell."""


class Matcher(ABC):
    """One expectation; a value without state."""

    @abstractmethod
    def offer(self, data: bytes | bytearray, *, ended: bool) -> Answer:
        """Look at the bytes that have come and were not taken.

        Args:
            data: The bytes.
            ended: Whether nothing more comes.
        """

    @abstractmethod
    def __str__(self) -> str:
        """As it stands in reports."""

    def difference(self, received: bytes) -> str:
        """Lines that show where the bytes differ from what is expected."""
        return f"  expected {self}\n  received {preview(received)}"

    def likeness(self, received: bytes) -> float:
        """How near the bytes come, from 0 to 1: to find the nearest of several expectations."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Literally(Matcher):
    """These bytes, and whatever behind them."""

    expected: bytes

    def offer(self, data: bytes | bytearray, *, ended: bool) -> Answer:
        """These bytes first."""
        if data.startswith(self.expected):
            return Found(len(self.expected), self.expected)
        if not ended and self.expected.startswith(bytes(data[: len(self.expected)])):
            return "maybe"
        return "no"

    def __str__(self) -> str:
        return shown(self.expected)

    def difference(self, received: bytes) -> str:
        """Both around the first byte that differs."""
        return byte_diff(self.expected, received)

    def likeness(self, received: bytes) -> float:
        """How much they have in common."""
        return _likeness(self.expected, received)


@dataclass(frozen=True, slots=True)
class Matching(Matcher):
    """The shortest beginning of the stream that a pattern matches: how the network cuts it must not decide."""

    pattern: re.Pattern[bytes]

    def offer(self, data: bytes | bytearray, *, ended: bool) -> Answer:
        """What the pattern matches first."""
        found = self._shortest(bytes(data))
        if found is not None:
            return Found(found.end(), found[0], _captured(found))
        if ended:
            return "no"
        possible = could_become(self.pattern, data)
        return "unsure" if possible is None else "maybe" if possible else "no"

    def _shortest(self, data: bytes) -> re.Match[bytes] | None:
        if self.pattern.match(data) is None:
            return None
        low, high = 0, len(data)
        while low < high:
            middle = (low + high) // 2
            if self.pattern.match(data[:middle]) is None:
                low = middle + 1
            else:
                high = middle
        return self.pattern.match(data[:high])

    def __str__(self) -> str:
        return shown(self.pattern)

    def difference(self, received: bytes) -> str:
        """Where the pattern stops fitting."""
        return pattern_difference(self.pattern, received)

    def likeness(self, received: bytes) -> float:
        """How much of it fits."""
        return pattern_likeness(self.pattern, received)


@dataclass(frozen=True, slots=True)
class Framed(Matcher):
    """One whole message in a framing."""

    expected: bytes | re.Pattern[bytes] | Callable[[bytes], object]
    framing: Framing

    def offer(self, data: bytes | bytearray, *, ended: bool) -> Answer:
        """The first message."""
        try:
            cut = self.framing.cut(data, ended=ended)
        except BadFrame:
            return "no"
        if cut is None:
            return "no" if ended else "maybe"
        return self._judge(cut.message, cut.size)

    def _judge(self, message: bytes, size: int) -> Answer:
        if isinstance(self.expected, bytes):
            return Found(size, message) if message == self.expected else "no"
        if isinstance(self.expected, re.Pattern):
            found = self.expected.fullmatch(message)
            return "no" if found is None else Found(size, message, _captured(found))
        said = self.expected(message)
        if isinstance(said, Mapping):
            return Found(size, message, dict(said))
        return Found(size, message) if said else "no"

    def __str__(self) -> str:
        return shown(self.expected)

    def difference(self, received: bytes) -> str:
        """As of the bytes, or the pattern, of the message."""
        if isinstance(self.expected, bytes):
            return byte_diff(self.expected, received)
        if isinstance(self.expected, re.Pattern):
            return pattern_difference(self.expected, received)
        return Matcher.difference(self, received)

    def likeness(self, received: bytes) -> float:
        """As of the bytes, or the pattern, of the message."""
        if isinstance(self.expected, bytes):
            return _likeness(self.expected, received)
        return pattern_likeness(self.expected, received) if isinstance(self.expected, re.Pattern) else 0.0


@dataclass(frozen=True, slots=True)
class TheEnd(Matcher):
    """The client has finished sending, or cut the connection off; no bytes are that.

    Attributes:
        reset: Cut it off.
    """

    reset: bool = False

    def offer(self, data: bytes | bytearray, *, ended: bool) -> Answer:
        """Bytes are not the end."""
        return "no" if data else "maybe"

    def __str__(self) -> str:
        return "the client's reset" if self.reset else "the end of what the client sends"


@dataclass(frozen=True, slots=True)
class Anything(Matcher):
    """A message, whatever it says; where messages have no framing, all that has come."""

    framing: Framing | None

    def offer(self, data: bytes | bytearray, *, ended: bool) -> Answer:
        """The first message, or everything."""
        if self.framing is None:
            return Found(len(data), bytes(data)) if data else "maybe"
        try:
            cut = self.framing.cut(data, ended=ended)
        except BadFrame:
            return Found(len(data), bytes(data))
        if cut is not None:
            return Found(cut.size, cut.message)
        return "no" if ended else "maybe"

    def __str__(self) -> str:
        return "anything else"


def matcher_for(expected: Expectable, framing: Framing | None, transport: Transport = "stream") -> Matcher:
    """The matcher for what a caller expects.

    Args:
        expected: Bytes, a pattern, a function, a `Frame` or `Raw` bytes.
        framing: That of the server's messages; None if they have none.
        transport: Where it is to come.

    Raises:
        UsageError: It cannot be expected; the message says what to do.
    """
    if isinstance(expected, Raw):
        return Literally(_some(expected.data))
    if isinstance(expected, Frame):
        own = expected.framing if expected.framing is not None else framing
        if own is None:
            raise UsageError(
                "Frame: say its framing, or give the mock server one: framing=Delimited() for example"
            )
        check_framing(own, transport)
        return _framed(cast("Any", expected.message), own)
    if framing is not None:
        return _framed(expected, framing)
    if isinstance(expected, re.Pattern):
        return Matching(_of_bytes(expected))
    if isinstance(expected, (bytes, bytearray)):
        return Literally(_some(bytes(expected)))
    if callable(expected):
        raise UsageError(
            "expect: a function judges whole messages, and a stream has none of itself: give the mock server a framing, "
            "framing=Delimited() for example, or expect a Frame"
        )
    raise UsageError(_NO_EXPECTATION.format(expected))


def _framed(expected: Any, framing: Framing) -> Matcher:
    if isinstance(expected, re.Pattern):
        return Framed(_of_bytes(expected), framing)
    if isinstance(expected, (bytes, bytearray)):
        framing.wrap(bytes(expected))  # refuses what can never come
        return Framed(bytes(expected), framing)
    if not callable(expected):
        raise UsageError(_NO_EXPECTATION.format(expected))
    return Framed(expected, framing)


def check_expected(verb: str, expected: Expected) -> None:
    """Refuse what no whole request could be compared with.

    Raises:
        UsageError: It says with what it can be.
    """
    if isinstance(expected, re.Pattern):
        _of_bytes(expected)
    elif not isinstance(expected, bytes) and not callable(expected):
        raise UsageError(f"{verb}: bytes, a pattern over bytes or a function is looked for, not {expected!r}")


_NO_EXPECTATION = (
    "expect: bytes, a compiled pattern over bytes, a function, a Frame or Raw bytes can be expected, not {!r}"
)


def _some(data: bytes) -> bytes:
    if not data:
        raise UsageError("expect: no bytes can be expected of a stream; for its end there is expect_eof()")
    return data


def _of_bytes(pattern: re.Pattern[Any]) -> re.Pattern[bytes]:
    if not isinstance(pattern.pattern, bytes):
        raise UsageError(
            f"expect: a pattern is over bytes, as in re.compile(b'...'), not {pattern.pattern!r}"
        )
    return pattern


def _captured(found: re.Match[bytes]) -> dict[str, bytes]:
    return {name: value for name, value in found.groupdict().items() if value is not None}


# -- for reports


def shown(expected: object) -> str:
    """What is expected or said, as reports show it: ``"text"``, ``/pattern/``, ``[00 ff]``, a function's name."""
    if isinstance(expected, (bytes, bytearray)):
        return _shown_bytes(bytes(expected))
    if isinstance(expected, re.Pattern):
        source = (
            expected.pattern.decode("latin-1") if isinstance(expected.pattern, bytes) else expected.pattern
        )
        return f"/{''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in source)}/"
    name = getattr(expected, "__qualname__", None) or repr(expected)
    return f"what {str(name).rpartition('<locals>.')[2]}() accepts"


#: Bytes that are shown in hex.
_HEX = 16


def _shown_bytes(data: bytes, most: int = 48) -> str:
    part = data[:most]
    more = f" ... {len(data) - most} more bytes" if len(data) > most else ""
    readable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in part)
    if readable * 5 >= len(part) * 4:
        text = repr(part)[2:-1].replace("\\'", "'").replace('"', '\\"')
        return f'"{text}"{more}'
    if len(data) <= _HEX:
        return f"[{data.hex(' ')}]"
    return f"[{data[:_HEX].hex(' ')}] ... {len(data) - _HEX} more bytes"


def pattern_difference(pattern: re.Pattern[bytes], received: bytes) -> str:
    """Two lines: the pattern, and the bytes with a mark where they stop fitting, if that can be told."""
    lines = f"  expected {shown(pattern)}\n  received {preview(received)}"
    fits = fits_up_to(pattern, received[:4096])
    if fits is None or fits > 60:
        return lines
    column = len("  received b'") + len(repr(received[:fits])) - len("b''")
    where = "fits, and something is missing" if fits == len(received) else f"byte {fits} does not fit"
    return f"{lines}\n{' ' * column}^ {where}"


def pattern_likeness(pattern: re.Pattern[bytes], received: bytes) -> float:
    """How much of the bytes fits."""
    fits = fits_up_to(pattern, received[:4096])
    return 0.0 if fits is None or not received else fits / len(received[:4096])


def _likeness(expected: bytes, received: bytes) -> float:
    import difflib

    common = first_difference(expected, received)
    if common is None:
        return 1.0
    if len(expected) > 2000 or len(received) > 2000:
        return common / max(len(expected), len(received))
    return difflib.SequenceMatcher(None, expected, received, autojunk=False).ratio()
