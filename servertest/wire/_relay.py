"""The relay: one thread that carries any number of connections through their faults.

It drives lines by the real clock and real sockets: nothing in it blocks, and what has to wait waits in one place, for readiness
or for a time. Whoever uses it hands in connected sockets; proxies and wrapped sockets are built from it.
"""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .._support import STOP_TIMEOUT, Deadline, StillRunning, UsageError
from ..servers._loop import Waker
from ._relay_poller import new_poller

if TYPE_CHECKING:
    from ..faults import Plan
    from ._relay_connection import RelayedConnection
    from ._relay_passage import Passage
    from ._relay_poller import Watched

__all__ = ("Relay",)

_Result = TypeVar("_Result")

#: Seconds of one wait: the system's calls refuse more than some weeks.
_LONGEST_WAIT = 86_400.0

#: Bytes that one read takes at the most, from a source with no faults and from one with faults. The buffer is shared by all.
_ROOM = 1 << 20
_SMALL_ROOM = 1 << 16


class Timed(Protocol):
    """Something that is called at a time."""

    timer_at: float | None

    def due(self, now: float) -> None:
        """It is time."""

    def failed(self, error: Exception) -> None:
        """Working for it has raised."""


class Pumped(Protocol):
    """Something that has more to do than fits into one turn."""

    def pump(self) -> None:
        """Go on."""

    def failed(self, error: Exception) -> None:
        """Working for it has raised."""


class _Wakes:
    """The relay's own descriptor among those that it watches."""

    readable = False
    writable = True

    def __init__(self) -> None:
        self.waker = Waker()

    def ready(self, events: int) -> None:
        self.waker.clear()

    def failed(self, error: Exception) -> None:
        raise error


