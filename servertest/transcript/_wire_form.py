"""The `.wire` form of events: text that people can read, compare and write, and that keeps every byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO

from ._events import Data, Datagram, Event
from ._wire_error import WireSyntaxError
from ._wire_reader import Passing, PeerNamed, Statement, read_statements
from ._wire_scanner import Regex
from ._wire_writer import write_lines

__all__ = ("dump_wire", "parse_wire", "read_wire", "write_wire")


def dump_wire(events: Iterable[Event], *, times: bool = True) -> str:
    """Events as text in the `.wire` form.

    Args:
        events: The events, such as `Transcript.events`, in the order in which they are to stand.
        times: Whether to write when each happened. Without, the same conversation gives the same text again.

    Raises:
        UsageError: An event holds what the form has no words for, such as an infinite time.
    """
    return "".join(f"{line}\n" for line in write_lines(events, times=times))


def write_wire(events: Iterable[Event], file: TextIO, *, times: bool = True) -> None:
    """Write events to a text file (encoding UTF-8) one by one; otherwise as `dump_wire`."""
    for line in write_lines(events, times=times):
        file.write(f"{line}\n")


def parse_wire(text: str) -> tuple[Event, ...]:
    """The events that a text in the `.wire` form tells.

    Raises:
        WireSyntaxError: It is not in that form, or holds a regular expression, which is no bytes.
    """
    return tuple(read_wire(text.split("\n")))


def read_wire(lines: Iterable[str | bytes], *, path: str = "") -> Iterator[Event]:
    """Read events one by one.

    Args:
        lines: Lines of the `.wire` form, such as an open file; bytes are UTF-8.
        path: The file's name, for messages.

    Raises:
        WireSyntaxError: A line is not in that form, or holds a regular expression, which is no bytes.
    """
    for statement in read_statements(lines, path):
        if isinstance(statement.what, Passing):
            yield from _events_of(statement, statement.what)
        elif not isinstance(statement.what, PeerNamed):
            yield statement.what


def _events_of(statement: Statement, passing: Passing) -> Iterator[Event]:
    parts = []
    for piece in passing.pieces:
        if isinstance(piece, Regex):
            raise WireSyntaxError(
                "a regular expression stands for many bytes: a transcript holds those that passed",
                piece.place,
            )
        parts.append(piece)
    data = b"".join(parts)
    if passing.datagram:
        yield Datagram(statement.time, statement.connection, passing.direction, data, passing.address)
    elif data:
        yield Data(statement.time, statement.connection, passing.direction, data)
