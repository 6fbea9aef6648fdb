"""Sockets that write down what passes through them.

They are real sockets on the same descriptor, so that a program cannot tell: ``isinstance``, ``makefile()``,
``fileno()``, ``select``, ``sendfile()``, ``dup()`` and TLS work as before. Every call does what it did, with the same
arguments, results and errors; afterwards its outcome is recorded.

What goes past the object cannot be seen: ``os.read(sock.fileno(), ...)``, ``socket.fromfd``, a descriptor handed to
another process, an event loop that works on descriptors (``uvloop``), ``loop.sendfile``.
"""

from __future__ import annotations

import math
import os
import select
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from ._ending import Ending, look
from ._observation import Observation

__all__ = ("UNOBSERVED", "Buffer", "Observing", "ObservingThrough", "writable")

Buffer: TypeAlias = Any
"""Whatever offers its bytes: typing has a name for it only from 3.12 on."""

# At run time it may not be a socket itself: the layout of a mixed class must be that of the socket class alone.
if TYPE_CHECKING:
    _Mixin = socket.socket
else:
    _Mixin = object

UNOBSERVED = Observation(None, 0, "server")
"""What a socket has that nobody observes, such as one made by calling the class of an observed one."""

# Bytes that are merely looked at, or that are no part of the stream, are not recorded.
_URGENT = int(socket.MSG_OOB)
_ASIDE = int(socket.MSG_PEEK | _URGENT | getattr(socket, "MSG_ERRQUEUE", 0))

# A long sendall() is recorded in pieces as it goes, so that a stuck one shows how far it got.
_PIECE = 1 << 16


