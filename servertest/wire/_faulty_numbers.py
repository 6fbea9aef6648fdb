"""The numbers of connections, and of attempts to accept one; where several processes accept, all of them together."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import select
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._faulty_calls import CallFaults

__all__ = ("Numbers", "SharedNumbers")

#: More than a pipe holds.
_ALL = 1 << 20


class Numbers:
    """Counts connections.

    Args:
        first: The number of the first.

    Attributes:
        last: The number of the last; one less than the first before there is any.
        failures: Attempts to accept that have failed although somebody had come, who is still there.
    """

    def __init__(self, first: int = 1) -> None:
        self.last = first - 1
        self.failures = 0
        self._next = itertools.count(first).__next__

    @property
    def attempt(self) -> int:
        """Which connection would be accepted now, if every attempt had been one."""
        return self.last + self.failures + 1

    def take(self) -> int:
        """The number of the next connection."""
        self.last = number = self._next()
        return number

    def alone(self, listening: CallFaults) -> contextlib.AbstractContextManager[object]:
        """A block in which nobody else accepts, and these faults know what has happened at the others."""
        return contextlib.nullcontext()

    def interrupt(self) -> None:
        """Nobody here is to wait for others any more."""

    def close(self) -> None:
        """Give back what it holds."""


class SharedNumbers(Numbers):
    """For all processes that are forked from this one together.

    What is known lies in a pipe. Whoever has read it is alone until it is written back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._memory: dict[str, Any] = {}
        self._held = self._stopped = False
        self._pid = 0
        self._wakes = (-1, -1)
        self._write()

    def take(self) -> int:
        """The number of the next connection."""
        if self._held or not self._read():
            self.last += 1
        else:
            self.last += 1
            self._write()
        return self.last

    @contextlib.contextmanager
    def alone(self, listening: CallFaults) -> Any:
        """See `Numbers.alone`."""
        self._held = self._read()
        if self._held:
            listening.recall(self._memory)
        try:
            yield
        finally:
            if self._held:
                self._held = False
                self._memory = listening.memory
                self._write()

    def interrupt(self) -> None:
        """See `Numbers.interrupt`. Safe in signal handlers."""
        self._stopped = True
        if self._pid == os.getpid():
            os.write(self._wakes[1], b"x")

    def close(self) -> None:
        """See `Numbers.close`."""
        own = self._wakes if self._pid == os.getpid() else ()
        for fd in (self._reader, self._writer, *own):
            os.close(fd)
        self._pid = 0

    def _read(self) -> bool:
        """Whether what is known is here now, and nowhere else; not if nobody is to wait."""
        while True:
            try:
                self.last, self.failures, self._memory = pickle.loads(os.read(self._reader, _ALL))  # noqa: S301 - our own
                return True
            except BlockingIOError:
                if not self._wait():
                    return False

    def _wait(self) -> bool:
        """Wait until it may be there; whether that is still wanted."""
        if self._pid != os.getpid():
            self._wakes, self._pid = os.pipe(), os.getpid()
        if not self._stopped:
            poll = select.poll()  # not select(), which knows no descriptor above 1023
            for fd in (self._reader, self._wakes[0]):
                poll.register(fd, select.POLLIN)
            poll.poll()
        return not self._stopped

    def _write(self) -> None:
        os.write(self._writer, pickle.dumps((self.last, self.failures, self._memory)))
