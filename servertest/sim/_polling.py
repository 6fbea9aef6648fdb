"""select, poll and epoll over simulated descriptors."""

from __future__ import annotations

import errno
import select
import sys
from typing import TYPE_CHECKING, Any

from ._handles import IN, OUT, Handle, Watcher, failure, is_virtual
from ._locks import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from ._kernel import Kernel

__all__ = ("SimEpoll", "SimPoll", "select_simulated", "wait_for_any", "wait_for_events")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

_ALWAYS = select.POLLERR | select.POLLHUP

_ONE_SHOT = getattr(select, "EPOLLONESHOT", 0)
_EDGE = getattr(select, "EPOLLET", 0)

#: Frames of a serving loop between its poll and serve_forever().
_LOOPS = ("/selectors.py", "/socketserver.py", "/servers/_loop.py", "/servers/_base.py", "/sim/_polling.py")


def wait_for_events(
    kernel: Kernel, wanted: list[tuple[int, int]], until: int | None, at_once: bool = False
) -> list[tuple[int, int]]:
    """poll(2): descriptors and the events that are asked for, against those that are true.

    Args:
        kernel: The kernel.
        wanted: Descriptors and events.
        until: The longest, in virtual nanoseconds; None for ever.
        at_once: Do not wait at all.
    """
    kernel.point()
    find = kernel.network.descriptors.find
    while True:
        found = []
        for fd, events in wanted:
            handle = find(fd)
            if handle is None:
                found.append((fd, select.POLLNVAL))
            elif now := handle.mask() & (events | _ALWAYS):
                found.append((fd, now))
        if found:
            return found
        if at_once or (until is not None and kernel.now >= until):
            kernel.tried()
            return []
        wait_for_any(
            kernel, [(handle, events) for fd, events in wanted if (handle := find(fd)) is not None], until
        )


def wait_for_any(kernel: Kernel, handles: list[tuple[Handle, int]], until: int | None) -> None:
    """Wait until one of these files has changed, or the time is up."""
    task = kernel.current
    in_loop = until is not None and _is_serving_loop()
    # Who waits for an epoll set waits for what that watches.
    handles = [
        *handles,
        *(member for handle, _ in handles if isinstance(handle, _EpollSet) for member in handle.members),
    ]
    watchers: list[Watcher] = []
    for handle, events in handles:
        handle.waiters[task] = handle.waiters.get(task, 0) | events
        handle.references += 1
        if handle.watcher is not None:
            watchers.append(handle.watcher)
            handle.watcher.begins_to_wait(task, bool(events & IN))
    task.polls = in_loop
    if in_loop and until is not None:
        until = kernel.in_loop_until(until)
    try:
        names = ", ".join(handle.name for handle, _ in handles[:3]) or "nothing"
        if not kernel.park(f"events on {names}", until) and in_loop:
            kernel.polled_in_vain(task)
    finally:
        task.polls = 0
        for watcher in watchers:
            watcher.ends_waiting(task)
        for handle, _ in handles:
            handle.waiters.pop(task, None)
            handle.release()


def _is_serving_loop() -> bool:
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith(_LOOPS):
        if frame.f_code.co_name == "serve_forever":
            return True
        frame = frame.f_back
    return False


def _descriptor(kernel: Kernel, file: Any) -> int:
    fd = file if isinstance(file, int) else file.fileno()
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    if not is_virtual(fd):
        raise kernel.refuse(f"waiting for the real descriptor {fd}")
    return int(fd)


