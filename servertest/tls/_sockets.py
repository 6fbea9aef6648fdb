"""TLS sockets that part, stall, reset or break off as a profile says.

The (mis)behaviour sits in classes that an `ssl.SSLContext` is told to make (``sslsocket_class``, and
``sslobject_class`` for asyncio). So it goes wherever the context goes: into our hosts, which call `Profile.wrap`, and
into servers of others that know nothing but a context.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from typing import NoReturn

from .._support import Deadline, DeadlineExceeded, UsageError, hard_reset
from ..servers._tls import take_goodbye
from ._errors import HandshakeEnded

__all__ = (
    "PoliteSocket",
    "PromptSocket",
    "RaggedObject",
    "RaggedSocket",
    "ResettingObject",
    "ResettingSocket",
    "StallingObject",
    "StallingSocket",
    "wait_ready",
)

# epoll and kqueue would cost a descriptor for each wait; Windows has no poll.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)

_GOODBYE_SECONDS = 1.0
_CHUNK = 65536


class PromptSocket(ssl.SSLSocket):
    """Acknowledges the end of the handshake at once.

    TLS 1.3 ends with a message of the client's, and our contexts send no session tickets after it that would carry the
    acknowledgement. Linux would delay that by 40 ms, and Nagle's algorithm would keep the client's first request back
    until it has come.
    """

    def do_handshake(self, block: bool = False) -> None:
        """Do the handshake, then tell TCP not to wait."""
        super().do_handshake(block)
        if hasattr(socket, "TCP_QUICKACK") and self.family != getattr(socket, "AF_UNIX", None):
            try:
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            except OSError:
                pass  # the connection is gone, as the next call on it will say better


class PoliteSocket(PromptSocket):
    """Sends ``close_notify`` before it stops sending, as RFC 8446 section 6.1 asks and Python's own class does not.

    Only ``shutdown(SHUT_WR)`` says goodbye. ``close()`` does not: the parent of a forking server closes its copy of a
    connection which the child goes on using, and an alert from the parent would end it. Nor does
    ``shutdown(SHUT_RDWR)``, with which another thread cuts a connection off: OpenSSL must not be entered twice.
    """

    _has_parted = False

    def shutdown(self, how: int) -> None:
        """Say goodbye when nothing more will be sent; then do as every TLS socket does."""
        if how == socket.SHUT_WR:
            _say_goodbye(self)
            self._has_parted = True
        super().shutdown(how)

    def close(self) -> None:
        """Close; a goodbye of the peer's that has come since is taken, for nobody is to be reset because of it."""
        if self._has_parted:
            take_goodbye(self)
        super().close()


class RaggedSocket(PromptSocket):
    """Never sends ``close_notify``, not even when asked to: its peers see the TCP connection end, and no more."""

    def unwrap(self) -> socket.socket:
        """End the sending side without a word."""
        self.shutdown(socket.SHUT_WR)
        return self


class RaggedObject(ssl.SSLObject):
    """`RaggedSocket` for asyncio, which closes the transport once this returns."""

    def unwrap(self) -> None:
        """Say nothing."""


class StallingSocket(ssl.SSLSocket):
    """Takes what the client sends and never answers."""

    def do_handshake(self, block: bool = False) -> None:
        """Discard until the client goes; a socket's own timeout, or a caller that polls, may end it before.

        Raises:
            HandshakeEnded: The client is gone.
        """
        while _plain_recv(self):
            if self.gettimeout() == 0:  # whoever polls also watches the time
                raise _want_read()
        raise HandshakeEnded("handshake-stall", "the client gave up")


class StallingObject(ssl.SSLObject):
    """`StallingSocket` for asyncio, which watches the client and the time itself (``ssl_handshake_timeout``)."""

    def do_handshake(self) -> None:
        """Always ask for more."""
        raise _want_read()


class ResettingSocket(ssl.SSLSocket):
    """Resets the connection as soon as the client says hello."""

    def do_handshake(self, block: bool = False) -> NoReturn:
        """Wait for the first byte, then reset.

        The byte stays unread: with that, Unix sockets give their peer ``ECONNRESET``, too.

        Raises:
            HandshakeEnded: It is reset, or the client has gone without a word.
        """
        came = _plain_recv(self, 1, socket.MSG_PEEK)
        hard_reset(self)
        raise HandshakeEnded("handshake-reset", "reset" if came else "the client left without a word")


class ResettingObject(ssl.SSLObject):
    """Stands where `ResettingSocket` cannot: asyncio does not hand its socket to TLS."""

    def do_handshake(self) -> NoReturn:
        """Refuse.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "profile 'handshake-reset' needs the socket itself, which asyncio keeps away from TLS: "
            "reset the connection by a fault, or serve this profile from threads"
        )


def wait_ready(sock: socket.socket, events: int, deadline: Deadline, cancelled: int | None = None) -> bool:
    """Wait until the socket is ready, and say whether it is; False if it was cancelled.

    Args:
        sock: What to watch.
        events: `selectors.EVENT_READ` or `selectors.EVENT_WRITE`.
        deadline: When to give up.
        cancelled: A descriptor that becomes readable when the wait is no longer wanted.

    Raises:
        DeadlineExceeded: Nothing happened in time.
    """
    with _Selector() as selector:
        selector.register(sock, events)
        if cancelled is not None:
            selector.register(cancelled, selectors.EVENT_READ)
        ready = {key.fd for key, _ in selector.select(deadline.remaining())}
    if cancelled in ready:
        return False
    deadline.check()
    return True


def _say_goodbye(sock: ssl.SSLSocket) -> None:
    """Send ``close_notify`` without waiting for the peer's: it may be long in coming, or never come.

    `ssl.SSLSocket.unwrap` sends first and then reads. A socket that does not block stops in between, which is all
    that is wanted. A peer that takes nothing more is given a second.
    """
    timeout = sock.gettimeout()
    deadline = Deadline(
        _GOODBYE_SECONDS if timeout is None else min(timeout, _GOODBYE_SECONDS), "close_notify"
    )
    sock.settimeout(0)
    try:
        while _goodbye_is_stuck(sock):
            wait_ready(sock, selectors.EVENT_WRITE, deadline)
    except DeadlineExceeded:
        pass  # the peer reads nothing, so there is nobody to be polite to
    finally:
        sock.settimeout(timeout)


def _goodbye_is_stuck(sock: ssl.SSLSocket) -> bool:
    try:
        sock.unwrap()
    except ssl.SSLWantWriteError:
        return True
    except (OSError, ValueError):
        # SSLWantReadError: sent, and the peer's is not here yet. ValueError: already said. The others: the connection
        # is gone, or the peer has sent more, which nobody will read; either way the alert has had its chance.
        return False
    return False


def _plain_recv(sock: ssl.SSLSocket, size: int = _CHUNK, flags: int = 0) -> bytes:
    """Receive below TLS, and tell a caller that polls what it knows to handle."""
    try:
        return socket.socket.recv(sock, size, flags)
    except BlockingIOError:
        raise _want_read() from None


def _want_read() -> ssl.SSLWantReadError:
    return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the handshake waits for the client")
