"""The order in which things happened, in bounded memory.

Bytes are kept once, by their conversation. The log holds where they stand in its stream, and the events of bytes are
made when somebody asks for them. So recording is cheap, and bytes can be dropped without looking for their event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from ._events import Data, Datagram, Direction, Event, Gap, Note
from ._kept import Kept
from ._state import ConversationState

__all__ = ("Log", "Passage", "Time", "seconds")

Time: TypeAlias = int | float
"""Whole microseconds where an int, which is cheap to write down; seconds where a float, as events have them."""

# A plain tuple takes a fifth of the time of a dataclass, and there is one for each recv() and send().
Passage: TypeAlias = tuple[Time, ConversationState, Direction, int, int, Any]
"""Bytes that passed: time, conversation, direction, offset in its stream, size, and the peer of a datagram."""


class Log:
    """Keeps the first and the last half of ``limit`` entries, and counts all.

    Args:
        limit: How many.
        states: The conversations that have not been forgotten, by number; events of others are not shown.
    """

    __slots__ = ("_head", "_head_limit", "_states", "_tail", "count")

    def __init__(self, limit: int, states: Mapping[int, ConversationState]) -> None:
        self.count = 0
        self._head: list[Passage | Event] = []
        self._head_limit = limit - limit // 2
        self._tail: deque[Passage | Event] = deque(maxlen=limit // 2)
        self._states = states

    def add(self, entry: Passage | Event) -> None:
        """Note that bytes passed, or an event of something else."""
        self.count += 1
        if len(self._head) < self._head_limit:
            self._head.append(entry)
        else:
            self._tail.append(entry)

    def events(self) -> tuple[Event, ...]:
        """Everything that is kept, in order of time."""
        return tuple(sorted(self._unfold(), key=lambda event: event.time))

    def _unfold(self) -> Iterator[Event]:
        reached: dict[tuple[int, Direction], int] = {}
        for entry in self._entries():
            if not isinstance(entry, tuple):
                if not entry.connection or entry.connection in self._states:
                    yield entry
            elif not entry[1].forgotten:
                yield from _events_of(entry, reached)

    def _entries(self) -> Iterator[Passage | Event]:
        yield from self._head
        lost = self.count - len(self._head) - len(self._tail)
        if lost:
            first = self._tail[0] if self._tail else self._head[-1] if self._head else None
            time = 0.0 if first is None else _time_of(first)
            yield Note(time, 0, f"{lost} events were not kept here")
        yield from self._tail


def seconds(time: Time) -> float:
    """The time that an event has."""
    return time / 1e6 if isinstance(time, int) else time


def _time_of(entry: Passage | Event) -> float:
    return seconds(entry[0]) if isinstance(entry, tuple) else entry.time


def _events_of(passage: Passage, reached: dict[tuple[int, Direction], int]) -> Iterator[Event]:
    """The events of a passage, preceded by one for what passed unlogged before it."""
    when, state, direction, offset, size, address = passage
    time = seconds(when)
    kept = state.kept(direction)
    before = reached.get((state.number, direction), 0)
    reached[state.number, direction] = offset + size
    if state.transport == "stream":
        if before < offset:
            yield from _stream_pieces(time, state.number, direction, kept, before, offset)
        yield from _stream_pieces(time, state.number, direction, kept, offset, offset + size)
        return
    if before < offset:
        yield Gap(time, state.number, direction, offset - before)
    data = kept.slice(offset, offset + size)
    if len(data) == size:
        yield Datagram(time, state.number, direction, data, address)
    else:
        yield Gap(time, state.number, direction, size)


def _stream_pieces(
    time: float, number: int, direction: Direction, kept: Kept, start: int, stop: int
) -> Iterator[Event]:
    gap_start, gap_end = kept.gap
    if before := kept.slice(start, min(stop, gap_start)):
        yield Data(time, number, direction, before)
    # The gap belongs to the first passage that reaches it; those that lie wholly within are part of it.
    if start <= gap_start < min(stop, gap_end):
        yield Gap(time, number, direction, gap_end - gap_start)
    if after := kept.slice(max(start, gap_end), stop):
        yield Data(time, number, direction, after)
