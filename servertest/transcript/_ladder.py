"""A conversation as a ladder: one rung for each thing that was said, with the client on the left and the server on the right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from .._support import format_address
from ._events import Close, Connect, Data, Datagram, Event, Failure, Gap, HalfClose, Note

if TYPE_CHECKING:
    from ._transcript import Transcript

__all__ = ("Rung", "ladder", "quoted", "rungs")

Way: TypeAlias = Literal["up", "down", "none"]

_TIME = 10
_NARROWEST = 40

_LINES = {"reset": "\u2573", "connect": "┄"}
_STYLES = {
    "up": "36",
    "down": "32",
    "end": "1",
    "reset": "1;31",
    "failure": "1;31",
    "note": "33",
    "rule": "2",
    "time": "2",
}


@dataclass(frozen=True, slots=True)
class Rung:
    """Something that was said or that happened.

    Attributes:
        time: Seconds since the transcript began.
        connection: The connection's number; 0 for none.
        way: "up" from the client to the server, "down" the other way round, "none" for what went nowhere.
        sort: "data", "end", "reset", "failure", "note" or "connect".
        text: What it says, in words.
        data: The bytes, where bytes passed.
        pieces: In how many events they came.
        until: When the last of them came.
    """

    time: float
    connection: int
    way: Way
    sort: str
    text: str
    data: bytes = b""
    pieces: int = 1
    until: float = 0.0


def rungs(events: Iterable[Event]) -> Iterator[Rung]:
    """What there is to be shown of events; pieces of one stream in a row, with nothing between them, are one rung."""
    row: list[Data] = []
    for event in _without_echoes(list(events)):
        if (
            isinstance(event, Data)
            and row
            and (event.connection, event.direction) == (row[0].connection, row[0].direction)
        ):
            row.append(event)
            continue
        if row:
            yield _data_rung(row)
        row = [event] if isinstance(event, Data) else []
        if not row:
            yield _rung(event)
    if row:
        yield _data_rung(row)


def _data_rung(row: list[Data]) -> Rung:
    first = row[0]
    way: Way = "up" if first.direction == "upstream" else "down"
    data = b"".join(event.data for event in row)
    return Rung(first.time, first.connection, way, "data", "", data, len(row), row[-1].time)


def _without_echoes(events: list[Event]) -> Iterator[Event]:
    """To finish sending and then to close, with nothing said in between, is one thing: closing."""
    closes: dict[int, int] = {}
    kept: list[Event | None] = []
    for event in reversed(events):
        if isinstance(event, Close) and event.how == "fin":
            closes[event.connection] = len(kept)
        elif isinstance(event, (Data, Gap)):
            closes.pop(event.connection, None)
        elif isinstance(event, HalfClose) and (place := closes.get(event.connection)) is not None:
            close = kept[place]
            if isinstance(close, Close) and close.by == event.by:
                del closes[event.connection]
                kept[place] = None
                kept.append(Close(event.time, event.connection, event.by, "fin"))
                continue
        kept.append(event)
    return (event for event in reversed(kept) if event is not None)


def _rung(event: Event) -> Rung:
    time, number = event.time, event.connection
    if isinstance(event, Connect):
        origin = "" if event.client is None else f" from {format_address(event.client)}"
        return Rung(time, number, "up", "connect", f"connects{origin}")
    if isinstance(event, Datagram):
        way: Way = "up" if event.direction == "upstream" else "down"
        return Rung(time, number, way, "data", "" if event.data else "an empty datagram", event.data, 1, time)
    if isinstance(event, Gap):
        return Rung(
            time,
            number,
            "up" if event.direction == "upstream" else "down",
            "note",
            f"{event.size:,} B not kept",
        )
    if isinstance(event, HalfClose):
        return Rung(time, number, _way(event.by), "end", "has finished sending (FIN)")
    if isinstance(event, Close):
        return _close_rung(event)
    if isinstance(event, Failure):
        return Rung(time, number, "none", "failure", f"{event.where}: {event.type_name}: {event.message}")
    assert isinstance(event, Note)
    return Rung(time, number, "none", "note", event.text)


def _close_rung(event: Close) -> Rung:
    if event.how == "rst":
        return Rung(event.time, event.connection, _way(event.by), "reset", "resets (RST)")
    if event.how == "fin":
        return Rung(event.time, event.connection, _way(event.by), "end", "closes (FIN)")
    text = "given up by the system (timeout)" if event.how == "timeout" else "closed by force"
    return Rung(event.time, event.connection, "none", "reset", text)


def _way(side: str | None) -> Way:
    return "up" if side == "client" else "down" if side == "server" else "none"


def ladder(
    events: Transcript | Iterable[Event], *, width: int = 100, max_lines: int = 60, color: bool = False
) -> str:
    """The ladder as lines of text.

    Args:
        events: A transcript, or events.
        width: How many columns at most; from about 60 on.
        max_lines: How many lines at most; the middle is left out, and said to be.
        color: Whether to colour it for a terminal (ANSI).
    """
    if not isinstance(events, Iterable):
        events = events.events
    steps = list(rungs(events))
    several = len({step.connection for step in steps if step.connection}) > 1
    drawn = _Drawing(max(_NARROWEST, width - _TIME - 4 - (5 if several else 0)), color, several)
    lines = [drawn.heading(), *(drawn.line(step) for step in steps)]
    if len(lines) > max(4, max_lines):
        tail = (max(4, max_lines) - 2) // 2
        head = max(4, max_lines) - 1 - tail
        lines = [*lines[:head], drawn.gap(len(lines) - head - tail), *lines[len(lines) - tail :]]
    return "\n".join(lines)


class _Drawing:
    def __init__(self, room: int, color: bool, several: bool) -> None:
        self._room = room
        self._color = color
        self._several = several
        self._left = " " * (_TIME + (5 if several else 0))

    def heading(self) -> str:
        return f"{self._left} client{' ' * (self._room - 10)}server"

    def gap(self, count: int) -> str:
        return f"{self._left} {self._styled('note', f'... {count} more ...')}"

    def line(self, rung: Rung) -> str:
        number = f" #{rung.connection or '-':<3}" if self._several else ""
        rule = self._styled("rule", "│")
        return f"{self._styled('time', f'{rung.time:{_TIME}.6f}')}{number} {rule}{self._between(rung)}{rule}".rstrip()

    def _between(self, rung: Rung) -> str:
        room = self._room - 2
        if rung.way == "none":
            text = _fit(f" {'!!' if rung.sort == 'failure' else '*'} {one_line(rung.text)}", room)
            return self._styled(rung.sort, text.ljust(room + 2))
        text = self._text(rung, room - 6)
        line = _LINES.get(rung.sort, "─") * (room - len(text) - 1)
        style = rung.sort if rung.sort in ("end", "reset") else "rule" if rung.sort == "connect" else rung.way
        drawn = f" {text} {line}▶" if rung.way == "up" else f"◀{line} {text} "
        return self._styled(style, drawn)

    def _text(self, rung: Rung, room: int) -> str:
        if not rung.data:
            return _fit(rung.text, room)
        size = f" {len(rung.data):,} B" if len(rung.data) > 24 else ""
        pieces = f" in {rung.pieces} pieces" if rung.pieces > 1 else ""
        return quoted(rung.data, room - len(size) - len(pieces)) + size + pieces

    def _styled(self, sort: str, text: str) -> str:
        code = _STYLES.get(sort)
        return f"\x1b[{code}m{text}\x1b[0m" if self._color and code else text


def quoted(data: bytes, room: int) -> str:
    """Bytes as text in quotes, or as hex where that tells more; cut to so many columns."""
    head = data[: max(room, 8)]
    readable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    if readable * 5 >= len(head) * 4:
        signs = [_ESCAPES.get(byte, chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in head]
        text = "".join(signs)
        if len(head) == len(data) and len(text) <= room - 2:
            return f'"{text}"'
        return f'"{_beginning(signs, max(1, room - 3))}…"'
    text = head.hex(" ")
    return (
        f"[{text}]"
        if len(head) == len(data) and len(text) <= room - 2
        else f"[{text[: max(2, (room - 3) // 3 * 3 - 1)]}…]"
    )


def _beginning(signs: list[str], room: int) -> str:
    """As many of them as there is room for, each whole."""
    text = ""
    for sign in signs:
        if len(text) + len(sign) > room:
            break
        text += sign
    return text


_ESCAPES = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}


def _fit(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def one_line(text: str) -> str:
    """Text without line breaks and other controls."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
