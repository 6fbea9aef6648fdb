"""The socket that a plain function, or an event loop, is given to accept from."""

from __future__ import annotations

import errno
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from .._support import format_address
from ._active import Activity, ActivityBook

if TYPE_CHECKING:
    from ._faults import ServerFaults
    from ._handshake import Handshake

__all__ = ("OpenConnection", "StoppableListener")


class OpenConnection(Activity):
    """A connection that somebody accepted and handles in a way of their own.

    It is held weakly: who drops a connection without closing it has closed it, and that must stay so.
    """

    __slots__ = ("_socket",)

    def __init__(self, number: int, peer: Any, sock: socket.socket) -> None:
        super().__init__(number, peer, None)
        self._socket = weakref.ref(sock)
        self.ended = True  # nobody can tell; what counts is the end of whoever accepted it

    @property
    def connection(self) -> socket.socket | None:
        """The socket, as long as somebody holds it."""
        return self._socket()

    @property
    def is_closed(self) -> bool:
        """Whether it is closed or dropped."""
        sock = self._socket()
        return sock is None or sock.fileno() == -1

    def describe(self) -> str:
        """One line: who, and since when."""
        seconds = time.monotonic() - self.since
        return f"connection {self.number} from {format_address(self.peer)}: open, {seconds:.1f} s after it was accepted"


class StoppableListener(socket.socket):
    """A real listening socket whose `accept` enters connections in the book, and ends when the server is stopped.

    After the stop `accept` raises OSError (EBADF), as if another thread had closed the listener. For an event loop, which would
    report that as an error, it is as if no client were there.
    """

    def __init__(
        self,
        listener: socket.socket,
        book: ActivityBook,
        *,
        observed: bool = True,
        handshake: Handshake | None = None,
        for_loop: bool = False,
        faults: ServerFaults | None = None,
    ) -> None:
        timeout = listener.gettimeout()
        super().__init__(listener.family, listener.type, listener.proto, fileno=listener.detach())
        self.settimeout(timeout)
        self._book = book
        self._observed = observed
        self._handshake = handshake
        self._for_loop = for_loop
        self._faults = faults
        if faults is not None:
            faults.driver.listener = self
            faults.driver.set_backlog()
        # Asked here: after the end there is nobody to ask.
        self.address = self.getsockname()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; with TLS, one whose handshake succeeded."""
        while True:
            connection, peer = self._accept_one()
            secured = self._enter(connection, peer)
            if secured is not None:
                return secured, peer

    def _accept_one(self) -> tuple[socket.socket, Any]:
        self._refuse_when_stopped()
        try:
            connection, peer = self._accept_below()
        except OSError:
            self._refuse_when_stopped()
            raise
        if self._book.stopping:
            connection.close()
        self._refuse_when_stopped()
        return connection, peer

    def _accept_below(self) -> tuple[socket.socket, Any]:
        if self._faults is None:
            return super().accept()
        from ..wire._faulty_driver import TurnedAway

        while True:
            try:
                return self._faults.driver.accept(self, super().accept)
            except TurnedAway:
                if self._for_loop:
                    raise BlockingIOError from None

    def _refuse_when_stopped(self) -> None:
        if self._book.stopping and self._for_loop:
            raise BlockingIOError
        if self._book.stopping:
            raise OSError(errno.EBADF, "servertest has stopped this server")

    def _enter(self, connection: socket.socket, peer: Any) -> socket.socket | None:
        self._book.forget_closed()
        number = self._book.connected(peer, self.address)
        if self._handshake is not None:
            return self._shake_hands(connection, peer, number)
        if self._observed:
            connection = self._book.observe(connection, number)
        self._book.open(id(connection), OpenConnection(number, peer, connection))
        return connection

    def _shake_hands(self, connection: socket.socket, peer: Any, number: int) -> socket.socket | None:
        assert self._handshake is not None
        activity = Activity(number, peer, connection)
        activity.thread = threading.current_thread()
        try:
            secured = self._handshake.secure(self._book, activity)
        except OSError as error:
            self._book.failed(activity, error, where="TLS handshake")
            return None
        if secured is not None:
            self._book.open(id(secured), OpenConnection(number, peer, secured))
        return secured

    def interrupt(self) -> None:
        """End the wait of whoever waits in `accept`. The book says by then that the server is stopping."""
        try:
            socket.socket.shutdown(self, socket.SHUT_RDWR)
        except OSError:
            # BSDs: only connections can be shut down. A connection wakes it up just as well, and goes no further.
            self._knock()

    def _knock(self) -> None:
        with socket.socket(self.family, self.type) as knock:
            knock.setblocking(False)
            knock.connect_ex(self.address)
