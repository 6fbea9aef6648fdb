"""What one side has to do in a conversation, read from a `.wire` file: for contracts, mocks and replays."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ._events import Close, Connect, Direction, Failure, Gap, HalfClose, Note, Side
from ._expected import Exchange, expectation
from ._wire_error import Place, WireSyntaxError
from ._wire_reader import Passing, PeerNamed, Piece, Statement, read_statements
from ._wire_scanner import Regex

if TYPE_CHECKING:
    from .._support import Transport

__all__ = (
    "Disconnect",
    "Expect",
    "ExpectEof",
    "ExpectReset",
    "FinishSending",
    "Script",
    "Send",
    "Step",
    "load_exchanges",
    "parse_exchanges",
)


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes; for datagrams, as one.

    Attributes:
        time: Seconds from the beginning of the file, where it says so.
        line: The line of the file.
    """

    data: bytes
    time: float | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Expect:
    """Wait for these bytes, which may come in any pieces; for datagrams, for one that is like this.

    Attributes:
        until: When the last of them came, where the file says so.
    """

    expected: bytes | re.Pattern[bytes]
    time: float | None = None
    line: int = 0
    until: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class FinishSending:
    """Say that nothing more will be sent (half-close: ``shutdown(SHUT_WR)``)."""

    time: float | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection.

    Attributes:
        reset: Cut it off, by RST.
    """

    reset: bool = False
    time: float | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class ExpectEof:
    """Wait until the peer has finished sending."""

    time: float | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class ExpectReset:
    """Wait until the peer cuts the connection off."""

    time: float | None = None
    line: int = 0


Step: TypeAlias = Send | Expect | FinishSending | Disconnect | ExpectEof | ExpectReset


@dataclass(frozen=True, slots=True)
class Script:
    """What one side does in one conversation, step by step.

    Attributes:
        number: The conversation's number in the file.
        transport: ``"stream"`` or ``"datagram"``.
        steps: In order. Nothing is expected twice: what comes in a row on a stream is one `Expect`.
        client: The client's address, where the file says it.
        server: The server's likewise.
        line: The line of the file where it begins.
    """

    number: int
    transport: Transport
    steps: tuple[Step, ...]
    client: Any = None
    server: Any = None
    line: int = 0

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The bytes alone: what is sent, each time up to where an answer is expected, and that answer."""
        found: list[Exchange] = []
        sent: list[Send] = []
        for step in self.steps:
            if isinstance(step, Send):
                sent.append(step)
            elif isinstance(step, Expect):
                found.append(_exchange(sent, step.expected, step.line))
                sent = []
        if sent:
            found.append(_exchange(sent, b"", sent[0].line))
        return tuple(found)


def _exchange(sent: list[Send], expected: bytes | re.Pattern[bytes], line: int) -> Exchange:
    return Exchange(b"".join(step.data for step in sent), expected, sent[0].line if sent else line)


def load_exchanges(path: str | os.PathLike[str], *, side: Side = "client") -> list[Script]:
    """The conversations of a `.wire` file; otherwise as `parse_exchanges`.

    Raises:
        OSError: The file cannot be read.
        WireSyntaxError: Something in it is not in the form, or it holds no conversation; the message names the file.
    """
    name = os.fspath(path)
    with Path(path).open("rb") as file:
        scripts = _scripts(read_statements(file, name), side)
    if not scripts:
        raise WireSyntaxError(
            'the file holds no conversation: > "..." is what a client sends, < "..." what a server sends',
            Place(1, 1, "", name),
        )
    return scripts


def parse_exchanges(text: str, *, side: Side = "client") -> list[Script]:
    """The conversations that a text in the `.wire` form holds, as scripts for one of the two sides.

    Args:
        text: The text. What the other side says may hold regular expressions.
        side: Who the scripts are for: to send what the client sent and to expect what the server sent, or the
            other way round.

    Returns:
        One script for each connection or datagram peer, in the order in which they begin.

    Raises:
        WireSyntaxError: The text is not in the form, or cannot be played: a regular expression is to be sent, bytes
            to be sent were not kept, or something follows the end of its connection.
    """
    return _scripts(read_statements(text.split("\n")), side)


