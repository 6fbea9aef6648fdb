"""A connection on its way: accepted, not yet relayed."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Generator
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._support import format_address, hard_reset
from ..wire._relay_leg import Leg, make_prompt

if TYPE_CHECKING:
    import ssl

    from ..transcript import Recorder, Side
    from ..wire._relay_tls import TlsSession
    from ._record import LinkConnection
    from ._traffic import Traffic

__all__ = ("Opening", "open_connection")

#: Seconds after which a Unix server with a full backlog is tried again: the system does not tell when there is room.
_RETRY = 0.005

#: A socket that does not block from the beginning, where the system has that.
_STREAM = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)


def open_connection(traffic: Traffic, near: socket.socket, record: LinkConnection) -> None:
    """Take a client to the server: at once where that goes, as over the loopback interface; else by an `Opening`.

    Args:
        traffic: Is told what becomes of it.
        near: The client's socket.
        record: What is known of the connection.
    """
    if traffic.client_context is not None or traffic.server_context is not None:
        traffic.opening(Opening(traffic, near, record))
        return
    far: socket.socket | None = None
    try:
        far = _server_socket(traffic)
        code = far.connect_ex(traffic.settings.upstream)
        there = code == 0 or (code == errno.EINPROGRESS and _is_connected(far))
    except OSError as error:
        if far is not None:
            far.close()
        # First the words, then the deed: who sees the RST finds the reason.
        traffic.not_opened(record, _reason(_connecting(traffic), error))
        hard_reset(near)
        return
    if there:
        client = Leg(near, "client", traffic.transcript, record.number)
        traffic.opened(record, client, Leg(far, "server", traffic.upstream_transcript, record.number))
    else:
        traffic.opening(Opening(traffic, near, record, far, code))


class Opening:
    """Takes a client through the handshake, if there is one, to the server, and hands both over to the relay.

    Nothing here waits: it goes on whenever one of its sockets is ready.

    Args:
        traffic: Is told what becomes of it.
        near: The client's socket.
        record: What is known of the connection.
        far: A socket that is connecting to the server already, if there is one.
        code: What the system has said of that.
    """

    __slots__ = (
        "_at",
        "_code",
        "_deadline",
        "_far",
        "_far_session",
        "_near",
        "_near_session",
        "_steps",
        "_traffic",
        "_watched",
        "readable",
        "record",
        "timer_at",
        "writable",
    )

    def __init__(
        self,
        traffic: Traffic,
        near: socket.socket,
        record: LinkConnection,
        far: socket.socket | None = None,
        code: int = 0,
    ) -> None:
        self._traffic = traffic
        self._near = near
        self._far = far
        self._code = code
        self._near_session: TlsSession | None = None
        self._far_session: TlsSession | None = None
        self.record = record
        self.readable = self.writable = False
        self.timer_at: float | None = None
        self._deadline = monotonic() + traffic.settings.connect_timeout
        self._at = ""
        self._watched: list[int] = []
        self._steps = self._open()

    def ready(self, events: int) -> None:
        """A socket is ready: try again."""
        self.advance()

    def due(self, now: float) -> None:
        """It has taken too long, or what could not be waited for is to be tried again."""
        if now >= self._deadline:
            seconds = self._traffic.settings.connect_timeout
            self.give_up(TimeoutError(f"nothing came of it within {seconds:g} s"))
        else:
            self.advance()

    def failed(self, error: Exception) -> None:
        """Working for it has raised."""
        self.give_up(error)

    def advance(self) -> None:
        """Go as far as it goes now."""
        try:
            next(self._steps, None)
        except (OSError, ValueError) as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """There will be no connection: the client gets RST, and the transcript says why."""
        self._forget()
        self._steps.close()
        if self._far is not None:
            self._far.close()
        # First the words, then the deed: who sees the RST finds the reason.
        self._traffic.not_opened(self.record, _reason(self._at or _connecting(self._traffic), error), self)
        if self._near_session is not None and "SSL" in type(error).__name__:
            _close_after_alert(self._near)
        else:
            hard_reset(self._near)

    def _open(self) -> Generator[None, None, None]:
        traffic = self._traffic
        if traffic.client_context is not None:
            self._at = "the TLS handshake with the client"
            self._near.setblocking(False)
            self._watch(self._near)
            self._near_session = _session(traffic.client_context, self._near, server_side=True)
            yield from self._shake_hands(self._near_session)
            _acknowledge(self._near)
        self._at = ""
        far = yield from self._connect()
        if traffic.server_context is not None:
            self._at = "the TLS handshake with the server"
            self._far_session = _session(traffic.server_context, far, server_hostname=traffic.server_hostname)
            yield from self._shake_hands(self._far_session)
        self._hand_over(far)

    def _connect(self) -> Generator[None, None, socket.socket]:
        address = self._traffic.settings.upstream
        if self._far is None:
            self._far = _server_socket(self._traffic)
            self._code = self._far.connect_ex(address)
        far, code = self._far, self._code
        while code == errno.EAGAIN:
            self._wait(_RETRY)
            yield
            code = far.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self._watch(far)
        while not _is_connected(far):
            self._wait()
            yield
        return far

    def _shake_hands(self, session: TlsSession) -> Generator[None, None, None]:
        while not session.shake_hands():
            self._wait()
            yield

    def _hand_over(self, far: socket.socket) -> None:
        self.timer_at = None
        traffic, number = self._traffic, self.record.number
        client = _leg(self._near, "client", traffic.transcript, number, self._near_session)
        server = _leg(far, "server", traffic.upstream_transcript, number, self._far_session)
        self._watched.clear()  # they are the relay's now
        traffic.opened(self.record, client, server, self)

    # -- waiting

    def _watch(self, sock: socket.socket) -> None:
        self._watched.append(sock.fileno())
        self._traffic.relay.watch(sock.fileno(), self)

    def _wait(self, seconds: float | None = None) -> None:
        until = self._deadline if seconds is None else min(self._deadline, monotonic() + seconds)
        self._traffic.relay.call_at(until, self)

    def _forget(self) -> None:
        self.timer_at = None
        for fd in self._watched:
            self._traffic.relay.unwatch(fd, self)
        self._watched.clear()


def _server_socket(traffic: Traffic) -> socket.socket:
    far = socket.socket(traffic.upstream_family, _STREAM)
    if far.gettimeout() != 0:
        far.setblocking(False)
    make_prompt(far)
    return far


def _connecting(traffic: Traffic) -> str:
    return f"a connection to {format_address(traffic.settings.upstream)}"


def _reason(doing: str, error: Exception) -> str:
    return f"{doing} failed: {error}"


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError as error:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from None
        if error.errno != errno.ENOTCONN:
            raise
        return False
    return True


def _session(context: ssl.SSLContext, sock: socket.socket, **side: Any) -> TlsSession:
    from ..wire._relay_tls import TlsSession

    return TlsSession(context, sock, **side)


def _leg(
    sock: socket.socket, peer: Side, recorder: Recorder | None, number: int, session: TlsSession | None
) -> Leg:
    if session is None:
        return Leg(sock, peer, recorder, number)
    from ..wire._relay_tls import TlsLeg

    return TlsLeg(sock, peer, recorder, number, session)


def _acknowledge(sock: socket.socket) -> None:
    """Acknowledge the end of the handshake at once: else Nagle's algorithm holds the client's first request back for 40 ms."""
    if hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _close_after_alert(sock: socket.socket) -> None:
    """Let the client read what was wrong with the handshake: a RST would overtake the alert."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 16):
            pass
    sock.close()
