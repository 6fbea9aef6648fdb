"""What a stage asks for: bytes or an ending, each after a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ("Abort", "Action", "Close", "Finish", "Send")


@dataclass(frozen=True, slots=True)
class Send:
    """Let these bytes (or this datagram) pass on.

    Attributes:
        data: The bytes.
        after: Seconds of propagation: the bytes of one moment may be under way together.
        takes: Seconds of transmission: what comes next has to wait until these are through.
    """

    data: bytes
    after: float = 0.0
    takes: float = 0.0


@dataclass(frozen=True, slots=True)
class Finish:
    """End this direction in order (FIN); the other one goes on.

    Attributes:
        after: Seconds from now.
    """

    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Close:
    """End the whole connection in order: both sides get FIN once what is on its way to them has arrived.

    Attributes:
        after: Seconds from now.
    """

    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Abort:
    """Cut the whole connection off: both sides get RST, whatever was on its way is lost. Of Unix sockets see `ResetPeer`.

    Attributes:
        after: Seconds from now.
    """

    after: float = 0.0


Action: TypeAlias = Send | Finish | Close | Abort
