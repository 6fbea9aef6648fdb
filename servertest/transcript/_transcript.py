"""The record of what passed between clients and a server."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

from .._support import DEFAULT_TIMEOUT, Deadline, UsageError, suggests_keywords
from ._conversation import Conversation
from ._events import Close, Connect, Data, Datagram, Direction, Event, Failure, Gap, HalfClose, Note
from ._kept import Kept
from ._log import Log, Time, seconds
from ._recorder import Recorder
from ._state import ConversationState
from ._wanted import Wanted

if TYPE_CHECKING:
    import re

    from .._support import Transport

__all__ = ("Transcript",)


class Transcript(Recorder):
    """The ordered record of what passed: connections, bytes, datagrams, ends, failures.

    One side writes (`connect`, `data`, `close` and so on), the other reads and waits; each from any thread. Memory is
    bounded: of each connection the first and the last bytes are kept in each direction, of the events the first and
    the last, and all totals are exact.

    Args:
        max_bytes: Bytes kept of each direction of each connection: half from its beginning, half from its end.
        max_events: Events kept in all, half from the beginning, half from the end.
        max_connections: Connections kept in all; beyond that, ended ones are forgotten, oldest first, except those
            of the first half.
        max_total_bytes: Bytes kept in all. Once it is reached, each direction of a connection keeps at most 2048
            bytes more at either end.
        started: The time (of `time.monotonic`) from which times count; now, if not given.

    Raises:
        UsageError: A limit is negative.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 1 << 20,
        max_events: int = 10_000,
        max_connections: int = 10_000,
        max_total_bytes: int = 64 << 20,
        started: float | None = None,
    ) -> None:
        super().__init__(started)
        if min(max_bytes, max_events, max_connections, max_total_bytes) < 0:
            raise UsageError("a transcript's limits are numbers from 0 up")
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._max_connections = max_connections
        self._max_total_bytes = max_total_bytes
        self._states: dict[int, ConversationState] = {}
        self._log = Log(max_events, self._states)
        self._forgettable: deque[ConversationState] = deque()
        self._failures: list[Failure] = []
        self._opened = self._closed = self._failed = self._held = self._last_number = 0
        self._peers: dict[Any, int] = {}
        self._translated: dict[tuple[Hashable, int], int] = {}
        self._origins: dict[int, tuple[Hashable, int]] = {}
        self._waiting = 0
        self._renew_lock()
        _transcripts.add(self)

    @classmethod
    def from_events(cls, events: Iterable[Event], **limits: int) -> Transcript:
        """A transcript of these events, such as `parse_wire` reads; ``limits`` as for the class."""
        transcript = cls(**limits)
        for event in events:
            transcript.add(event)
        return transcript

    def __repr__(self) -> str:
        open_now = sum(state.is_open for state in list(self._states.values()))
        return f"<Transcript: {len(self)} events, {self._opened} conversations, {open_now} open>"

    def __len__(self) -> int:
        """How many events were recorded, kept or not."""
        return self._log.count

    def __bool__(self) -> bool:
        # An empty record is a record: "if transcript" asks whether there is one.
        return True

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, in order of time. A `Gap` stands where bytes were not kept."""
        with self._lock:
            return self._log.events()

    @property
    def connections(self) -> list[Conversation]:
        """The connections in the order in which they were made, and each peer that exchanged datagrams."""
        with self._lock:
            return [Conversation(state, self._lock, self._events_of) for state in self._states.values()]

    @property
    def failures(self) -> list[Failure]:
        """What the server raised, on whatever connection or outside of any."""
        with self._lock:
            return list(self._failures)

    # -- writing ---------------------------------------------------------------------------------------------------

    def connect(self, client: Any, server: Any) -> int:
        """See `Recorder.connect`."""
        with self._lock:
            number = self._last_number + 1
            self.add(Connect(self.now(), number, client, server))
            return number

    def data(self, number: int, direction: Direction, data: bytes | bytearray | memoryview) -> None:
        """See `Recorder.data`."""
        if type(data) is not bytes:
            data = bytes(data)
        if data:
            with self._lock:
                self._pass(self.ticks(), number, "stream", direction, data, None)

    def datagram(self, direction: Direction, data: bytes | bytearray | memoryview, address: Any) -> int:
        """See `Recorder.datagram`."""
        with self._lock:
            number = self._peer(address)
            self._pass(self.ticks(), number, "datagram", direction, bytes(data), address)
            return number

    def name_peer(self, number: int, address: Any) -> None:
        """Datagrams of this address, and remarks about this number, belong together from now on.

        Args:
            number: The number, from 1; one that no other conversation has.
            address: As `datagram` is given it.
        """
        with self._lock:
            self._peers[address] = number
            if number not in self._states:
                self._open(self.now(), number, "datagram", address)

    def add(self, event: Event, *, source: Hashable = None) -> None:
        """Record a ready-made event.

        Args:
            event: The event; its time may lie before that of events already recorded.
            source: Who numbered it, where that was not this transcript: the worker process of a pre-forking
                server, say. Each source's numbers are translated to numbers of this transcript.
        """
        with self._lock:
            number = event.connection
            if source is not None and number:
                number = self._translate(event, source)
            if isinstance(event, Data):
                self._pass(float(event.time), number, "stream", event.direction, event.data, None)
            elif isinstance(event, Datagram):
                self._make_peer(number, event.address)
                self._pass(float(event.time), number, "datagram", event.direction, event.data, event.address)
            elif isinstance(event, Gap):
                self._skip(float(event.time), number, event.direction, event.size)
            else:
                self._happen(event, number)

    def _pass(
        self, time: Time, number: int, transport: Transport, direction: Direction, data: bytes, address: Any
    ) -> None:
        state = self._states.get(number)
        if state is None:
            state = self._open(seconds(time), number, transport, address)
        kept = state.upstream if direction == "upstream" else state.downstream
        self._log.add((time, state, direction, kept.total, len(data), address))
        self._held += kept.append(data)
        if self._held > self._max_total_bytes:
            self._held += kept.tighten()
        if self._waiting:
            self._changed.notify_all()

    def _skip(self, time: float, number: int, direction: Direction, size: int) -> None:
        state = self._states.get(number) or self._open(time, number, "stream")
        kept = state.kept(direction)
        self._log.add((time, state, direction, kept.total, size, state.client))
        self._held += kept.skip(size)
        if self._waiting:
            self._changed.notify_all()

    def _happen(self, event: Connect | HalfClose | Close | Failure | Note, number: int) -> None:
        if number != event.connection:
            import dataclasses

            event = dataclasses.replace(event, connection=number)
        state = self._states.get(number)
        if state is None and number:
            state = self._open(event.time, number, "stream")
        if isinstance(event, Close) and state is not None and state.closed is not None:
            # Who closes by force, and the socket that is closed by it, may both say so: the first word counts.
            return
        self._log.add(event)
        if isinstance(event, Failure):
            self._fail(event, state)
        elif state is None or isinstance(event, Note):
            pass
        elif isinstance(event, Connect):
            state.client, state.server = event.client, event.server
        elif isinstance(event, HalfClose):
            state.half_close(event.by)
        else:
            self._close(event, state)
        if self._waiting:
            self._changed.notify_all()

    def _fail(self, event: Failure, state: ConversationState | None) -> None:
        self._failed += 1
        if len(self._failures) < self._max_events:
            self._failures.append(event)
            if state is not None:
                state.failures.append(event)

    def _close(self, event: Close, state: ConversationState) -> None:
        self._closed += 1
        state.close(event.time, event.by, event.how)
        self._may_forget(state)

    def _open(self, time: float, number: int, transport: Transport, client: Any = None) -> ConversationState:
        limit = self._max_bytes
        state = ConversationState(number, transport, time, Kept(limit), Kept(limit), client)
        self._states[number] = state
        self._opened += 1
        self._last_number = max(self._last_number, number)
        if transport == "datagram":
            self._may_forget(state)
        while len(self._states) > self._max_connections and self._forgettable:
            self._forget(self._forgettable.popleft())
        return state

    def _may_forget(self, state: ConversationState) -> None:
        if state.number > self._max_connections // 2:
            self._forgettable.append(state)

    def _forget(self, state: ConversationState) -> None:
        self._states.pop(state.number, None)
        if self._peers.get(state.client) == state.number:
            del self._peers[state.client]
        self._translated.pop(self._origins.pop(state.number, (None, 0)), None)
        self._held -= state.held
        state.upstream, state.downstream = Kept(0), Kept(0)
        state.forgotten = True

    def _peer(self, address: Any) -> int:
        number = self._peers.get(address)
        if number is None:
            number = self._peers[address] = self._last_number + 1
        return number

    def _make_peer(self, number: int, address: Any) -> None:
        """Of a conversation of which only a gap or a note is known, a datagram tells what it is."""
        state = self._states.get(number)
        if state is not None and state.transport == "stream":
            state.transport, state.client = "datagram", address
            self._may_forget(state)

    def _translate(self, event: Event, source: Hashable) -> int:
        key = (source, event.connection)
        number = self._translated.get(key)
        if number is None or number not in self._states:
            number = self._peer(event.address) if isinstance(event, Datagram) else self._last_number + 1
            self._translated[key] = number
            self._origins[number] = key
        return number

    # -- waiting ---------------------------------------------------------------------------------------------------

    @suggests_keywords
    def wait_for(
        self,
        *,
        connections: int | None = None,
        closed: int | None = None,
        upstream: bytes | re.Pattern[bytes] | None = None,
        downstream: bytes | re.Pattern[bytes] | None = None,
        failures: int | None = None,
        until: Callable[[Transcript], object] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT,
    ) -> None:
        """Wait until everything that is asked for here has happened; at once if it already has.

        Args:
            connections: At least so many connections were made (for datagrams: so many peers heard of).
            closed: At least so many connections have ended.
            upstream: Some client has sent these bytes, or something that the pattern is found in.
            downstream: The server has sent likewise to some client.
            failures: The server has raised at least so often.
            until: Returns true when it is content with the transcript. Called after each event: keep it quick.
            timeout: Seconds.

        Raises:
            DeadlineExceeded: It did not happen in time; the message says what has happened instead.
            UsageError: Nothing was asked for.
        """
        wanted = Wanted(
            connections=connections,
            closed=closed,
            upstream=upstream,
            downstream=downstream,
            failures=failures,
            until=None if until is None else lambda: bool(until(self)),
        )
        self._wait(
            str(wanted), lambda: wanted.met(self._opened, self._closed, self._failed, self._find), timeout
        )

    def wait_idle(self, *, timeout: float | None = DEFAULT_TIMEOUT) -> None:
        """Wait until no connection is open; at once if none is (or none has been made yet).

        Args:
            timeout: Seconds.

        Raises:
            DeadlineExceeded: Some connection is still open; the message says which.
        """
        self._wait(
            "all connections to end", lambda: not any(s.is_open for s in self._states.values()), timeout
        )

    def _wait(self, what: str, met: Callable[[], bool], timeout: float | None) -> None:
        deadline = Deadline(timeout, what)
        with self._lock:
            self._waiting += 1
            try:
                while not met():
                    if deadline.expired:
                        raise deadline.exceeded(note=self._summary())
                    self._changed.wait(deadline.remaining())
            finally:
                self._waiting -= 1

    def _find(self, direction: Direction, content: bytes | re.Pattern[bytes]) -> bool:
        streams = (bytes(state.kept(direction)) for state in self._states.values())
        if isinstance(content, bytes):
            return any(content in stream for stream in streams)
        return any(content.search(stream) for stream in streams)

    def _summary(self) -> str:
        from ._render import summary

        return summary(self)

    # -- showing ---------------------------------------------------------------------------------------------------

    def render(self, *, max_lines: int = 40, width: int = 100) -> str:
        """The transcript for people: times, arrows, hex beside text, and how each connection ended.

        Args:
            max_lines: How many lines at most; what is left out is said where it is left out.
            width: How many columns at most.
        """
        from ._render import render

        return render(self, max_lines=max_lines, width=width)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _events_of(self, number: int) -> tuple[Event, ...]:
        return tuple(event for event in self.events if event.connection == number)

    def _renew_lock(self) -> None:
        # Reentrant: a signal handler or a destructor may record while this very thread is recording.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)


_transcripts: weakref.WeakSet[Transcript] = weakref.WeakSet()


def _renew_locks() -> None:
    """In a forked child another thread of the parent may hold a lock, which nobody will ever release here."""
    for transcript in list(_transcripts):
        transcript._renew_lock()  # noqa: SLF001 (this module is its home)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
