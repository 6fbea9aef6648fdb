"""What the behaving clients for threads and for asyncio have in common: everything that does not wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..._support import Deadline, format_address

if TYPE_CHECKING:
    import socket

    from ..._support import Address
    from ._behaviour import Behaviour
    from ._carrying import Dialled
    from ._course import Course
    from ._outcome import Outcome

__all__ = ("BehavingFront",)


class BehavingFront:
    """A connection, a behaviour, and how it fares.

    Args:
        behaviour: What the client does.
        dialled: Its socket.
        course: What it does on that.
        address: The server's address.
        timeout: Seconds of a run.

    Attributes:
        behaviour: What the client does.
        address: The server's address.
        local_address: Its own.
        timeout: Seconds of a run.
    """

    def __init__(
        self, behaviour: Behaviour, dialled: Dialled, course: Course, address: Address, timeout: float
    ) -> None:
        self.behaviour = behaviour
        self.address = address
        self.timeout = timeout
        self._course = course
        self._outcome: Outcome | None = None
        self._name = dialled.name
        self.local_address: Address = dialled.sock.getsockname()
        # Only now: it may end in its first step.
        course.opened(time.monotonic())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {format_address(self.address)}: {self.behaviour!r}, {self.outcome.how}>"

    @property
    def outcome(self) -> Outcome:
        """How it fares."""
        return self._outcome or self._course.outcome

    @property
    def received(self) -> bytes:
        """All that has come; with TLS, of plain text."""
        return bytes(self._course.inbox or b"")

    @property
    def sent(self) -> int:
        """How many bytes the system has taken in all; with TLS, of plain text."""
        return self._course.sent

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self._course.is_over()

    @property
    def socket(self) -> socket.socket:
        """The socket beneath, non-blocking, for its options."""
        return self._course.sock

    def _limit(self, seconds: float | None) -> float:
        seconds = self.timeout if seconds is None else seconds
        Deadline(seconds, "a client that behaves badly")  # refuses what is no time
        return seconds

    def _stop(self) -> None:
        if self._outcome is None:
            # How it stood before we closed it is what tells of the server.
            self._course.stop(time.monotonic())
            self._outcome = self._course.outcome
            if self._name is not None:
                self._name.take_back()
