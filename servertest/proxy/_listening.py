"""The address of a link: bound as long as the link lives, also while it is down."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any

from .._support import SocketDirectory, bound_socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._support import Address, Family, Transport

__all__ = ("Place",)

_BACKLOG = 1024
_REUSE = (socket.SOL_SOCKET, socket.SO_REUSEADDR)


class Place:
    """A bound address, and the socket that is bound there at the moment.

    It is never free in between: whoever tries to take it while the link is down finds it in use.

    Args:
        transport: "stream" or "datagram".
        family: The address's family.
        address: Which; None for a free one.

    Attributes:
        address: Where it is.
        sock: The socket, which does not block; None while the link is down, or after `close`.
    """

    def __init__(self, transport: Transport, family: Family, address: Address | None) -> None:
        self._transport = transport
        self._family = family
        self._directory = SocketDirectory() if family == "unix" and address is None else None
        self._held: socket.socket | None = None
        self._backlog = _BACKLOG
        self._owned_path: Address | None = None
        try:
            self.sock: socket.socket | None = self._first(address)
        except BaseException:
            self._remove_directory()
            raise
        self.address: Address = self.sock.getsockname()
        self.sock.setblocking(False)
        if family == "unix":
            self._owned_path = self.address

    def down(self) -> None:
        """Refuse whoever comes."""
        sock, self.sock = self.sock, None
        if sock is not None:
            self._way("down")(sock)

    def up(self) -> None:
        """Be there again."""
        if self.sock is None:
            self.sock = self._way("up")()
            self._backlog = _BACKLOG
            self.sock.setblocking(False)

    def set_backlog(self, limit: int | None) -> None:
        """Let the queue of those who are not accepted be so long; None for as long as usual."""
        backlog = _BACKLOG if limit is None else limit
        if self.sock is not None and backlog != self._backlog:
            self._backlog = backlog
            self.sock.listen(backlog)

    def close(self) -> None:
        """Leave the address to others. Twice is once."""
        for sock in (self.sock, self._held):
            if sock is not None:
                sock.close()
        self.sock = self._held = None
        path, self._owned_path = self._owned_path, None
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # type: ignore[arg-type] # a path is no tuple
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            self._directory.close()

    def _first(self, address: Address | None) -> socket.socket:
        if self._family in ("unix", "abstract") or self._transport == "datagram":
            return self._bound(address)
        if isinstance(address, tuple) and address[1]:
            return self._bound(address)
        # Linux lets go of a port that it has chosen itself when a listener stops listening, and keeps one that was asked for:
        # so it chooses for another socket, and the listener asks for the same.
        with self._chosen(address) as chosen:
            return self._bound(chosen.getsockname())

    def _chosen(self, address: Any) -> socket.socket:
        loopback = {"inet": "127.0.0.1", "inet6": "::1", "dual": "::"}[self._family]
        chosen = socket.socket(socket.AF_INET if self._family == "inet" else socket.AF_INET6)
        try:
            chosen.setsockopt(*_REUSE, 1)
            if self._family != "inet":
                chosen.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, self._family == "inet6")
            chosen.bind(address or (loopback, 0))
        except BaseException:
            chosen.close()
            raise
        return chosen

    def _bound(self, address: Address | None) -> socket.socket:
        return bound_socket(
            self._transport,
            self._family,
            address=address,
            directory=self._directory,
            backlog=_BACKLOG,
        )

    # -- down and up again, each way in its own manner

    def _way(self, step: str) -> Callable[..., Any]:
        what = "unix" if self._family in ("unix", "abstract") else self._transport
        method: Callable[..., Any] = getattr(self, f"_{what}_{step}")
        return method

    def _stream_down(self, sock: socket.socket) -> None:
        # It stays bound, and stops listening: that is a refusal. Without SO_REUSEADDR nobody can bind beside it.
        self._held = sock
        sock.shutdown(socket.SHUT_RDWR)
        sock.setsockopt(*_REUSE, 0)

    def _stream_up(self) -> socket.socket:
        sock, self._held = self._held, None
        assert sock is not None
        sock.setsockopt(*_REUSE, 1)
        sock.listen(_BACKLOG)
        return sock

    def _datagram_down(self, sock: socket.socket) -> None:
        # A socket that is connected to itself takes nothing from others: the system answers them "port unreachable".
        with self._beside(sock) as held:
            held.connect(self.address)
            self._held = held.dup()

    def _datagram_up(self) -> socket.socket:
        held, self._held = self._held, None
        assert held is not None
        with self._beside(held) as sock:
            return sock.dup()

    def _beside(self, sock: socket.socket) -> socket.socket:
        """A second UDP socket on the same address; the first is closed."""
        made = socket.socket(sock.family, sock.type)
        sock.setsockopt(*_REUSE, 1)
        made.setsockopt(*_REUSE, 1)
        if sock.family == socket.AF_INET6:
            only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        made.bind(self.address)
        sock.close()
        made.setsockopt(*_REUSE, 0)
        return made

    def _unix_down(self, sock: socket.socket) -> None:
        # A path that nobody has open refuses, and cannot be bound. A name has to be held by a socket that does not listen.
        sock.close()
        if self._family == "abstract":
            self._held = socket.socket(sock.family, sock.type)
            if self._transport == "stream":
                self._held.bind(self.address)

    def _unix_up(self) -> socket.socket:
        held, self._held = self._held, None
        if held is not None:
            held.close()
        else:
            os.unlink(self.address)  # type: ignore[arg-type] # a path is no tuple
        return self._bound(self.address)
