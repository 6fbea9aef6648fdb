"""What a socket that is observed has seen so far, and what of it goes into the record.

No system call is made here: the sockets of this package say what happened to them.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

from ._ending import Ending

if TYPE_CHECKING:
    from ..transcript import CloseKind, Direction, Recorder, Side

__all__ = ("Observation",)


class _Forks(threading.local):
    """How many children this thread has forked."""

    count = 0


_forks = _Forks()


def _count_fork() -> None:
    _forks.count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork)


class Observation:
    """One connection as one of its two sides sees it; shared by all duplicates of its descriptor.

    Each end is told once, in the order in which it came about: see `Ending` for what is learnt at the last moment.

    Attributes:
        passed: Bytes given to the system so far.
        descriptors: How many duplicates of the descriptor are open.
        detached: The descriptor was taken out of its socket.
        alerted: The TLS library has said goodbye, or has answered the peer's, with an alert, and the program has said nothing
            since. If the peer had closed, its system answers with RST, which does not mean that anything was lost.
    """

    __slots__ = (
        "_finished",
        "_forks",
        "_over",
        "_peer_finished",
        "_shut_for_reading",
        "_thread",
        "_timeout",
        "alerted",
        "descriptors",
        "detached",
        "incoming",
        "number",
        "outgoing",
        "passed",
        "peer",
        "recorder",
        "side",
    )

    def __init__(self, recorder: Recorder | None, number: int, side: Side) -> None:
        self.recorder = recorder
        self.number = number
        self.side = side
        self.peer: Side = "client" if side == "server" else "server"
        self.incoming: Direction = "upstream" if side == "server" else "downstream"
        self.outgoing: Direction = "downstream" if side == "server" else "upstream"
        self.passed = 0
        self.descriptors = 1
        self.detached = False
        self.alerted = False
        self._finished = self._peer_finished = self._shut_for_reading = self._over = False
        self._timeout: tuple[str, float | None] | None = None
        self._thread = threading.get_ident()
        self._forks = _forks.count

    def took(self, data: bytes) -> None:
        """The program received bytes; none means the end of what the peer sends."""
        self._timeout = None
        if not data:
            self._peer_has_finished()
        elif self.recorder is not None:
            self.recorder.data(self.number, self.incoming, data)

    def gave(self, data: bytes | bytearray | memoryview) -> None:
        """The system accepted bytes."""
        self._timeout = None
        self.alerted = False
        self.passed += len(data)
        if self.recorder is not None:
            self.recorder.data(self.number, self.outgoing, data)

    def failed(self, error: OSError, *, doing: str, timeout: float | None) -> None:
        """A call ended with an error."""
        code = error.errno
        if code == errno.ECONNRESET or (code == errno.EPIPE and not self._finished):
            self._end(self.peer, "rst")
        elif code == errno.ETIMEDOUT:
            self._end(None, "timeout")
        elif isinstance(error, TimeoutError):
            self._timeout = (doing, timeout)

    def shutting(self, ending: Ending) -> None:
        """The program is about to finish sending; had the peer done so before?"""
        if ending.reset and not self.alerted:
            self._end(self.peer, "rst")
        # Unread bytes would come after the peer's end if that were told now.
        if ending.finished and not ending.unread:
            self._peer_has_finished()

    def shut(self, *, reading: bool, writing: bool) -> None:
        """The program has shut down one direction or both."""
        self._shut_for_reading = self._shut_for_reading or reading
        if writing and not self._finished and not self._over:
            self._finished = True
            if self.recorder is not None:
                self.recorder.half_close(self.number, self.side)

    def closed(self, ending: Ending) -> None:
        """The descriptor was closed, and this is what was known just before."""
        self.descriptors -= 1
        if self.descriptors > 0 or self._over or self._lives_on_in_child():
            return
        if ending.reset and not self.alerted:
            self._end(self.peer, "rst")
            return
        if ending.finished:
            self._peer_has_finished()
        if self._timeout is not None:
            self.note("the {} closed after {} had timed out ({} s)".format(self.side, *self._timeout))
        orderly = self._finished and self._peer_finished
        self._end(self.side, "rst" if ending.unread or (ending.abort and not orderly) else "fin")

    def handed_on(self) -> None:
        """The descriptor was taken out of its socket, and what passes from here on is not seen."""
        self.detached = True
        self.note("the descriptor was detached: what passes from here on is not recorded")

    def note(self, text: str) -> None:
        """Write a remark."""
        if self.recorder is not None:
            self.recorder.note(self.number, text)

    def _peer_has_finished(self) -> None:
        if self._peer_finished or self._shut_for_reading or self._over:
            return
        self._peer_finished = True
        if self.recorder is not None:
            self.recorder.half_close(self.number, self.peer)

    def _end(self, by: Side | None, how: CloseKind) -> None:
        if not self._over:
            self._over = True
            if self.recorder is not None:
                self.recorder.close(self.number, by, how)

    def _lives_on_in_child(self) -> bool:
        """Whether this is a forking server's own copy: accepted, forked and closed by one thread, without a word.

        A thread that serves others meanwhile does not mind the fork: its copies end when it closes them.
        """
        return not self._finished and self._thread == threading.get_ident() and self._forks != _forks.count
