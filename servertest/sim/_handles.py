"""Open files of the simulated system: what descriptors stand for."""

from __future__ import annotations

import errno
import os
import select
from typing import TYPE_CHECKING, Any

from ..wire._faulty_calls import UNTOUCHED
from ._active import active

if TYPE_CHECKING:
    from ..wire._faulty_calls import CallFaults
    from ._kernel import Kernel
    from ._task import Task

__all__ = (
    "DATA",
    "FIRST_FD",
    "IN",
    "OUT",
    "RDHUP",
    "ROOM",
    "Descriptors",
    "EventFd",
    "Handle",
    "PipeReader",
    "PipeWriter",
    "Watcher",
    "failure",
    "is_virtual",
)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

#: What somebody waits for who reads, and who writes.
DATA, ROOM = "data on", "room on"

#: All events.
ANYTHING = -1

#: Higher than any descriptor that a system gives, so that a call that goes past the simulation meets EBADF and nothing else.
FIRST_FD = 1 << 30

IN = select.POLLIN | select.POLLRDNORM
OUT = select.POLLOUT | select.POLLWRNORM
RDHUP = getattr(select, "POLLRDHUP", 0)


_AWAITED = {DATA: IN, ROOM: OUT}


def is_virtual(fd: Any) -> bool:
    """Whether a number is a descriptor of a simulation."""
    return isinstance(fd, int) and fd >= FIRST_FD


def failure(code: int) -> OSError:
    """What the system says."""
    return OSError(code, os.strerror(code))


class Watcher:
    """Wants to know what is done with one end of a connection. All of it is called in the thread that does it."""

    def begins_to_wait(self, task: Task, reads: bool) -> None:
        """Somebody waits: for input, or for room."""

    def ends_waiting(self, task: Task) -> None:
        """That wait is over."""

    def has_received(self, size: int | None) -> None:
        """Somebody has received so many bytes; None if it was told that there is nothing yet."""

    def is_held_back(self) -> None:
        """Somebody could send no more for now."""


class Handle:
    """An open file description: what several descriptors may stand for, and calls under way hold as well.

    Attributes:
        references: Descriptors and calls that hold it.
        version: Counts its changes, for those who want to be told of each once.
        waiters: Tasks to wake whenever its state changes, each with the events that it waits for.
        watcher: Who wants to know when somebody waits for input of it.
        calls: What goes wrong in the calls on its sockets.
    """

    name = "a file"
    watcher: Watcher | None = None
    calls: CallFaults = UNTOUCHED

    def __init__(self) -> None:
        self.references = 0
        self.version = 0
        self.waiters: dict[Task, int] = {}

    @property
    def kernel(self) -> Kernel:
        """The kernel of the simulation.

        Raises:
            OSError: It is over; EBADF.
        """
        kernel = active.kernel
        if kernel is None:
            raise failure(errno.EBADF)
        return kernel

    def mask(self) -> int:
        """The events of poll(2) that are true now."""
        return OUT

    def changed(self, events: int = ANYTHING) -> None:
        """Let those look who wait: for anything, or for one of these events."""
        self.version += 1
        if self.waiters:
            kernel = self.kernel
            for task, wanted in list(self.waiters.items()):
                if events == ANYTHING or wanted & events:
                    kernel.wake(task)

    def wait(self, what: str, until: int | None) -> bool:
        """Wait until something has changed; False if the time is up."""
        kernel = self.kernel
        task = kernel.current
        self.waiters[task] = _AWAITED.get(what, ANYTHING)
        self.references += 1
        watcher = self.watcher
        if watcher is not None:
            watcher.begins_to_wait(task, what == DATA)
        try:
            return kernel.park(f"{what} {self.name}", until)
        finally:
            if watcher is not None:
                watcher.ends_waiting(task)
            self.waiters.pop(task, None)
            self.release()

    def release(self) -> None:
        """A descriptor was closed, or a call has ended."""
        self.references -= 1
        if self.references == 0:
            self.dispose()

    def dispose(self) -> None:
        """Nobody holds it any more."""


