"""How a server process, and each process that it forks, shows what its threads are doing when it is asked to.

A signal's handler in Python writes the stacks of all threads. It runs in the main thread between two steps of Python's,
so that every frame which it looks at stays whole: faulthandler, which looks at once, has been seen to follow one that
another thread was just giving back, and that was the end of a healthy process (SIGSEGV on 3.12.1).

A main thread that does not come to run Python, in a call of C's that does not return, is asked by another signal for its
own stack alone, and that one faulthandler writes: the thread itself stands still.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from types import FrameType

__all__ = ("STACKS_SIGNAL", "STUCK_SIGNAL", "answer_in", "answer_on", "frame")

_REAL_TIME = hasattr(signal, "SIGRTMIN")

#: Makes a server process write the stacks of its threads. Programs use hardly any real-time signals; macOS has none.
STACKS_SIGNAL: int = signal.SIGRTMIN + 7 if _REAL_TIME else signal.SIGUSR1

#: Makes it write that of its main thread, whatever that one does.
STUCK_SIGNAL: int = signal.SIGRTMIN + 8 if _REAL_TIME else signal.SIGUSR2

#: Seconds to wait for whoever reads. He may have gone away in the midst of it.
_PATIENCE = 1.0


def answer_on(stacks: int) -> None:
    """From now on, answer the two signals: in a pipe that does not block, in faulthandler's format, the first in a `frame`."""

    def answer(number: int, innermost: FrameType | None) -> None:
        _write(stacks, frame(os.getpid(), _stacks(innermost).encode("utf-8", "backslashreplace")))

    signal.signal(STACKS_SIGNAL, answer)
    faulthandler.register(STUCK_SIGNAL, file=stacks, all_threads=False)


def frame(pid: int, answer: bytes) -> bytes:
    """An answer that is known to be whole, and whose it is: others may come too late to be heard, and be in the same pipe."""
    head, end = _ends(pid)
    return head + answer + end


def answer_in(data: bytes, pid: int) -> bytes | None:
    """The last whole answer of a process in what came through the pipe, if there is one."""
    head, end = _ends(pid)
    before, found, _ = data.rpartition(end)
    _, begun, answer = before.rpartition(head)
    return answer if found and begun else None


def _ends(pid: int) -> tuple[bytes, bytes]:
    return b"#%d\n" % pid, b"\n#%d.\n" % pid


def _stacks(innermost_here: FrameType | None) -> str:
    # Not threading.enumerate(): it takes a lock that the code which we interrupt may hold.
    names = {ident: thread.name for ident, thread in list(vars(threading)["_active"].items())}
    here = threading.get_ident()
    frames: dict[int, FrameType | None] = {here: innermost_here}  # this thread first, and without the handler
    frames = {**frames, **sys._current_frames(), **frames}  # noqa: SLF001 (documented; the only way to see another thread's stack)
    lines: list[str] = []
    for ident, innermost in frames.items():
        who = "Current thread" if ident == here else "Thread"
        name = " ".join(names.get(ident, "").split())
        lines.append(f"{who} 0x{ident:016x}{f' [{name}]' if name else ''} (most recent call first):")
        place = innermost
        while place is not None:
            code = place.f_code
            lines.append(
                f'  File "{code.co_filename}", line {place.f_lineno or code.co_firstlineno} in {code.co_name}'
            )
            place = place.f_back
        lines.append("")
    return "\n".join(lines)


def _write(fd: int, data: bytes) -> None:
    end = time.monotonic() + _PATIENCE
    try:
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(fd, select.POLLOUT)
                if not poll.poll(max(end - time.monotonic(), 0) * 1000):
                    return
    except OSError:
        pass  # nobody reads any more, or the program has closed all descriptors
