"""The client's own address, where it needs one: given to its socket, and taken back afterwards."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from .._support import SocketDirectory, check_path, format_address

if TYPE_CHECKING:
    from .._support import Address

__all__ = ("OwnName",)


class OwnName:
    """How a client's socket is to be named.

    Args:
        source: The address to bind to, if the caller chose one.
        reachable: Whether a Unix socket needs a name of its own so that answers find it.
    """

    def __init__(self, source: Address | None = None, *, reachable: bool = False) -> None:
        self._source = source
        self._reachable = reachable
        self._directory: SocketDirectory | None = None
        self._path: str | bytes | None = None

    def give(self, sock: socket.socket, peer: Address) -> None:
        """Bind the socket that is to talk to ``peer``, if it is to be bound.

        Raises:
            OSError: The address cannot be bound; the error says which one.
        """
        if self._source is not None:
            self._bind(sock, self._source)
        elif self._reachable and isinstance(peer, tuple):
            # Otherwise the first send would bind it to all interfaces.
            if _is_loopback(peer[0]):
                sock.bind(("127.0.0.1" if sock.family == socket.AF_INET else "::1", 0))
        elif self._reachable:
            self._bind_fresh(sock, os.fsencode(peer))  # type: ignore[arg-type] # no pair: see above

    def take_back(self) -> None:
        """Remove the path, if there is one. Twice is once."""
        if self._directory is not None:
            self._directory.close()
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = None

    def _bind(self, sock: socket.socket, source: Address) -> None:
        path = None if isinstance(source, tuple) or os.fsencode(source)[:1] in (b"", b"\0") else source
        if path is not None:
            check_path(path)
        try:
            sock.bind(source)
        except OSError as error:
            error.add_note(f"the client's own address (source=) was to be {format_address(source)}")
            raise
        self._path = path

    def _bind_fresh(self, sock: socket.socket, peer: bytes) -> None:
        if peer.startswith(b"\0"):
            sock.bind("")  # the kernel picks an abstract name (autobind, unix(7))
            return
        self._directory = SocketDirectory()
        sock.bind(self._directory.path("c"))


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host in ("::1", "localhost")
