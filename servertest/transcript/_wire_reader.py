"""From the lines of the `.wire` form to what they say; no file is touched here.

The grammar is in ``docs/wire-format.md``. A statement begins with its verb and may go on in the lines below: a line
that begins with a value belongs to the statement before it. So a statement is complete when the next one begins, and
a file of any size can be read with one statement in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ._events import Close, Connect, Direction, Failure, Gap, HalfClose, Note
from ._wire_error import Place, WireSyntaxError
from ._wire_scanner import MOST_REPEATED, Regex, Scanner
from ._wire_verbs import GENERAL_VERBS, VERBS, arrow

__all__ = ("Passing", "PeerNamed", "Piece", "Statement", "read_statements")

_VERSION = 1

Piece: TypeAlias = bytes | Regex


@dataclass(frozen=True, slots=True)
class Passing:
    """Bytes that pass, or what is to be found of them.

    Attributes:
        datagram: Whether the pieces are one datagram, exchanged with ``address``, and not a part of a stream.
    """

    direction: Direction
    pieces: tuple[Piece, ...]
    datagram: bool
    address: Any


@dataclass(frozen=True, slots=True)
class PeerNamed:
    """From here on, a number stands for the datagrams exchanged with this address."""

    address: Any


Said: TypeAlias = Connect | HalfClose | Close | Gap | Failure | Note | Passing | PeerNamed


@dataclass(frozen=True, slots=True)
class Statement:
    """What one statement says.

    Attributes:
        place: Where it begins.
        time: Its time, or that of the statement before it.
        timed: Whether the time is its own.
        connection: The connection it is about; 0 for none.
    """

    place: Place
    time: float
    timed: bool
    connection: int
    what: Said


@dataclass(slots=True)
class _Open:
    """A statement that the next line may go on with."""

    statement: Statement
    pieces: list[Piece] = field(default_factory=list)

    def closed(self) -> Statement:
        said = self.statement
        if isinstance(said.what, Passing):
            what: Any = Passing(
                said.what.direction, tuple(self.pieces), said.what.datagram, said.what.address
            )
        elif isinstance(said.what, Failure) and self.pieces:
            what = _with_traceback(said.what, self.pieces, said.place)
        else:
            return said
        return replace(said, what=what)


def read_statements(lines: Iterable[str | bytes], path: str = "") -> Iterator[Statement]:
    """Read statement by statement.

    Args:
        lines: The lines, with or without their ends; bytes are UTF-8. An open file will do.
        path: The file's name, for messages.

    Raises:
        WireSyntaxError: A line is not in the `.wire` form.
    """
    reader = _Reader(path)
    for number, line in enumerate(lines, 1):
        yield from reader.feed(_text_of(line, number, path), number)
    yield from reader.finish()


def _text_of(line: str | bytes, number: int, path: str) -> str:
    if isinstance(line, bytes):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            before = line[: error.start].decode("utf-8")
            place = Place(number, len(before) + 1, line.decode("utf-8", "replace"), path)
            reason = f"the byte {line[error.start]:02x} is no UTF-8: write it as \\x{line[error.start]:02x} in a string"
            raise WireSyntaxError(reason, place) from None
    else:
        text = line
    text = text.removesuffix("\n").removesuffix("\r")
    return text.removeprefix("\ufeff") if number == 1 else text


class _Reader:
    def __init__(self, path: str) -> None:
        self._path = path
        self._open: _Open | None = None
        self._connection = 1
        self._highest = 0
        self._time = 0.0
        self._said_anything = False
        self._allowance = MOST_REPEATED
        self._peers: dict[int, Any] = {}

    def feed(self, text: str, number: int) -> Iterator[Statement]:
        scanner = Scanner(text, number, self._path, self._allowance)
        if scanner.at_end:
            return
        if scanner.next_is_value():
            self._go_on(scanner)
            return
        yield from self.finish()
        self._begin(scanner)
        scanner.expect_end()
        self._said_anything = True

    def finish(self) -> Iterator[Statement]:
        if self._open is not None:
            statement = self._open.closed()
            self._open = None
            yield statement

    def _begin(self, scanner: Scanner) -> None:
        place = scanner.place()
        time = scanner.time()
        if time is not None:
            self._time = time
        prefix_at = scanner.position
        prefix = scanner.word(_PREFIX)
        given = None if prefix is None else int(prefix[1])
        verb_at = scanner.position
        direction = arrow(scanner)
        verb = None if direction else scanner.word(_WORD)
        if given == 0 and (verb is None or verb[0] not in GENERAL_VERBS):
            raise scanner.error("connections are numbered from 1; 0 is for notes and failures", prefix_at)
        if direction:
            self._open = _Open(self._statement(place, time, *self._passing(given, direction)))
            self._go_on(scanner)
        elif verb is None:
            raise scanner.error("a statement was expected: > or < with bytes, connect, close ...")
        elif verb[0] == "wire":
            self._check_version(scanner, verb_at)
        elif verb[0] in ("connect", "peer"):
            if given is not None:
                raise scanner.error(f"the number goes behind the word: {verb[0]} {given}", prefix_at)
            introduce = self._connect if verb[0] == "connect" else self._peer
            self._open = _Open(self._statement(place, time, *introduce(scanner)))
        elif verb[0] in VERBS:
            number = self._number(given)
            self._open = _Open(
                self._statement(place, time, number, VERBS[verb[0]](scanner, self._time, number))
            )
        else:
            raise scanner.error(_unknown(verb[0]), verb_at)

    def _statement(self, place: Place, time: float | None, number: int, what: Said) -> Statement:
        return Statement(place, self._time, time is not None, number, what)

    def _passing(self, given: int | None, direction: Direction) -> tuple[int, Passing]:
        number = self._number(given)
        return number, Passing(direction, (), number in self._peers, self._peers.get(number))

    def _go_on(self, scanner: Scanner) -> None:
        """Values, with which a statement begins or goes on."""
        going_on = self._open
        what = None if going_on is None else going_on.statement.what
        if going_on is None or not isinstance(what, (Passing, Failure)):
            raise scanner.error("these bytes belong to no statement: a line of > or < must come before them")
        # A datagram may be empty, a piece of a stream cannot.
        if scanner.at_end and not (isinstance(what, Passing) and what.datagram):
            raise scanner.error(_VALUE_WANTED)
        while not scanner.at_end:
            start = scanner.position
            if not scanner.next_is_value():
                raise scanner.error(_VALUE_WANTED)
            piece = scanner.value()
            if isinstance(what, Failure) and isinstance(piece, Regex):
                raise scanner.error("a traceback is text", start)
            going_on.pieces.append(piece)
        self._allowance = scanner.allowance

    def _number(self, given: int | None) -> int:
        """The number that a statement is about; the ones that follow are about it too, unless it is 0."""
        if given is None:
            given = self._connection
        if given:
            self._connection = given
            self._highest = max(self._highest, given)
        return given

    def _check_version(self, scanner: Scanner, verb_at: int) -> None:
        if self._said_anything:
            raise scanner.error(
                "this says which version of the form the file is in: it must come first", verb_at
            )
        version_at = scanner.position
        version = scanner.count("the version")
        if version != _VERSION:
            raise scanner.error(
                f"the file is in version {version} of the form; this program reads {_VERSION}", version_at
            )

    def _connect(self, scanner: Scanner) -> tuple[int, Connect]:
        number = self._introduced(scanner)
        self._peers.pop(number, None)
        client = server = None
        if not scanner.at_end:
            client = scanner.address()
            if not scanner.take("->"):
                raise scanner.error("-> and the server's address were expected")
            server = scanner.address()
        return number, Connect(self._time, number, client, server)

    def _peer(self, scanner: Scanner) -> tuple[int, PeerNamed]:
        number = self._introduced(scanner)
        address = None if scanner.at_end else scanner.address()
        self._peers[number] = address
        return number, PeerNamed(address)

    def _introduced(self, scanner: Scanner) -> int:
        start = scanner.position
        given = scanner.word(_NUMBER)
        number = self._highest + 1 if given is None else int(given[0])
        if not number:
            raise scanner.error("connections are numbered from 1", start)
        return self._number(number)


_WORD = re.compile(r"[A-Za-z][A-Za-z-]*")
_PREFIX = re.compile(r"([0-9]{1,18})[ \t]*:")
_NUMBER = re.compile(r"[0-9]{1,18}(?![0-9.:A-Za-z_-])")

_VALUE_WANTED = 'bytes were expected: "text", [68 65 78], or /a regular expression/'


def _unknown(verb: str) -> str:
    from difflib import get_close_matches

    verbs = [*VERBS, "connect", "peer", "wire"]
    near = get_close_matches(verb.lower(), verbs, 1)
    meant = f"; did you mean {near[0]}?" if near else f": there are {', '.join(sorted(verbs))}, > and <"
    return f"{verb[:40]!r} is no statement{meant}"


def _with_traceback(failure: Failure, pieces: list[Piece], place: Place) -> Failure:
    data = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise WireSyntaxError(f"the traceback below is no UTF-8 ({error.reason})", place) from None
    return replace(failure, traceback_text=text)
