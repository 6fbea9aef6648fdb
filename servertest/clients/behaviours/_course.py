"""One connection of a behaving client on a real socket, which never blocks. Who drives it says when it is ready, and what time it is."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..._support import hard_reset
from ...wire._line import ABORTED, FINISHED
from .._core import would_block
from ._outcome import Outcome
from ._session import Session
from ._vanishing import fall_silent

if TYPE_CHECKING:
    import ssl

    from ..._support import Transport
    from ...wire._line import Output
    from ._outcome import How
    from ._script import Script

__all__ = ("Course", "Role")

# Reads in a row: one client whose server never pauses must not hold up the others.
_READS = 16

_CUT = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)


@dataclass(frozen=True, slots=True)
class Role:
    """What all clients of a behaviour share.

    Attributes:
        script: What they do.
        seed: Where random numbers come from.
        transport: "stream" or "datagram".
        tls: How to speak TLS; None for plain text.
        server_hostname: The name that the certificate must be for, if that is checked.
        keeps: Whether what comes is kept.
    """

    script: Script
    seed: int | str = 0
    transport: Transport = "stream"
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    keeps: bool = False


class Course:
    """A socket, a session, and what became of them.

    Args:
        role: What it does.
        number: The client's number, from 1.
        sock: A socket that does not block; it belongs to the course from now on.
        now: When it began to connect.

    Attributes:
        sock: The socket.
        number: The client's number.
        how: How it stands.
        wake_at: When `advance` has to be called next; None for not before the socket is ready.
        inbox: What has come, if it is kept.
        begun: When it began to connect; so are `connected`, `first_byte` and `ended` times of the driver's clock, or None.
        sent: Bytes of plain text that the system has taken.
        late: The worst delay behind its own timetable.
        error: What failed.
        slot, fd: Where a driver of many notes when it will come back, and the descriptor.
    """

    __slots__ = (
        "_eof",
        "_pending",
        "_readable",
        "begun",
        "connected",
        "ended",
        "error",
        "fd",
        "first_byte",
        "how",
        "inbox",
        "late",
        "number",
        "role",
        "sent",
        "session",
        "slot",
        "sock",
        "wake_at",
    )

    def __init__(self, role: Role, number: int, sock: socket.socket, now: float) -> None:
        self.role = role
        self.number = number
        self.sock = sock
        self.session: Session | None = None
        self.how: How = "connecting"
        self.wake_at: float | None = None
        self.inbox: bytearray | None = bytearray() if role.keeps else None
        self.begun = now
        self.connected: float | None = None
        self.first_byte: float | None = None
        self.ended: float | None = None
        self.sent = 0
        self.late = 0.0
        self.error = ""
        self.slot = 0
        self.fd = -1
        self._pending: Sequence[Output] = ()
        self._readable = False
        self._eof = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}: {self.how}, {self.sent} bytes sent, {self.received} received>"

    # -- what it needs, and how it stands

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.ended is not None

    @property
    def received(self) -> int:
        """Bytes of plain text that have come."""
        return 0 if self.session is None else self.session.received

    @property
    def reads(self) -> bool:
        """Whether it wants to know when there is something to read."""
        return self.how == "held" and not self._eof and self._wants > 0

    @property
    def writes(self) -> bool:
        """Whether it wants to know when the system takes something."""
        return self.how == "connecting" or (self.how == "held" and bool(self._pending))

    @property
    def outcome(self) -> Outcome:
        """How it fares, with times from its beginning."""
        return Outcome(
            self.how,
            self._since(self.connected),
            self._since(self.first_byte),
            self._since(self.ended),
            self.sent,
            self.received,
            self.late,
            self.error,
        )

    def _since(self, time: float | None) -> float | None:
        return None if time is None else time - self.begun

    # -- what happens to it

    def opened(self, now: float) -> None:
        """It is connected."""
        self.connected = now
        self.how = "held"
        self.wake_at = None
        if self.role.transport == "stream" and self.sock.family != getattr(socket, "AF_UNIX", None):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start(now)
        self.advance(now)

    def ready(self, now: float, *, readable: bool, ended: bool = False) -> None:
        """The socket has become ready.

        Args:
            now: The time.
            readable: There may be something to read.
            ended: The peer has finished, or there is an error.
        """
        if self.how == "connecting":
            self._connect_done(now)
        elif not self.is_over():
            self._readable = self._readable or readable or ended
            self.advance(now)
            if ended and not self.is_over() and not self.reads:
                self._look_whether_ended(now)

    def advance(self, now: float) -> None:
        """Do what is to be done by now. Who drives very many may do it in its three steps, each for all of them."""
        if self._pending:
            self.flush(now)
        self.prepare(now)
        self.flush(now)
        self.conclude(now)

    def prepare(self, now: float) -> None:
        """Work out what is to be sent by now."""
        if self._pending or self.ended is not None:
            return
        due = self.wake_at
        if due is not None and now - due > self.late:
            self.late = now - due
        self.wake_at = None
        self._pending = self._outgoing(now)

    def flush(self, now: float) -> None:
        """Send it, as far as the system takes it."""
        pending = self._pending
        if not pending:
            return
        try:
            first = pending[0]
            if len(pending) == 1 and isinstance(first, bytes):
                # What nearly always is: the less lies between two sends, the less often the server falls asleep in between.
                count = self.sock.send(first)
                self._took(count)
                self._pending = (first[count:],) if count < len(first) else ()
            else:
                self._emit(pending, now)
        except OSError as error:
            if not would_block(error):
                self.lost(error, now)

    def conclude(self, now: float) -> None:
        """Read what has come, and say when there is more to do."""
        if self.role.script.vanishes:
            self._vanish()
        if self._readable and not self.is_over():
            try:
                self._read(now)
            except OSError as error:
                self.lost(error, now)
        if self.ended is None:
            self._look(now)

    def lost(self, error: OSError, now: float) -> None:
        """A call has failed: it is over."""
        code = error.errno
        if code == errno.ECONNREFUSED:
            how: How = "refused"
        elif code in _CUT:
            how = "finished" if self.received and self._done else "reset"
        elif code == errno.ETIMEDOUT:
            how = "timed_out"
        else:
            how = "failed"
            self.error = str(error)
        self.finish(how, now)

    def stop(self, now: float) -> None:
        """The time is up: close in order. Who is connected counts as held."""
        if self.how == "connecting":
            self.finish("timed_out", now)
        elif not self.is_over():
            self._close("held", now, reset=self.role.script.vanishes)

    def finish(self, how: How, now: float) -> None:
        """It is over, and was so."""
        self._close(how, now, reset=False)

    def _close(self, how: How, now: float, *, reset: bool) -> None:
        self.how = how
        self.ended = now
        self.wake_at = None
        self._pending = ()
        if reset:
            hard_reset(self.sock)
        else:
            self.sock.close()

    # -- in detail

    def _connect_done(self, now: float) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.lost(OSError(code, os.strerror(code)), now)
        else:
            self.opened(now)

    def _look(self, now: float) -> None:
        """Say when to come back. Who could not send everything is told when there is room."""
        if self._readable and self.reads:
            self.wake_at = now
        elif self._pending or self.session is None:
            self.wake_at = None
        else:
            self.wake_at = self.session.due

    @property
    def _is_silent(self) -> bool:
        return self.session is not None and self.session.sent_all and not self._pending

    def _emit(self, outputs: Sequence[Output], now: float) -> None:
        self._pending = ()
        for place, output in enumerate(outputs):
            if isinstance(output, bytes):
                count = self._push(output)
                if count < len(output):
                    self._pending = [output[count:], *outputs[place + 1 :]]
                    return
            elif output is FINISHED:
                self.sock.shutdown(socket.SHUT_WR)
            else:
                self._close("finished", now, reset=output is ABORTED)
                return

    def _push(self, data: bytes) -> int:
        try:
            count = self.sock.send(data)
        except OSError as error:
            if not would_block(error):
                raise
            return 0
        self._took(count)
        return count

    def _read(self, now: float) -> None:
        for _ in range(_READS):
            size = 0 if self._eof else self._wants
            if not size:
                return
            try:
                data = self.sock.recv(size if self.role.transport == "stream" else 65536)
            except OSError as error:
                if not would_block(error):
                    raise
                self._readable = False
                return
            if not data and self.role.transport == "stream":
                self._heard_the_end(now)
                return
            if self.first_byte is None:
                self.first_byte = now
            self._incoming(data, now)
            self.prepare(now)
            self.flush(now)
            if self.is_over():
                return
            if self.role.script.vanishes:
                self._vanish()

    def _vanish(self) -> None:
        """Whoever vanishes does so with what it has sent last: it reads no reply to that."""
        if not self._eof and self._is_silent:
            self._eof = True
            fall_silent(self.sock)

    def _look_whether_ended(self, now: float) -> None:
        """There may be an end that nobody reads: RST tells at once, FIN only who will never read what came before it."""
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.lost(OSError(code, os.strerror(code)), now)
        elif self.is_deaf and not self._eof:
            self._heard_the_end(now)

    def _heard_the_end(self, now: float) -> None:
        """The server has sent FIN."""
        self._eof = True
        self._readable = False
        done = self._done
        if self.session is None or self.session.end(now):
            self.finish("finished" if done else "closed", now)

    @property
    def _done(self) -> bool:
        return self.session is not None and self.session.done and not self._pending

    # -- what TLS does otherwise

    def _start(self, now: float) -> None:
        role = self.role
        self.session = Session(role.script, role.seed, self.number, role.transport, now)

    def _outgoing(self, now: float) -> Sequence[Output]:
        assert self.session is not None
        return self.session.take(now)

    def _incoming(self, data: bytes, now: float) -> None:
        assert self.session is not None
        self._came(data, now)

    def _came(self, data: bytes, now: float) -> None:
        """Plain text has come."""
        session = self.session
        assert session is not None
        session.feed(data, now)
        if self.inbox is not None:
            self.inbox += data
        if session.content:
            self.finish("finished", now)

    def _took(self, count: int) -> None:
        self.sent += count

    @property
    def _wants(self) -> int:
        return 65536 if self.session is None else self.session.wants

    @property
    def is_deaf(self) -> bool:
        """Whether it will never read again, and wants to know all the same when the server ends."""
        return self.session is not None and self.session.deaf
