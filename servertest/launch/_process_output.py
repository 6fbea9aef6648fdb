"""What a process has printed: all of it counted, its beginning and its end kept."""

from __future__ import annotations

import threading
from collections import deque

__all__ = ("Output",)


class Output:
    """A bounded record of bytes, for one writer and any number of readers.

    A process in an endless loop prints without end, and a test that runs out of memory tells nobody why. The
    beginning says how the process was started, the end says how it ended; what lies between is counted and dropped.
    """

    def __init__(self, *, head: int = 16_384, tail: int = 65_536) -> None:
        self._lock = threading.Lock()
        self._head = bytearray()
        self._head_limit = head
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._tail_limit = tail
        self._total = 0

    @property
    def total(self) -> int:
        """How many bytes have been printed, dropped ones included."""
        return self._total

    def feed(self, data: bytes) -> None:
        """Take what has been printed."""
        with self._lock:
            self._total += len(data)
            room = self._head_limit - len(self._head)
            self._head += data[:room]
            if rest := data[max(room, 0) :]:
                self._feed_tail(rest)

    def _feed_tail(self, data: bytes) -> None:
        self._tail.append(data[-self._tail_limit :])
        self._tail_size += len(self._tail[-1])
        while self._tail_size - len(self._tail[0]) >= self._tail_limit:
            self._tail_size -= len(self._tail.popleft())

    def getvalue(self) -> bytes:
        """What is kept; where something is missing, a line says how much."""
        with self._lock:
            tail = b"".join(self._tail)[-self._tail_limit :]
            missing = self._total - len(self._head) - len(tail)
            gap = b"\n... %d bytes left out ...\n" % missing if missing else b""
            return bytes(self._head) + gap + tail

    def text(self, *, max_lines: int = 40) -> str:
        """The last lines as text, for reports; bytes that are no UTF-8 are escaped."""
        lines = self.getvalue().decode("utf-8", "backslashreplace").splitlines()
        if len(lines) > max_lines:
            lines = [f"... {len(lines) - max_lines} lines left out ...", *lines[-max_lines:]]
        return "\n".join(lines)
