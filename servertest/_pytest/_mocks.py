"""The fixtures `mock_server` and `make_mock_server`, and what a failing test shows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .._support import HandlerFailed, StillRunning
from ..launch import Kind
from ..mocks import MockFailed, MockServer

__all__ = ("MakeMockServer", "mock_sections")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class MakeMockServer:
    """Makes mock servers and, at the end of the test, stops them. Call it as you would `servertest.mocks.MockServer`."""

    def __init__(self, timeout: float, seed: int, note: Callable[[MockServer], object]) -> None:
        self._timeout = timeout
        self._seed = seed
        self._note = note
        self._made: list[MockServer] = []

    @property
    def servers(self) -> tuple[MockServer, ...]:
        """The servers made so far, in that order."""
        return tuple(self._made)

    def __call__(self, kind: str | Kind = "tcp", **options: Any) -> MockServer:
        """Make one: it serves when this returns."""
        options = {"timeout": self._timeout, "seed": self._seed, **options}
        mock = MockServer(kind, **options)
        self._made.append(mock)
        self._note(mock)
        return mock

    def close(self, *, failed: bool = False) -> str:
        """Stop all of them, the last one first.

        Args:
            failed: Whether the test has failed already, and has shown what there is to complain of.

        Returns:
            What went wrong. Nothing if all is well.
        """
        complaints = []
        for mock in reversed(self._made):
            try:
                mock.stop()
            except MockFailed as failure:
                if not failed:
                    complaints.append(str(failure))
            except (HandlerFailed, StillRunning) as failure:
                complaints.append(str(failure))
        return "\n\n".join(complaints)


def mock_sections(mocks: Iterable[MockServer]) -> list[tuple[str, str]]:
    """Title and text for each mock server of a failed test: how far its script got."""
    return [(f"servertest {mock}", mock.problems or mock.status()) for mock in mocks if mock.running.running]
