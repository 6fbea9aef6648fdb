"""What became of a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ("HOWS", "How", "Outcome")

How: TypeAlias = Literal[
    "waiting",
    "connecting",
    "held",
    "finished",
    "closed",
    "reset",
    "refused",
    "timed_out",
    "failed",
]
"""How a client stands: not begun; connecting; connected; done with what it wanted; cut off by the server with FIN, or with RST;
refused; not connected in time; failed in another way.
"""

HOWS: tuple[How, ...] = (
    "waiting",
    "connecting",
    "held",
    "finished",
    "closed",
    "reset",
    "refused",
    "timed_out",
    "failed",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one client fared. Times are in seconds since it began to connect.

    Attributes:
        how: How it stands, or ended.
        connected: When it was connected; None if it never was.
        first_byte: When the first byte of a reply came.
        ended: When the connection ended, on whichever side.
        sent: Bytes that the system has taken; with TLS, of plain text.
        received: Bytes that have come; with TLS, of plain text.
        late: The worst delay of a send behind the client's own timetable, in seconds.
        error: What the system said, if something failed.
    """

    how: How
    connected: float | None = None
    first_byte: float | None = None
    ended: float | None = None
    sent: int = 0
    received: int = 0
    late: float = 0.0
    error: str = ""

    @property
    def cut_off_by_server(self) -> bool:
        """Whether the server ended the connection before the client was done."""
        return self.how in ("closed", "reset")

    @property
    def held(self) -> float:
        """Seconds for which it was connected, if that has ended; otherwise 0."""
        return 0.0 if self.connected is None or self.ended is None else self.ended - self.connected
