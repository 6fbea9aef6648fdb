"""What an honest client would do, and what is wrong with the line that it does it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ...faults import Plan

__all__ = ("Ending", "Script")

Ending: TypeAlias = Literal["stay", "finish", "close", "reply"]
"""What a client does once it has sent everything: stay; send FIN and go on reading; close; close when the reply is there."""


@dataclass(frozen=True, slots=True)
class Script:
    """One connection of a client. It reads all the time, and closes when the server has closed, unless its line is in the way.

    Attributes:
        head: Bytes that are sent first.
        payload: Bytes, or a datagram, that are sent then.
        repeat: How often; None for as long as the connection lasts.
        ending: What it does once everything is sent.
        faults: What is wrong with its line, aimed.
        enough: Bytes of a reply with which the client has what it wanted; None for one that is never content.
        window: The receive buffer in bytes, set before connecting; None for the system's own.
        read_size: Bytes of one read at most.
        vanishes: Whether the system, too, is to fall silent once everything is sent.
        beneath_tls: Whether the faults meet the records of TLS, handshake included, instead of what is in them.
        every: Seconds from the beginning of a connection to that of the client's next one; None for a single one.
    """

    head: bytes = b""
    payload: bytes = b""
    repeat: int | None = 1
    ending: Ending = "stay"
    faults: Plan = field(default_factory=Plan)
    enough: int | None = 0
    window: int | None = None
    read_size: int = 65536
    vanishes: bool = False
    beneath_tls: bool = False
    every: float | None = None
