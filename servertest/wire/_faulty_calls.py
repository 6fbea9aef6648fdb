"""Faults of the calls that a program makes on its socket.

A call is asked about before it is made: it may have to wait, fail, or move less than it wants. What the program sees is
what CPython makes of that:

* ``EINTR``: since PEP 475 every call of a socket is made again by itself, unless the signal's handler raises. So it goes
  on, after whatever delay the fault has asked for.
* ``EAGAIN``: a socket that blocks, or has a timeout, goes on waiting by itself. One that does not block raises BlockingIOError,
  as after a readiness that was none.
* Whatever else: an OSError with that number, of the class that belongs to it. The connection itself is not touched.

What goes past the socket object cannot be failed: ``os.read``, a descriptor in an event loop that works on descriptors.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from ..faults import PASS
from ._observing import writable

if TYPE_CHECKING:
    from ..faults import Calls, Verdict
    from ._observing import Buffer

__all__ = ("UNTOUCHED", "CallFaults", "CallName", "FaultyCalls", "system_error")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

# At run time it may not be a socket itself: the layout of a mixed class must be that of the socket class alone.
if TYPE_CHECKING:
    _Mixin = socket.socket
else:
    _Mixin = object

CallName: TypeAlias = Literal["recv", "send", "shutdown", "accept", "connect", "thread", "fork", "listen"]

_ASIDE = int(socket.MSG_PEEK | getattr(socket, "MSG_ERRQUEUE", 0))
_PIECE = 1 << 16


class CallFaults:
    """All faults at work on the calls of one socket, or of one listener. They come and go in groups, by their keys.

    Args:
        number: The number of the connection.

    Attributes:
        active: Whether there are any.
        number: The number of the connection, from 1; 0 for a listener.
        opened: When it began, on the clock of `time.monotonic`.
    """

    __slots__ = ("__weakref__", "_changed", "_groups", "_stopping", "active", "number", "opened")

    def __init__(self, number: int = 1) -> None:
        self._groups: dict[str, Calls] = {}
        self._changed = _Latch()
        self._stopping = False
        self.active = False
        self.number = number
        self.opened = monotonic()

    def put(self, key: str, calls: Calls | None) -> None:
        """Let these faults be at work from now on in the place of those of this key; None for none."""
        groups = {other: group for other, group in self._groups.items() if other != key}
        if calls:
            groups[key] = calls
        self._groups = groups
        self.active = bool(groups)
        changed, self._changed = self._changed, _Latch()
        changed.open()

    def stop(self) -> None:
        """End all delays, from now on: somebody wants to stop."""
        self._stopping = True
        self._changed.open()

    def verdicts(self, call: CallName, size: int = 0) -> list[Verdict]:
        """What is to become of a call, as each group has it."""
        now = monotonic()
        return [
            verdict
            for calls in self._groups.values()
            if (verdict := calls.before(call, size, now)) is not PASS
        ]

    def before(self, call: CallName, size: int = 0, *, timeout: float | None = None) -> int:
        """Ask about a call that is about to be made: waits if it has to.

        Args:
            call: What it does.
            size: Bytes that it wants to move.
            timeout: That of the socket, in seconds: 0 if it does not block.

        Returns:
            How many bytes it may move.

        Raises:
            OSError: The call fails.
        """
        for verdict in self.verdicts(call, size):
            if verdict.delay:
                self.wait(verdict.delay)
            if verdict.error is not None and _is_seen(verdict.error, timeout):
                raise system_error(verdict.error)
            if verdict.limit is not None and size > verdict.limit:
                size = max(verdict.limit, 1)
        return size

    def moved(self, call: Literal["recv", "send"], data: Buffer) -> None:
        """A call has been made, and has moved this."""
        if self.active:
            whole = bytes(data)
            for calls in self._groups.values():
                calls.moved(call, whole)

    @property
    def memory(self) -> dict[str, Any]:
        """What each group remembers of the calls so far, as plain data."""
        return {key: calls.memory for key, calls in self._groups.items()}

    def recall(self, memory: dict[str, Any]) -> None:
        """Go on from there, as far as groups are known here."""
        for key, calls in self._groups.items():
            if key in memory:
                calls.memory = memory[key]

    def wait(self, seconds: float) -> None:
        """Let the caller wait, until the faults change or somebody wants to stop."""
        changed = self._changed
        if not self._stopping:
            changed.wait(None if seconds == inf else seconds)


class _Latch:
    """As `threading.Event`, but a signal handler may open it in the middle of a wait of its own thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        with contextlib.suppress(RuntimeError):  # open already
            self._lock.release()

    def wait(self, seconds: float | None) -> None:
        if self._lock.acquire(timeout=-1 if seconds is None else seconds):
            self.open()


def system_error(name: str) -> OSError:
    """The error that the system would give, of the class that belongs to it."""
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


def _is_seen(error: str, timeout: float | None) -> bool:
    """Whether the program sees it, or the interpreter deals with it; see the head of this file."""
    if error == "EINTR":
        return False
    return error not in ("EAGAIN", "EWOULDBLOCK") or timeout == 0


