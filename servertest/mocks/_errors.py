"""What a mock server has to complain of."""

from __future__ import annotations

from typing import Any

from .._support import Mismatch

__all__ = ("MockFailed",)


class MockFailed(Mismatch):
    """A client did not do what the script of a mock server says, or did something else; the message shows how far it got.

    Args:
        message: Everything that there is to say.
        headline: The first thing that went wrong, in one line.
    """

    def __init__(self, message: str, headline: str = "") -> None:
        super().__init__(message)
        self._headline = headline

    @property
    def servertest_headline(self) -> str:
        """What went wrong first, for summaries."""
        return self._headline or super().servertest_headline

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self._headline)


# By the name under which a caller finds it.
MockFailed.__module__ = "servertest.mocks"
