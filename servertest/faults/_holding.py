"""A stage that keeps what comes, for faults under which nothing passes for a while."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ._actions import Abort, Action, Finish, Send
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ()


class Holding(Stage):
    """Keeps everything in order, the end too, until it is released or the fault is taken away.

    Args:
        site: Where.
        what: What to tell as soon as something is kept; None for nothing.
    """

    window = 1 << 16

    def __init__(self, site: Site, what: str | None = None) -> None:
        self._site = site
        self._what = what
        self._kept: list[Action] = []

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        if self._what is not None:
            self._site.note_once(now, self._what)
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
