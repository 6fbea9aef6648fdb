"""From events to lines of the `.wire` form."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from .._support import UsageError
from ._events import Close, Connect, Data, Datagram, Direction, Event, Failure, Gap, HalfClose, Note
from ._wire_scanner import MOST_REPEATED

__all__ = ("write_lines",)

_ARROWS: dict[Direction, str] = {"upstream": ">", "downstream": "<"}

# What a line of bytes holds at most: a screen's width, as text or as hex beside a comment with the text.
_TEXT_COLUMNS = 90
_HEX_COLUMNS = 16

# Fewer equal bytes than this in a row are written out.
_RUN = re.compile(rb"(.)\1{63,}", re.DOTALL)

_TEXT = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_ESCAPES = {byte: f"\\x{byte:02x}" for byte in range(256) if not 0x20 <= byte < 0x7F}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord("\\"): "\\\\", ord('"'): '\\"'}
_COMMENT = bytes(byte if 0x20 <= byte < 0x7F else ord(".") for byte in range(256))

_INET_HOST = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_.]")
_INET6_HOST = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?")


def write_lines(events: Iterable[Event], *, times: bool = True) -> Iterator[str]:
    """The lines, without their ends.

    Args:
        events: In the order in which they are to stand.
        times: Whether to write when each happened. Without, the same conversation always gives the same text.

    Raises:
        UsageError: An event holds what the form has no words for.
    """
    yield "wire 1"
    writer = _Writer(times)
    for event in events:
        yield from writer.lines(event)


class _Writer:
    def __init__(self, times: bool) -> None:
        self._times = times
        self._time = 0.0
        self._connection = 1
        self._peers: dict[int, Any] = {}
        self._allowance = MOST_REPEATED

    def lines(self, event: Event) -> Iterator[str]:
        if not 0 <= event.connection < 10**18:
            raise UsageError(f"a connection's number is from 0 to 10**18 - 1, not {event.connection}")
        if isinstance(event, Connect):
            yield from self._connect(event)
        elif isinstance(event, Datagram):
            yield from self._datagram(event)
        elif isinstance(event, Data):
            yield from self._data(event)
        else:
            first, *rest = _words(event)
            yield self._prefix(event) + first
            yield from rest

    def _connect(self, event: Connect) -> Iterator[str]:
        ends = ""
        if event.client is not None or event.server is not None:
            ends = f" {_address(event.client)} -> {_address(event.server)}"
        time = self._time_prefix(event.time)
        self._connection = event.connection
        self._peers.pop(event.connection, None)
        yield f"{time}connect {event.connection}{ends}"

    def _datagram(self, event: Datagram) -> Iterator[str]:
        number = event.connection
        if number not in self._peers or self._peers[number] != event.address:
            self._peers[number] = event.address
            self._connection = number
            yield f"{self._time_prefix(event.time)}peer {number} {_address(event.address)}"
        yield from self._bytes(self._prefix(event) + _ARROWS[event.direction], event.data)

    def _data(self, event: Data) -> Iterator[str]:
        if event.connection in self._peers:
            raise UsageError(f"connection {event.connection} has both datagrams and a stream")
        if event.data:
            yield from self._bytes(self._prefix(event) + _ARROWS[event.direction], event.data)

    def _bytes(self, start: str, data: bytes) -> Iterator[str]:
        indent = " " * (len(start) + 1)
        for value in self._values(data):
            yield f"{start} {value}"
            start = indent[:-1]
        if not data:
            yield start

    def _values(self, data: bytes) -> Iterator[str]:
        end = 0
        for run in _RUN.finditer(data):
            length = run.end() - run.start()
            if length > self._allowance:
                break
            self._allowance -= length
            yield from _plain_values(data[end : run.start()])
            byte = run[1][0]
            yield f"{_quoted(run[1]) if byte in _TEXT else f'[{byte:02x}]'} * {length}"
            end = run.end()
        yield from _plain_values(data[end:])

    def _prefix(self, event: Event) -> str:
        time = self._time_prefix(event.time)
        if event.connection == self._connection:
            return time
        if event.connection:
            self._connection = event.connection
        return f"{time}{event.connection}: "

    def _time_prefix(self, time: float) -> str:
        if not self._times or time == self._time:
            return ""
        if not math.isfinite(time):
            raise UsageError(f"an event's time is a number of seconds, not {time!r}")
        self._time = time
        # Microseconds are what is recorded; any other number is written in full.
        rounded = f"{time:.6f}"
        return f"@{rounded if float(rounded) == time else float(time)} "


def _words(event: HalfClose | Close | Gap | Failure | Note) -> Iterator[str]:
    if isinstance(event, HalfClose):
        yield f"half-close {event.by}"
    elif isinstance(event, Close):
        yield _close_words(event)
    elif isinstance(event, Gap):
        yield f"gap {_ARROWS[event.direction]} {event.size}"
    elif isinstance(event, Note):
        yield f"note {_quoted_text(event.text)}"
    else:
        texts = (event.where, event.type_name, event.message)
        yield " ".join(["failure", *map(_quoted_text, texts)])
        yield from (f"  {_quoted_text(line)}" for line in event.traceback_text.splitlines(keepends=True))


def _close_words(event: Close) -> str:
    who = event.by or "nobody"
    if event.how == "rst":
        return f"reset {who}"
    return f"close {who}" if event.how == "fin" else f"close {who} {event.how}"


def _plain_values(data: bytes) -> Iterator[str]:
    start = 0
    in_text = True
    while start < len(data):
        stop = _end_of_text(data, start, in_text)
        in_text = stop > start
        if in_text:
            yield _quoted(data[start:stop])
        else:
            stop = min(start + _HEX_COLUMNS, len(data))
            yield _hex(data[start:stop])
        start = stop


def _end_of_text(data: bytes, start: int, in_text: bool) -> int:
    """Where the line of text ends that begins here; ``start`` if what begins here is better shown as hex."""
    newline = data.find(b"\n", start, start + _TEXT_COLUMNS)
    stop = newline + 1 if newline >= 0 else min(start + _TEXT_COLUMNS, len(data))
    readable = stop - start - len(data[start:stop].translate(None, _TEXT))
    if in_text:
        return stop if readable >= 0.8 * (stop - start) else start
    # Binary data has its odd readable bytes: a real line of text ends it, nothing less.
    return stop if readable == stop - start >= _HEX_COLUMNS else start


def _hex(row: bytes) -> str:
    blank = " " * 3 * (_HEX_COLUMNS - len(row))
    return f"[{row.hex(' ')}]{blank}  # {row.translate(_COMMENT).decode('ascii')}".rstrip()


def _quoted(data: bytes) -> str:
    return f'"{data.decode("latin-1").translate(_ESCAPES)}"'


def _quoted_text(text: str) -> str:
    """Text keeps its letters, whatever the script."""
    parts = [
        character
        if character.isprintable() and character not in '"\\'
        else _quoted(_encoded(character))[1:-1]
        for character in text
    ]
    return f'"{"".join(parts)}"'


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _address(address: Any) -> str:
    if address is None:
        return "-"
    if isinstance(address, str):
        return _quoted_text(address)
    if isinstance(address, (bytes, bytearray)):
        data = bytes(address)
        return f"@{_quoted(data[1:])}" if data.startswith(b"\0") else f"b{_quoted(data)}"
    if isinstance(address, tuple):
        return _tuple(address)
    raise UsageError(f"the form has no words for the address {address!r}")


def _tuple(address: tuple[Any, ...]) -> str:
    match address:
        case (str() as host, int() as port) if _INET_HOST.fullmatch(host) and 0 <= port <= 65535:
            return f"{host}:{int(port)}"
        case (str() as host, int() as port, 0, 0) if _INET6_HOST.fullmatch(host) and 0 <= port <= 65535:
            return f"[{host}]:{int(port)}"
    return f"({', '.join(map(_item, address))})"


def _item(item: Any) -> str:
    if isinstance(item, int) and -(10**18) < item < 10**18:
        return str(int(item))
    if isinstance(item, (str, bytes)) or item is None:
        return _address(item)
    raise UsageError(f"the form has no words for {item!r} in an address")
