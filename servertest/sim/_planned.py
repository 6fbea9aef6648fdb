"""A planned conversation in a simulation: the client's side, which knows when the handler waits, and how long."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._support import hard_reset
from ..contract._plan import Wait
from ..contract._script import Spinning
from ..faults import PASS, Calls, Verdict
from ..wire._faulty_calls import CallFaults
from ._handles import IN, Handle, Watcher
from ._locks import nanoseconds
from ._polling import wait_for_any

if TYPE_CHECKING:
    from ..contract import Plan
    from ._kernel import Kernel
    from ._task import Task

__all__ = ("PlannedClient",)

#: Ends of the connection that are read in a row after which somebody is said to be spinning.
_EMPTY = 100
#: Waits in vain, or answers "not yet", in a row after which somebody is.
_NOT_YET = 2000
#: Questions without waiting, in a row, after which the next thing happens all the same.
_GLANCES = 20
#: Seconds of virtual time that threads of the handler get to write what is due, and where nobody knows whether anything is.
_DUE, _GRACE = 1.0, 0.05
_BLOCK = 65_536


class _Limited(Calls):
    """Lets no call send more than so much at once."""

    def __init__(self, limit: int) -> None:
        self._verdict = Verdict(limit=limit)

    def before(self, call: str, size: int, now: float) -> Verdict:
        return self._verdict if call == "send" else PASS


class _Turn(Handle):
    """Changes whenever the handler has done something that the client wants to know."""

    name = "the handler"

    def mask(self) -> int:
        """See `Handle`."""
        return 0


class PlannedClient(Watcher):
    """Does what a plan says, on one end of a connection at whose other end there is a handler.

    Args:
        plan: What to do.
        near: The client's socket.
        far: The handler's.
        kernel: The kernel of the simulation.

    Attributes:
        received: What has come so far.
        waits: When the handler waited for input.
        events: What passed, for transcripts.
        sent: Bytes sent so far.
        on_wait: Is called with the number of each wait.
        on_send: Is called with the number of bytes received, when the handler wants to send more than the plan's `at_send`.
        over: Whether the handler has come back.
        ended: When it has, in virtual nanoseconds.
        last_word: When the client last did something, likewise.
    """

    def __init__(self, plan: Plan, near: socket.socket, far: socket.socket, kernel: Kernel) -> None:
        self.plan = plan
        self.received = bytearray()
        self.waits: list[Wait] = []
        self.events: list[tuple[str, bytes]] = []
        self.sent = 0
        self.on_wait: Callable[[int], None] | None = None
        self.on_send: Callable[[int], None] | None = None
        self.over = False
        self.began = self.last_word = self.ended = kernel.now
        self._first = len(kernel.tasks)
        self._near = near
        self._kernel = kernel
        self._near_end: Any = near._sim_end  # type: ignore[attr-defined]
        self._far_end: Any = far._sim_end  # type: ignore[attr-defined]
        self._turn = _Turn()
        self._readers: dict[Task, None] = {}
        self._pieces = list(plan.pieces)
        self._rest = b""
        self._finished = False
        self._held = False
        self._whole = self._far_end.out.capacity
        self._send_mark = plan.at_send
        self._empty = self._not_yet = self._glances = 0
        self._far_end.watcher = self
        if plan.send_limit:
            self._far_end.calls = CallFaults()
            self._far_end.calls.put("plan", _Limited(plan.send_limit))
        near.setblocking(False)
        self._narrow()

    # -- what the handler does, in its own threads

    def begins_to_wait(self, task: Task, reads: bool) -> None:
        """See `Watcher`."""
        if reads:
            self._count_in_vain()
            self._readers[task] = None
            self._turn.changed()

    def ends_waiting(self, task: Task) -> None:
        """See `Watcher`."""
        self._readers.pop(task, None)

    def has_received(self, size: int | None) -> None:
        """See `Watcher`."""
        if size is None:
            self._glances += 1
            self._count_in_vain()
            if self._glances % _GLANCES == 0:
                self._turn.changed()
        elif size:
            self._empty = self._not_yet = self._glances = 0
        else:
            self._empty += 1
            if self._empty > _EMPTY:
                raise Spinning

    def is_held_back(self) -> None:
        """See `Watcher`."""
        self._held = True
        self._turn.changed()

    def _count_in_vain(self) -> None:
        self._not_yet += 1
        if self._not_yet > _NOT_YET:
            raise Spinning

    def comes_back(self) -> None:
        """The handler has come back."""
        self.over = True
        self.ended = self._kernel.now
        self._turn.changed()

    # -- what the client does

    def begin_early(self) -> None:
        """What it does before the handler begins: everything, if the plan wants it so."""
        if self.plan.early_end:
            for piece in self._pieces:
                self._send(piece.data)
            self._pieces.clear()
            self._end()

    def run(self) -> str:
        """Do what the plan says, until the handler has come back.

        Returns:
            "" if it has; "silent" if it waits, as far as one can see, for ever for a client that says no more; "hung" if it waits for
            anything else.
        """
        while self._await_turn():
            if self._let_others_write() and not self._goes_on():
                return self._stay()
        return "" if self.over else "hung"

    def _await_turn(self) -> bool:
        """Whether the handler waits for input; False if it has come back, or will not."""
        until = self._kernel.now + nanoseconds(self.plan.patience)
        while True:
            self._settle()
            if self._held:
                self._deal_with_the_held()
                continue
            if self.over:
                return False
            if not self._finished and (self._readers or self._glances >= _GLANCES):
                return True
            if self._kernel.now >= until:
                return False
            self._pause(until)

    def _settle(self) -> None:
        """Let everybody go on until all of them wait, and take what has come."""
        self._kernel.settle(lambda: self._held)
        self._read()

    def _pause(self, until: int) -> None:
        """Let time pass, until something happens or it is that time."""
        handles: list[tuple[Handle, int]] = [(self._turn, 0)]
        if not self._near_end.gone:
            handles.append((self._near_end, IN))
        wait_for_any(self._kernel, handles, until)

    def _let_others_write(self) -> bool:
        """Note that the handler waits, when its threads have written what is due; False if it waits no more."""
        kernel = self._kernel
        due = None if not self.plan.due else dict(self.plan.due).get(self.sent, 0)
        until = kernel.now + nanoseconds(_GRACE if due is None else _DUE)
        while (due is None or len(self.received) < due) and kernel.now < until and self._others_are_busy():
            self._pause(until)
            self._settle()
            if self.over or self._held or not (self._readers or self._glances >= _GLANCES):
                return False
        self._note_wait()
        return True

    def _others_are_busy(self) -> bool:
        """Whether the handler has a thread that goes on when its time has come, and is not the one that waits for the client."""
        return any(
            task.number >= self._first and task not in self._readers for task in self._kernel.sleepers()
        )

    def _note_wait(self) -> None:
        last = self.waits[-1] if self.waits else None
        if last is None or (last.sent, last.received) != (self.sent, len(self.received)):
            at = (self._kernel.now - self.began) / 1e9
            self.waits.append(Wait(self.sent, len(self.received), at))
            if self.on_wait is not None:
                self.on_wait(len(self.waits) - 1)

    def _goes_on(self) -> bool:
        """Do what comes next; False if there is nothing but silence."""
        self._glances = 0
        if self._rest:
            self._send(b"")
            return True
        if self._pieces:
            piece = self._pieces.pop(0)
            if self._sleep(piece.pause):
                self._send(piece.data)
            else:
                self._pieces.insert(0, piece)
            return True
        if self.plan.ending == "silence":
            self._finished = True
            return False
        self._end()
        return True

    def _sleep(self, seconds: float) -> bool:
        """Be silent for so long; False if the handler has come back before."""
        until = self._kernel.now + nanoseconds(seconds)
        while not self.over and self._kernel.now < until:
            self._not_yet = 0  # it may ask as often as it likes: an end is in sight
            self._pause(until)
            self._read()
        return not self.over

    def _stay(self) -> str:
        """Say nothing more, and see what the handler does."""
        until = self.last_word + nanoseconds(self.plan.patience)
        while not self.over and self._kernel.now < until and not self._held:
            self._pause(until)
            self._settle()
            if self._readers and not self.over:
                self._note_wait()
        if self._held:
            self._deal_with_the_held()
            return self._stay()
        if self.over:
            return ""
        return "silent" if self._readers else "hung"

    def _send(self, data: bytes) -> None:
        data = self._rest + data
        count = 0
        try:
            count = self._near.send(data)
        except BlockingIOError:
            pass
        except OSError:  # the handler has closed or shut down its end
            self._rest = b""
            self.sent += len(data)
            self._pieces.clear()
            self._end()
            return
        self.last_word = self._kernel.now
        self.sent += count
        if count:
            self.events.append((">", data[:count]))
        self._rest = data[count:]

    def _end(self) -> None:
        self._finished = True
        ending = self.plan.ending
        if ending == "silence":
            return
        self.last_word = self._kernel.now
        self.events.append((ending, b""))
        with contextlib.suppress(OSError):
            if ending == "fin":
                self._near.shutdown(socket.SHUT_WR)
            elif ending == "close":
                self._read()
                self._near.close()
            else:
                hard_reset(self._near)

    # -- what the handler writes

    def _narrow(self) -> None:
        """Let no more come through than the plan says, before something happens."""
        marks = [mark for mark in (self.plan.reset_after, self._send_mark) if mark is not None]
        left = max(min(marks) - len(self.received), 0) if marks else self._whole
        self._far_end.out.capacity = min(self._whole, left)

    def _deal_with_the_held(self) -> None:
        """The handler wants to send more than comes through: something was to happen then."""
        self._held = False
        self._read()
        if self._send_mark is not None and len(self.received) >= self._send_mark:
            self._send_mark = None
            if self.on_send is not None:
                self.on_send(len(self.received))
        elif self.plan.reset_after is not None and len(self.received) >= self.plan.reset_after:
            self._cut_off()
        self._narrow()
        self._far_end.changed()

    def _cut_off(self) -> None:
        if not self._finished:
            self.events.append(("reset", b""))
        self._finished = True
        self._pieces.clear()
        self._rest = b""
        self.last_word = self._kernel.now
        with contextlib.suppress(OSError):
            hard_reset(self._near)

    def _read(self) -> None:
        """Take what has come."""
        before = len(self.received)
        try:
            while self._near.fileno() >= 0 and (data := self._near.recv(_BLOCK)):
                self.received += data
                self._narrow()
        except OSError:
            pass  # nothing there, or nothing more
        if len(self.received) > before:
            self.events.append(("<", bytes(self.received[before:])))
            self._narrow()
            self._far_end.changed()

    def finish(self) -> None:
        """The handler is over: take the rest, and go."""
        self._read()
        self._far_end.watcher = None
        with contextlib.suppress(OSError):
            hard_reset(self._near)

    # -- what came of it

    @property
    def written(self) -> int:
        """Bytes that the handler has sent: as many as were received."""
        return len(self.received)

    @property
    def taken(self) -> int:
        """The same."""
        return len(self.received)

    @property
    def unsent(self) -> int:
        """Bytes of the plan that the handler did not wait for."""
        return len(self._rest) + sum(len(piece.data) for piece in self._pieces)

    @property
    def elapsed(self) -> float:
        """Virtual seconds until the handler came back, or until now."""
        return ((self.ended if self.over else self._kernel.now) - self.began) / 1e9

    @property
    def silence(self) -> float:
        """Virtual seconds of them since the client last did something."""
        return max((self.ended if self.over else self._kernel.now) - self.last_word, 0) / 1e9
