"""Faults of the calls that a program makes on its sockets, and of those that make connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ("PASS", "Calls", "Verdict")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a call.

    Attributes:
        error: The name of the ``errno`` with which it fails, such as "ECONNRESET"; None if it does not.
        limit: The largest number of bytes that it may move; None for no limit.
        delay: Seconds before it is made, or fails.
    """

    error: str | None = None
    limit: int | None = None
    delay: float = 0.0


PASS = Verdict()
"""The call is made as it is."""


class Calls:
    """Faults at work on the calls of one socket, or of one listener. This one lets every call pass.

    It is false if there are no faults, so that nobody need ask.
    """

    def __bool__(self) -> bool:
        return True

    @property
    def memory(self) -> Any:
        """What it remembers of the calls so far, as plain data: where several processes accept from one listener, each goes on where
        another has stopped.
        """
        return None

    @memory.setter
    def memory(self, memory: Any) -> None:
        """Go on from there."""

    def before(self, call: str, size: int, now: float) -> Verdict:
        """A call is about to be made.

        Args:
            call: What it does: "recv", "send", "accept", "connect", "thread", "fork" or "listen".
            size: How many bytes it wants to move; 0 where that says nothing.
            now: Seconds on the driver's clock.
        """
        return PASS

    def moved(self, call: str, data: bytes) -> None:
        """A call has been made, and has moved these bytes, or this datagram.

        Args:
            call: "recv" or "send".
            data: What it gave, or took.
        """
