"""Who may use a client's socket, and when it is really closed."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from .._support import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ("SharedSocket",)


class SharedSocket:
    """A socket that one call may read from while another one writes to it, in threads or in tasks.

    If it is closed under a call that waits, the call is woken and the last one out closes the descriptor. Closing it at
    once would not wake a thread in poll(2), and its number could be another socket's by the time the thread looks.

    Args:
        sock: It is made non-blocking.
        peer: Who is at the other end, for messages.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.peer = peer
        self.closed = False
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._finish: Callable[[], None] = sock.close

    @contextlib.contextmanager
    def alone(self, *purposes: str) -> Iterator[None]:
        """Use the socket for these purposes, each of which only one call may have at a time.

        Raises:
            UsageError: The client is closed, or another call has one of these purposes.
        """
        with self._lock:
            self.require_open()
            if taken := self._busy.intersection(purposes):
                raise UsageError(
                    f"another call already {taken.pop()} on the connection to {self.peer}: one at a time"
                )
            self._busy.update(purposes)
        try:
            yield
        finally:
            with self._lock:
                self._busy.difference_update(purposes)
                is_last = self.closed and not self._busy
            if is_last:
                self._finish()

    def require_open(self) -> None:
        """Raise UsageError if the client was closed, also if that was in the middle of this call."""
        if self.closed:
            raise UsageError(f"the client of {self.peer} is closed")

    def end(self, finish: Callable[[], None]) -> None:
        """Close: let ``finish`` do it as soon as no call uses the socket. Twice is once."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._finish = finish
            waiting = set(self._busy)
        if not waiting:
            finish()
            return
        # Reading is ended without a word to the peer. A writer waits only because the peer takes nothing, so that the FIN
        # which this adds cannot get out before a RST does.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR if "writes" in waiting else socket.SHUT_RD)
