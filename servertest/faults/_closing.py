"""Connections that end too late, too early, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Close, Finish, Send
from ._fault import Fault
from ._fields import byte_count, seconds
from ._holding import Holding
from ._stage import Passed, Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("HalfClose", "LimitData", "MissingClose", "SlowClose")

_NO_END = "datagrams have no end"


@dataclass(frozen=True)
class SlowClose(Fault):
    """The end arrives later than the last byte: who reads until the end has to wait. As Toxiproxy's ``slow_close``.

    Attributes:
        delay: Seconds.
    """

    delay: float = seconds(1.0)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_END
    lossless: ClassVar = True

    def stage(self, site: Site) -> Stage:
        """Begin to wait for the end."""
        return _Lingering(self, site)


class _Lingering(Stage):
    def __init__(self, fault: SlowClose, site: Site) -> None:
        self._fault = fault
        self._site = site

    def end(self, now: float) -> Iterable[Action]:
        self._site.note(now, "holds the end back")
        return (Finish(self._fault.delay),)


@dataclass(frozen=True)
class MissingClose(Fault):
    """The bytes arrive, the end never does, neither FIN nor RST: as when the other machine has lost its power. Who reads until
    the end needs a timeout.
    """

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_END
    lossless: ClassVar = True

    def stage(self, site: Site) -> Stage:
        """Begin to wait for the end."""
        return _Concealing(site)


class _Concealing(Holding):
    def data(self, data: bytes, now: float) -> Iterable[Action]:
        return (Send(data),)

    def end(self, now: float) -> Iterable[Action]:
        self._site.note(now, "conceals the end")
        return super().end(now)

    def abort(self, now: float) -> Iterable[Action]:
        self._site.note(now, "conceals the end")
        return super().abort(now)


class _Ending(Stage):
    """Lets so many bytes pass, and then an end; the rest is lost."""

    def __init__(self, site: Site, limit: int, ends: Action, what: str) -> None:
        self._site = site
        self._limit = limit
        self._ends = ends
        self._what = what
        self._passed = Passed()
        self._ended = False

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        before, _ = self._passed.split(data, self._limit)
        if before:
            yield Send(before)
        if self._passed.count >= self._limit and not self._ended:
            self._ended = True
            self._site.note(now, f"{self._what} after {self._limit} bytes")
            yield self._ends

    def end(self, now: float) -> Iterable[Action]:
        return () if self._ended else (Finish(),)


@dataclass(frozen=True)
class HalfClose(Fault):
    """One direction ends after so many bytes, and the rest of it is lost; the other goes on. Who treats the end of what
    comes as the end of the connection is found out.

    Attributes:
        after_bytes: Bytes that arrive first. Of 0, the end comes instead of the first byte.
    """

    after_bytes: int = byte_count(16)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_END

    def stage(self, site: Site) -> Stage:
        """Begin to count."""
        return _Ending(site, self.after_bytes, Finish(), "ends this direction")


@dataclass(frozen=True)
class LimitData(Fault):
    """The connection is closed in order, both ways, once so many bytes have passed; the rest is lost. As Toxiproxy's
    ``limit_data``.

    Attributes:
        limit: Bytes that arrive. Of 0, the end comes instead of the first byte.
    """

    limit: int = byte_count(1024)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = (
        "datagrams have no connection that could be closed: use Partition, or Loss on some of them"
    )

    def stage(self, site: Site) -> Stage:
        """Begin to count."""
        return _Ending(site, self.limit, Close(), "closes")
