"""What a child process says, line by line, through a pipe that is never waited for without a limit."""

from __future__ import annotations

import os
import select
from math import ceil

__all__ = ("Lines",)

_AT_ONCE = 1 << 20


class Lines:
    """Reads lines from a pipe.

    Args:
        fd: The end of it that is read; it belongs to the caller.

    Attributes:
        ended: Whether the other end is closed, and everything has been read.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._buffer = bytearray()
        self.ended = False

    def take(self) -> list[bytes]:
        """The lines that are there, without waiting."""
        while not self.ended:
            try:
                data = os.read(self._fd, _AT_ONCE)
            except BlockingIOError:
                break
            self.ended = not data
            self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        return [bytes(line) for line in lines]

    def wait(self, seconds: float) -> None:
        """Wait until there is something to read, at most so long."""
        # Not select(2): a process with a thousand connections has descriptors that it does not know.
        if not hasattr(select, "poll"):
            select.select([self._fd], [], [], seconds)
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll(ceil(seconds * 1000))
