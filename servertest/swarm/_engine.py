"""The engine: one thread that plays thousands of clients. It is driven by epoll and by one wheel of timers."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from ..clients.behaviours._course import Course, Role
from ..wire._relay_poller import ENDED, READABLE, new_poller
from ._ledger import Ledger
from ._limits import require_descriptors
from ._sources import Sources
from ._wheel import Wheel

if TYPE_CHECKING:
    from ..wire._relay_poller import Poller
    from ._job import Job

__all__ = ("Engine",)

_BATCH = 64
"""Clients that begin before others are looked at again."""

_TOGETHER = 256
"""Clients that work out what to send before the first of them sends."""

_AGAIN = 0.01
"""Seconds until a Unix server is asked again whose backlog was full: the system does not tell (unix(7))."""

_PROGRESS = 0.2
"""Seconds between two reports."""

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)


class Engine:
    """Plays the clients of a job.

    Args:
        job: What to do.
        tell: Is told how things stand, as plain data.
        stop_fd: A descriptor that becomes readable when the swarm is to end early.
        poller: What waits; the system's best by default.
        socket_type: What sockets are made of.
        ended: Is told each connection that has ended, with the name of its behaviour.

    Raises:
        UsageError: There are not enough descriptors.
    """

    def __init__(
        self,
        job: Job,
        tell: Callable[[dict[str, Any]], object],
        *,
        stop_fd: int | None = None,
        poller: Poller | None = None,
        socket_type: type[socket.socket] = socket.socket,
        ended: Callable[[Course, str], object] | None = None,
    ) -> None:
        require_descriptors(len(job.numbers))
        self._job = job
        self._tell = tell
        self._stop_fd = stop_fd
        self._places = job.places()
        self._go_on_to_the_next_place()
        self._make_roles()
        self._poller = poller or new_poller()
        self._socket_type = socket_type
        self._ended = ended
        self._wheel = Wheel()
        self._courses: dict[int, Course] = {}
        self._refused_for_now: dict[Course, Callable[[], int]] = {}
        self._again: deque[tuple[float, int]] = deque()
        self._stopped = False

    def _go_on_to_the_next_place(self) -> None:
        self._family, self._address = self._places.pop(0)
        self._sources = Sources(self._address)

    def _make_roles(self) -> None:
        job, context = self._job, self._job.context()
        profile = job.profile
        self._roles = [
            Role(
                part.behaviour.script(profile.transport),
                profile.seed,
                profile.transport,
                context,
                job.server_hostname,
            )
            for part in profile.parts
        ]
        self._kind: Callable[..., Course] = Course
        if context is not None:
            from ..clients.behaviours._secure_course import SecureCourse

            self._kind = SecureCourse

    def run(self) -> dict[str, Any]:
        """Play until all clients have ended, or the time is up.

        Returns:
            What became of them, as plain data.
        """
        self._started = time.monotonic()
        self._ends_at = self._started + self._job.profile.duration
        self._part_of = self._job.roles()
        self._ledger = Ledger(self._job.numbers, self._part_of, self._started, self._job.profile.duration)
        self._waiting = self._plan()
        self._tell({"kind": "started", "started": self._started})
        if self._stop_fd is not None:
            self._poller.watch(self._stop_fd, None)  # type: ignore[arg-type] # it is known by its number
        try:
            self._loop()
        finally:
            self._take_away()
            self._poller.close()
        return self._result()

    def _plan(self) -> deque[tuple[float, int]]:
        """When which client begins."""
        start_of, started = self._job.profile.start_of, self._started
        return deque(sorted((started + start_of(number), number) for number in self._job.numbers))

    def _loop(self) -> None:
        told_at = self._started
        begun = False
        while not self._stopped:
            now = time.monotonic()
            if now >= self._ends_at:
                return
            self._begin(now)
            self._wake_all([*self._wheel.due(now)], now)
            if not begun and self._have_all_begun():
                begun = True
                self._report(now, begun=True)
            elif now - told_at >= _PROGRESS:
                told_at = now
                self._report(now, begun=begun)
            if not self._courses and not self._waiting and not self._again:
                return
            self._poll(min(told_at + _PROGRESS, self._ends_at, self._next_at()) - time.monotonic())

    def _next_at(self) -> float:
        """When something is due next."""
        queues = () if self._is_scouting else (self._waiting, self._again)
        times = [queue[0][0] for queue in queues if queue]
        wheel = self._wheel.next_at
        return min(*times, inf, inf if wheel is None else wheel)

    def _poll(self, seconds: float) -> None:
        # In whole milliseconds, as epoll counts: the wheel is no finer.
        for fd, events in self._poller.poll(max(ceil(seconds * 1000), 0) / 1000):
            course = self._courses.get(fd)
            if course is not None:
                course.ready(time.monotonic(), readable=bool(events & READABLE), ended=bool(events & ENDED))
                self._settle(course, fd)
            elif fd == self._stop_fd:
                self._stopped = True

    # -- clients

    @property
    def _is_scouting(self) -> bool:
        """Whether somebody tries the first of several addresses that are left, for all the others."""
        return bool(self._places and self._courses)

    def _begin(self, now: float) -> None:
        for queue in (self._waiting, self._again):
            for _ in range(_BATCH):
                if not queue or queue[0][0] > now or self._is_scouting:
                    break
                self._begin_one(queue.popleft()[1])

    def _begin_one(self, number: int) -> None:
        part = self._part_of[(number - self._job.first) // self._job.step]
        role = self._roles[part]
        now = time.monotonic()
        try:
            sock, code = self._sources.connect(lambda: self._socket(role))
        except OSError as error:
            self._ledger.never_began(number, str(error))
            return
        course = self._kind(role, number, sock, now)
        self._ledger.began(course)
        if self._job.names:
            self._ledger.named(sock.getsockname())
        self._connecting(course, code)

    def _socket(self, role: Role) -> socket.socket:
        kind = socket.SOCK_STREAM if role.transport == "stream" else socket.SOCK_DGRAM
        sock = self._socket_type(self._family, kind)
        sock.setblocking(False)
        if role.script.window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, role.script.window)
        if kind == socket.SOCK_DGRAM and self._family == getattr(socket, "AF_UNIX", None):
            sock.bind("")  # a name, so that answers find it
        return sock

    def _connecting(self, course: Course, code: int) -> None:
        now = time.monotonic()
        if code == 0:
            self._watch(course)
            course.opened(now)
        elif code == errno.EAGAIN and self._family == getattr(socket, "AF_UNIX", None):
            self._ask_again(course, now)
            return
        elif code in _IN_PROGRESS:
            course.wake_at = now + self._job.profile.connect_timeout
            self._watch(course)
        else:
            self._watch(course)
            course.lost(OSError(code, os.strerror(code)), now)
        self._settle(course, course.fd)

    def _ask_again(self, course: Course, now: float) -> None:
        address = self._address
        self._refused_for_now[course] = lambda: course.sock.connect_ex(address)
        course.wake_at = now + _AGAIN
        self._wheel.add(course)

    def _watch(self, course: Course) -> None:
        course.fd = course.sock.fileno()
        self._courses[course.fd] = course
        self._poller.watch(course.fd, course)  # type: ignore[arg-type] # who is meant is known by the number

    def _wake_all(self, due: list[Course], now: float) -> None:
        """Many work out what to send before the first of them sends: the server is then woken for all of it, and not for each byte."""
        there = [course for course in due if course.how == "held"]
        for first in range(0, len(there), _TOGETHER):
            self._play_together(there[first : first + _TOGETHER], now)
        if len(there) < len(due):
            for course in due:
                if course.how == "connecting":
                    self._wake(course, now)

    def _play_together(self, courses: list[Course], now: float) -> None:
        wanted = [course.wake_at or now for course in courses]
        for course in courses:
            course.prepare(now)
        for course in courses:
            course.flush(now)
        # How late somebody was is known only now that it is sent.
        now = time.monotonic()
        for course, at in zip(courses, wanted, strict=True):
            if now - at > course.late:
                course.late = now - at
            course.conclude(now)
            if course.ended is not None:
                self._settle(course, course.fd)
            elif course.wake_at is not None:
                self._wheel.add(course)

    def _wake(self, course: Course, now: float) -> None:
        """Somebody who is not connected yet has waited long enough, or has to ask again."""
        if (ask := self._refused_for_now.pop(course, None)) is None:
            course.finish("timed_out", now)
        elif now - course.begun >= self._job.profile.connect_timeout:
            course.finish("timed_out", now)
            self._over(course)
            return
        else:
            self._connecting(course, ask())
            return
        self._settle(course, course.fd)

    def _settle(self, course: Course, fd: int) -> None:
        """See what has become of a client after something has happened to it."""
        if self._places and course.connected is not None:
            self._places.clear()
        if course.is_over():
            if self._courses.pop(fd, None) is not None:
                self._poller.forget(fd, stays_open=False)
                if self._places:
                    self._go_on_to_the_next_place()
                    self._ledger.takes_back(course)
                    self._begin_one(course.number)
                    return
                self._over(course)
                every = course.role.script.every
                if every is not None and course.ended is not None:
                    # Not before the one connection has ended: or a server that stalls would be flooded by honest clients.
                    self._come_again(course.number, max(course.begun + every, course.ended))
        elif course.wake_at is not None:
            self._wheel.add(course)

    def _come_again(self, number: int, at: float) -> None:
        if at < self._ends_at:
            # They all come again after the same time mostly: the queue is nearly in order already.
            queue = self._again
            queue.append((at, number))
            place = len(queue) - 1
            while place > 0 and queue[place - 1][0] > at:
                queue[place - 1], queue[place] = queue[place], queue[place - 1]
                place -= 1

    def _take_away(self) -> None:
        now = time.monotonic()
        left = [*self._courses.values(), *self._refused_for_now]
        self._courses.clear()
        for course in left:
            course.stop(now)
            self._over(course)

    def _over(self, course: Course) -> None:
        self._ledger.ended_as(course)
        if self._ended is not None:
            part = self._part_of[(course.number - self._job.first) // self._job.step]
            self._ended(course, self._job.profile.parts[part].behaviour.name)

    # -- reports

    def _have_all_begun(self) -> bool:
        ledger = self._ledger
        return not self._waiting and ledger.connections >= len(self._job.numbers) and not self._unconnected

    @property
    def _unconnected(self) -> bool:
        return bool(self._refused_for_now) or any(
            course.how == "connecting" for course in self._courses.values()
        )

    def _report(self, now: float, *, begun: bool = False) -> None:
        ledger = self._ledger
        self._tell(
            {
                "kind": "progress",
                "begun": begun,
                "seconds": round(now - self._started, 3),
                "waiting": len(self._waiting),
                "open": len(self._courses) + len(self._refused_for_now),
                "connections": ledger.connections,
                "counts": ledger.counts(),
            }
        )

    def _result(self) -> dict[str, Any]:
        return {
            **self._ledger.as_dict(),
            "kind": "result",
            "started": self._started,
            "seconds": round(time.monotonic() - self._started, 6),
            "sources": self._sources.used,
            "stopped": self._stopped,
        }
