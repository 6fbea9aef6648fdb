"""The words of the `.wire` form: strings, hex, regular expressions, numbers, addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ._wire_error import Place, WireSyntaxError

__all__ = ("MOST_REPEATED", "Regex", "Scanner")

MOST_REPEATED = 256 << 20
"""Bytes that the repetitions of one file may come to: a file of a few lines must not fill the memory."""

_BLANK = re.compile(r"[ \t]*")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_HEX = re.compile(r"\[([^\]]*)\]")
_HEX_BYTES = re.compile(r"(?:[0-9A-Fa-f]{2}[ \t]*)*", re.ASCII)
_REGEX = re.compile(r"/((?:[^/\\]|\\.)*)/")
_COUNT = re.compile(r"[0-9]{1,18}(?![0-9])")
_INTEGER = re.compile(r"-?[0-9]{1,18}(?![0-9])")
_TIME = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_INET = re.compile(r"([A-Za-z0-9_.-]*[A-Za-z0-9_.]):([0-9]{1,5})(?![0-9])")
_INET6 = re.compile(r"\[([0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]:([0-9]{1,5})(?![0-9])")

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.?))", re.DOTALL)
_SIMPLE_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\", '"': b'"'}

# Characters that a reader would not see, or would see in another order than they have.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")

# \1 and (?(1)...) count groups, and several expressions are put together to one.
_COUNTS_GROUPS = re.compile(r"(?<!\\)(?:\\\\)*(\\[1-9]|\(\?\([0-9])")


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression for bytes, and where it stands."""

    source: bytes
    place: Place


