"""A point in time by which something must have happened, and what that something is."""

from __future__ import annotations

import math
import time

from ._errors import DeadlineExceeded, UsageError

__all__ = ("DEFAULT_TIMEOUT", "STOP_TIMEOUT", "Deadline")

DEFAULT_TIMEOUT = 5.0
"""Seconds that a client waits where nothing else was said."""

STOP_TIMEOUT = 10.0
"""Seconds that stopping a server may take where nothing else was said."""


class Deadline:
    """The end of a wait, fixed when it begins, however many system calls the wait is made of.

    Args:
        seconds: How long the wait may take from now; None for one that is bounded elsewhere.
        what: What is waited for; it completes the sentence "waited 5 s for ...".

    Raises:
        UsageError: The number of seconds is negative, infinite or not a number.
    """

    __slots__ = ("_end", "seconds", "what")

    def __init__(self, seconds: float | None, what: str) -> None:
        if seconds is not None and not 0 <= seconds < math.inf:
            raise UsageError(
                f"a timeout is a number of seconds from 0 up, not {seconds!r} (waiting for {what})"
            )
        self.seconds = seconds
        self.what = what
        self._end = None if seconds is None else time.monotonic() + seconds

    def __repr__(self) -> str:
        return f"Deadline({self.seconds!r}, {self.what!r}, remaining={self.remaining()!r})"

    def remaining(self) -> float | None:
        """Seconds that are left, 0.0 when none are; None without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the time is up."""
        return self._end is not None and time.monotonic() >= self._end

    def check(self, so_far: bytes | None = None, note: str = "") -> None:
        """Raise if the time is up.

        Args:
            so_far: The bytes that have come, where bytes are awaited.
            note: More that helps to understand; stands below the message.

        Raises:
            DeadlineExceeded: The time is up.
        """
        if self.expired:
            raise self.exceeded(so_far, note)

    def exceeded(self, so_far: bytes | None = None, note: str = "") -> DeadlineExceeded:
        """The error that says this wait took too long, to be raised by the caller."""
        return DeadlineExceeded(self.what, self.seconds or 0.0, so_far, note)