def _scripts(statements: Iterable[Statement], side: Side) -> list[Script]:
    drafts: dict[int, _Draft] = {}
    for statement in statements:
        if isinstance(statement.what, (Failure, Note)):
            continue
        draft = drafts.get(statement.connection)
        if draft is None:
            draft = drafts[statement.connection] = _Draft(statement, side)
        draft.add(statement)
    return [draft.script() for draft in drafts.values()]


@dataclass(slots=True)
class _Draft:
    """A script that is being written."""

    first: Statement
    side: Side
    steps: list[Step] = field(default_factory=list)
    client: Any = None
    server: Any = None
    over: bool = False
    eof_expected: bool = False
    pieces: list[Piece] = field(default_factory=list)
    pieces_from: Statement | None = None
    pieces_until: Statement | None = None

    def add(self, statement: Statement) -> None:
        what = statement.what
        if isinstance(what, Connect):
            self._begin(statement, what)
        elif isinstance(what, PeerNamed):
            self.client = what.address
        elif self.over:
            raise WireSyntaxError(
                f"connection {statement.connection} has ended: write connect to begin another",
                statement.place,
            )
        elif isinstance(what, Passing):
            self._pass(statement, what)
        elif isinstance(what, Gap):
            self._gap(statement, what)
        elif isinstance(what, (HalfClose, Close)):
            self._end(statement, what)

    def script(self) -> Script:
        self._settle()
        datagram = isinstance(self.first.what, PeerNamed)
        return Script(
            number=self.first.connection,
            transport="datagram" if datagram else "stream",
            steps=tuple(self.steps),
            client=self.client,
            server=self.server,
            line=self.first.place.line,
        )

    def _begin(self, statement: Statement, what: Connect) -> None:
        if statement is not self.first:
            raise WireSyntaxError(f"connection {statement.connection} has begun already", statement.place)
        self.client, self.server = what.client, what.server

    def _pass(self, statement: Statement, what: Passing) -> None:
        if self._is_ours(what.direction):
            self._settle()
            self.steps.append(Send(_exact(what.pieces), _time(statement), statement.place.line))
            return
        self._expect(statement, what.pieces)
        if what.datagram:
            self._settle()

    def _gap(self, statement: Statement, what: Gap) -> None:
        if self._is_ours(what.direction):
            raise WireSyntaxError("these bytes were not kept, so they cannot be sent", statement.place)
        self._expect(statement, (Regex(b"(?s:.{%d})" % what.size, statement.place),))

    def _expect(self, statement: Statement, pieces: tuple[Piece, ...]) -> None:
        if self.pieces_from is None:
            self.pieces_from = statement
        self.pieces_until = statement
        self.pieces += pieces

    def _settle(self) -> None:
        """What came in a row so far is one expectation."""
        if self.pieces_from is not None:
            since, until = self.pieces_from, self.pieces_until
            assert until is not None
            self.steps.append(Expect(expectation(self.pieces), _time(since), since.place.line, _time(until)))
            self.pieces, self.pieces_from = [], None

    def _end(self, statement: Statement, what: HalfClose | Close) -> None:
        self._settle()
        time, line = _time(statement), statement.place.line
        ours = what.by == self.side
        if isinstance(what, HalfClose):
            if ours:
                self.steps.append(FinishSending(time, line))
            else:
                self._expect_eof(time, line)
            return
        self.over = True
        if ours:
            self.steps.append(Disconnect(what.how == "rst", time, line))
        elif what.how == "rst":
            self.steps.append(ExpectReset(time, line))
        elif what.by is not None:
            self._expect_eof(time, line)

    def _expect_eof(self, time: float | None, line: int) -> None:
        # A side that has finished sending closes without another word that could be waited for.
        if not self.eof_expected:
            self.steps.append(ExpectEof(time, line))
        self.eof_expected = True

    def _is_ours(self, direction: Direction) -> bool:
        return (direction == "upstream") == (self.side == "client")


def _time(statement: Statement) -> float | None:
    return statement.time if statement.timed else None


def _exact(pieces: tuple[Piece, ...]) -> bytes:
    parts = []
    for piece in pieces:
        if isinstance(piece, Regex):
            raise WireSyntaxError(
                "a regular expression says what is expected, and these bytes are to be sent", piece.place
            )
        parts.append(piece)
    return b"".join(parts)
