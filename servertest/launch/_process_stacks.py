"""What the processes of a server are doing: their stacks, asked of each in turn.

Every server process, and every process that it forks, has a signal on which it writes the stacks of all its threads
to one pipe: also in an endless loop, a sleep, or a deadlock. One that does not come to run Python is asked by another
signal for the stack of its main thread. Processes are asked one after the other, for they share the pipe.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import time
from typing import TYPE_CHECKING

from ._child_stacks import STACKS_SIGNAL, STUCK_SIGNAL, answer_in
from ._dump import Place, format_places
from ._process_group import group_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("StackReader",)

#: Seconds that a process may take to write its stacks, each time that it is asked: until it gets a processor, and its main thread runs Python. It is
#: asked more than once, for a signal that meets the main thread on its way into a wait is not seen before the wait is interrupted once more.
ANSWERS = (0.1, 0.3, 0.6)
#: Seconds that the main thread may take to show its own stack, whatever it does.
LAST_ANSWER = 0.5
#: Seconds after which no further process is asked.
PATIENCE = 3.0
#: What stands at the outer end of each stack and tells nobody anything.
_OURS = re.compile(
    r'  File "(.*[/\\]servertest[/\\]launch[/\\](_child|_zygote_main)\.py|<string>)", line .*\n?'
)


class StackReader:
    """The test's end of the pipe of one server.

    Attributes:
        far_end: What the server process gets to write stacks to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe, self.far_end = os.pipe()
        for fd in (self._pipe, self.far_end):
            os.set_blocking(fd, False)

    def close_far_end(self) -> None:
        """The server process has its copy now."""
        os.close(self.far_end)

    def close(self) -> None:
        """Give the near end back."""
        os.close(self._pipe)

    def read(self, leader: int, send_signal: Callable[[int], None]) -> str:
        """The stacks of a server process and of those that it has forked.

        Args:
            leader: Its pid, which is the number of its group.
            send_signal: Sends a signal to the leader, which is not a child of this process.
        """
        with self._lock:
            texts = [f"process {leader}:\n{self._ask(leader, send_signal)}"]
            end = time.monotonic() + PATIENCE
            for pid in group_members(leader):
                if pid != leader:
                    in_time = time.monotonic() < end
                    stacks = self._ask_member(leader, pid) if in_time else "  (not asked: there are too many)"
                    texts.append(f"process {pid}, forked by it:\n{stacks}")
            return "\n".join(texts)

    def _ask_member(self, leader: int, pid: int) -> str:
        if not all(_catches(pid, number) for number in (STACKS_SIGNAL, STUCK_SIGNAL)):
            return "  (another program)"  # the one that it does not catch would end it

        def send(number: int) -> None:
            if os.getpgid(pid) == leader:
                os.kill(pid, number)

        return self._ask(pid, send)

    def _ask(self, pid: int, send: Callable[[int], None]) -> str:
        _take(self._pipe)
        heard, is_over = bytearray(), False
        try:
            with _end_of(pid) as end:
                for number, limit in _ways():
                    send(number)
                    if is_over := self._listen(heard, pid, end, limit):
                        break
        except ProcessLookupError:
            return _ENDED
        data = answer_in(bytes(heard), pid) or bytes(heard)
        text = _folded(_OURS.sub("", data.decode("utf-8", "backslashreplace")).rstrip())
        if not text:
            patience = sum(limit for _, limit in _ways())
            return f"  (no answer within {patience:g} s: it is stopped, or has changed its signals)"
        if not is_over:
            text += f"\n  (the main thread, which has not come to run Python for {sum(ANSWERS):g} s)"
        return text

    def _listen(self, heard: bytearray, pid: int, end_of_process: int | None, limit: float) -> bool:
        """Hear what is written within so many seconds; whether nothing more is to come."""
        poll = select.poll()
        for fd in (self._pipe, end_of_process):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        end = time.monotonic() + limit
        while (rest := end - time.monotonic()) > 0:
            events = dict(poll.poll(rest * 1000))
            heard += _take(self._pipe)
            if answer_in(bytes(heard), pid) is not None:
                return True
            if end_of_process in events:
                heard[:] = heard or _ENDED.encode()
                return True
            if any(event & ~select.POLLIN for event in events.values()):
                return False
        return False


def _ways() -> list[tuple[int, float]]:
    """The signals that ask, one after the other, and for how many seconds each may go without an answer."""
    return [*((STACKS_SIGNAL, limit) for limit in ANSWERS), (STUCK_SIGNAL, LAST_ANSWER)]


_ENDED = "  (it has just ended)"

#: As faulthandler writes them.
_CALL = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)')
_THREAD = re.compile(
    r"(?P<current>Current thread|Thread) 0x0*(?P<ident>[0-9a-f]+)(?: \[(?P<name>.*)\])? \(most recent call first\):"
)


def _folded(text: str) -> str:
    """Stacks as those of this process's own threads are shown: the outermost call first, and libraries folded."""
    threads = [line for line in text.splitlines() if _THREAD.fullmatch(line)]
    if len(threads) == 1:
        text = text.replace(threads[0], "").strip("\n")
    lines: list[str] = []
    places: list[Place] = []
    for line in text.splitlines():
        if (call := _CALL.fullmatch(line)) is not None:
            places.insert(0, _place(call))
            continue
        lines += format_places(places) if places else []
        places = []
        lines.append(_title(line))
    return "\n".join([*lines, *(format_places(places) if places else [])])


def _place(call: re.Match[str]) -> Place:
    number = call["line"]
    return Place(call["file"], int(number) if number.isdecimal() else 0, call["function"])


def _title(line: str) -> str:
    """What stands above a stack: threads of another process are known by their number, some by a name."""
    thread = _THREAD.fullmatch(line)
    if thread is None:
        return line
    name = thread["name"] or f"0x{thread['ident']}"
    return f"  thread {name}:"


@contextlib.contextmanager
def _end_of(pid: int) -> Iterator[int | None]:
    """A descriptor that becomes readable when a process ends; None where the system has no such thing."""
    try:
        fd = os.pidfd_open(pid)
    except AttributeError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _take(fd: int) -> bytes:
    """Everything that is in a pipe."""
    data = b""
    try:
        while piece := os.read(fd, 65_536):
            data += piece
    except BlockingIOError:
        pass
    return data


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal; proc_pid_status(5), SigCgt."""
    try:
        with open(f"/proc/{pid}/status") as file:
            masks = [line.split()[1] for line in file if line.startswith("SigCgt:")]
    except OSError:
        return False
    return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)
