"""Signals that come just before a wait that has no limit.

Python runs a signal handler between two steps of its own, not when the signal comes. If that is after the last such step and before the wait has begun, the
handler has to wait for the wait's end; and a handler that was to end the loop never gets to do so. What the interpreter does at once, in C, is to write to
the wake-up descriptor, if there is one (`signal.set_wakeup_fd`).
"""

from __future__ import annotations

import os
import signal
import threading

__all__ = ("SignalEar", "listen_for_signals")

#: The wake-up descriptor that is ours, and the process in which it is: a forked child has it, too, and may replace it.
_ours = (-1, 0)


class SignalEar:
    """A descriptor that is readable once a signal has come for which there is a Python handler. Made by listen_for_signals()."""

    __slots__ = ("_reader", "_writer")

    def __init__(self, reader: int, writer: int) -> None:
        self._reader = reader
        self._writer = writer

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._reader

    def clear(self, events: int = 0) -> None:
        """Forget the signals so far; by the time that Python code sees the descriptor ready, their handlers have been run."""
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Give the descriptors back."""
        global _ours
        if _ours == (self._writer, os.getpid()):
            _ours = (-1, 0)
            current = signal.set_wakeup_fd(-1)
            if current != self._writer:
                signal.set_wakeup_fd(current)  # somebody has put one of their own in the place of ours
        os.close(self._reader)
        os.close(self._writer)


def listen_for_signals() -> SignalEar | None:
    """An ear for the signals of this process; None if there is none to be had.

    Handlers run in the main thread, so other threads need none. A program's own wake-up descriptor is left where it is.
    """
    global _ours
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return None
    try:
        reader, writer = os.pipe()
    except OSError:
        return None  # no descriptors left
    for fd in (reader, writer):
        os.set_blocking(fd, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if previous not in (-1, _inherited()):
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)
        return None
    _ours = (writer, os.getpid())
    return SignalEar(reader, writer)


def _inherited() -> int:
    """The wake-up descriptor that was ours in a process from which this one was forked, and is of no use here."""
    fd, pid = _ours
    return -1 if pid == os.getpid() else fd