UNTOUCHED = CallFaults()
"""What a socket has whose calls nothing happens to."""


class FaultyCalls(_Mixin):
    """The calls of a socket, each of which may go wrong. It is mixed in before a socket class."""

    if not TYPE_CHECKING:
        __slots__ = ()

    servertest_calls: CallFaults = UNTOUCHED

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive, if that is let happen."""
        if not self.servertest_calls.active or flags & _ASIDE:
            return super().recv(bufsize, flags)
        data = super().recv(self._may_receive(bufsize), flags)
        self.servertest_calls.moved("recv", data)
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive, if that is let happen."""
        if not self.servertest_calls.active or flags & _ASIDE:
            return super().recv_into(buffer, nbytes, flags)
        with memoryview(buffer) as given, given.cast("B") as view:
            size = super().recv_into(view, self._may_receive(nbytes or len(view)), flags)
            self.servertest_calls.moved("recv", view[:size])
        return size

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receive, if that is let happen."""
        if not self.servertest_calls.active or flags & _ASIDE:
            return super().recvfrom(bufsize, flags)
        data, address = super().recvfrom(self._may_receive(bufsize), flags)
        self.servertest_calls.moved("recv", data)
        return data, address

    def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receive, if that is let happen."""
        if not self.servertest_calls.active or flags & _ASIDE:
            return super().recvfrom_into(buffer, nbytes, flags)
        with memoryview(buffer) as given, given.cast("B") as view:
            size, address = super().recvfrom_into(view, self._may_receive(nbytes or len(view)), flags)
            self.servertest_calls.moved("recv", view[:size])
        return size, address

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Send, if that is let happen."""
        if not self.servertest_calls.active:
            return super().send(data, flags)
        with memoryview(data) as given, given.cast("B") as view:
            sent = super().send(view[: self._may_send(len(view))], flags)
            self.servertest_calls.moved("send", view[:sent])
        return sent

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Send everything, in as many calls as it takes: what is short in one comes with the next."""
        if not self.servertest_calls.active:
            super().sendall(data, flags)
            return
        started, sent = monotonic(), 0
        with memoryview(data) as given, given.cast("B") as view:
            while True:
                sent += self.send(view[sent : sent + _PIECE], flags)
                if sent >= len(view):
                    return
                self._await_room_until(started)

    def sendto(self, data: Buffer, *flags_and_address: Any) -> int:
        """Send, if that is let happen."""
        if not self.servertest_calls.active:
            return super().sendto(data, *flags_and_address)
        with memoryview(data) as given, given.cast("B") as view:
            sent = super().sendto(view[: self._may_send(len(view))], *flags_and_address)
            self.servertest_calls.moved("send", view[:sent])
        return sent

    if hasattr(socket.socket, "sendmsg"):

        def sendmsg(self, buffers: Iterable[Buffer], *rest: Any) -> int:
            """Send, if that is let happen."""
            if not self.servertest_calls.active:
                return super().sendmsg(buffers, *rest)
            whole = b"".join(buffers)
            sent = super().sendmsg([whole[: self._may_send(len(whole))]], *rest)
            self.servertest_calls.moved("send", whole[:sent])
            return sent

        def recvmsg(
            self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
        ) -> tuple[bytes, Any, int, Any]:
            """Receive, if that is let happen."""
            if not self.servertest_calls.active or flags & _ASIDE:
                return super().recvmsg(bufsize, ancbufsize, flags)
            data, ancillary, more, address = super().recvmsg(self._may_receive(bufsize), ancbufsize, flags)
            self.servertest_calls.moved("recv", data)
            return data, ancillary, more, address

    if hasattr(os, "sendfile"):

        def _sendfile_use_sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
            # sendfile(2) would go past send(); the standard module's other way goes through it.
            name = "_sendfile_use_send" if self.servertest_calls.active else "_sendfile_use_sendfile"
            sent: int = getattr(super(), name)(file, offset, count)
            return sent

    def shutdown(self, how: int, /) -> None:
        """Shut down, if that is let happen."""
        if self.servertest_calls.active:
            self.servertest_calls.before("shutdown", timeout=self.gettimeout())
        super().shutdown(how)

    def connect(self, address: Any, /) -> None:
        """Connect, if that is let happen."""
        self.servertest_calls.before("connect", timeout=self.gettimeout())
        super().connect(address)

    def connect_ex(self, address: Any, /) -> int:
        """Connect, if that is let happen; gives the number of the error."""
        try:
            self.servertest_calls.before("connect", timeout=self.gettimeout())
        except OSError as error:
            return error.errno or 0
        return super().connect_ex(address)

    def _may_receive(self, size: int) -> int:
        return self.servertest_calls.before("recv", size, timeout=self.gettimeout())

    def _may_send(self, size: int) -> int:
        return self.servertest_calls.before("send", size, timeout=self.gettimeout())

    def _await_room_until(self, started: float) -> None:
        """As in the standard module, a timeout limits the whole of sendall(), not each piece."""
        timeout = self.gettimeout()
        if not timeout:
            return
        rest = started + timeout - monotonic()
        if rest <= 0 or not writable(self, rest):
            raise TimeoutError("timed out")
