"""How a process ended, and waiting for that."""

from __future__ import annotations

import os
import select
import signal
import subprocess

from .._support import ServertestError

__all__ = ("DRAINING", "DYING", "ProcessDied", "describe_status", "wait_for_exit")

#: Seconds that a killed process may take to be gone.
DYING = 5.0
#: Seconds to wait, once a server's process has ended, until nobody holds its output any more.
DRAINING = 1.0


class ProcessDied(ServertestError, ChildProcessError):  # noqa: N818 - named by what happened, as all our errors
    """A server process ended though nobody had stopped it; the message says how, and what it had printed."""


def describe_status(status: int) -> str:
    """A status as waitpid(2) tells it, in words: "exited with status 3", "killed by SIGSEGV"."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        core = ", core dumped" if os.WCOREDUMP(status) else ""
        return f"was killed by {_signal_name(number)}{core}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def wait_for_exit(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a child of ours to end and reap it; whether it has ended in time.

    Where the system can tell when it happens (Linux 5.3), nothing is polled, unlike in `Popen.wait`.
    """
    if process.poll() is not None:
        return True
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return _wait_by_asking(process, seconds)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        ended = bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)
    if ended:
        process.wait()
    return ended


def _wait_by_asking(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
