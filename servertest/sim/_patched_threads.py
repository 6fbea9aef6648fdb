"""The simulation's threads: real ones that wait for their turn, and know each other by the same names in each run."""

from __future__ import annotations

import _thread
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._active import active, participant
from ._locks import SimLock, SimRLock, SimSentinel
from ._replacing import class_of, either

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("threads",)

_Function = Callable[..., Any]


def threads() -> list[tuple[Any, Any]]:
    """What makes threads and locks, each with what replaces it."""
    pairs: list[tuple[Any, Any]] = [
        (_thread.allocate_lock, either(_thread.allocate_lock, lambda kernel: SimLock())),
        (_thread.RLock, class_of(_thread.RLock, lambda kernel: SimRLock())),
        (_thread.get_ident, _get_ident),
        (_thread.start_new_thread, either(_thread.start_new_thread, _start_new_thread)),
    ]
    if isinstance(threading.Lock, type):
        pairs.append((threading.Lock, class_of(threading.Lock, lambda kernel: SimLock())))
    if hasattr(_thread, "_set_sentinel"):
        pairs.append((_thread._set_sentinel, either(_thread._set_sentinel, _set_sentinel)))
    if hasattr(_thread, "start_joinable_thread"):
        start = _thread.start_joinable_thread
        pairs.append((start, either(start, _start_joinable_thread)))
        handle: Any = _thread._ThreadHandle  # type: ignore[attr-defined]
        pairs.append((handle, class_of(handle, lambda kernel: _SimThreadHandle())))
    simple = getattr(queue, "_PySimpleQueue", None)
    if simple is not None and queue.SimpleQueue is not simple:
        pairs.append((queue.SimpleQueue, class_of(queue.SimpleQueue, lambda kernel: simple())))
    return pairs


_real_get_ident = _thread.get_ident


def _get_ident() -> int:
    kernel = active.kernel
    ident = _real_get_ident()
    if kernel is not None and kernel.running == ident:
        return kernel.current.shown_ident
    return ident


def _start_new_thread(kernel: Kernel, function: _Function, args: Any, kwargs: Any = None, /) -> int:
    if kwargs:
        plain, function = function, lambda *given: plain(*given, **kwargs)
    thread = getattr(function, "__self__", None)
    if not isinstance(thread, threading.Thread):
        return kernel.spawn(function, tuple(args)).shown_ident
    return int(_spawn(kernel, thread, function, tuple(args)).shown_ident)


def _spawn(kernel: Kernel, thread: threading.Thread, function: _Function, args: tuple[Any, ...]) -> Any:
    inner: Any = thread
    if not isinstance(inner._started._cond._lock, SimLock):
        inner._started = threading.Event()  # made before the simulation: who starts it would wait for real
    task = kernel.spawn(function, args, thread.name)
    task.owner = thread
    limbo: Any = threading._limbo  # type: ignore[attr-defined]
    task.on_end.append(lambda: limbo.pop(thread, None))
    return task


def _set_sentinel(kernel: Kernel) -> SimSentinel:
    """The lock that Python 3.11 and 3.12 release when a thread has ended."""
    lock = SimSentinel()
    # Not through release(): a thread that has ended cannot be made to wait.
    kernel.current.on_end.append(lambda: _let_go(kernel, lock))
    return lock


def _let_go(kernel: Kernel, lock: SimLock) -> None:
    lock._locked = False
    lock._holder = None
    for task in lock._waiters:
        kernel.wake(task)
    lock._waiters.clear()


class _SimThreadHandle:
    """What Python 3.13 joins a thread by."""

    def __init__(self) -> None:
        self._lock = SimLock()
        self._done = False
        self.ident = 0

    def is_done(self) -> bool:
        """Whether the thread has ended."""
        return self._done

    def join(self, timeout: float | None = None) -> None:
        """Wait for that."""
        if self._done or participant() is None:
            return
        if self._lock.acquire(True, -1 if timeout is None else max(timeout, 0)):
            self._lock.release()

    def _set_done(self) -> None:
        self._done = True


def _start_joinable_thread(
    kernel: Kernel, function: _Function, handle: Any = None, daemon: bool = True
) -> Any:
    thread: Any = getattr(function, "__self__", None)
    if not isinstance(handle, _SimThreadHandle):
        handle = _SimThreadHandle()
        if isinstance(thread, threading.Thread):
            thread._handle = handle  # type: ignore[attr-defined]
    handle._lock._locked = True

    def end() -> None:
        handle._done = True
        _let_go(kernel, handle._lock)

    if isinstance(thread, threading.Thread):
        task = _spawn(kernel, thread, function, ())
    else:
        task = kernel.spawn(function, ())
    task.on_end.append(end)
    handle.ident = task.shown_ident
    handle._lock._holder = task
    return handle
