"""What a stop uses to tell others, at once and from anywhere, also from a signal handler."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from typing import Any

__all__ = ("InterruptibleListener", "Latch", "Wakeup")


class Latch:
    """Closed until it is opened, and open ever after.

    As `threading.Event`, but a signal handler may open it even while it interrupts the very thread that is just about to:
    there is no inner lock that both would want.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let all through who wait, and who come."""
        with contextlib.suppress(RuntimeError):  # open already
            self._lock.release()

    def wait(self, seconds: float | None) -> bool:
        """Whether it is open, or is opened in time."""
        opened = self._lock.acquire(timeout=-1 if seconds is None else seconds)
        if opened:
            self.open()
        return opened


class Wakeup:
    """Readable from `fire` on, in this process and in children that it forks. Safe in signal handlers."""

    def __init__(self) -> None:
        self._fds: tuple[int, ...]
        if hasattr(os, "eventfd"):
            self._fds = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),)
        else:
            self._fds = os.pipe()

    def fileno(self) -> int:
        """The descriptor to watch, -1 once it is closed."""
        return self._fds[0] if self._fds else -1

    def fire(self) -> None:
        """Make it readable. It stays so: nobody reads."""
        with contextlib.suppress(OSError, IndexError):  # closed meanwhile
            os.write(self._fds[-1], (1).to_bytes(8, "little"))

    def close(self) -> None:
        """Give the descriptors back."""
        fds, self._fds = self._fds, ()
        for fd in fds:
            os.close(fd)


class InterruptibleListener:
    """What an unmodified `socketserver` loop takes for its listening socket, and what can end its wait at once.

    The standard loop asks whether it should stop only every half second: it waits in `select` for the server's `fileno()`,
    looks at its flag, and accepts if the flag is not set. The descriptor given here as that `fileno()` is an epoll set: it is readable when a
    client waits, and when the wake-up has fired; in the latter case the flag is set by then, and the loop leaves without accepting.
    """

    def __init__(self, listener: Any, wakeup: Wakeup) -> None:
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._epoll.register(wakeup.fileno(), select.EPOLLIN)

    @staticmethod
    def possible(listener: object) -> bool:
        """Whether this system has epoll, and the server a socket to watch."""
        return hasattr(select, "epoll") and isinstance(listener, socket.socket)

    def fileno(self) -> int:
        """The descriptor to watch, -1 once it is closed."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()
