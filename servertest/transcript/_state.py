"""What a transcript writes down about one connection, or about one peer that sends datagrams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._kept import Kept

if TYPE_CHECKING:
    from .._support import Transport
    from ._events import CloseKind, Direction, Failure, Side

__all__ = ("ConversationState",)


@dataclass(slots=True, eq=False)
class ConversationState:
    """Everything known of one conversation; touched only under the transcript's lock."""

    number: int
    transport: Transport
    opened: float
    upstream: Kept
    downstream: Kept
    client: Any = None
    server: Any = None
    closed: float | None = None
    close_kind: CloseKind | None = None
    ended_by: Side | None = None
    half_closed_by: Side | None = None
    reset_by: Side | None = None
    failures: list[Failure] = field(default_factory=list)
    forgotten: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it is a connection that has not ended; datagrams know no end, so they are never open."""
        return self.closed is None and self.transport == "stream"

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self.upstream.held + self.downstream.held

    def kept(self, direction: Direction) -> Kept:
        """The bytes of one direction."""
        return self.upstream if direction == "upstream" else self.downstream

    def half_close(self, by: Side) -> None:
        """One side finished sending."""
        if self.half_closed_by is None:
            self.half_closed_by = by
        if self.ended_by is None:
            self.ended_by = by

    def close(self, time: float, by: Side | None, how: CloseKind) -> None:
        """The connection ended."""
        self.closed = time
        self.close_kind = how
        if how == "rst":
            self.reset_by = by
        if self.ended_by is None:
            self.ended_by = by