class Scanner:
    """Goes through one line from left to right.

    Attributes:
        position: The index of the next character.
        allowance: Bytes that repetitions may still come to.
    """

    __slots__ = ("_line", "_path", "allowance", "position", "text")

    def __init__(self, text: str, line: int, path: str = "", allowance: int = MOST_REPEATED) -> None:
        self.text = text
        self.position = 0
        self.allowance = allowance
        self._line = line
        self._path = path
        self.skip_blank()

    def place(self, position: int | None = None) -> Place:
        """Where the scanner is, or where that position is."""
        column = (self.position if position is None else position) + 1
        return Place(self._line, column, self.text, self._path)

    def error(self, reason: str, position: int | None = None) -> WireSyntaxError:
        """The error to be raised about what is here, or at that position."""
        return WireSyntaxError(reason, self.place(position))

    def skip_blank(self) -> None:
        """Go past blanks."""
        match = _BLANK.match(self.text, self.position)
        assert match is not None
        self.position = match.end()

    @property
    def at_end(self) -> bool:
        """Whether nothing is left but a comment."""
        return self.position >= len(self.text) or self.text[self.position] == "#"

    def expect_end(self) -> None:
        """Refuse whatever is left."""
        if not self.at_end:
            raise self.error("nothing more was expected in this line; a comment begins with #")

    def take(self, token: str) -> bool:
        """Go past this token if it is next."""
        if not self.text.startswith(token, self.position):
            return False
        self._go(self.position + len(token))
        return True

    def word(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Go past what matches here, if anything does."""
        match = pattern.match(self.text, self.position)
        if match is not None:
            self._go(match.end())
        return match

    def next_is_value(self) -> bool:
        """Whether a string, hex or a regular expression is next."""
        return self.text[self.position : self.position + 1] in ('"', "[", "/") and bool(
            self.text[self.position :]
        )

    def value(self) -> bytes | Regex:
        """A string or hex, with a repetition or not, or a regular expression."""
        start = self.position
        if self.text.startswith("/", start):
            return self._regex()
        data = self.string() if self.text.startswith('"', start) else self._hex()
        if self.take("*"):
            times = self.count("a number of repetitions")
            self.allowance -= times * len(data)
            if self.allowance < 0:
                raise self.error(
                    f"the repetitions of this file come to more than {MOST_REPEATED >> 20} MiB", start
                )
            data *= times
        return data

    def string(self) -> bytes:
        """A string in double quotes."""
        start = self.position
        match = self.word(_STRING)
        if match is None:
            missing = self.text.startswith('"', start)
            raise self.error(
                'the closing " is missing' if missing else "a string in double quotes was expected"
            )
        if invisible := _INVISIBLE.search(match[1]):
            code = "".join(f"\\x{byte:02x}" for byte in invisible[0].encode("utf-8", "surrogatepass"))
            raise self.error(
                f"an invisible character: write it as {code}", match.start(1) + invisible.start()
            )
        return self._unescaped(match[1], match.start(1))

    def text_string(self) -> str:
        """A string that is text, not bytes."""
        start = self.position
        data = self.string()
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self.error(f"this is text, and its bytes are no UTF-8 ({error.reason})", start) from None

    def count(self, what: str) -> int:
        """A whole number from 0 up."""
        match = self.word(_COUNT)
        if match is None:
            raise self.error(f"{what} was expected")
        return int(match[0])

    def time(self) -> float | None:
        """A time, if an @ with digits is next."""
        start = self.position
        if not self.text.startswith("@", start) or self.text.startswith('@"', start):
            return None
        self.position += 1
        match = self.word(_TIME)
        if match is None:
            raise self.error("a time was expected, in seconds: @0.25")
        time = float(match[0])
        if time in (float("inf"), float("-inf")):
            raise self.error("this time is too far away", start)
        return time

    def address(self) -> Any:
        """An address as a socket function would return it."""
        start = self.position
        if match := self.word(_INET):
            return match[1], self._port(match, start)
        if match := self.word(_INET6):
            return match[1], self._port(match, start), 0, 0
        if self.text.startswith("->", start):
            raise self.error("an address was expected before the arrow; - where it is not known")
        if self.take("("):
            return self._tuple()
        return self._simple_address()

    def _simple_address(self) -> Any:
        if self.text.startswith('"', self.position):
            return self.text_string()
        if self.text.startswith('b"', self.position):
            self.position += 1
            return self.string()
        if self.text.startswith('@"', self.position):
            self.position += 1
            return b"\0" + self.string()
        if self.take("-"):
            return None
        raise self.error(
            'an address was expected: 127.0.0.1:80, [::1]:80, "/a/path", @"abstract name", or - for none'
        )

    def _tuple(self) -> tuple[Any, ...]:
        items: list[Any] = []
        while not self.take(")"):
            if items and not self.take(","):
                raise self.error(", or ) was expected")
            if number := self.word(_INTEGER):
                items.append(int(number[0]))
            else:
                items.append(self._simple_address())
        return tuple(items)

    def _port(self, match: re.Match[str], start: int) -> int:
        port = int(match[2])
        if port > 65535:
            raise self.error("a port is a number from 0 to 65535", match.start(2))
        return port

    def _hex(self) -> bytes:
        start = self.position
        match = self.word(_HEX)
        if match is None:
            raise self.error("the closing ] is missing")
        good = _HEX_BYTES.match(match[1].lstrip(" \t"))
        digits = match[1].lstrip(" \t")
        assert good is not None
        if good.end() < len(digits):
            blanks = len(match[1]) - len(digits)
            raise self.error("bytes in hex have two digits each: [00 ff]", start + 1 + blanks + good.end())
        return bytes.fromhex(digits)

    def _regex(self) -> Regex:
        place = self.place()
        match = self.word(_REGEX)
        if match is None:
            raise self.error("the closing / is missing; a slash inside is written \\/")
        for position, character in enumerate(match[1]):
            if not " " <= character <= "~":
                raise self.error(
                    "a regular expression holds printable ASCII only: write \\xHH", match.start(1) + position
                )
        if counted := _COUNTS_GROUPS.search(match[1]):
            raise self.error(
                "groups cannot be referred to by number here: write (?P<name>...) and (?P=name)",
                match.start(1) + counted.start(1),
            )
        self._check_regex(match)
        return Regex(match[1].encode("ascii"), place)

    def _check_regex(self, match: re.Match[str]) -> None:
        source = match[1].encode("ascii")
        # In a group of its own, too, as it will be put together with its neighbours: that excludes flags for all.
        for before, whole in ((0, source), (3, b"(?:%s)" % source)):
            try:
                re.compile(whole)
            except re.error as error:
                column = match.start(1) + max(0, (error.pos or 0) - before)
                raise self.error(
                    f"not a regular expression: {error.msg}", min(column, match.end(1))
                ) from None
            except (OverflowError, RecursionError, ValueError, Warning) as error:
                raise self.error(f"not a usable regular expression: {error}", match.start()) from None

    def _unescaped(self, body: str, start: int) -> bytes:
        if "\\" not in body:
            return body.encode("utf-8")
        parts = []
        end = 0
        for match in _ESCAPE.finditer(body):
            parts.append(body[end : match.start()].encode("utf-8"))
            simple = _SIMPLE_ESCAPES.get(match[2] or "")
            if match[1] is not None:
                simple = bytes.fromhex(match[1])
            if simple is None:
                raise self.error('an escape is one of \\n \\r \\t \\\\ \\" and \\xHH', start + match.start())
            parts.append(simple)
            end = match.end()
        parts.append(body[end:].encode("utf-8"))
        return b"".join(parts)

    def _go(self, position: int) -> None:
        self.position = position
        self.skip_blank()