class Relay:
    """A thread that relays. It begins when it is made, and ends with `stop`.

    Args:
        name: The name of the thread.

    Attributes:
        errors: What has raised in its thread and should not: a trigger's own function, say.
    """

    def __init__(self, name: str = "servertest relay") -> None:
        self.errors: list[Exception] = []
        self.room = memoryview(bytearray(_ROOM))
        self.small_room = self.room[:_SMALL_ROOM]
        self._watched: dict[int, Watched] = {}
        self._connections: dict[int, Passage] = {}
        self._timers: list[tuple[float, int, Timed]] = []
        self._timer_number = itertools.count()
        self._again: deque[Pumped] = deque()
        self._calls: deque[Callable[[], object]] = deque()
        self._apart: list[RelayedConnection] = []
        self._stopping = self._over = False
        self._poller = new_poller()
        self._wakes = _Wakes()
        self.watch(self._wakes.waker.fileno(), self._wakes)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "stopped" if self._stopping else f"{len(self._connections)} connections"
        return f"<Relay {self._thread.name!r}: {state}>"

    # -- for everybody

    @property
    def running(self) -> bool:
        """Whether it was not stopped."""
        return not self._stopping

    def call(self, function: Callable[[], _Result], *, timeout: float = STOP_TIMEOUT) -> _Result:
        """Call something in the relay's thread, and wait for its result; what it raises is raised here.

        Args:
            function: What to call. It must not wait.
            timeout: Seconds.

        Raises:
            UsageError: The relay was stopped.
            DeadlineExceeded: The relay did not get to it in time.
        """
        if threading.current_thread() is self._thread:
            return function()
        call = _Call(function)
        deadline = Deadline(timeout, f"{self!r} to get to a call")
        self.post(call)
        if not call.done.wait(deadline.remaining()):
            raise deadline.exceeded(note=self._stack())
        result: _Result = call.result()
        return result

    def post(self, function: Callable[[], object]) -> None:
        """Have something called in the relay's thread, soon.

        Raises:
            UsageError: The relay was stopped.
        """
        if self._stopping:
            raise UsageError(f"{self!r} carries nothing any more")
        self._calls.append(function)
        self._wakes.waker.wake()
        if self._over:
            self._refuse_calls()

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Cut off every connection that is left, and end the thread. Twice is once; the relay's own thread may ask, too.

        Args:
            timeout: Seconds.

        Raises:
            StillRunning: The thread does not end; the message says what it is doing.
        """
        self._stopping = True
        self._wakes.waker.wake()
        if threading.current_thread() is self._thread:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise StillRunning(f"{self!r} did not stop within {timeout:g} s:\n{self._stack()}")

    def abandon(self) -> None:
        """In a forked child: give back the copies of what the parent's relay holds, without a word to anybody."""
        self._stopping = self._over = True
        for connection in list(self._connections.values()):
            connection.abandon()
        self._poller.close()
        self._wakes.waker.close()

    def _refuse_calls(self) -> None:
        """Nobody will get to these: their callers need not wait. Several threads may be here at once."""
        while self._calls:
            try:
                call = self._calls.popleft()
            except IndexError:
                return
            if isinstance(call, _Call):
                call.refuse(UsageError(f"{self!r} carries nothing any more"))

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - there is no other name for it
        return "".join(traceback.format_stack(frame)) if frame is not None else "its thread has ended"

    # -- for what it carries, in its own thread

    def watch(self, fd: int, watched: Watched) -> None:
        """Tell this of the readiness of that descriptor from now on, instead of who was told before."""
        watch = self._poller.replace if fd in self._watched else self._poller.watch
        self._watched[fd] = watched
        watch(fd, watched)

    def unwatch(self, fd: int, watched: Watched, *, stays_open: bool = False) -> None:
        """Do not tell of it any more. If it is closed already, its number may be somebody else's.

        Args:
            fd: The descriptor.
            watched: Who was told.
            stays_open: It will not be closed at once.
        """
        if self._watched.get(fd) is watched:
            del self._watched[fd]
            self._poller.forget(fd, stays_open)

    def call_at(self, when: float, timed: Timed) -> None:
        """Call `timed.due` at that time of `time.monotonic`, or before if it is to be called before anyway."""
        if timed.timer_at is None or when < timed.timer_at:
            timed.timer_at = when
            heapq.heappush(self._timers, (when, next(self._timer_number), timed))

    def again(self, flow: Pumped) -> None:
        """Call `flow.pump` in the next turn."""
        self._again.append(flow)

    def add(self, connection: Passage) -> None:
        """Carry this connection, or this peer's datagrams."""
        self._connections[id(connection)] = connection
        for fd, watched in connection.watched:
            self.watch(fd, watched)

    def carry(self, connection: Passage, plans: Mapping[str, Plan]) -> None:
        """Carry this from now on, through these faults. What a trigger raises ends it, and is raised."""
        self.add(connection)
        try:
            connection.begin(plans)
        except BaseException as error:
            if isinstance(error, Exception):
                connection.error = error  # before the peers see the end, as with what is raised later
            connection.reset()
            raise

    def forget(self, connection: Passage) -> None:
        """This has ended."""
        self._connections.pop(id(connection), None)
        for fd, watched in connection.watched:
            self.unwatch(fd, watched)

    def take_apart(self, connection: RelayedConnection) -> None:
        """Call `come_apart` when nobody is busy with it."""
        self._apart.append(connection)

    # -- the loop

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._stopping = True
            self._end()

    def _turn(self) -> None:
        watched = self._watched
        for fd, events in self._poller.poll(self._patience()):
            one = watched.get(fd)
            if one is not None:
                try:
                    one.ready(events)
                except Exception as error:  # noqa: BLE001 - one connection's, not everybody's
                    one.failed(error)
        if self._again:
            self._go_on()
        if self._timers and self._timers[0][0] <= monotonic():
            self._keep_time()
        if self._calls:
            self._answer_calls()
        if self._apart:
            for connection in self._apart:
                connection.come_apart()
            self._apart.clear()

    def _patience(self) -> float | None:
        """Seconds until there is something to do by ourselves."""
        if self._again or self._calls:
            return 0.0
        return min(self._timers[0][0] - monotonic(), _LONGEST_WAIT) if self._timers else None

    def _go_on(self) -> None:
        for _ in range(len(self._again)):
            flow = self._again.popleft()
            try:
                flow.pump()
            except Exception as error:  # noqa: BLE001
                flow.failed(error)

    def _keep_time(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= (now := monotonic()):
            when, _, timed = heapq.heappop(timers)
            if timed.timer_at != when:
                continue  # it was called before, for an earlier time
            timed.timer_at = None
            try:
                timed.due(now)
            except Exception as error:  # noqa: BLE001
                timed.failed(error)

    def _answer_calls(self) -> None:
        while self._calls:
            function = self._calls.popleft()
            try:
                function()
            except Exception as error:  # noqa: BLE001 - nobody waits for it
                self.errors.append(error)

    def _end(self) -> None:
        self._answer_calls()
        for connection in list(self._connections.values()):
            connection.force()
        self._over = True
        self._refuse_calls()
        self._timers.clear()
        self._again.clear()
        self._poller.close()
        self._wakes.waker.close()


class _Call:
    """A call that somebody waits for."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self.done = threading.Event()

    def __call__(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - carried to whoever waits
            self._error = error
        finally:
            self.done.set()

    def refuse(self, error: Exception) -> None:
        """Say that it will not be made."""
        self._error = error
        self.done.set()

    def result(self) -> Any:
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._result
