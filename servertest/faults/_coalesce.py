"""Streams that arrive in large pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Abort, Action, Finish, Send
from ._fault import Fault
from ._fields import byte_count, seconds
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("Coalesce",)


@dataclass(frozen=True)
class Coalesce(Fault):
    """What was sent in several pieces arrives in one: a reader that takes a read for a message is found out. Bytes wait until
    there are enough, or the first of them has waited long enough, as with Nagle's algorithm (RFC 896).

    Attributes:
        size: Bytes that make a piece.
        delay: Seconds after which fewer go on too.
    """

    size: int = byte_count(4096, least=1)
    delay: float = seconds(0.2)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "two datagrams never arrive as one"
    lossless: ClassVar = True

    def stage(self, site: Site) -> Stage:
        """Begin to gather."""
        return _Gathering(self, site)


class _Gathering(Stage):
    def __init__(self, fault: Coalesce, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._gathered = bytearray()
        self.window = max(Stage.window, fault.size)

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._site.note_once(now, "gathers")
        size = self._fault.size
        waited = bool(self._gathered)
        self._gathered += data
        pieces = []
        if len(self._gathered) >= size:
            whole = len(self._gathered) // size * size
            pieces = [Send(bytes(self._gathered[start : start + size])) for start in range(0, whole, size)]
            del self._gathered[:whole]
            waited = False
        if not waited:
            self.wake_at = now + self._fault.delay if self._gathered else None
        self.held = len(self._gathered)
        return pieces

    def end(self, now: float) -> Iterable[Action]:
        return (*self._rest(), Finish())

    def abort(self, now: float) -> Iterable[Action]:
        return (*self._rest(), Abort())

    def wake(self, now: float) -> Iterable[Action]:
        return self._rest()

    def leave(self, now: float) -> Iterable[Action]:
        return self._rest()

    def _rest(self) -> list[Action]:
        rest = bytes(self._gathered)
        self._gathered.clear()
        self.held = 0
        self.wake_at = None
        return [Send(rest)] if rest else []
