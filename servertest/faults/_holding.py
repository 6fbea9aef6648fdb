"""A stage that keeps what comes, for faults under which nothing passes for a while."""

from __future__ import annotations

from collections.abc import Iterable

from ._actions import Abort, Action, Finish, Send
from ._stage import Stage

__all__ = ("Holding",)


class Holding(Stage):
    """Keeps everything in order, the end too, until it is released or the fault is taken away."""

    window = 1 << 16

    def __init__(self) -> None:
        self._kept: list[Action] = []

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._kept.append(Send(data))
        self.held += len(data)
        return ()

    def end(self, now: float) -> Iterable[Action]:
        self._kept.append(Finish())
        return ()

    def abort(self, now: float) -> Iterable[Action]:
        self._kept.append(Abort())
        return ()

    def leave(self, now: float) -> Iterable[Action]:
        return self._released()

    def _released(self) -> list[Action]:
        kept, self._kept = self._kept, []
        self.held = 0
        return kept
