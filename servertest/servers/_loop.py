"""The loop below serve_forever: one thread, one selector, any number of servers, awake at once when told to stop.

The standard module asks "am I to stop?" each time that its poll interval has passed, so a stop takes up to half a second. Here a
wake-up descriptor sits in the selector beside the listening sockets, and whoever asks for a stop writes to it. Four rules
keep that invisible to programs written for the standard module:

* The descriptor lives only as long as the loop runs and never depends on server_close() being reached. Where none can be had
  (no descriptors left), the loop polls as it always did.
* Only the process that opened it writes to it: a forked child holds a copy.
* The poll interval stays the upper bound of a wait, for programs that set the flag behind our back and for service_actions().
* Stopping takes no lock. A signal handler may interrupt the very code that would hold it. The order of two writes does the
  work instead: a loop lists itself and then looks at the flag; a stop sets the flag and then looks at the list.
"""

from __future__ import annotations

import math
import os
import select
import selectors
import socket
import threading
from collections import deque
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from ._base import BaseServer
    from ._signals import SignalEar

__all__ = ("Loop", "PollSelector", "Timer", "Waker")

#: Seconds to leave a listener alone after accept() found no descriptors or memory: doubled each time, up to the second figure.
FIRST_BACKOFF = 0.005
LONGEST_BACKOFF = 1.0

#: How many requests one turn takes at the most, if they are there already.
_BUNCH = 17

_READ = selectors.EVENT_READ
_WRITE = selectors.EVENT_WRITE


class PollSelector(selectors.BaseSelector):
    """poll(2) behind the selectors interface, with as little between as the interface allows.

    The serving loop passes here once for each request, so each microsecond shows in the requests per second.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        #: What lies below select(): poll(2) with milliseconds in, descriptors and events out.
        self.poll = self._poll.poll
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        try:
            fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        except AttributeError:
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
        if fd < 0:
            raise ValueError(f"Invalid file descriptor: {fd}")
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        key = selectors.SelectorKey(fileobj, fd, events, data)
        mask = (select.POLLIN if events & _READ else 0) | (select.POLLOUT if events & _WRITE else 0)
        self._poll.register(fd, mask)
        self._keys[fd] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else self._fd_of(fileobj)
        try:
            key = self._keys.pop(fd)
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None
        self._poll.unregister(fd)
        return key

    def _fd_of(self, fileobj: Any) -> int:
        # By identity: the object may have been closed since, and then its fileno() is gone.
        for fd, key in self._keys.items():
            if key.fileobj is fileobj:
                return fd
        return -1

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None:
            timeout = (
                0 if timeout <= 0 else -int(-timeout * 1000 // 1)
            )  # rounded up: never a spin before the time
        ready = []
        keys = self._keys
        for fd, event in self._poll.poll(timeout):
            key = keys.get(fd)
            if key is not None:
                # Errors and hang-ups count as both, as they do in the standard selectors.
                mask = (_READ if event & ~select.POLLOUT else 0) | (_WRITE if event & ~select.POLLIN else 0)
                ready.append((key, mask & key.events))
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return dict(self._keys)

    def close(self) -> None:
        self._keys.clear()


def _milliseconds(timeout: float | None) -> float | None:
    """What poll(2) takes: rounded up, for a wait that ends too early would be made again and again."""
    if timeout is None:
        return None
    return max(math.ceil(timeout * 1000), 0)


class Waker:
    """A descriptor that becomes readable when wake() is called, from any thread or signal handler of the same process."""

    __slots__ = ("_closed", "_pid", "_reader", "_to_close", "_wakers", "_writer")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._reader: Any
        self._writer: Any
        if hasattr(os, "eventfd"):
            self._reader = self._writer = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            reader: int = self._reader
            # A lambda and no functools.partial: that takes half a millisecond to import.
            self._to_close: list[Callable[[], object]] = [lambda: os.close(reader)]
        else:
            self._reader, self._writer = socket.socketpair()
            self._reader.setblocking(False)
            self._writer.setblocking(False)
            self._to_close = [self._reader.close, self._writer.close]
        self._closed = False
        self._wakers: list[None] = []

    def fileno(self) -> int:
        """The descriptor to watch, -1 once it is closed."""
        if self._closed:
            return -1
        return self._reader if isinstance(self._reader, int) else int(self._reader.fileno())

    def wake(self) -> None:
        """Make the descriptor readable. In a forked child this does nothing: the loop is the parent's."""
        if self._pid != os.getpid():
            return
        # No lock, for a signal handler may come in anywhere. Who is listed before it looks keeps the descriptor open, or its number might be somebody
        # else's by the time of the write.
        self._wakers.append(None)
        try:
            if self._closed:
                pass  # the loop has ended
            elif isinstance(self._writer, int):
                os.eventfd_write(self._writer, 1)
            else:
                self._writer.send(b"\0")
        except OSError:
            pass  # full: it is readable already
        finally:
            self._wakers.pop()
            if self._closed:
                self._give_back()

    def clear(self, events: int = _READ) -> None:
        """Take back all wake-ups so far."""
        try:
            if isinstance(self._reader, int):
                os.eventfd_read(self._reader)
            else:
                while self._reader.recv(4096):
                    pass
        except OSError:
            pass

    def close(self) -> None:
        """Give the descriptors back. In a forked child they are the child's copies, so this is safe there too."""
        self._closed = True
        if self._pid != os.getpid():
            self._wakers.clear()  # threads of the parent, which are not here
        self._give_back()

    def _give_back(self) -> None:
        """Close, unless somebody is writing: then the last one to leave does it. Each step is atomic, so it is done once."""
        while not self._wakers:
            try:
                close = self._to_close.pop()
            except IndexError:
                return
            close()