class Descriptors:
    """The table of open descriptors. Numbers are never used again, so that histories can be read."""

    def __init__(self) -> None:
        self._handles: dict[int, Handle] = {}
        self._next = FIRST_FD

    def add(self, handle: Handle) -> int:
        """A new descriptor."""
        fd = self._next
        self._next += 1
        self._handles[fd] = handle
        handle.references += 1
        return fd

    def get(self, fd: int) -> Handle:
        """What a descriptor stands for.

        Raises:
            OSError: It is closed; EBADF.
        """
        handle = self._handles.get(fd)
        if handle is None:
            raise failure(errno.EBADF)
        return handle

    def find(self, fd: int) -> Handle | None:
        """The same, or None."""
        return self._handles.get(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor.

        Raises:
            OSError: It is closed; EBADF.
        """
        handle = self._handles.pop(fd, None)
        if handle is None:
            raise failure(errno.EBADF)
        handle.release()

    def items(self) -> list[tuple[int, Handle]]:
        """All that is open."""
        return list(self._handles.items())


class EventFd(Handle):
    """eventfd(2): a counter that is readable while it is not 0."""

    name = "an eventfd"

    def __init__(self, value: int, flags: int) -> None:
        super().__init__()
        self.value = value
        self.blocking = not flags & getattr(os, "EFD_NONBLOCK", 0)
        self.semaphore = bool(flags & getattr(os, "EFD_SEMAPHORE", 0))

    def mask(self) -> int:
        """See `Handle`."""
        return OUT | (IN if self.value else 0)

    def read(self) -> int:
        """Take the counter."""
        while not self.value:
            if not self.blocking:
                self.kernel.tried()
                raise failure(errno.EAGAIN)
            self.wait("a write to", None)
        taken = 1 if self.semaphore else self.value
        self.value -= taken
        self.kernel.progress()
        return taken

    def write(self, value: int) -> None:
        """Add to the counter."""
        self.value += value
        self.changed()


class PipeReader(Handle):
    """The end of a pipe that is read from."""

    name = "a pipe"

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()
        self.blocking = True
        self.writer: PipeWriter | None = None

    def mask(self) -> int:
        """See `Handle`."""
        return (IN if self.data else 0) | (0 if self.writer else select.POLLHUP)

    def read(self, size: int) -> bytes:
        """What the call of the same name does."""
        while not self.data and self.writer is not None:
            if not self.blocking:
                self.kernel.tried()
                raise failure(errno.EAGAIN)
            self.wait("data in", None)
        taken = bytes(self.data[:size])
        del self.data[:size]
        self.kernel.progress()
        if self.writer is not None:
            self.writer.changed()
        return taken

    def dispose(self) -> None:
        """See `Handle`."""
        if self.writer is not None:
            self.writer.reader = None
            self.writer.changed()


class PipeWriter(Handle):
    """The end of a pipe that is written to."""

    name = "a pipe"
    size = 65536

    def __init__(self, reader: PipeReader) -> None:
        super().__init__()
        self.reader: PipeReader | None = reader
        self.blocking = True
        reader.writer = self

    def mask(self) -> int:
        """See `Handle`."""
        if self.reader is None:
            return OUT | select.POLLERR
        return OUT if len(self.reader.data) < self.size else 0

    def write(self, data: bytes) -> int:
        """What the call of the same name does."""
        while self.reader is not None and len(self.reader.data) >= self.size:
            if not self.blocking:
                self.kernel.tried()
                raise failure(errno.EAGAIN)
            self.wait("room in", None)
        if self.reader is None:
            raise failure(errno.EPIPE)
        taken = bytes(data[: self.size - len(self.reader.data)])
        self.reader.data += taken
        self.kernel.progress()
        self.reader.changed()
        return len(taken)

    def dispose(self) -> None:
        """See `Handle`."""
        if self.reader is not None:
            self.reader.writer = None
            self.reader.changed()
