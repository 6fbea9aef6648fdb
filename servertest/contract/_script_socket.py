"""A connection whose other end follows a plan: a real descriptor, and a socket that asks the plan before it would wait."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ._clock import Clock
from ._plan import Plan
from ._script import Tape

__all__ = ("ScriptSocket", "connection")


class ScriptSocket(socket.socket):
    """The handler's end: a socket in every respect, which asks its tape before it would wait."""

    tape: Tape | None = None

    def _await(self) -> None:
        tape = self.tape
        if tape is None or self.fileno() < 0:
            return
        timeout = self.gettimeout()
        if timeout == 0:
            if not tape.await_input(self, 0.0):
                raise BlockingIOError(11, "Resource temporarily unavailable")
        elif not tape.await_input(self, timeout):
            raise TimeoutError("timed out")

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As a socket's."""
        self._await()
        data = super().recv(bufsize, flags)
        if self.tape is not None:
            self.tape.count(len(data), bufsize)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As a socket's."""
        self._await()
        count = super().recv_into(buffer, nbytes, flags)
        if self.tape is not None:
            self.tape.count(count, nbytes or memoryview(buffer).nbytes)
        return count

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """As a socket's."""
        self._await()
        data, address = super().recvfrom(bufsize, flags)
        if self.tape is not None:
            self.tape.count(len(data), bufsize)
        return data, address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As a socket's."""
        self._await()
        count, address = super().recvfrom_into(buffer, nbytes, flags)
        if self.tape is not None:
            self.tape.count(count, nbytes or memoryview(buffer).nbytes)
        return count, address

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        """As a socket's."""
        self._await()
        found = super().recvmsg(bufsize, ancbufsize, flags)
        if self.tape is not None:
            self.tape.count(len(found[0]), bufsize)
        return found

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As a socket's; it may take less than it is given."""
        view = memoryview(data).cast("B")
        if self.tape is None:
            return super().send(view, flags)
        limit = self.tape.plan.send_limit
        return self._send(view[:limit] if limit else view, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As a socket's."""
        view = memoryview(data).cast("B")
        if self.tape is None:
            super().sendall(view, flags)
        else:
            self._send(view, flags)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """As a socket's; it may take less than it is given."""
        if self.tape is None or ancdata:
            return super().sendmsg(buffers, ancdata, flags, address)
        return self.send(b"".join(bytes(part) for part in buffers), flags)

    def _send(self, view: memoryview, flags: int) -> int:
        """Send it all: the client reads as fast as it is sent."""
        tape = self.tape
        assert tape is not None
        done = 0
        while done < len(view):
            room = tape.room(len(view) - done)
            if not room:
                tape.cut_off()
                room = len(view) - done
            count = super().send(view[done : done + room], flags)
            done += count
            tape.written += count
            tape.wrote()
        if not len(view):
            super().send(view, flags)
        return done

    def dup(self) -> ScriptSocket:
        """As a socket's; the copy follows the same plan."""
        copy = super().dup()
        copy.tape = self.tape
        return copy


@contextmanager
def connection(
    plan: Plan, clock: Clock, threads: int, listener: socket.socket | None
) -> Iterator[tuple[Tape, ScriptSocket, Any]]:
    """A connection whose client follows the plan.

    Args:
        plan: What the client does.
        clock: Virtual time.
        threads: How many threads there were before the handler.
        listener: A listening TCP socket; None for a Unix connection.

    Yields:
        The client's end, the handler's end, and the client's address.
    """
    if listener is None:
        near, far = socket.socketpair()
        address: Any = ""
    else:
        near = socket.socket(listener.family)
        near.connect(listener.getsockname())
        far, address = listener.accept()
        for end in (near, far):  # what is sent is there at once
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with near:
        handler = ScriptSocket(far.family, far.type, far.proto, fileno=far.detach())
        with handler:
            handler.setblocking(True)
            tape = Tape(plan, near, clock, threads)
            handler.tape = tape
            try:
                yield tape, handler, address
            finally:
                tape.finish()
