"""What the processes of a server are doing: their stacks, asked of each in turn.

Every server process, and every process that it forks, has a signal on which it writes the stacks of all its threads
to one pipe, from a handler in C: also in an endless loop, a sleep, or a deadlock. When it has finished it puts a
byte into another pipe, the bell; so the end of what it says is known without guessing. Processes are asked one
after the other, for they share the pipes.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import time
from typing import TYPE_CHECKING

from ._child import STACKS_SIGNAL
from ._dump import Place, format_places
from ._process_group import group_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("StackReader",)

#: Seconds that a process may take to begin writing its stacks. It does so when it next gets a processor.
ANSWER = 1.0
#: Seconds of silence after which the stacks count as complete, if a program has taken the wake-up descriptor for itself.
SILENCE = 0.25
#: Seconds after which no further process is asked.
PATIENCE = 3.0
#: What stands at the outer end of each stack and tells nobody anything.
_OURS = re.compile(
    r'  File "(.*[/\\]servertest[/\\]launch[/\\](_child|_zygote_main)\.py|<string>)", line .*\n?'
)


class StackReader:
    """The test's end of the two pipes of one server.

    Attributes:
        stacks: What the server process gets to write stacks to.
        bell: What it gets to ring with.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stacks, self.stacks = os.pipe()
        try:
            self._bell, self.bell = os.pipe()
        except OSError:  # no descriptors left
            os.close(self._stacks)
            os.close(self.stacks)
            raise
        for fd in (self._stacks, self._bell, self.bell):
            os.set_blocking(fd, False)

    def close_far_ends(self) -> None:
        """The server process has its copies now."""
        os.close(self.stacks)
        os.close(self.bell)

    def close(self) -> None:
        """Give the near ends back."""
        os.close(self._stacks)
        os.close(self._bell)

    def read(self, leader: int, send_signal: Callable[[int], None]) -> str:
        """The stacks of a server process and of those that it has forked.

        Args:
            leader: Its pid, which is the number of its group.
            send_signal: Sends a signal to the leader, which is not a child of this process.
        """
        with self._lock:
            texts = [f"process {leader}:\n{self._ask(leader, lambda: send_signal(STACKS_SIGNAL))}"]
            end = time.monotonic() + PATIENCE
            for pid in group_members(leader):
                if pid != leader:
                    in_time = time.monotonic() < end
                    stacks = self._ask_member(leader, pid) if in_time else "  (not asked: there are too many)"
                    texts.append(f"process {pid}, forked by it:\n{stacks}")
            return "\n".join(texts)

    def _ask_member(self, leader: int, pid: int) -> str:
        if not _catches(pid, STACKS_SIGNAL):
            return "  (another program)"  # the signal would end it

        def send() -> None:
            if os.getpgid(pid) == leader:
                os.kill(pid, STACKS_SIGNAL)

        return self._ask(pid, send)

    def _ask(self, pid: int, send: Callable[[], None]) -> str:
        _take(self._bell)
        _take(self._stacks)
        try:
            with _end_of(pid) as end:
                send()
                data = self._listen(end)
        except ProcessLookupError:
            return _ENDED
        text = _folded(_OURS.sub("", data.decode("utf-8", "backslashreplace")).rstrip())
        return text or f"  (no answer within {ANSWER:g} s: it is stopped, or has changed its signals)"

    def _listen(self, end_of_process: int | None) -> bytes:
        poll = select.poll()
        for fd in (self._stacks, self._bell, end_of_process):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        data, end = b"", time.monotonic() + ANSWER
        while (rest := end - time.monotonic()) > 0:
            events = dict(poll.poll((SILENCE if data else rest) * 1000))
            data += _take(self._stacks)
            if STACKS_SIGNAL in _take(self._bell):
                return data + _take(self._stacks)
            if end_of_process in events:
                return data or _ENDED.encode()
            if any(event & ~select.POLLIN for event in events.values()) or (data and not events):
                break
        return data


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
