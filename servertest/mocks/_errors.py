"""What a mock server has to complain of."""

from __future__ import annotations

from .._support import Mismatch

__all__ = ("MockFailed",)


class MockFailed(Mismatch):
    """A client did not do what the script of a mock server says, or did something else; the message shows how far it got."""