class SimPoll:
    """What `select.poll()` gives inside a simulation."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._wanted: dict[int, int] = {}

    def register(self, file: Any, events: int = select.POLLIN | select.POLLPRI | select.POLLOUT, /) -> None:
        """See `select.poll`."""
        self._wanted[_descriptor(self._kernel, file)] = events

    def modify(self, file: Any, events: int, /) -> None:
        """See `select.poll`."""
        fd = file if isinstance(file, int) else file.fileno()
        if fd not in self._wanted:
            raise failure(errno.ENOENT)
        self._wanted[fd] = events

    def unregister(self, file: Any, /) -> None:
        """See `select.poll`."""
        del self._wanted[file if isinstance(file, int) else file.fileno()]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """See `select.poll`: milliseconds; None or less than 0 for ever."""
        kernel = self._kernel
        until = None
        if timeout is not None and timeout >= 0:
            until = kernel.now + nanoseconds(timeout / 1000)
        return wait_for_events(kernel, list(self._wanted.items()), until, timeout == 0)


class _EpollSet(Handle):
    """What an epoll object stands for: it can be waited for, too."""

    name = "an epoll set"

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._kernel = kernel
        self.wanted: dict[int, int] = {}
        #: Of what is edge-triggered: the change that was told last.
        self.told: dict[int, int] = {}

    def ready(self) -> list[tuple[int, int]]:
        """What is there now; descriptors that were closed are forgotten, as the system does."""
        find = self._kernel.network.descriptors.find
        found = []
        for fd, events in list(self.wanted.items()):
            handle = find(fd)
            if handle is None:
                del self.wanted[fd]
                self.told.pop(fd, None)
            elif self.told.get(fd) == handle.version:
                continue
            elif now := handle.mask() & (events | _ALWAYS):
                found.append((fd, now))
        return found

    def mask(self) -> int:
        """See `Handle`."""
        return IN if self.ready() else 0

    @property
    def members(self) -> list[tuple[Handle, int]]:
        """What is watched, and for which events."""
        find = self._kernel.network.descriptors.find
        return [(handle, events) for fd, events in self.wanted.items() if (handle := find(fd)) is not None]


class SimEpoll:
    """What `select.epoll()` gives inside a simulation."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._set = _EpollSet(kernel)
        self._fd = kernel.network.descriptors.add(self._set)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """See `select.epoll`."""
        return bool(self._fd < 0)

    def fileno(self) -> int:
        """See `select.epoll`."""
        self._check()
        return int(self._fd)

    def close(self) -> None:
        """See `select.epoll`."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            if self._kernel.network.descriptors.find(fd) is not None:
                self._kernel.network.descriptors.close(fd)

    def register(self, file: Any, eventmask: int = select.POLLIN | select.POLLPRI | select.POLLOUT) -> None:
        """See `select.epoll`."""
        fd = self._member(file)
        if fd in self._set.wanted:
            raise failure(errno.EEXIST)
        self._set.wanted[fd] = eventmask
        self._set.changed()

    def modify(self, file: Any, eventmask: int) -> None:
        """See `select.epoll`."""
        fd = self._member(file)
        if fd not in self._set.wanted:
            raise failure(errno.ENOENT)
        self._set.wanted[fd] = eventmask
        self._set.changed()

    def unregister(self, file: Any) -> None:
        """See `select.epoll`."""
        self._check()
        fd = file if isinstance(file, int) else file.fileno()
        if fd not in self._set.wanted:
            raise failure(errno.ENOENT if self._kernel.network.descriptors.find(fd) else errno.EBADF)
        del self._set.wanted[fd]
        self._set.told.pop(fd, None)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """See `select.epoll`: seconds; None or less than 0 for ever."""
        self._check()
        kernel = self._kernel
        kernel.point()
        limit = kernel.now + nanoseconds(timeout) if timeout is not None and timeout >= 0 else None
        while True:
            found = self._set.ready()
            if found:
                return self._taken(found[:maxevents] if maxevents > 0 else found)
            if limit is not None and kernel.now >= limit:
                kernel.tried()
                return []
            wait_for_any(kernel, [(self._set, IN)], limit)

    def _taken(self, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
        for fd, _ in found:
            if self._set.wanted[fd] & _ONE_SHOT:
                self._set.wanted[fd] = 0
            if self._set.wanted[fd] & _EDGE:
                self._set.told[fd] = self._kernel.network.descriptors.get(fd).version
        return found

    def _member(self, file: Any) -> int:
        self._check()
        self._set.told.pop(file if isinstance(file, int) else file.fileno(), None)
        fd = _descriptor(self._kernel, file)
        if self._kernel.network.descriptors.find(fd) is None:
            raise failure(errno.EBADF)
        return fd

    def _check(self) -> None:
        if self._fd < 0:
            raise ValueError("I/O operation on closed epoll object")


def select_simulated(
    kernel: Kernel, readers: Iterable[Any], writers: Iterable[Any], others: Iterable[Any], timeout: Any
) -> tuple[list[Any], list[Any], list[Any]]:
    """select(2)."""
    lists = [list(readers), list(writers), list(others)]
    wanted: dict[int, int] = {}
    for files, events in zip(lists, (IN, OUT, select.POLLPRI), strict=True):
        for file in files:
            fd = _descriptor(kernel, file)
            if kernel.network.descriptors.find(fd) is None:
                raise failure(errno.EBADF)
            wanted[fd] = wanted.get(fd, 0) | events
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    until = None if timeout is None else kernel.now + nanoseconds(timeout)
    found = dict(wait_for_events(kernel, list(wanted.items()), until, timeout == 0))
    if any(events & select.POLLNVAL for events in found.values()):
        raise failure(errno.EBADF)
    masks = (IN | select.POLLHUP | select.POLLERR, OUT | select.POLLERR, select.POLLPRI)
    ready = [
        [file for file in files if found.get(_descriptor(kernel, file), 0) & mask]
        for files, mask in zip(lists, masks, strict=True)
    ]
    return ready[0], ready[1], ready[2]
