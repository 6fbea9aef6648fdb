"""One connection, or one peer that sends datagrams, as the reader of a transcript sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._support import format_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .._support import Transport
    from ._events import CloseKind, Event, Failure, Side
    from ._state import ConversationState

__all__ = ("Conversation",)


class Conversation:
    """A connection and what passed on it; for datagrams, everything exchanged with one peer address.

    It is alive: what it says changes as long as the connection lasts. You get it from `Transcript.connections`.
    """

    __slots__ = ("_lock", "_select", "_state")

    def __init__(
        self,
        state: ConversationState,
        lock: AbstractContextManager[Any],
        select: Callable[[int], tuple[Event, ...]],
    ) -> None:
        self._state = state
        self._lock = lock
        self._select = select

    def __repr__(self) -> str:
        return f"<Conversation {self.number} with {format_address(self.client)}: {self.state}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conversation) and other._state is self._state

    def __hash__(self) -> int:
        return hash(self._state)

    @property
    def number(self) -> int:
        """From 1, in the order in which connections were made and datagram peers first heard of."""
        return self._state.number

    @property
    def transport(self) -> Transport:
        """``"stream"`` or ``"datagram"``."""
        return self._state.transport

    @property
    def client(self) -> Any:
        """The client's address as the system reports it; None if it is not known."""
        return self._state.client

    @property
    def server(self) -> Any:
        """The server's end likewise; None for datagrams."""
        return self._state.server

    @property
    def opened(self) -> float:
        """Seconds from the transcript's beginning to the first event."""
        return self._state.opened

    @property
    def closed(self) -> float | None:
        """Seconds from the transcript's beginning to the end of the connection; None while it is open."""
        return self._state.closed

    @property
    def is_open(self) -> bool:
        """Whether it is a connection that has not ended. Datagrams know no end, so they are never open."""
        return self._state.is_open

    @property
    def closed_by(self) -> Side | None:
        """Who ended the conversation first, by FIN or by RST; None while it is open, or if neither side did."""
        return self._state.ended_by if self._state.closed is not None else None

    @property
    def close_kind(self) -> CloseKind | None:
        """How it ended: ``"fin"``, ``"rst"``, ``"timeout"`` or ``"forced"``; None while it is open."""
        return self._state.close_kind

    @property
    def half_closed_by(self) -> Side | None:
        """The side that finished sending first while the connection was still open; None if neither did."""
        return self._state.half_closed_by

    @property
    def reset_by(self) -> Side | None:
        """The side that cut the connection off; None if neither did, or if it is not known."""
        return self._state.reset_by

    @property
    def failures(self) -> list[Failure]:
        """What the server raised while serving it."""
        with self._lock:
            return list(self._state.failures)

    @property
    def upstream(self) -> bytes:
        """What the client sent. Of very much, only the beginning and the end: see `upstream_total`."""
        with self._lock:
            return bytes(self._state.upstream)

    @property
    def downstream(self) -> bytes:
        """What the server sent. Of very much, only the beginning and the end: see `downstream_total`."""
        with self._lock:
            return bytes(self._state.downstream)

    @property
    def upstream_total(self) -> int:
        """How many bytes the client sent in all."""
        return self._state.upstream.total

    @property
    def downstream_total(self) -> int:
        """How many bytes the server sent in all."""
        return self._state.downstream.total

    @property
    def events(self) -> tuple[Event, ...]:
        """Its part of `Transcript.events`."""
        return self._select(self.number)

    @property
    def state(self) -> str:
        """Where it stands, in words: "open", "closed by the client (FIN)", "reset by the server (RST)"."""
        with self._lock:
            return _describe(self._state)


def _describe(state: ConversationState) -> str:
    if state.transport == "datagram":
        return "datagrams"
    if state.closed is None:
        half = f", the {state.half_closed_by} has finished sending" if state.half_closed_by else ""
        return f"open{half}"
    if state.close_kind == "rst":
        return f"reset by the {state.reset_by} (RST)" if state.reset_by else "reset (RST)"
    if state.close_kind == "timeout":
        return "given up by the system (timeout)"
    ending = "FIN" if state.close_kind == "fin" else "forced"
    return f"closed by the {state.ended_by} ({ending})" if state.ended_by else f"closed ({ending})"
