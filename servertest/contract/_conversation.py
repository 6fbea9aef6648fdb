"""What clients say and what they expect, in the form in which checks cut it up and put it together again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from .._support import Transport, UsageError
from ..transcript import (
    Disconnect,
    Exchange,
    Expect,
    Expected,
    ExpectEof,
    FinishSending,
    Framing,
    Script,
    Send,
    matches,
)
from ._answer import Accepts
from ._plan import Ending, Piece, Plan, Record

__all__ = ("Conversation", "conversations_of")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Exchanges on one connection; for datagrams, with one peer.

    Attributes:
        number: From 1.
        exchanges: In their order.
        half_close: Whether the client finishes sending before the last reply.
        server_closes: Whether the server is to end the connection.
        transport: "stream" or "datagram".
        replies: What was really answered to each when all went well; known once it was held.
        farewell: What else came at the end.
        raised: Names of the classes of what left the handler even so: that is one check's affair, and not every check's.
    """

    number: int
    exchanges: tuple[Exchange, ...]
    half_close: bool = False
    server_closes: bool = False
    transport: Transport = "stream"
    replies: tuple[bytes, ...] = field(default=(), compare=False)
    farewell: bytes = field(default=b"", compare=False)
    raised: tuple[str, ...] = field(default=(), compare=False)

    @property
    def sent(self) -> bytes:
        """All that the client sends."""
        return b"".join(exchange.sent for exchange in self.exchanges)

    @property
    def boundaries(self) -> tuple[int, ...]:
        """How many bytes have been sent after each exchange."""
        found, total = [], 0
        for exchange in self.exchanges:
            total += len(exchange.sent)
            found.append(total)
        return tuple(found)

    @property
    def answered(self) -> bytes:
        """All that was answered when all went well, without what came at the end."""
        return b"".join(self.replies)

    @property
    def exact(self) -> bool:
        """Whether all that is expected is exact."""
        return all(isinstance(exchange.expected, bytes) for exchange in self.exchanges)

    def pieces(self) -> tuple[bytes, ...]:
        """What is sent, one piece for each exchange."""
        return tuple(exchange.sent for exchange in self.exchanges if exchange.sent)

    def due(self) -> tuple[tuple[int, int], ...]:
        """How much of the replies there must be after how much of the requests; empty if that is not known."""
        replies = self.replies or tuple(
            one.expected for one in self.exchanges if isinstance(one.expected, bytes)
        )
        if len(replies) < len(self.exchanges):
            return ()
        found, total = {}, 0
        for boundary, reply in zip(self.boundaries, replies, strict=True):
            total += len(reply)
            found[boundary] = total
        return tuple(found.items())

    def plan(self, *, ending: Ending = "fin", **more: Any) -> Plan:
        """The conversation as it is meant: each request when the one before it was answered."""
        return Plan(
            pieces=tuple(Piece(data) for data in self.pieces()), ending=ending, due=self.due(), **more
        )

    def cut_plan(self, cuts: Iterable[int], *, ending: Ending = "fin", **more: Any) -> Plan:
        """The same, and each request cut at these places as well.

        Args:
            cuts: Counted in bytes from the beginning of the conversation.
            ending: As of a plan.
            more: The rest of the plan.
        """
        sent = self.sent
        places = sorted({0, len(sent), *self.boundaries, *cuts})
        parts = [sent[begin:end] for begin, end in pairwise(places)]
        return Plan(
            pieces=tuple(Piece(part) for part in parts if part), ending=ending, due=self.due(), **more
        )

    def first(self, count: int) -> Conversation:
        """Only so many of its exchanges."""
        return replace(
            self,
            exchanges=self.exchanges[:count],
            replies=self.replies[:count],
            farewell=b"",
            server_closes=self.server_closes and count == len(self.exchanges),
        )

    def agrees(self, received: bytes, upto: int | None = None, *, any_order: bool = False) -> bool:
        """Whether these bytes are the replies to so many of the exchanges, all by default, and perhaps the farewell.

        Args:
            received: What the client has received.
            upto: To how many exchanges.
            any_order: Whether lines may come in another order.
        """
        exchanges = self.exchanges[:upto]
        if (
            self.farewell
            and received.endswith(self.farewell)
            and self._is(exchanges, received[: -len(self.farewell)], any_order)
        ):
            return True
        return self._is(exchanges, received, any_order)

    def _is(self, exchanges: Sequence[Exchange], received: bytes, any_order: bool) -> bool:
        if _concatenated(exchanges, received, self.replies):
            return True
        if not any_order:
            return False
        wanted = Counter(self.answered.splitlines())
        came = Counter(received.splitlines())
        return wanted == came if len(exchanges) == len(self.exchanges) else not came - wanted

    def late(self, received: bytes) -> Conversation:
        """The same, of which it is known that the replies came late: what they are is told by what is expected."""
        replies = [one.expected if isinstance(one.expected, bytes) else b"" for one in self.exchanges]
        if b"".join(replies) != received:
            replies = [b""] * (len(self.exchanges) - 1) + [received]
        return replace(self, replies=tuple(replies), farewell=b"")

    def held(self, record: Record) -> Conversation:
        """The same, knowing what was answered."""
        replies, before = [], 0
        for boundary, last in zip(self.boundaries, [False] * (len(self.exchanges) - 1) + [True], strict=True):
            end = len(record.received) if last and self.half_close else len(record.due(boundary))
            replies.append(record.received[before:end])
            before = end
        return replace(self, replies=tuple(replies), farewell=record.received[before:])


