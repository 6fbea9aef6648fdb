"""Streams with bytes too few or too many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Finish, Send
from ._fault import Fault
from ._fields import byte_count, byte_string
from ._stage import Passed, Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("DuplicateBytes", "InsertBytes", "Truncate")


@dataclass(frozen=True)
class Truncate(Fault):
    """Only the first bytes arrive; the rest is lost without a word, and the end comes when it was sent. A reader that
    trusts a length that it was told waits for the rest.

    Attributes:
        size: Bytes that arrive.
    """

    size: int = byte_count(64)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "a datagram is cut with TruncateDatagram"

    def stage(self, site: Site) -> Stage:
        """Begin to count."""
        return _Cutting(self, site)


class _Cutting(Stage):
    def __init__(self, fault: Truncate, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._passed = Passed()
        self._cut = False

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        before, behind = self._passed.split(data, self._fault.size)
        if behind and not self._cut:
            self._cut = True
            self._site.note(now, f"truncates after {self._fault.size} bytes")
        return (Send(before),) if before else ()


@dataclass(frozen=True)
class InsertBytes(Fault):
    """Bytes arrive that nobody sent, in the midst of those that were.

    Attributes:
        data: The bytes.
        at: The place before which they come, counted from 0. If the stream is shorter, they come at its end.
    """

    data: bytes = byte_string(b"\x00", least=1)
    at: int = byte_count(0)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "a datagram keeps its length: use Corrupt, or Duplicate"

    def stage(self, site: Site) -> Stage:
        """Begin to count."""
        return _Inserting(self, site)


class _Inserting(Stage):
    def __init__(self, fault: InsertBytes, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._passed = Passed()
        self._done = False

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        before, behind = self._passed.split(data, self._fault.at)
        if self._done or not behind:
            return (Send(data),)
        return (Send(before + self._insertion(now) + behind),)

    def end(self, now: float) -> Iterable[Action]:
        return (Finish(),) if self._done else (Send(self._insertion(now)), Finish())

    def _insertion(self, now: float) -> bytes:
        self._done = True
        self._site.note(now, f"inserts {len(self._fault.data)} bytes")
        return self._fault.data


@dataclass(frozen=True)
class DuplicateBytes(Fault):
    """Some bytes of the stream arrive twice, as from a peer that sends again what was taken already.

    Attributes:
        size: How many.
        at: The first of them, counted from 0. If the stream ends before the last one, those that were there come twice.
    """

    size: int = byte_count(16, least=1)
    at: int = byte_count(0)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "a datagram arrives twice with Duplicate"

    def stage(self, site: Site) -> Stage:
        """Begin to count."""
        return _Repeating(self, site)


class _Repeating(Stage):
    def __init__(self, fault: DuplicateBytes, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._passed = Passed()
        self._seen = bytearray()
        self._done = False

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        if self._done:
            return (Send(data),)
        before, behind = self._passed.split(data, self._fault.at)
        wanted = self._fault.size - len(self._seen)
        self._seen += behind[:wanted]
        if len(self._seen) < self._fault.size:
            return (Send(data),)
        return (Send(before + behind[:wanted] + self._again(now) + behind[wanted:]),)

    def end(self, now: float) -> Iterable[Action]:
        return (Finish(),) if self._done or not self._seen else (Send(self._again(now)), Finish())

    def _again(self, now: float) -> bytes:
        self._done = True
        self._site.note(now, f"sends {len(self._seen)} bytes again")
        return bytes(self._seen)
