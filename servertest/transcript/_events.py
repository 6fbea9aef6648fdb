"""What can happen between a client and a server, as plain values.

Events hold nothing but numbers, text and bytes, so they can be pickled, compared and sent from a server process to
the test's. Their times are seconds since the transcript began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = (
    "Close",
    "CloseKind",
    "Connect",
    "Data",
    "Datagram",
    "Direction",
    "Event",
    "Failure",
    "Gap",
    "HalfClose",
    "Note",
    "Side",
)

Direction: TypeAlias = Literal["upstream", "downstream"]
"""Upstream is client to server, downstream is server to client."""

Side: TypeAlias = Literal["client", "server"]

CloseKind: TypeAlias = Literal["fin", "rst", "timeout", "forced"]
"""How a connection ended: in order, cut off, given up by the system, or ended by the launcher's teardown."""


@dataclass(frozen=True, slots=True)
class Connect:
    """A connection was made.

    Attributes:
        time: Seconds since the transcript began.
        connection: The connection's number, from 1.
        client: The client's address as the system reports it: a tuple, a Unix path, an abstract name; None if unknown.
        server: The server's end likewise.
    """

    time: float
    connection: int
    client: Any
    server: Any


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream, as one call took them from or gave them to the system."""

    time: float
    connection: int
    direction: Direction
    data: bytes


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram, which may be empty.

    Attributes:
        connection: A number for each peer address, counted together with the connections.
        address: The peer's address: where it came from, or where it went.
    """

    time: float
    connection: int
    direction: Direction
    data: bytes
    address: Any


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes passed here that the transcript did not keep, because it keeps only so many.

    Attributes:
        size: How many bytes, at least 1.
    """

    time: float
    connection: int
    direction: Direction
    size: int


@dataclass(frozen=True, slots=True)
class HalfClose:
    """One side finished sending (TCP FIN); the other direction may go on."""

    time: float
    connection: int
    by: Side


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is over.

    Attributes:
        by: Whose act ended it; None where neither side did, as with a time-out of the system.
        how: In order, cut off, given up, or forced.
    """

    time: float
    connection: int
    by: Side | None
    how: CloseKind


@dataclass(frozen=True, slots=True)
class Failure:
    """Something raised an exception on the server.

    Attributes:
        connection: The connection that it was serving; 0 where none was involved.
        where: The place in a word or two, such as ``handle`` or ``serve_forever``.
        type_name: The exception's class, with its module unless it is built in.
    """

    time: float
    connection: int
    where: str
    type_name: str
    message: str
    traceback_text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A remark of the machinery, for the reader: a fault's decision, a descriptor handed on.

    Attributes:
        connection: The connection that it is about; 0 where it is about none.
    """

    time: float
    connection: int
    text: str


Event: TypeAlias = Connect | Data | Datagram | Gap | HalfClose | Close | Failure | Note