def _open_waker() -> Waker | None:
    """A waker, or None where the process has no descriptor left for it: then the loop polls."""
    try:
        return Waker()
    except OSError:
        return None


class Timer:
    """A call that a loop is to make at a certain time; cancel() takes it back. Made by Loop.call_at()."""

    __slots__ = ("_loop", "callback", "when")

    def __init__(self, loop: Loop, when: float, callback: Callable[[], object]) -> None:
        self._loop: Loop | None = loop
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not make the call. Twice, or after the call, does nothing."""
        # The loop is let go of, for it may end before this timer's time, and each would keep the other.
        loop, self._loop = self._loop, None
        if self.callback is not None and loop is not None:
            self.callback = None
            loop._note_cancelled()


class _Seat:
    """One server's place in one loop: what is registered for it, and until when its listener is left alone."""

    __slots__ = ("backoff", "burst", "fd", "key", "listener", "server", "started", "until")

    def __init__(self, server: BaseServer) -> None:
        self.server: Any = server  # the loop reads names that are mangled for BaseServer's own use
        self.burst: int = self.server._servertest_burst
        self.fd: int | None = None  # None: not registered now
        self.key: object = None
        self.listener: object = None  # a new socket may have the number of an old one
        self.started = False
        self.until = 0.0
        self.backoff = 0.0


