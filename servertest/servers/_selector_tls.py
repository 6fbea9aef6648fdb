"""TLS in a selector server's loop: the handshake, and reading and writing through an ssl.SSLSocket that never blocks.

OpenSSL reads when it is to write and the other way round (handshakes, new keys), and it may hold bytes that no selector knows of. So each operation
is tried first, and says by its exception what to wait for.
"""

from __future__ import annotations

import ssl
from time import monotonic

from ._selector_channel import FULL_RECEIVES, Channel
from ._selector_task import GIVE_WAY, READ, WRITE, Task, waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from ._selector_task import Wait

__all__ = ("TLSChannel", "handshake_task")


class TLSChannel(Channel):
    """A connection that speaks TLS."""

    __slots__ = ()

    def __init__(self, sock: Any, task: Task) -> None:
        super().__init__(sock, task)
        self.send_now = self._send_now
        self.unread = FULL_RECEIVES

    @waits
    def receive(self, size: int) -> Generator[Wait, None, bytes]:
        """Wait for bytes: at most `size`; none means that the client has ended its side."""
        if not self.unread:
            yield GIVE_WAY
            self.unread = FULL_RECEIVES
        while True:
            try:
                data: bytes = self.receive_now(size)
            except ssl.SSLWantReadError:
                self.read_on = READ
            except ssl.SSLWantWriteError:
                self.read_on = WRITE
            else:
                self.unread -= 1
                return data
            yield self

    def _send_now(self, data: bytes | memoryview) -> int:
        """Send until the kernel takes no more; a single send makes a single record of 16 KiB at most (RFC 8446 section 5.1)."""
        sent, size = 0, len(data)
        with memoryview(data) as view:
            try:
                while sent < size:
                    sent += self.sock.send(view[sent:])
            except ssl.SSLWantWriteError:
                self.write_on = WRITE
            except ssl.SSLWantReadError:
                self.write_on = READ
        return sent

    @waits
    def shake_hands(self) -> Generator[Wait, None, None]:
        """Do the handshake; raises an OSError, of which ssl.SSLError is one, when it fails."""
        while True:
            try:
                self.sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.read_on = READ
            except ssl.SSLWantWriteError:
                self.read_on = WRITE
            yield self


class _Countdown:
    """Gives all waits together so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    @property
    def timeout(self) -> float | None:
        return max(self._end - monotonic(), 0.0)


def handshake_task(sock: ssl.SSLSocket, client_address: Any, seconds: float) -> Task:
    """A task that does the handshake on `sock`, within so many seconds.

    It raises TimeoutError, or another OSError (as ssl.SSLError is one), when that fails.
    """
    timeout = sock.gettimeout()
    sock.setblocking(False)

    @waits
    def life() -> Generator[Wait, None, None]:
        try:
            yield from channel.shake_hands()
        except TimeoutError:
            raise TimeoutError(
                f"the TLS handshake was not done after handshake_timeout={seconds} s"
            ) from None
        finally:
            channel.close()
        sock.settimeout(timeout)

    task = Task(life(), _Countdown(seconds), client_address)
    task.channel = channel = TLSChannel(sock, task)
    return task
