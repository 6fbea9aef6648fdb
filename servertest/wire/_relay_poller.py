"""What tells a relay which of its sockets are ready, and when it is time."""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import Protocol

__all__ = ("ENDED", "FAILED", "READABLE", "WRITABLE", "Poller", "Watched", "new_poller")

# The numbers are Linux's (epoll_ctl(2)); the poller for other systems translates into them.
READABLE = 0x1
WRITABLE = 0x4
FAILED = 0x8
ENDED = 0x2018  # error, hang-up, or the peer has finished sending


class Watched(Protocol):
    """Something with a descriptor that a relay watches.

    Each change is told once. What was told and is not used up is kept in the two flags.

    Attributes:
        readable: There may be something to read: a read has to find out.
        writable: The system may take something.
    """

    readable: bool
    writable: bool

    def ready(self, events: int) -> None:
        """The descriptor has become ready."""

    def failed(self, error: Exception) -> None:
        """Working for it has raised."""


class Poller(Protocol):
    """Watches descriptors."""

    def watch(self, fd: int, watched: Watched) -> None:
        """Tell of this descriptor from now on, which was not watched."""

    def replace(self, fd: int, watched: Watched) -> None:
        """Tell of a descriptor that is watched already, for somebody else from now on."""

    def forget(self, fd: int, stays_open: bool) -> None:
        """Do not tell of it any more. It was closed, or is about to be, unless it stays open."""

    def poll(self, seconds: float | None) -> Iterable[tuple[int, int]]:
        """Wait for events, at most so long, and seldom for much less."""

    def close(self) -> None:
        """Give back what it holds."""


def new_poller() -> Poller:
    """The best that the system has."""
    return EpollPoller() if hasattr(select, "epoll") else SelectPoller()


_EVENTS = 64
"""Events in one answer: enough to share the cost of the call, few enough to keep timers in time."""

# select(2) can watch descriptors below this only (FD_SETSIZE).
_SELECTABLE = 1024


class EpollPoller:
    """epoll(7), edge-triggered: a descriptor is registered once, and nothing is changed while it lives."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._events = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
        self._fine = self._epoll.fileno() < _SELECTABLE

    def watch(self, fd: int, watched: Watched) -> None:
        """See `Poller.watch`."""
        self._epoll.register(fd, self._events)

    def replace(self, fd: int, watched: Watched) -> None:
        """See `Poller.replace`. The system does not know who is told."""

    def forget(self, fd: int, stays_open: bool) -> None:
        """See `Poller.forget`. The system forgets by itself what is closed."""
        if stays_open:
            self._epoll.unregister(fd)

    def poll(self, seconds: float | None) -> Iterable[tuple[int, int]]:
        """See `Poller.poll`."""
        if seconds is None:
            return self._epoll.poll(-1, _EVENTS)
        if seconds <= 0:
            return self._epoll.poll(0, _EVENTS)
        if not self._fine:
            return self._epoll.poll(seconds, _EVENTS)
        # epoll_wait(2) takes whole milliseconds: it sleeps for those, and select(2) for the rest.
        whole = int(seconds * 1000)
        if whole:
            return self._epoll.poll((whole - 0.5) / 1000, _EVENTS)
        if select.select((self._epoll,), (), (), seconds)[0]:
            return self._epoll.poll(0, _EVENTS)
        return ()

    def close(self) -> None:
        """See `Poller.close`."""
        self._epoll.close()


class SelectPoller:
    """select(2): for systems without epoll. It asks only for what is not known to be ready already."""

    def __init__(self) -> None:
        self._watched: dict[int, Watched] = {}

    def watch(self, fd: int, watched: Watched) -> None:
        """See `Poller.watch`."""
        self._watched[fd] = watched

    def replace(self, fd: int, watched: Watched) -> None:
        """See `Poller.replace`."""
        self._watched[fd] = watched

    def forget(self, fd: int, stays_open: bool) -> None:
        """See `Poller.forget`."""
        self._watched.pop(fd, None)

    def poll(self, seconds: float | None) -> Iterable[tuple[int, int]]:
        """See `Poller.poll`."""
        reading = [fd for fd, watched in self._watched.items() if not watched.readable]
        writing = [fd for fd, watched in self._watched.items() if not watched.writable]
        timeout = None if seconds is None else max(seconds, 0)
        readable, writable, failed = select.select(reading, writing, writing, timeout)
        events = dict.fromkeys(readable, READABLE | (ENDED & ~FAILED))
        for fd in (*writable, *failed):
            events[fd] = events.get(fd, 0) | WRITABLE
        return events.items()

    def close(self) -> None:
        """See `Poller.close`."""
        self._watched.clear()
