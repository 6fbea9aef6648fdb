"""A performance in virtual time, without a socket."""

from __future__ import annotations

from typing import Any

from servertest.mocks import Ending, Performance, Script

__all__ = ("Stage",)


class Stage:
    """Plays a script: says things at times, and notes what comes back."""

    def __init__(self, script: Script, **options: Any) -> None:
        self.performance = Performance(script, **options)
        self.now = 0.0
        self.out: list[tuple[float, bytes | Ending]] = []
        self.performance.open(0.0)
        self._take()

    def say(self, *pieces: bytes) -> Stage:
        for piece in pieces:
            self.performance.receive(piece, self.now)
            self._take()
        return self

    def end(self) -> Stage:
        self.performance.finish(self.now)
        self._take()
        return self

    def cut(self) -> Stage:
        self.performance.cut(self.now)
        self._take()
        return self

    def refresh(self) -> Stage:
        self.performance.refresh(self.now)
        self._take()
        return self

    def run(self, until: float = 1e6) -> Stage:
        """Let time pass until nothing is due."""
        while (due := self.performance.due) is not None and due <= until and not self.performance.over:
            self.now = max(self.now, due)
            self._take()
        return self

    def _take(self) -> None:
        self.out += [(round(self.now, 6), what) for what in self.performance.take(self.now)]

    @property
    def said(self) -> bytes:
        return b"".join(what for _, what in self.out if isinstance(what, bytes))

    @property
    def endings(self) -> list[Ending]:
        return [what for _, what in self.out if isinstance(what, Ending)]

    @property
    def owed(self) -> list[int]:
        return [step.number for step in self.performance.owed]

    @property
    def unexpected(self) -> list[bytes]:
        return [one.request.data for one in self.performance.unexpected]
