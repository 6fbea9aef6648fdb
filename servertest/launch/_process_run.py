"""One server process as the test's process sees it: what it is told, what is heard of it, and its end."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

from .._support import Deadline, RemoteError
from ._errors import HandlerError
from ._process_channel import channel_pair
from ._process_exit import DRAINING, DYING, ProcessDied, describe_status
from ._process_output import Output
from ._process_pickle import load_exception
from ._process_reader import Descriptor, Watch
from ._process_stacks import StackReader
from ._zygote_main import BORN, ENDED, FAILED, LEFT, ORDER, REPORT, TO_ALL, TO_ONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._support import Address
    from ._host import Observer
    from ._zygote import Zygote

__all__ = ("Refusal", "ServerProcess", "learned_modules")

#: Messages that are taken from one process before the others have their turn.
_TURN = 256
#: Turns that are taken at once when somebody asks for all that has come: a server may send faster than is taken.
_TURNS = 100
#: Bytes read at once from an output.
_PIECE = 65_536

_launches = itertools.count(1)
_learned: dict[str, None] = {}


class Refusal:
    """Why a server process did not begin to serve.

    Attributes:
        stage: "load" if the plan could not be unpickled there, "build" if the target raised.
        error: The exception.
        described: The exception as texts.
    """

    def __init__(self, stage: str, error: BaseException, described: str) -> None:
        self.stage = stage
        self.error = error
        self.described = described


class ServerProcess:
    """A server process, from the order to fork it until it is gone.

    Attributes:
        pid: Its process id, and the number of its process group; None before it was forked.
        address: Where it serves, once it does.
        refusal: Why it does not serve, if it has said so.
        closing: Whether it has come back from serving, and is closing its server.
        forced: What it had to force when it closed its server; None if it has not got that far.
        left: Pids of processes that it left behind.
        status: How it ended, as waitpid(2) tells it; None while it runs.
        serving: Whether it has said that it serves.
        expected: Whether its end is no news: it was stopped, or it has not served yet.
        killed: Whether it was killed on purpose, as a crash.
        output: What it and its forked children have printed.
    """

    def __init__(self, observer: Observer, carried: Sequence[type]) -> None:
        self.pid: int | None = None
        self.address: Address | None = None
        self.refusal: Refusal | None = None
        self.closing = False
        self.forced: list[str] | None = None
        self.left: list[int] = []
        self.status: int | None = None
        self.fork_error = 0
        self.serving = False
        self.expected = True
        self.killed = False
        self.output = Output()
        self._reported = False
        self._group_killed = False
        self._observer = observer
        self._carried = carried
        self._source = next(_launches)
        self._changed = threading.Condition()
        self._channel_has_more = False
        self._watch: Watch | None = None
        self._open = {"lifeline", "channel", "output"}
        self._make_lines()

    def _make_lines(self) -> None:
        with contextlib.ExitStack() as undo:
            self._lifeline, self._far_lifeline = socket.socketpair()
            undo.callback(self._lifeline.close)
            undo.callback(self._far_lifeline.close)
            self._lifeline.setblocking(False)
            self._channel, self._far_channel = channel_pair()
            undo.callback(self._channel.close)
            undo.callback(self._far_channel.close)
            near, self._far_output = os.pipe()
            undo.callback(os.close, near)
            undo.callback(os.close, self._far_output)
            os.set_blocking(near, False)
            self._output = Descriptor(near)
            self._stacks = StackReader()
            undo.pop_all()

    # -- beginning

    def fork(self, zygote: Zygote, listener: socket.socket | None) -> None:
        """Have it forked, and listen to it from now on.

        Raises:
            NoZygote: There is nobody who could.
        """
        fds = [
            self._far_lifeline.fileno(),
            self._far_channel.fileno(),
            self._far_output,
            self._stacks.far_end,
        ]
        try:
            zygote.fork(fds if listener is None else [*fds, listener.fileno()], learned_modules())
        finally:
            self._far_lifeline.close()
            self._far_channel.close()
            os.close(self._far_output)
            self._stacks.close_far_end()
        self._watch = Watch(
            {
                self._lifeline: self._on_lifeline,
                self._channel: self._on_channel,
                self._output: self._on_output,
            }
        )

    def tell(self, message: tuple[Any, ...], deadline: Deadline) -> None:
        """Send it a message, if it is still there to read it."""
        with contextlib.suppress(OSError):
            self._channel.send(message, deadline)

    # -- what is heard of it; in the reader's thread, or after that thread has let go

    def _on_lifeline(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while (report := _receive(self._lifeline, REPORT.size)) is not None:
                word, number = REPORT.unpack(report)
                self._on_report(word, number)
            self._end_of("lifeline")
            return False
        return True

    def _on_report(self, word: bytes, number: int) -> None:
        with self._changed:
            if word == BORN:
                self.pid = number
            elif word == FAILED:
                self.fork_error = number
            elif word == LEFT and not self._group_killed:
                self.left.append(number)
            self._changed.notify_all()
        if word == ENDED:
            self._on_end(number)

    def _on_end(self, status: int) -> None:
        while self._on_channel() and self._channel_has_more:
            pass
        self._on_output()
        if not self.expected and not self.clean(status):
            self._report_death(status)
        with self._changed:
            self.status = status
            self._changed.notify_all()

    def _report_death(self, status: int) -> None:
        self._reported = True
        error = ProcessDied(self.describe_end(status))
        self._observer.failed(HandlerError.capture(error, where="server process"))

    def _on_channel(self) -> bool:
        messages = self._channel.waiting()
        count = 0
        for message in itertools.islice(messages, _TURN):
            if message is None:
                self._end_of("channel")
                return False
            self._on_message(*message)
            count += 1
        self._channel_has_more = count == _TURN
        return True

    def _on_message(self, word: str, *rest: Any) -> None:
        if word == "event":
            if (transcript := self._observer.transcript) is not None:
                transcript.add(rest[0], source=self._source)
        elif word == "failed":
            self._observer.failed(self._error(*rest))
        elif word == "hit":
            self._observer.decided(rest[0])
        elif word == "imported":
            _learned.update(dict.fromkeys(rest[0]))
        else:
            with self._changed:
                self._on_stage(word, *rest)
                self._changed.notify_all()

    def _on_stage(self, word: str, *rest: Any) -> None:
        if word == "ready":
            (self.address,) = rest
            self.serving, self.expected = True, False
        elif word == "closing":
            self.closing = True
        elif word == "closed":
            (self.forced,) = rest
        elif word == "refused":
            stage, data, type_name, message, text = rest
            self.refusal = Refusal(stage, self._exception(data, type_name, message, text), text)

    def _error(
        self, data: bytes | None, type_name: str, message: str, text: str, connection: int, where: str
    ) -> HandlerError:
        exception = self._exception(data, type_name, message, text)
        return HandlerError(type_name, message, exception, text, self._number_here(connection), where)

    def _exception(self, data: bytes | None, type_name: str, message: str, text: str) -> BaseException:
        if data is not None:
            try:
                return load_exception(data, self._carried)
            except Exception:  # noqa: BLE001, S110 - its class is somebody else's, or not importable here
                pass
        return RemoteError(type_name, message, text)

    def _number_here(self, connection: int) -> int:
        """A connection's number in the transcript, given its number in the server process."""
        transcript = self._observer.transcript
        known = getattr(transcript, "_translated", {})
        return int(known.get((self._source, connection), 0))

    def _on_output(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output.fileno(), _PIECE):
                self.output.feed(data)
                self._notify()
                if len(data) == _PIECE:
                    return True  # let the others have their turn
            self._end_of("output")
            return False
        return True

    def _end_of(self, line: str) -> None:
        with self._changed:
            self._open.discard(line)
            self._changed.notify_all()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def catch_up(self) -> None:
        """Take what it has sent and printed until now."""
        for _ in range(_TURNS):
            if self._watch is not None:
                self._watch.look()
            if not self._channel_has_more:
                break

    # -- waiting

    def wait(self, met: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait until something about the process is so, or the deadline passes; whether it is so."""
        with self._changed:
            return self._changed.wait_for(met, deadline.remaining())

    @property
    def ready(self) -> bool:
        """Whether it serves and is known: it may say that it serves before the zygote has said that it is born."""
        return self.serving and self.pid is not None

    @property
    def ended(self) -> bool:
        """Whether it is gone (or, if nobody is left who could tell, lost)."""
        return self.status is not None or "lifeline" not in self._open

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until it is gone; whether it is."""
        return self.wait(lambda: self.ended, Deadline(max(seconds, 0.0), "the server process to end"))

    # -- ending

    def ask_to_stop(self, seconds: float, deadline: Deadline) -> None:
        """Ask it to close its server within so many seconds, and to end."""
        self.tell(("stop", seconds), deadline)
        self.order(TO_ONE, signal.SIGTERM)

    def order(self, whom: bytes, number: int) -> None:
        """Have a signal sent to it (TO_ONE), or to it and all that it has forked (TO_ALL)."""
        with contextlib.suppress(OSError):
            self._lifeline.send(ORDER.pack(whom, number))

    def kill(self) -> bool:
        """Kill it and all that it has forked; whether it is gone."""
        self.expected = self._group_killed = True
        self.order(TO_ALL, signal.SIGKILL)
        return self._watch is None or self.wait_for_end(DYING)  # or it was never forked

    def close(self) -> list[str]:
        """Take the rest of what was sent, and give everything back; says if somebody still holds the lines."""
        if self._watch is not None:
            quiet = self.wait(self._is_quiet, Deadline(DRAINING, "the server's lines to end"))
            self._watch.end()
            self._drain()
        else:
            quiet = True  # it was never forked
        self._lifeline.close()  # if it lives, it is killed now
        self._channel.close()
        os.close(self._output.fileno())
        self._stacks.close()
        if quiet:
            return []
        return [
            "a process that the server has started left its process group and goes on: it still holds the server's output"
        ]

    def _is_quiet(self) -> bool:
        """Whether no process is left that could send or print something."""
        return "output" not in self._open and ("channel" not in self._open or not self._channel.tells_end)

    def _drain(self) -> None:
        for line, take in (("channel", self._on_channel), ("output", self._on_output)):
            if line in self._open:
                take()

    # -- describing

    def clean(self, status: int) -> bool:
        """Whether a process that ended with this status has closed its server and ended in order, or as it should."""
        return self.killed or (status == 0 and (self.forced is not None or self.refusal is not None))

    @property
    def reported(self) -> bool:
        """Whether its end has been reported to the observer."""
        return self._reported

    def describe_end(self, status: int | None) -> str:
        """How it ended and what it had printed."""
        if status is None:
            how = "is lost: the process that had forked it has ended"
        else:
            how = describe_status(status)
            if not self.serving:
                how += " before it served"
            elif not self.expected:
                how += " without having been stopped"
        return f"the server process (pid {self.pid}) {how}{self.describe_output()}"

    def describe_output(self) -> str:
        """What it had printed, as the end of a message."""
        text = self.output.text().strip()
        return f"; its output:\n{text}" if text else "; it had printed nothing"

    def stacks(self) -> str:
        """The stacks of its threads, and of those of the processes that it has forked."""
        if self.pid is None or self.ended:
            return ""
        return self._stacks.read(self.pid, lambda number: self.order(TO_ONE, number))


def _receive(sock: socket.socket, size: int) -> bytes | None:
    """So many bytes, which were sent at once; None at the end."""
    try:
        data = sock.recv(size)
    except ConnectionResetError:
        return None
    return data if len(data) == size else None


def learned_modules() -> list[str]:
    """Modules that server processes had to import so far, for the zygote to import once."""
    return list(_learned)
