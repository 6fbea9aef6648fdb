"""The writing side of a transcript."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import monotonic
from typing import Any

from .._support import shorten_lines
from ._events import (
    Close,
    CloseKind,
    Connect,
    Data,
    Datagram,
    Direction,
    Event,
    Failure,
    HalfClose,
    Note,
    Side,
)

__all__ = ("Recorder", "RemoteRecorder", "describe_error")

# A message may hold the repr of a whole request, a traceback of generated code whole files.
_TEXT_LIMIT = 100_000


class Recorder(ABC):
    """What those who move bytes are given to write down what they see.

    `Transcript` is one. Every method may be called from any thread.

    Attributes:
        started: The time (of `time.monotonic`) from which the events' times count.
    """

    def __init__(self, started: float | None = None) -> None:
        self.started = monotonic() if started is None else started

    @abstractmethod
    def connect(self, client: Any, server: Any) -> int:
        """A connection was made between these two addresses; returns its number, from 1."""

    @abstractmethod
    def datagram(self, direction: Direction, data: bytes | bytearray | memoryview, address: Any) -> int:
        """A datagram came from or went to ``address``; returns the number that stands for this peer."""

    @abstractmethod
    def add(self, event: Event) -> None:
        """Anything, as a ready-made event with its number and its time."""

    def data(self, number: int, direction: Direction, data: bytes | bytearray | memoryview) -> None:
        """Bytes of connection ``number`` passed."""
        self.add(Data(self.now(), number, direction, bytes(data)))

    def half_close(self, number: int, by: Side) -> None:
        """One side finished sending."""
        self.add(HalfClose(self.now(), number, by))

    def close(self, number: int, by: Side | None, how: CloseKind) -> None:
        """The connection ended. If that has been said before, this is left out."""
        self.add(Close(self.now(), number, by, how))

    def failure(self, number: int, where: str, error: BaseException) -> None:
        """An exception was raised while serving connection ``number``, or outside of any if that is 0."""
        self.add(Failure(self.now(), number, where, *describe_error(error)))

    def note(self, number: int, text: str) -> None:
        """A remark for the reader, about connection ``number`` or, if that is 0, in general."""
        self.add(Note(self.now(), number, text))

    def now(self) -> float:
        """Seconds since `started`, to the microsecond: what loopback needs and a reader of `.wire` can bear."""
        return self.ticks() / 1e6

    def ticks(self) -> int:
        """The same in whole microseconds."""
        return int((monotonic() - self.started) * 1e6)


class RemoteRecorder(Recorder):
    """Hands each event to ``emit``: for a process that has no transcript of its own.

    ``emit`` sends the event to the process that has one, where `Transcript.add` takes it in. Give it that
    transcript's ``started``: all processes of a Linux or macOS system share one monotonic clock.

    No lock is taken here, so none can be held by another thread at the moment of a fork.

    Args:
        emit: Takes each event; called from any thread.
        started: The time (of `time.monotonic`) from which times count; now, if not given.
    """

    def __init__(self, emit: Callable[[Event], object], *, started: float | None = None) -> None:
        super().__init__(started)
        self._emit = emit
        # next() on a count and setdefault() on a dict are each atomic.
        self._numbers = itertools.count(1)
        self._peers: dict[Any, int] = {}

    def connect(self, client: Any, server: Any) -> int:
        """See `Recorder.connect`. The numbers are this recorder's own."""
        number = next(self._numbers)
        self._emit(Connect(self.now(), number, client, server))
        return number

    def datagram(self, direction: Direction, data: bytes | bytearray | memoryview, address: Any) -> int:
        """See `Recorder.datagram`. The numbers are this recorder's own."""
        number = self._peers.get(address)
        if number is None:
            number = self._peers.setdefault(address, next(self._numbers))
        self._emit(Datagram(self.now(), number, direction, bytes(data), address))
        return number

    def add(self, event: Event) -> None:
        """See `Recorder.add`."""
        self._emit(event)


def describe_error(error: BaseException) -> tuple[str, str, str]:
    """An exception as three texts that any process can read: the name of its class, its message, its traceback."""
    import traceback

    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 (the class is somebody else's; its __str__ may do anything)
        message = f"(its message cannot be shown: __str__ raised {type(broken).__name__})"
    text = shorten_lines("".join(traceback.format_exception(error)))
    return name, message[:_TEXT_LIMIT], text[-_TEXT_LIMIT:]
