"""Finds out, in real time, that a thread of a simulation does not come back, and lets the test know."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from _thread import allocate_lock, get_ident, start_new_thread
from typing import TYPE_CHECKING, Any

from ._errors import Stalled

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("Watchdog",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class Watchdog:
    """Looks every now and then whether the simulation goes on.

    A thread that computes, or waits for something outside, keeps the baton, and so everybody waits. One that was started there is left behind; the
    test's own thread is interrupted: where it is the main thread of the program by a signal, for it may be in a call that nothing else ends.

    Args:
        kernel: The kernel.
        patience: Real seconds without any step after which something is wrong; 0 to look away.
    """

    def __init__(self, kernel: Kernel, patience: float) -> None:
        self._kernel = kernel
        self._patience = patience
        self._over = allocate_lock()
        self._stall: Stalled | None = None
        self._before: Any = None
        self._handler: Any = None

    def start(self) -> None:
        """Begin to look, in a real thread."""
        if not self._patience:
            return
        self._over.acquire()
        if get_ident() == threading.main_thread().ident and callable(signal.getsignal(signal.SIGINT)):
            self._handler = self._on_signal
            self._before = signal.signal(signal.SIGINT, self._handler)
        start_new_thread(self._watch, ())

    def stop(self) -> None:
        """Look no more."""
        if not self._patience:
            return
        self._over.release()
        if self._handler is not None and signal.getsignal(signal.SIGINT) is self._handler:
            signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, number: int, frame: Any) -> Any:
        stall, self._stall = self._stall, None
        if stall is not None:
            raise stall
        return self._before(number, frame)

    def _watch(self) -> None:
        seen: Any = None
        while not self._over.acquire(timeout=self._patience / 2):
            now = self._position()
            if now == seen:
                self._report()
                return
            seen = now
        self._over.release()

    def _position(self) -> Any:
        """What changes as long as anything goes on."""
        kernel = self._kernel
        frame = sys._current_frames().get(kernel.running)
        if frame is None or "/servertest/sim/" in frame.f_code.co_filename:
            return object()
        return kernel.steps, kernel.now, len(kernel.log), kernel.activity

    def _report(self) -> None:
        kernel = self._kernel
        holder = kernel.current
        error = Stalled(
            kernel.table(
                f"{holder.title} has not come back for {self._patience:g} s of real time: it computes, or waits for something outside "
                "of the simulation, such as a lock that was made before it"
            )
        )
        if holder is not kernel.main:
            kernel.leave_behind(holder, error)
            return
        kernel.failure = error
        if self._handler is not None and signal.getsignal(signal.SIGINT) is self._handler:
            self._stall = error
            signal.pthread_kill(holder.ident, signal.SIGINT)
        else:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(holder.ident), ctypes.py_object(Stalled)
            )
