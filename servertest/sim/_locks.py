"""Locks whose waiting is the simulation's. All else in `threading` and `queue` is written in Python over these two."""

from __future__ import annotations

import math
from _thread import TIMEOUT_MAX, allocate_lock, get_ident
from collections import deque
from typing import TYPE_CHECKING, Any

from ._active import active, participant

if TYPE_CHECKING:
    from types import TracebackType

    from ._kernel import Kernel
    from ._task import Task

__all__ = ("SimLock", "SimRLock", "SimSentinel", "nanoseconds")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


def nanoseconds(seconds: float) -> int:
    """Whole nanoseconds to wait, and one more: a wait is never over before its time, also for those who reckon in floating seconds."""
    return math.ceil(seconds * 1e9) + 1 if seconds > 0 else 0


class SimLock:
    """What `threading.Lock()` gives inside a simulation."""

    __slots__ = ("__weakref__", "_holder", "_locked", "_real", "_waiters")

    def __init__(self) -> None:
        # It may outlive the simulation, in a module that was imported there: outside it is the lock that it stands for.
        self._real = allocate_lock()
        self._locked = False
        self._holder: Task | None = None
        self._waiters: deque[Task] = deque()

    def __repr__(self) -> str:
        return f"<{'locked' if self._locked else 'unlocked'} simulated lock>"

    @property
    def holder(self) -> Task | None:
        """Who has it, if anybody has."""
        return self._holder if self._locked else None

    def __str__(self) -> str:
        return f"a lock that {self._holder.title} holds" if self._locked and self._holder else "a lock"

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """See `threading.Lock.acquire`."""
        _check(blocking, timeout)
        kernel = participant()
        if kernel is None:
            return self._real.acquire(blocking, timeout)
        kernel.point("lock")
        kernel.touched()
        if self._locked and not self._wait(kernel, blocking, timeout):
            return False
        self._locked = True
        self._holder = kernel.current
        return True

    def _wait(self, kernel: Kernel, blocking: bool, timeout: float) -> bool:
        if not blocking or timeout == 0 or kernel.inside:
            kernel.tried()
            return not self._locked
        until = None if timeout < 0 else kernel.now + nanoseconds(timeout)
        task = kernel.current
        while self._locked:
            self._waiters.append(task)
            try:
                woken = kernel.park(self, until)
            except BaseException:
                self._give_up(kernel, task)
                raise
            if not woken:
                self._give_up(kernel, task)
                return not self._locked
        return True

    def _give_up(self, kernel: Kernel, task: Task) -> None:
        if task in self._waiters:
            self._waiters.remove(task)
        elif not self._locked:
            self._wake_next(kernel)

    def release(self) -> None:
        """See `threading.Lock.release`."""
        kernel = active.kernel
        if kernel is None or kernel.running != get_ident():
            self._release_outside(kernel)
            return
        if not self._locked:
            if kernel.current.killed or kernel.failure is not None:
                return  # what it had given up to wait was not given back, as it was to end
            raise RuntimeError("release unlocked lock")
        self._locked = False
        self._holder = None
        if self._waiters:
            self._wake_next(kernel)
        kernel.point("lock")

    def _release_outside(self, kernel: Kernel | None) -> None:
        if self._real.locked():
            self._real.release()
        elif self._locked and kernel is None:
            self._locked = False  # what was left of it when the simulation ended
        else:
            raise RuntimeError("release unlocked lock")

    def _wake_next(self, kernel: Kernel) -> None:
        while self._waiters:
            task = self._waiters.popleft()
            if task.state == "waits":
                kernel.wake(task)
                return

    def locked(self) -> bool:
        """See `threading.Lock.locked`."""
        kernel = participant()
        if kernel is not None and self._locked:
            kernel.tried()
        return self._real.locked() if kernel is None else self._locked

    def _at_fork_reinit(self) -> None:
        self._locked = False
        self._waiters.clear()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    acquire_lock = acquire
    release_lock = release
    locked_lock = locked


class SimSentinel(SimLock):
    """The lock that tells whether a thread runs. Servers ask this of all their threads for each client, which is no waiting."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """See `threading.Lock.acquire`."""
        if blocking or not self._locked:
            return super().acquire(blocking, timeout)
        kernel = participant()
        if kernel is None:
            return super().acquire(blocking, timeout)
        kernel.touched()
        return False

    def locked(self) -> bool:
        """See `threading.Lock.locked`."""
        kernel = participant()
        if kernel is None or not self._locked:
            return super().locked()
        kernel.touched()
        return True


class SimRLock:
    """What `threading.RLock()` gives inside a simulation."""

    __slots__ = ("__weakref__", "_count", "_lock", "_owner")

    def __init__(self) -> None:
        self._lock = SimLock()
        self._owner: Any = None
        self._count = 0

    def __repr__(self) -> str:
        return f"<simulated reentrant lock, taken {self._count} times>"

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """See `threading.RLock.acquire`."""
        me = _me()
        if self._owner == me and self._count:
            self._count += 1
            return True
        if not self._lock.acquire(blocking, timeout):
            return False
        self._owner = me
        self._count = 1
        return True

    def release(self) -> None:
        """See `threading.RLock.release`."""
        if self._owner != _me() or not self._count:
            kernel = participant()
            if kernel is not None and (kernel.current.killed or kernel.failure is not None):
                return
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._lock.release()

    def locked(self) -> bool:
        """Whether anybody has it."""
        return self._count > 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return bool(self._count and self._owner == _me())

    def _recursion_count(self) -> int:
        return self._count if self._is_owned() else 0

    def _release_save(self) -> tuple[int, Any]:
        state = self._count, self._owner
        if not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        self._count, self._owner = 0, None
        self._lock.release()
        return state

    def _acquire_restore(self, state: tuple[int, Any]) -> None:
        self._lock.acquire()
        self._count, self._owner = state

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()
        self._owner, self._count = None, 0


def _me() -> Any:
    kernel = participant()
    return kernel.current if kernel is not None else get_ident()


def _check(blocking: bool, timeout: float) -> None:
    if not blocking and timeout != -1:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0 and timeout != -1:
        raise ValueError("timeout value must be a non-negative number")
    if timeout > TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")