class Observing(_Mixin):
    """The calls of a socket, each with a word to its observation.

    It is mixed in before a socket class. As it adds no room of its own, an existing socket of any class whose
    instances have a ``__dict__`` can become one in place.
    """

    if not TYPE_CHECKING:
        __slots__ = ()

    servertest_observation: Observation = UNOBSERVED

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive, and record what came."""
        try:
            data = super().recv(bufsize, flags)
        except OSError as error:
            self._failed(error, "a read")
            raise
        if (data or bufsize) and not flags & _ASIDE:
            self.servertest_observation.took(data)
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive, and record what came."""
        try:
            count = super().recv_into(buffer, nbytes, flags)
        except OSError as error:
            self._failed(error, "a read")
            raise
        if not flags & _ASIDE:
            self._took_into(buffer, count)
        return count

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receive, and record what came."""
        data, address = self._try("a read", super().recvfrom, bufsize, flags)
        if (data or bufsize) and not flags & _ASIDE:
            self.servertest_observation.took(data)
        return data, address

    def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receive, and record what came."""
        count, address = self._try("a read", super().recvfrom_into, buffer, nbytes, flags)
        if not flags & _ASIDE:
            self._took_into(buffer, count)
        return count, address

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Send, and record what the system took."""
        try:
            count = super().send(data, flags)
        except OSError as error:
            self._failed(error, "a write")
            raise
        if count and not flags & _URGENT:
            whole = type(data) is bytes and len(data) == count
            self.servertest_observation.gave(data if whole else _beginning(data, count))
        return count

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Send everything, and record it piece by piece as the system takes it.

        As in the standard module, a timeout limits the whole, not each piece.
        """
        started = monotonic()
        sent = 0
        if type(data) is bytes and len(data) <= _PIECE:
            sent = Observing.send(self, data, flags)
            if sent == len(data):
                return
        with memoryview(data) as given, given.cast("B") as view:
            while sent < len(view):
                if sent:
                    self._await_room(started)
                sent += Observing.send(self, view[sent : sent + _PIECE], flags)

    def sendto(self, data: Buffer, *flags_and_address: Any) -> int:
        """Send, and record what the system took."""
        count: int = self._try("a write", super().sendto, data, *flags_and_address)
        self.servertest_observation.gave(_beginning(data, count))
        return count

    if hasattr(socket.socket, "recvmsg"):

        def recvmsg(
            self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
        ) -> tuple[bytes, Any, int, Any]:
            """Receive, and record what came."""
            data, ancillary, msg_flags, address = self._try(
                "a read", super().recvmsg, bufsize, ancbufsize, flags
            )
            if (data or bufsize) and not flags & _ASIDE:
                self.servertest_observation.took(data)
            return data, ancillary, msg_flags, address

        def recvmsg_into(
            self, buffers: Iterable[Buffer], ancbufsize: int = 0, flags: int = 0, /
        ) -> tuple[int, Any, int, Any]:
            """Receive, and record what came."""
            buffers = list(buffers)
            count, ancillary, msg_flags, address = self._try(
                "a read", super().recvmsg_into, buffers, ancbufsize, flags
            )
            if not flags & _ASIDE:
                self._took_into_all(buffers, count)
            return count, ancillary, msg_flags, address

        def sendmsg(self, buffers: Iterable[Buffer], *rest: Any) -> int:
            """Send, and record what the system took."""
            buffers = list(buffers)
            count: int = self._try("a write", super().sendmsg, buffers, *rest)
            self.servertest_observation.gave(b"".join(buffers)[:count])
            return count

    if hasattr(os, "sendfile"):

        def _sendfile_use_sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
            # The part of sendfile() that goes past send(). The bytes are read once more from the file, which is what
            # keeps them from passing through the program.
            spy = _FileSpy(file)
            sent: int = 0
            try:
                sent = self._try("a write", super()._sendfile_use_sendfile, spy, offset, count)  # type: ignore[misc]
            finally:
                end = offset + sent if spy.reached is None else spy.reached
                self._gave_file(file, offset, end)
            return sent

    def shutdown(self, how: int, /) -> None:
        """Shut down, and record whose FIN this is."""
        writing = how in (socket.SHUT_WR, socket.SHUT_RDWR)
        if writing and self.fileno() >= 0:
            self.servertest_observation.shutting(look(self, closing=False))
        super().shutdown(how)
        self.servertest_observation.shut(reading=how in (socket.SHUT_RD, socket.SHUT_RDWR), writing=writing)

    def close(self) -> None:
        """Close, and record how that ends the connection."""
        if self.fileno() < 0:
            super().close()
            if self.servertest_observation.detached:
                self.servertest_observation.closed(Ending())
            return
        ending = look(self)
        try:
            super().close()
        finally:
            # While files made of it are open, the socket stays open too.
            if self.fileno() < 0:
                self.servertest_observation.closed(ending)

    def __del__(self) -> None:
        if sys.is_finalizing() or self.fileno() < 0:
            super().__del__()  # type: ignore[misc]
            return
        ending = look(self)
        super().__del__()  # type: ignore[misc]
        self.servertest_observation.closed(ending)

    def detach(self) -> int:
        """Let go of the descriptor, and record that."""
        if self.fileno() >= 0:
            self.servertest_observation.handed_on()
        return super().detach()

    def dup(self) -> Any:
        """Duplicate; the connection has ended when both are closed."""
        double = super().dup()
        double.servertest_observation = self.servertest_observation
        self.servertest_observation.descriptors += 1
        return double

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _try(self, doing: str, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(*args)
        except OSError as error:
            self._failed(error, doing)
            raise

    def _failed(self, error: OSError, doing: str) -> None:
        timeout = self.gettimeout() if isinstance(error, TimeoutError) else None
        self.servertest_observation.failed(error, doing=doing, timeout=timeout)

    def _took_into(self, buffer: Buffer, count: int) -> None:
        """The program received ``count`` bytes into a buffer; none into one without room is no end of file."""
        view = memoryview(buffer).cast("B")
        if count or len(view):
            self.servertest_observation.took(bytes(view[:count]))

    def _took_into_all(self, buffers: Iterable[Buffer], count: int) -> None:
        """The program received ``count`` bytes into buffers, one after the other."""
        if count:
            self.servertest_observation.took(b"".join(_beginnings(buffers, count)))
        elif any(memoryview(buffer).nbytes for buffer in buffers):
            self.servertest_observation.took(b"")

    def _gave_file(self, file: IO[bytes], start: int, end: int) -> None:
        while start < end:
            data = os.pread(file.fileno(), min(_PIECE, end - start), start)
            if not data:
                self.servertest_observation.note(
                    f"{end - start} bytes of a file were sent that it no longer has"
                )
                return
            self.servertest_observation.gave(data)
            start += len(data)

    def _await_room(self, started: float) -> None:
        timeout = self.gettimeout()
        if timeout and not writable(self, started + timeout - monotonic()):
            error = TimeoutError("timed out")
            self._failed(error, "a write")
            raise error


class ObservingThrough(Observing):
    """For classes with a ``sendall()`` of their own, which may or may not go through ``send()``."""

    __slots__ = ()

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """Send everything; record it here unless ``send()`` has already."""
        before = self.servertest_observation.passed
        self._try("a write", super(Observing, self).sendall, data, flags)
        if self.servertest_observation.passed == before:
            self.servertest_observation.gave(memoryview(data).cast("B"))


def _beginning(data: Buffer, count: int) -> Any:
    """The first ``count`` bytes of a buffer."""
    return memoryview(data).cast("B")[:count]


def _beginnings(buffers: Iterable[Buffer], count: int) -> Iterator[memoryview]:
    for buffer in buffers:
        view = memoryview(buffer).cast("B")[:count]
        count -= len(view)
        yield view


def writable(sock: socket.socket, seconds: float) -> bool:
    """Wait until the system takes more bytes; false when the time was up first."""
    if seconds <= 0:
        return False
    if not hasattr(select, "poll"):
        return bool(select.select([], [sock], [], seconds)[1])
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    return bool(poller.poll(math.ceil(seconds * 1000)))


class _FileSpy:
    """A file that remembers where it was told to go: a broken-off sendfile() leaves it behind the last byte sent."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.reached: int | None = None
        if hasattr(file, "seek"):
            self.seek = self._seek

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _seek(self, position: int) -> int:
        self.reached = position
        return self._file.seek(position)
