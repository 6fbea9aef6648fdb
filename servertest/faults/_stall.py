"""Streams on which nothing passes any more: for a while, or for ever."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Close, Finish, Send
from ._fault import Fault
from ._fields import byte_count, optional_seconds, seconds
from ._holding import Holding
from ._stage import Passed, Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("Blackhole", "Stall", "Timeout")

_DATAGRAMS = "datagrams that find no way are lost: use Partition"


@dataclass(frozen=True)
class Stall(Fault):
    """Nothing passes for a while, as when a network is down for a moment: then all of it comes at once, for TCP has kept and sent it
    again. The sender is held up once the buffers are full.

    Attributes:
        duration: Seconds; None for ever (or until the fault is taken away).
        after: Seconds from the moment at which the fault meets the connection.
        after_bytes: Bytes that pass first, instead of a time.
    """

    duration: float | None = optional_seconds(1.0)
    after: float = seconds(0.0)
    after_bytes: int | None = byte_count(None)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _DATAGRAMS
    lossless: ClassVar = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.after and self.after_bytes is not None:
            raise self.refuse("after_bytes", "given instead of after, not with it: None")

    def stage(self, site: Site) -> Stage:
        """Begin to wait for the time or the byte."""
        return _Stalling(self, site)


class _Stalling(Holding):
    def __init__(self, fault: Stall, site: Site) -> None:
        super().__init__(site)
        self._fault = fault
        self._passed = Passed()
        self._stalled = False
        self._over = False

    def begin(self, now: float) -> Iterable[Action]:
        if self._fault.after_bytes is None:
            self.wake_at = now + self._fault.after
        return ()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        if self._stalled:
            return super().data(data, now)
        if self._over or self._fault.after_bytes is None:
            return (Send(data),)
        before, behind = self._passed.split(data, self._fault.after_bytes)
        if behind:
            self._stall(now)
            super().data(behind, now)
        return (Send(before),) if before else ()

    def end(self, now: float) -> Iterable[Action]:
        return super().end(now) if self._stalled else (Finish(),)

    def abort(self, now: float) -> Iterable[Action]:
        return super().abort(now) if self._stalled else Stage.abort(self, now)

    def wake(self, now: float) -> Iterable[Action]:
        if not self._stalled:
            self._stall(now)
            return ()
        self._stalled = False
        self._over = True
        self._site.note(now, "goes on")
        return self._released()

    def _stall(self, now: float) -> None:
        self._stalled = True
        self._site.note(now, "stalls")
        if self._fault.duration is not None:
            self.wake_at = now + self._fault.duration


@dataclass(frozen=True)
class Timeout(Fault):
    """What is sent is thrown away, and after a time the connection is closed, as by a proxy that waits in vain for the
    other side. As Toxiproxy's ``timeout``; for one that never closes there is `Blackhole`.

    Attributes:
        after: Seconds from the moment at which the fault meets the connection.
    """

    after: float = seconds(1.0)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "datagrams have no connection that could be closed: use Partition"

    def stage(self, site: Site) -> Stage:
        """Begin to swallow."""
        return _Swallowing(site, self.after)


@dataclass(frozen=True)
class Blackhole(Fault):
    """What is sent never arrives, not even the end; nobody says so. As a firewall that drops, seen by an established
    connection, or Toxiproxy's ``timeout`` of 0. Aimed one way it makes a connection that is half open; aimed downstream, a
    server that accepts and never answers. When it is taken
    away, what was sent until then is lost.
    """

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _DATAGRAMS

    def stage(self, site: Site) -> Stage:
        """Begin to swallow."""
        return _Swallowing(site, None)


class _Swallowing(Holding):
    def __init__(self, site: Site, after: float | None) -> None:
        super().__init__(site)
        self._after = after

    def begin(self, now: float) -> Iterable[Action]:
        self._site.note(now, "swallows everything")
        if self._after is not None:
            self.wake_at = now + self._after
        return ()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        return ()

    def wake(self, now: float) -> Iterable[Action]:
        self._site.note(now, "closes")
        return (Close(),)
