"""The process from which server processes are forked. It runs apart from the test's process, and does little on purpose.

It has one thread, no locks held by anybody, none of the test's sockets, and the server side of this package imported.
A fork of it is therefore quick and safe at any time, whatever threads the test's process runs, and Python has
nothing to warn about. It never imports a test's modules: each server process does that for itself.

Who watches whom:

* The test's process asks for a process over the *control* socket, and sends along the descriptors that it shall
  have. One of them, the *lifeline*, stays here: over it the test's process hears the process's pid and how it
  ended, and orders signals. If it closes its end, the process and all that it has forked are killed.
* This process is the parent of every server process and the only one that reaps it; where the system allows
  (Linux), it also adopts and reaps what a dead server process leaves behind. Signals are sent here because only the
  parent knows that a pid has not been given to somebody else.
* When the test's process ends, however it ends, all server processes are killed and this one exits.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import selectors
import signal
import socket
import struct
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from .. import servers  # noqa: F401 - for the children, as is all that the next line imports
from ._child import serve
from ._process_group import lasting_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = (
    "BORN",
    "ENDED",
    "FAILED",
    "LEFT",
    "ORDER",
    "REPORT",
    "REQUEST_HEAD",
    "TO_ALL",
    "TO_ONE",
    "main",
)

#: What comes over the control socket: the length of the request that follows, as JSON; the descriptors ride on it.
REQUEST_HEAD = struct.Struct("<I")
#: What this process says over a lifeline: one of the words below and a number.
REPORT = struct.Struct("<ci")
BORN = b"B"  # the process's pid
FAILED = b"F"  # the errno of fork(2)
LEFT = b"L"  # the pid of a process that was still there when the one that had forked it ended, and has been killed
ENDED = b"E"  # the status as waitpid(2) tells it; nothing follows
#: What it is told over a lifeline: whom the signal is for, and the signal.
ORDER = struct.Struct("<ci")
TO_ONE, TO_ALL = b"1", b"*"

#: Descriptors of a request, in this order: lifeline, channel, output, stacks, and perhaps the listener.
MOST_DESCRIPTORS = 5
#: Seconds that a process which the server has left behind may take to end.
PARTING = 0.1
#: Seconds that processes may take to die once they are killed: a busy machine lets them wait for their turn.
DYING = 5.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class _Zygote:
    """The loop. In a server process, `run` returns what that process is to do."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.selector = selectors.DefaultSelector()
        self.lifelines: dict[int, socket.socket] = {}  # by pid of the server process
        self.statuses: dict[int, int] = {}  # of those that were reaped before they were buried
        self.bell, self.button = socket.socketpair()
        self.parent = _watch_process(os.getppid())
        self.prctl = _find_prctl()
        self.task: Callable[[], None] | None = None
        self.ending = False

    def run(self) -> Callable[[], None] | None:
        """Serve requests until the test's process is gone."""
        self._prepare()
        while not self._is_over():
            for key, _ in self.selector.select():
                if not self._is_over():
                    key.data()
        if self.task is None:
            self._kill_all()
        return self.task

    def _is_over(self) -> bool:
        return self.ending or self.task is not None

    def _prepare(self) -> None:
        for end in (self.bell, self.button):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self.button.fileno(), warn_on_full_buffer=False)
        self.selector.register(self.control, selectors.EVENT_READ, self._on_request)
        self.selector.register(self.bell, selectors.EVENT_READ, self._on_child)
        if self.parent is not None:
            self.selector.register(self.parent, selectors.EVENT_READ, self._end)
        if self.prctl is not None:
            self.prctl(_SUBREAPER, 1)
        gc.collect()
        gc.freeze()  # what is here now stays: collections in the children need not touch, and copy, its pages

    def _end(self) -> None:
        self.ending = True

    # -- requests

    def _on_request(self) -> None:
        head, descriptors, _, _ = socket.recv_fds(self.control, REQUEST_HEAD.size, MOST_DESCRIPTORS)
        if not head:
            self._end()
            return
        rest = REQUEST_HEAD.size - len(head)
        (length,) = REQUEST_HEAD.unpack(head + _read_exactly(self.control, rest))
        request = json.loads(_read_exactly(self.control, length))
        _import_quietly(request["preload"])
        self._fork(descriptors)

    def _fork(self, descriptors: list[int]) -> None:
        lifeline = socket.socket(fileno=descriptors[0])
        try:
            pid = os.fork()
        except OSError as error:
            _tell(lifeline, FAILED, error.errno or errno.EAGAIN)
            lifeline.close()
            _close_all(descriptors[1:])
            return
        if pid == 0:
            lifeline.close()
            self._become_child(descriptors[1:])
            return
        _close_all(descriptors[1:])
        self.lifelines[pid] = lifeline
        self.selector.register(lifeline, selectors.EVENT_READ, lambda: self._on_order(pid, lifeline))
        _tell(lifeline, BORN, pid)

    def _become_child(self, descriptors: list[int]) -> None:
        os.setsid()
        if self.prctl is not None:
            self.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        self.selector.close()
        for sock in (self.control, self.bell, self.button, *self.lifelines.values()):
            sock.close()
        if self.parent is not None:
            os.close(self.parent)
        self.task = lambda: serve(*descriptors)

    # -- orders and ends

    def _on_order(self, pid: int, lifeline: socket.socket) -> None:
        order = _read_exactly(lifeline, ORDER.size)
        if len(order) < ORDER.size:
            _signal_group(pid, signal.SIGKILL)
            self.selector.unregister(lifeline)
            return
        whom, number = ORDER.unpack(order)
        if whom == TO_ALL:
            _signal_group(pid, number)
        else:
            os.kill(pid, number)

    def _on_child(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.bell.recv(4096)
        for pid in self._ended_children():
            lifeline = self.lifelines.pop(pid, None)
            if lifeline is None:
                os.waitpid(pid, 0)  # adopted
            else:
                self._bury(pid, lifeline)

    def _ended_children(self) -> Iterator[int]:
        """Pids of children that have ended and are not reaped."""
        if not hasattr(os, "waitid"):
            yield from self._reap_without_waitid()
            return
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                yield found.si_pid

    def _reap_without_waitid(self) -> list[int]:
        """The same on macOS before Python 3.13, where one cannot look without reaping."""
        for pid in self.lifelines:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.statuses[pid] = status
        return list(self.statuses)

    def _bury(self, pid: int, lifeline: socket.socket) -> None:
        """Reap a server process, and end what it leaves behind."""
        with contextlib.suppress(KeyError):
            self.selector.unregister(lifeline)
        if self.prctl is None:
            # Before it is reaped: until then nobody else can get its number.
            _signal_group(pid, signal.SIGKILL)
        status = self.statuses.pop(pid, None)
        if status is None:
            _, status = os.waitpid(pid, 0)
        if self.prctl is not None:
            self._end_orphans(pid, lifeline)
        _tell(lifeline, ENDED, status)
        lifeline.close()

    def _end_orphans(self, group: int, lifeline: socket.socket) -> None:
        """Kill what is left of the group. Orphans are this process's children now, and hold the group's number."""
        try:
            while os.waitpid(-group, os.WNOHANG)[0]:
                pass  # zombies
        except ChildProcessError:
            return
        for pid in lasting_members(group, PARTING):
            _tell(lifeline, LEFT, pid)
        _signal_group(group, signal.SIGKILL)
        # Whoever is told of the end may rely on it that nobody listens any more.
        lasting_members(group, DYING)

    def _kill_all(self) -> None:
        for pid in self.lifelines:
            _signal_group(pid, signal.SIGKILL)
        for pid in self.lifelines:
            os.waitpid(pid, 0)


def main(control: socket.socket) -> NoReturn:
    """Be the zygote, or one of its children, until the end."""
    status = 1
    try:
        task = _Zygote(control).run()
        if task is not None:
            task()
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may unwind into the interpreter's own end: a child must not run it
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def _read_exactly(sock: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer if the other side has gone."""
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def _tell(lifeline: socket.socket, word: bytes, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody wants to know any more
        lifeline.sendall(REPORT.pack(word, number))


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # It was forked a moment ago, and has no group of its own yet.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:
        pass  # macOS says so of a group in which only zombies are left


def _close_all(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _import_quietly(names: Iterable[str]) -> None:
    """Import what an earlier child had to import, so that the next ones need not. Failing is that child's affair."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(Exception):
                __import__(name)


def _watch_process(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends (Linux 5.3); None where there is no such thing.

    The control socket alone would not do: a process that the test forks holds a copy of its other end.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _find_prctl() -> Callable[[int, int], int] | None:
    """prctl(2), which only Linux has."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None


def _nothing(number: int, frame: object) -> None:
    """A handler must be there for the wake-up descriptor to be written to."""