def _concatenated(exchanges: Sequence[Exchange], received: bytes, guide: Sequence[bytes]) -> bool:
    expected = [exchange.expected for exchange in exchanges]
    if all(isinstance(one, bytes) for one in expected):
        return received == b"".join(expected)  # type: ignore[arg-type]
    if not any(callable(one) for one in expected):
        pattern = _joined(expected)
        if pattern is not None:
            return pattern.fullmatch(received) is not None
    return _cut_by(expected, received, guide)


def _joined(expected: Sequence[Any]) -> re.Pattern[bytes] | None:
    parts = [
        re.escape(one)
        if isinstance(one, bytes)
        else b"(?s:%s)" % one.pattern
        if one.flags & re.DOTALL
        else b"(?:%s)" % one.pattern
        for one in expected
    ]
    try:
        return re.compile(b"".join(parts))
    except re.error:
        return None


def _cut_by(expected: Sequence[Expected], received: bytes, guide: Sequence[bytes]) -> bool:
    """Whether each part is what is expected, given how long the parts were when all went well."""
    place = 0
    for number, one in enumerate(expected):
        last = number == len(expected) - 1
        size = (
            len(one)
            if isinstance(one, bytes)
            else len(guide[number])
            if number < len(guide)
            else len(received)
        )
        part = received[place:] if last else received[place : place + size]
        if not matches(one, part):
            return False
        place += len(part)
    return True


def conversations_of(
    exchanges: Sequence[Any], transport: Transport = "stream", framing: Framing | None = None
) -> list[Conversation]:
    """Conversations from scripts, from plain exchanges (which are held on one connection), or from several lists of those.

    Args:
        exchanges: Any of these.
        transport: Of what does not say.
        framing: Where replies end, for exchanges that do not say it themselves.

    Raises:
        UsageError: Something in it is none of these.
    """
    found: list[Conversation] = []
    plain: list[Exchange] = []
    for one in exchanges:
        if isinstance(one, Exchange):
            plain.append(one)
        elif isinstance(one, Script):
            found.append(_of_script(len(found) + 1, one))
        elif isinstance(one, Conversation):
            found.append(replace(one, number=len(found) + 1))
        elif isinstance(one, Sequence) and one and all(isinstance(part, Exchange) for part in one):
            found.append(Conversation(len(found) + 1, tuple(one), transport=transport))
        else:
            raise UsageError(
                f"{one!r} is no exchange: write Exchange(sent, expected), or load_exchanges(file)"
            )
    if plain:
        found.append(Conversation(len(found) + 1, tuple(plain), transport=transport))
    return [
        replace(one, exchanges=tuple(_prepared(exchange, framing) for exchange in one.exchanges))
        for one in found
    ]


def _prepared(exchange: Exchange, framing: Framing | None) -> Exchange:
    """The exchange with its framing, and with a function that says no where it raises."""
    expected: Any = exchange.expected
    sent: Any = exchange.sent
    if not isinstance(sent, bytes):
        raise UsageError(f"Exchange({sent!r}, ...): what is sent are bytes: write b{str(sent)!r}")
    if isinstance(expected, re.Pattern) and not isinstance(expected.pattern, bytes):
        raise UsageError(f"Exchange({sent!r}, ...): write the pattern over bytes, as in re.compile(rb'...')")
    if not isinstance(exchange.framing or framing, Framing | None):
        raise UsageError(
            f"framing is a Framing of servertest.transcript, such as Delimited(b'\\n'), not {exchange.framing or framing!r}"
        )
    if not isinstance(expected, bytes | re.Pattern | Accepts):
        if not callable(expected):
            raise UsageError(
                f"Exchange({exchange.sent!r}, {expected!r}): what is expected are bytes, a compiled pattern over bytes, or a function "
                "that says whether an answer is right"
            )
        expected = Accepts(expected)
    return replace(exchange, expected=expected, framing=exchange.framing or framing)


def _of_script(number: int, script: Script) -> Conversation:
    exchanges: list[Exchange] = []
    sent, finished, closes, half = b"", False, False, False
    for step in script.steps:
        if isinstance(step, Send):
            sent += step.data
        elif isinstance(step, FinishSending):
            finished = True
        elif isinstance(step, Expect):
            half = half or finished
            exchanges.append(Exchange(sent, step.expected, step.line))
            sent = b""
        elif isinstance(step, ExpectEof):
            closes = closes or not finished
        elif isinstance(step, Disconnect):
            break
    if sent:
        exchanges.append(Exchange(sent, b"", script.line))
    return Conversation(number, tuple(exchanges), half, closes, script.transport)
