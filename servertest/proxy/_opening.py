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
    from ._link import Link
    from ._record import LinkConnection

__all__ = ("Opening",)

#: Seconds after which a Unix server with a full backlog is tried again: the system does not tell when there is room.
_RETRY = 0.005


class Opening:
    """Takes a client through the handshake, if there is one, to the server, and hands both over to the relay.

    Nothing here waits: it goes on whenever one of its sockets is ready.

    Args:
        link: Whose connection it is.
        near: The client's socket.
        record: What is known of the connection.
    """

    __slots__ = (
        "_at",
        "_deadline",
        "_far",
        "_far_session",
        "_link",
        "_near",
        "_near_session",
        "_steps",
        "_watched",
        "readable",
        "record",
        "timer_at",
        "writable",
    )

    def __init__(self, link: Link, near: socket.socket, record: LinkConnection) -> None:
        self._link = link
        self._near = near
        self._far: socket.socket | None = None
        self._near_session: TlsSession | None = None
        self._far_session: TlsSession | None = None
        self.record = record
        self.readable = self.writable = False
        self.timer_at: float | None = None
        self._deadline = monotonic() + link.settings.connect_timeout
        self._at = ""
        self._watched: list[int] = []
        self._steps = self._open()

    def ready(self, events: int) -> None:
        """A socket is ready: try again."""
        self.advance()

    def due(self, now: float) -> None:
        """It has taken too long, or what could not be waited for is to be tried again."""
        if now >= self._deadline:
            seconds = self._link.settings.connect_timeout
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
        self._link.opening_failed(self, f"{self._doing()} failed: {error}")
        if self._near_session is not None and "SSL" in type(error).__name__:
            _close_after_alert(self._near)
        else:
            hard_reset(self._near)

    def _open(self) -> Generator[None, None, None]:
        link = self._link
        if link.client_context is not None:
            self._at = "handshake with the client"
            self._near.setblocking(False)
            self._watch(self._near)
            self._near_session = _session(link.client_context, self._near, server_side=True)
            yield from self._shake_hands(self._near_session)
            _acknowledge(self._near)
        self._at = ""
        far = yield from self._connect()
        if link.server_context is not None:
            self._at = "handshake with the server"
            self._far_session = _session(link.server_context, far, server_hostname=link.server_hostname)
            yield from self._shake_hands(self._far_session)
        self._hand_over(far)

    def _doing(self) -> str:
        if self._at:
            return f"the TLS {self._at}"
        return f"a connection to {format_address(self._link.settings.upstream)}"

    def _connect(self) -> Generator[None, None, socket.socket]:
        address = self._link.settings.upstream
        self._far = far = socket.socket(self._link.upstream_family, socket.SOCK_STREAM)
        far.setblocking(False)
        make_prompt(far)
        code = far.connect_ex(address)
        while code == errno.EAGAIN:
            self._wait(_RETRY)
            yield
            code = far.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self._watch(far)
        # On the loopback interface it is there at once.
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
        link, number = self._link, self.record.number
        client = _leg(self._near, "client", link.transcript, number, self._near_session)
        server = _leg(far, "server", link.upstream_transcript, number, self._far_session)
        self._watched.clear()  # they are the relay's now
        link.opened(self, client, server)

    # -- waiting

    def _watch(self, sock: socket.socket) -> None:
        self._watched.append(sock.fileno())
        self._link.relay.watch(sock.fileno(), self)

    def _wait(self, seconds: float | None = None) -> None:
        until = self._deadline if seconds is None else min(self._deadline, monotonic() + seconds)
        self._link.relay.call_at(until, self)

    def _forget(self) -> None:
        self.timer_at = None
        for fd in self._watched:
            self._link.relay.unwatch(fd, self)
        self._watched.clear()


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
