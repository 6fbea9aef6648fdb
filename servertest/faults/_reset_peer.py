"""Connections that are cut off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Abort, Action, Send
from ._fault import Fault
from ._fields import byte_count, seconds
from ._stage import Passed, Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("ResetPeer",)


@dataclass(frozen=True)
class ResetPeer(Fault):
    """Both sides get RST (RFC 9293, 3.5.2): at once, after some time, or in the middle of what is sent; also on connections that
    exist already. As Toxiproxy's ``reset_peer``. Unix sockets know no RST: a program whose own socket is behind the fault gets ECONNRESET
    all the same; a real peer gets it if something that it has sent was not read yet, and else the end, and EPIPE when it sends.

    Attributes:
        after: Seconds from the moment at which the fault meets the connection, or from the last byte that may pass.
        after_bytes: Bytes that may pass first; the rest is lost. None for any number, until the time has come.
    """

    after: float = seconds(0.0)
    after_bytes: int | None = byte_count(None)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "datagrams have no connection that could be reset: use Partition"

    def stage(self, site: Site) -> Stage:
        """Begin to count."""
        return _Resetting(self, site)


class _Resetting(Stage):
    def __init__(self, fault: ResetPeer, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._passed = Passed()
        self._full = False

    def begin(self, now: float) -> Iterable[Action]:
        if not self._fault.after_bytes:
            self._full = self._fault.after_bytes == 0
            self.wake_at = now + self._fault.after
        return ()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        limit = self._fault.after_bytes
        if limit is None:
            return (Send(data),)
        before, _ = self._passed.split(data, limit)
        if self._passed.count >= limit and not self._full:
            self._full = True
            self.wake_at = now + self._fault.after
        return (Send(before),) if before else ()

    def end(self, now: float) -> Iterable[Action]:
        # Between the last byte that may pass and the reset nothing arrives any more.
        return () if self._full else super().end(now)

    def wake(self, now: float) -> Iterable[Action]:
        self._site.note(now, f"resets after {self._fault.after_bytes} bytes" if self._full else "resets")
        return (Abort(),)
