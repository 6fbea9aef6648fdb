"""A connection whose other end follows a plan: a real descriptor, and a socket that asks the plan before it would wait.

When the handler is about to wait for input, the `Tape` gives it what comes next, and notes what the client has received by then: whatever is due must
be there. Where the plan is silent, time passes at once: a time-out that the handler has set is over, and one that has none is known to wait for ever.
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from .._support import hard_reset
from ._clock import Clock
from ._plan import Piece, Plan, Wait

__all__ = ("ScriptSocket", "Silence", "Spinning", "Tape", "connection", "waits_ask_tapes")

#: Empty answers in a row after which somebody is said to be spinning.
_EMPTY = 100
#: Answers "not yet" in a row after which somebody who does not block is said to be spinning.
_NOT_YET = 2000
#: Seconds that threads of the handler get to write what is due.
_GRACE = 0.05
#: The same where it is known that something is due.
_PATIENCE = 1.0
#: Milliseconds that bytes may take from one end to the other.
_DELIVERY = 100
_BLOCK = 65_536
#: Seconds between two looks at what has come: the first, and the longest; each is twice as long as the one before.
_LOOK, _LONGEST_LOOK = 0.0002, 0.004
#: Questions without waiting, in a row, after which the next thing happens all the same.
_GLANCES = 20
#: Seconds for which a thread that has written something lets the others have their turn.
_YIELD = 0.0003

# Others replace them while a handler is rehearsed.
_select, _poll, _sleep, _monotonic = select.select, select.poll, time.sleep, time.monotonic


class Silence(BaseException):
    """The plan has no more to say, and the handler would wait for ever."""


class Spinning(BaseException):
    """The handler asks again and again for what will never come."""


class Tape:
    """The client's end.

    Attributes:
        received: What has come so far.
        waits: When the handler waited.
        sent: Bytes sent so far.
    """

    def __init__(self, plan: Plan, near: socket.socket, clock: Clock, threads: int) -> None:
        self.plan = plan
        self.received = bytearray()
        self.waits: list[Wait] = []
        self.sent = 0
        self.events: list[tuple[str, bytes]] = []
        self.on_wait: Callable[[int], None] | None = None
        self.on_send: Callable[[int], None] | None = None
        self.ended = False
        self.last_word = clock.ahead
        self._near = near
        near.setblocking(False)
        self.written = 0
        self._clock = clock
        self._began = clock.ahead
        self._threads = threads
        self._pieces = list(plan.pieces)
        self._rest = b""
        self._gone = False
        self._deaf = False
        self._fed = False
        self._empty = 0
        self._not_yet = 0
        self._glances = 0
        self._thread = threading.get_ident()
        self._lock = threading.RLock()
        if plan.early_end:
            self._end_early()

    # -- what the handler reads

    def await_input(self, handler: socket.socket, timeout: float | None, peek: bool = False) -> bool:
        """Called before the handler reads or waits: have something there, or let time pass.

        Returns:
            Whether there is something to be read; otherwise the time-out has passed.

        Raises:
            Silence: It would wait for ever.
            Spinning: It does not wait at all, and asks again and again.
        """
        while not readable(handler, self._under_way()):
            if self._rest:
                self._feed(b"")
                continue
            if self._over_there():
                return True  # the system says what there is to be said
            if timeout == 0 and self._glance():
                return False
            self._note_wait()
            if not self._go_on(timeout):
                return False
        return True

    def _under_way(self) -> int:
        """Milliseconds that what has just been sent may still be on its way: the system may be busy."""
        under_way, self._fed = self._fed, False
        return _DELIVERY if under_way else 0

    def _glance(self) -> bool:
        """Whether somebody who does not wait is told that there is nothing yet."""
        self._glances += 1
        return self._glances % _GLANCES != 0

    def _over_there(self) -> bool:
        return self.ended and self.plan.ending != "silence"

    def _note_wait(self) -> None:
        self.drain()
        size, since, look = -1, _monotonic(), _LOOK
        while seconds := self._time_for_more():
            if len(self.received) != size:
                size, since, look = len(self.received), _monotonic(), _LOOK
            elif _monotonic() - since > seconds:
                break
            with contextlib.suppress(OSError, ValueError):
                _select([self._near], [], [], look)  # what a thread writes is taken by that thread
            look = min(2 * look, _LONGEST_LOOK)
            self.drain()
        if not self.waits or (self.waits[-1].sent, self.waits[-1].received) != (
            self.sent,
            len(self.received),
        ):
            self.waits.append(Wait(self.sent, len(self.received), self._clock.ahead - self._began))
            if self.on_wait is not None:
                self.on_wait(len(self.waits) - 1)

    def _time_for_more(self) -> float:
        """Seconds that there is to wait for replies which may be on their way, or which threads of the handler have still to write."""
        if self._deaf:
            return 0.0  # nothing comes to somebody who has gone
        if len(self.received) < self.written:
            return _DELIVERY / 1000
        if threading.active_count() <= self._threads:
            return 0.0
        if self.plan.due is None:
            return _GRACE
        due = dict(self.plan.due).get(self.sent, 0)
        return _PATIENCE if len(self.received) < due else 0.0

    def _go_on(self, timeout: float | None) -> bool:
        """Let the client do what comes next; whether it did anything before the time was over."""
        pause = self._pieces[0].pause if self._pieces else 0.0
        silent = not self._pieces and self.plan.ending == "silence"
        if silent:
            self.ended = True
            return self._stay_silent(timeout)
        if pause:
            if timeout is not None and timeout < pause:
                self._pieces[0] = Piece(self._pieces[0].data, pause - timeout)
                return self._pass_time(timeout)
            self._clock.advance(pause)
        if self._pieces:
            self._feed(self._pieces.pop(0).data)
        else:
            self._end()
        return True

    def _stay_silent(self, timeout: float | None) -> bool:
        if timeout is None:
            raise Silence
        if self._clock.ahead - self.last_word > self.plan.patience:
            raise Silence
        return self._pass_time(timeout)

    def _pass_time(self, timeout: float) -> bool:
        self._clock.advance(timeout)
        self._not_yet += 1
        if self._not_yet > _NOT_YET:
            raise Spinning
        return False

    def count(self, got: int, wanted: int) -> None:
        """Called after each read with what came of it."""
        if got or not wanted:
            self._empty = self._not_yet = 0
            return
        self._empty += 1
        if self._empty > _EMPTY:
            raise Spinning

    # -- what the client does

    def _feed(self, data: bytes) -> None:
        data = self._rest + data
        try:
            count = self._near.send(data)
        except BlockingIOError:
            count = 0
        except OSError:  # the handler has closed or shut down its end
            self._gone, self._rest = True, b""
            self.sent += len(data)
            self._pieces.clear()
            return
        self.last_word = self._clock.ahead
        self.sent += count
        self._fed = self._fed or count > 0
        self.events.append((">", data[:count]))
        self._rest = data[count:]

    def _end_early(self) -> None:
        """Send everything and end before the handler begins, as far as the system takes it."""
        for piece in self._pieces:
            self._feed(piece.data)
        self._pieces.clear()
        self._end()

    def _end(self) -> None:
        self.ended = True
        self.last_word = self._clock.ahead
        ending = self.plan.ending
        if ending == "silence":
            return
        self._fed = True
        self.events.append((ending, b""))
        with contextlib.suppress(OSError):
            if ending == "fin":
                self._near.shutdown(socket.SHUT_WR)
            elif ending == "close":
                self.drain()
                self._near.close()
            else:
                hard_reset(self._near)

    # -- what the handler writes

    def room(self, size: int) -> int:
        """How much of so many bytes the handler may send at once now; 0 if the client is to go first."""
        room = min(size, _BLOCK, self.plan.send_limit or _BLOCK)
        if self.plan.reset_after is not None:
            room = min(room, max(0, self.plan.reset_after - len(self.received)))
        return room

    def cut_off(self) -> None:
        """Go away in the midst of the handler's reply."""
        if not self.ended:
            self.events.append(("reset", b""))
        self.ended = True
        self._pieces.clear()
        self._rest = b""
        with contextlib.suppress(OSError):
            hard_reset(self._near)

    def wrote(self) -> None:
        """Called after each write: take what came."""
        self._empty = self._not_yet = 0
        self.drain()
        if self.on_send is not None:
            self.on_send(len(self.received))
        if threading.get_ident() != self._thread:
            _sleep(_YIELD)

    def drain(self) -> None:
        """Take what has come."""
        with self._lock:
            before = len(self.received)
            try:
                while data := self._near.recv(_BLOCK):
                    self.received += data
                self._deaf = True
            except BlockingIOError:
                pass
            except OSError:
                self._deaf = True
            if len(self.received) > before:
                self.events.append(("<", bytes(self.received[before:])))

    def finish(self) -> None:
        """The handler is over: take the rest, and leave nothing behind in the system."""
        self.drain()
        with contextlib.suppress(OSError):
            hard_reset(self._near)

    @property
    def unsent(self) -> int:
        """Bytes of the plan that the handler did not wait for."""
        return len(self._rest) + sum(len(piece.data) for piece in self._pieces)

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the beginning."""
        return self._clock.ahead - self._began

    @property
    def silence(self) -> float:
        """Virtual seconds since the client last said something."""
        return self._clock.ahead - self.last_word


def readable(sock: socket.socket, milliseconds: int = 0) -> bool:
    """Whether a read would not wait, now or soon."""
    try:
        poll = _poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(milliseconds))
    except (OSError, ValueError):
        return True  # it is closed: let the read say so


class ScriptSocket(socket.socket):
    """The handler's end: a socket in every respect, which asks its tape before it would wait."""

    tape: Tape | None = None

    def _await(self) -> None:
        tape = self.tape
        if tape is None or self.fileno() < 0:
            return
        timeout = self.gettimeout()
        if timeout == 0:
            if not tape.await_input(self, 0.0):
                raise BlockingIOError(11, "Resource temporarily unavailable")
        elif not tape.await_input(self, timeout):
            raise TimeoutError("timed out")

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As a socket's."""
        self._await()
        data = super().recv(bufsize, flags)
        if self.tape is not None:
            self.tape.count(len(data), bufsize)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As a socket's."""
        self._await()
        count = super().recv_into(buffer, nbytes, flags)
        if self.tape is not None:
            self.tape.count(count, nbytes or memoryview(buffer).nbytes)
        return count

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """As a socket's."""
        self._await()
        data, address = super().recvfrom(bufsize, flags)
        if self.tape is not None:
            self.tape.count(len(data), bufsize)
        return data, address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As a socket's."""
        self._await()
        count, address = super().recvfrom_into(buffer, nbytes, flags)
        if self.tape is not None:
            self.tape.count(count, nbytes or memoryview(buffer).nbytes)
        return count, address

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        """As a socket's."""
        self._await()
        found = super().recvmsg(bufsize, ancbufsize, flags)
        if self.tape is not None:
            self.tape.count(len(found[0]), bufsize)
        return found

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As a socket's; it may take less than it is given."""
        view = memoryview(data).cast("B")
        if self.tape is None:
            return super().send(view, flags)
        limit = self.tape.plan.send_limit
        return self._send(view[:limit] if limit else view, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As a socket's."""
        view = memoryview(data).cast("B")
        if self.tape is None:
            super().sendall(view, flags)
        else:
            self._send(view, flags)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """As a socket's; it may take less than it is given."""
        if self.tape is None or ancdata:
            return super().sendmsg(buffers, ancdata, flags, address)
        return self.send(b"".join(bytes(part) for part in buffers), flags)

    def _send(self, view: memoryview, flags: int) -> int:
        """Send it all: the client reads as fast as it is sent."""
        tape = self.tape
        assert tape is not None
        done = 0
        while done < len(view):
            room = tape.room(len(view) - done)
            if not room:
                tape.cut_off()
                room = len(view) - done
            count = super().send(view[done : done + room], flags)
            done += count
            tape.written += count
            tape.wrote()
        if not len(view):
            super().send(view, flags)
        return done

    def dup(self) -> ScriptSocket:
        """As a socket's; the copy follows the same plan."""
        copy = super().dup()
        copy.tape = self.tape
        return copy


@contextmanager
def connection(
    plan: Plan, clock: Clock, threads: int, listener: socket.socket | None
) -> Iterator[tuple[Tape, ScriptSocket, Any]]:
    """A connection whose client follows the plan.

    Args:
        plan: What the client does.
        clock: Virtual time.
        threads: How many threads there were before the handler.
        listener: A listening TCP socket; None for a Unix connection.

    Yields:
        The client's end, the handler's end, and the client's address.
    """
    if listener is None:
        near, far = socket.socketpair()
        address: Any = ""
    else:
        near = socket.socket(listener.family)
        near.connect(listener.getsockname())
        far, address = listener.accept()
        for end in (near, far):  # what is sent is there at once
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with near:
        handler = ScriptSocket(far.family, far.type, far.proto, fileno=far.detach())
        with handler:
            handler.setblocking(True)
            tape = Tape(plan, near, clock, threads)
            handler.tape = tape
            try:
                yield tape, handler, address
            finally:
                tape.finish()


# -- handlers that wait with select


@contextmanager
def waits_ask_tapes(sockets: dict[int, ScriptSocket], modules: Iterable[str] = ()) -> Iterator[None]:
    """Have `select.select`, `select.poll` and the selectors ask the tapes before they would wait.

    Args:
        sockets: The handlers' ends by descriptor.
        modules: Names of modules that may have imported these functions by their names.
    """
    replaced: dict[int, Any] = {id(_select): _asking_select(sockets), id(_poll): lambda: _AskingPoll(sockets)}
    undo: list[tuple[dict[str, Any], str, Any]] = []
    for place in [vars(select), *(vars(sys.modules[name]) for name in modules if name in sys.modules)]:
        for name, value in list(place.items()):
            if id(value) in replaced:
                undo.append((place, name, value))
                place[name] = replaced[id(value)]
    methods = [(cls, cls.__dict__["select"]) for cls in _selector_classes()]
    for cls, method in methods:
        cls.select = _asking_method(method, sockets)
    try:
        yield
    finally:
        for place, name, value in undo:
            place[name] = value
        for cls, method in methods:
            cls.select = method


def _selector_classes() -> list[Any]:
    names = ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector", "_PollLikeSelector")
    classes = [getattr(selectors, name, None) for name in names]
    return [cls for cls in classes if cls is not None and "select" in vars(cls)]


def _asking_select(sockets: dict[int, ScriptSocket]) -> Callable[..., Any]:
    def asking(rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None) -> Any:
        rlist = list(rlist)
        watched = [sockets[fd] for fd in map(_number, rlist) if fd in sockets]
        if not watched or any(found := _select(rlist, wlist, xlist, 0)):
            return found if watched else _select(rlist, wlist, xlist, timeout)
        _ask(watched, timeout)
        return _select(rlist, wlist, xlist, 0)

    return asking


def _asking_method(method: Any, sockets: dict[int, ScriptSocket]) -> Any:
    def asking(self: Any, timeout: float | None = None) -> Any:
        keys = self.get_map().items() if sockets else ()
        watched = [sockets[fd] for fd, key in keys if fd in sockets and key.events & selectors.EVENT_READ]
        if not watched or (found := method(self, 0)):
            return found if watched else method(self, timeout)
        _ask(watched, timeout)
        return method(self, 0)

    return asking


class _AskingPoll:
    """As `select.poll()` gives."""

    def __init__(self, sockets: dict[int, ScriptSocket]) -> None:
        self._sockets = sockets
        self._poll = _poll()
        self._watched: set[int] = set()

    def register(self, fd: Any, events: int = select.POLLIN | select.POLLPRI | select.POLLOUT, /) -> None:
        """As a polling object's."""
        self._poll.register(fd, events)
        if events & select.POLLIN:
            self._watched.add(_number(fd))

    def modify(self, fd: Any, events: int, /) -> None:
        """As a polling object's."""
        self._poll.modify(fd, events)
        (self._watched.add if events & select.POLLIN else self._watched.discard)(_number(fd))

    def unregister(self, fd: Any, /) -> None:
        """As a polling object's."""
        self._poll.unregister(fd)
        self._watched.discard(_number(fd))

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """As a polling object's."""
        watched = [self._sockets[fd] for fd in self._watched if fd in self._sockets]
        if not watched or (found := self._poll.poll(0)):
            return found if watched else self._poll.poll(timeout)
        _ask(watched, None if timeout is None or timeout < 0 else timeout / 1000)
        return self._poll.poll(0)


def _number(thing: Any) -> int:
    return thing if isinstance(thing, int) else int(thing.fileno())


def _ask(watched: list[ScriptSocket], timeout: float | None) -> None:
    """Let the first of them come to what is next."""
    sock = watched[0]
    assert sock.tape is not None
    sock.tape.await_input(sock, timeout)