class Loop:
    """One run of serve_forever(), for one server or for several."""

    def __init__(self, servers: Iterable[BaseServer]) -> None:
        self.ident = threading.get_ident()
        self.pid = os.getpid()
        self.selector: Any = None
        self.has_left: set[int] = set()  # identities of servers whose part is over
        self._seats = [_Seat(server) for server in servers]
        self._waker: Waker | None = None
        self._heap: Any = None  # heapq, once a timer is set: most loops never set one
        # A heap; the number keeps calls of the same time in order.
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbered = 0
        self._cancelled = 0  # timers in the heap that will do nothing
        self._soon: deque[Callable[[], object]] = deque()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs inside this loop (or in a fork of it): waiting for its end would never end."""
        return self.ident == threading.get_ident() or self.pid != os.getpid()

    def wake(self) -> None:
        """Make the loop look around at once. From any thread or signal handler; does nothing in a forked child."""
        waker = self._waker
        if waker is not None:
            waker.wake()

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` in the loop's thread whenever `fd` is ready. Only from the loop's thread."""
        for seat in self._seats:
            if (
                seat.fd == fd
            ):  # another thread has closed that listener, and its number has come to somebody else
                self._stand(seat)
        self.selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        """Watch `fd` no more. Only from the loop's thread, and before the descriptor is closed."""
        self.selector.unregister(fd)

    def rewatch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Watch `fd`, which is watched already, for other events. Only from the loop's thread."""
        self.selector.modify(fd, events, callback)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback()` in the loop's thread at `when` (by time.monotonic()) or soon after. Only from the loop's thread."""
        if self._heap is None:
            import heapq

            self._heap = heapq
        timer = Timer(self, when, callback)
        self._numbered += 1
        self._heap.heappush(self._timers, (when, self._numbered, timer))
        return timer

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback()` in the loop's thread after what is ready now has been seen to. From any thread."""
        self._soon.append(callback)
        if self.ident != threading.get_ident():
            self.wake()

    def run_while(self, selector: Any, unfinished: Callable[[], object], until: float | None = None) -> None:
        """See to what is watched and to the timers, without any server, while `unfinished()` says so, or until the time `until`."""
        self.selector = selector
        while unfinished():
            rest = None if until is None else until - monotonic()
            if rest is not None and rest <= 0:
                return
            self._wait(rest)

    def run(self, selector: Any, poll_interval: float | None) -> None:
        """Serve until every server was told to stop, or was closed."""
        self.selector = selector
        self._waker = _open_waker()
        ear = self._listen() if poll_interval is None else None
        try:
            for seat in self._seats:
                # What was stopped or closed before we got here is over before it begins, and cannot be registered.
                if seat.server._BaseServer__shutdown_request or _fileno(seat.server) == -1:
                    self._leave(seat)
                else:
                    self._sit(seat)
            if self._waker is not None and self._seats:
                selector.register(self._waker.fileno(), _READ, self._waker.clear)
            for seat in self._seats:
                seat.started = True
                seat.server._servertest_started(self)
            while self._seats:
                if len(self._seats) == 1 and type(selector) is PollSelector and self._seats[0].burst == 1:
                    self._serve_undisturbed(self._seats[0], selector, poll_interval)
                self._turn(poll_interval)
        finally:
            for seat in self._seats:
                self._end(seat)
            if ear is not None:
                ear.close()
            waker, self._waker = self._waker, None
            if waker is not None:
                waker.close()

    def _listen(self) -> SignalEar | None:
        """Have an unlimited wait end when a signal comes, however late."""
        from ._signals import listen_for_signals

        ear = listen_for_signals()
        if ear is not None:
            self.selector.register(ear.fileno(), _READ, ear.clear)
        return ear

    def _turn(self, poll_interval: float | None) -> None:
        timeout = poll_interval
        for seat in self._seats:
            server = seat.server
            if server._BaseServer__shutdown_request:
                self._leave(seat)
            elif seat.fd is None or server._servertest_gate is not None or not _is_as_registered(seat):
                timeout = self._settle(seat, timeout)
        if not self._seats:
            return
        ready = self._wait(timeout)
        for seat in self._seats:
            server = seat.server
            # Asked again after the wait: a stopped server takes no further request (CPython issue 35017).
            if server._BaseServer__shutdown_request:
                continue
            if ready and (len(self._seats) == 1 or _is_for(seat, ready)):
                server._handle_request_noblock()
                if seat.burst > 1:
                    _take_more(seat)
                if server._servertest_starved or seat.backoff:
                    self._back_off(seat)
            server.service_actions()

    def _wait(self, timeout: float | None) -> Any:
        """Wait for what is watched and for the timers, and see to them. Returns the rest of what is ready: the listeners."""
        if self._timers or self._soon:
            timeout = self._until_next_call(timeout)
        ready = self.selector.select(timeout)
        if ready:
            ready = _run_callbacks(ready)
        if self._timers or self._soon:
            self._make_calls()
        return ready

    def _until_next_call(self, timeout: float | None) -> float | None:
        if self._soon:
            return 0.0
        rest = max(self._timers[0][0] - monotonic(), 0.0)
        return rest if timeout is None or rest < timeout else timeout

    def _make_calls(self) -> None:
        for _ in range(len(self._soon)):  # those that they ask for come in the next turn
            self._soon.popleft()()
        timers = self._timers
        if not timers:
            return
        now = monotonic()
        while timers and timers[0][0] <= now:
            timer = self._heap.heappop(timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                callback()

    def _note_cancelled(self) -> None:
        """Throw cancelled timers out when they are the greater part, for most are set and cancelled long before they are due."""
        self._cancelled += 1
        if self._cancelled > 100 and self._cancelled * 2 > len(self._timers):
            self._timers[:] = [entry for entry in self._timers if entry[2].callback is not None]
            self._heap.heapify(self._timers)
            self._cancelled = 0

    def _serve_undisturbed(self, seat: _Seat, selector: PollSelector, poll_interval: float | None) -> None:
        """What _turn() does, for one server, as long as nothing but requests comes: each microsecond here is one for each request."""
        server, state, poll = seat.server, seat.server.__dict__, selector.poll
        timeout = _milliseconds(poll_interval)
        only_the_listener = [(seat.fd, select.POLLIN)]
        timers, soon = self._timers, self._soon
        more, turn = 1, 0

        def is_there() -> bool:
            return poll(0) == only_the_listener and not state.get("_BaseServer__shutdown_request")

        # All that may have changed since the last turn, in which a wake-up may have been used up.
        if (
            seat.fd is None
            or seat.backoff
            or server._servertest_gate is not None
            or server._BaseServer__shutdown_request
        ):
            return
        while not (timers or soon):
            events = poll(timeout)
            if state.get("_BaseServer__shutdown_request"):
                return
            if events == only_the_listener:
                turn += 1
                # Where requests come in bunches, take the bunch; where they do not, hardly ever ask.
                if more or turn & 15 == 0:
                    more = server._servertest_take_bunch(_BUNCH, is_there)
                else:
                    server._handle_request_noblock()
                if server._servertest_starved or server._servertest_gate is not None:
                    self._back_off(seat)
                    server.service_actions()
                    return
            elif events or _fileno(server) != seat.fd:
                return
            server.service_actions()

    def _sit(self, seat: _Seat) -> None:
        seat.key = self.selector.register(seat.server, _READ)
        seat.fd = _fileno(seat.server)
        seat.listener = getattr(seat.server, "socket", None)

    def _stand(self, seat: _Seat) -> None:
        if seat.fd is not None:
            # By number, for the socket may be closed or another by now.
            self.selector.unregister(seat.server if seat.fd == _UNKNOWN else seat.fd)
            seat.fd = seat.key = None

    def _settle(self, seat: _Seat, timeout: float | None) -> float | None:
        """Put the seat right after a change. Returns the time to wait until the next look."""
        if _fileno(seat.server) == -1:
            self._leave(seat)
            return timeout
        rest = seat.until - monotonic() if seat.until else 0.0
        if rest > 0 or seat.server._servertest_gate is not None:
            self._stand(seat)
            return timeout if rest <= 0 or (timeout is not None and timeout < rest) else rest
        if not _is_as_registered(seat):
            self._stand(seat)
            self._sit(seat)
        return timeout

    def _end(self, seat: _Seat) -> None:
        if seat.started:
            seat.started = False
            seat.server._servertest_ended(self)

    def _leave(self, seat: _Seat) -> None:
        self._end(seat)
        if len(self._seats) > 1:
            # The others go on; the last one is released when all descriptors of the loop are closed.
            self._stand(seat)
            seat.server._servertest_leave(self)
        self._seats = [other for other in self._seats if other is not seat]

    def _back_off(self, seat: _Seat) -> None:
        """Leave a listener alone that cannot be served for want of descriptors or memory; twice as long each time."""
        if not seat.server._servertest_starved:
            seat.backoff = seat.until = 0.0
            return
        seat.server._servertest_starved = False
        seat.backoff = min(seat.backoff * 2 or FIRST_BACKOFF, LONGEST_BACKOFF)
        seat.until = monotonic() + seat.backoff
        self._stand(seat)


def _take_more(seat: _Seat) -> None:
    """Take what other requests are there by now, up to the number that the server takes at a time."""
    server = seat.server
    for _ in range(seat.burst - 1):
        if (
            server._BaseServer__shutdown_request
            or server._servertest_starved
            or server._servertest_gate is not None
            or _fileno(server) != seat.fd
            or not _is_readable(seat.fd)
        ):
            return
        server._handle_request_noblock()


def _is_readable(fd: Any) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([fd], [], [], 0)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _run_callbacks(ready: Sequence[Any]) -> list[Any]:
    """Call what watches the descriptors that are ready. Returns the rest: the listeners."""
    listeners = []
    for item in ready:
        # A selector of somebody's own returns what it likes; only what we registered with a callback has one.
        callback = getattr(item[0], "data", None) if isinstance(item, tuple) else None
        if callback is None:
            listeners.append(item)
        else:
            callback(item[1])
    return listeners


def _is_for(seat: _Seat, ready: Sequence[Any]) -> bool:
    return any(item[0] is seat.key or item[0].fileobj is seat.server for item in ready)


#: Stands for the descriptor of a server without fileno(), which only a selector of somebody's own can serve.
_UNKNOWN = -2


def _is_as_registered(seat: _Seat) -> bool:
    return bool(_fileno(seat.server) == seat.fd and getattr(seat.server, "socket", None) is seat.listener)


def _fileno(server: Any) -> Any:
    """The descriptor that the server listens on; -1 once it is closed."""
    try:
        return server.fileno()
    except AttributeError:
        return _UNKNOWN
    except (OSError, ValueError):
        return -1
