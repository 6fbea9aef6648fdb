"""Connections that are cut off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from ._actions import Abort, Action, Send
from ._fault import Fault
from ._fields import seconds, size
from ._stage import Site, Stage

__all__ = ("ResetPeer",)


@dataclass(frozen=True)
class ResetPeer(Fault):
    """Both sides get RST: at once, after some time, or in the middle of what is sent.

    Attributes:
        after: Seconds from the moment at which the fault meets the connection.
        after_bytes: Bytes that may pass first; the rest of what is sent with the last of them is lost.
    """

    after: float = seconds(0.0)
    after_bytes: int | None = size(None)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "datagrams have no connection that could be reset: use Partition"

    def stage(self, site: Site) -> Stage:
        """Begin to count."""
        return _Resetting(self)


class _Resetting(Stage):
    def __init__(self, fault: ResetPeer) -> None:
        self._fault = fault
        self._left = fault.after_bytes

    def begin(self, now: float) -> Iterable[Action]:
        if self._left is None:
            self.wake_at = now + self._fault.after
        return ()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        if self._left is None:
            yield Send(data)
        elif len(data) < self._left:
            self._left -= len(data)
            yield Send(data)
        else:
            yield Send(data[: self._left])
            self._left = 0
            yield Abort(after=self._fault.after)

    def wake(self, now: float) -> Iterable[Action]:
        yield Abort()
