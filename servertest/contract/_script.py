"""The client's end of a connection that follows a plan.

When the handler is about to wait for input, the `Tape` gives it what comes next, and notes what the client has received by then: whatever is due must
be there. Where the plan is silent, time passes at once: a time-out that the handler has set is over, and one that has none is known to wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable

from .._support import hard_reset
from ._clock import Clock
from ._plan import Piece, Plan, Wait

__all__ = ("Silence", "Spinning", "Tape")

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
#: Bytes of replies that are kept where memory is measured: what the client keeps is not the handler's.
_KEPT = 1 << 20
#: Seconds between two looks at what has come: the first, and the longest; each is twice as long as the one before.
_LOOK, _LONGEST_LOOK = 0.0002, 0.004
#: Looks in a row at which all threads waited for something, after which nothing comes that nobody knows of.
_RESTS = 3
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
        received: What has come so far; where memory is measured, only the beginning of what is long.
        taken: How many bytes have come.
        waits: When the handler waited.
        sent: Bytes sent so far.
    """

    def __init__(self, plan: Plan, near: socket.socket, clock: Clock, threads: int) -> None:
        self.plan = plan
        self.received = bytearray()
        self.taken = 0
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
        size, since, look, rests = -1, _monotonic(), _LOOK, 0
        while seconds := self._time_for_more():
            if self.taken != size:
                size, since, look, rests = self.taken, _monotonic(), _LOOK, 0
            elif _monotonic() - since > seconds or rests >= _RESTS:
                break
            with contextlib.suppress(OSError, ValueError):
                _select([self._near], [], [], look)  # what a thread writes is taken by that thread
            look = min(2 * look, _LONGEST_LOOK)
            rests = rests + 1 if self._expects_nothing() and _others_rest() else 0
            self.drain()
        if not self.waits or (self.waits[-1].sent, self.waits[-1].received) != (
            self.sent,
            self.taken,
        ):
            self.waits.append(Wait(self.sent, self.taken, self._clock.ahead - self._began))
            if self.on_wait is not None:
                self.on_wait(len(self.waits) - 1)

    def _expects_nothing(self) -> bool:
        """Whether nobody knows that anything is due, and nothing is on its way."""
        return self.plan.due is None and self.taken >= self.written

    def _time_for_more(self) -> float:
        """Seconds that there is to wait for replies which may be on their way, or which threads of the handler have still to write."""
        if self._deaf:
            return 0.0  # nothing comes to somebody who has gone
        if self.taken < self.written:
            return _DELIVERY / 1000
        if threading.active_count() <= self._threads:
            return 0.0
        if not self.plan.due:
            return _GRACE
        due = dict(self.plan.due).get(self.sent, 0)
        return _PATIENCE if self.taken < due else 0.0

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
            room = min(room, max(0, self.plan.reset_after - self.taken))
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
            self.on_send(self.taken)
        if threading.get_ident() != self._thread:
            _sleep(_YIELD)

    def drain(self) -> None:
        """Take what has come."""
        with self._lock:
            before = len(self.received)
            try:
                while data := self._near.recv(_BLOCK):
                    self.taken += len(data)
                    if not self.plan.measure or len(self.received) < _KEPT:
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


def _others_rest() -> bool:
    """Whether all other threads wait for something; False where the system does not tell."""
    own = threading.current_thread()  # whose number is that of before the fork
    return all(_rests(thread) for thread in threading.enumerate() if thread is not own)


def _rests(thread: threading.Thread) -> bool:
    try:
        with open(f"/proc/self/task/{thread.native_id}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"S"
    except FileNotFoundError:
        # It has ended, or was left behind by a simulation in which it had another number.
        return os.path.isdir("/proc/self/task")
    except (OSError, IndexError):
        return False


def readable(sock: socket.socket, milliseconds: int = 0) -> bool:
    """Whether a read would not wait, now or soon."""
    try:
        poll = _poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(milliseconds))
    except (OSError, ValueError):
        return True  # it is closed: let the read say so
