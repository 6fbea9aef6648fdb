"""Servers that were made for a target are bound and listen, or are closed again."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from .._support import AddressInUse, format_address
from ._socketserver import SocketServerServable
from ._target_names import name_of

if TYPE_CHECKING:
    from .._support import Address
    from ._host import Plan, Servable

__all__ = ("activate", "explained", "servable")


def servable(server: Any, plan: Plan) -> Servable:
    """The servable for a server that was made here, and that nobody else would close."""
    try:
        activate(server)
        return SocketServerServable(server, plan)
    except BaseException:
        server.server_close()
        raise


def activate(server: Any) -> None:
    """Do what was left undone by ``bind_and_activate=False``: bind the server to the address that it was given, and listen.

    Raises:
        AddressInUse: Something else holds the address.
    """
    sock = getattr(server, "socket", None)
    if not isinstance(sock, socket.socket) or not hasattr(server, "server_bind"):
        return
    with explained(server.server_address, name_of(server)):
        if not _is_bound(sock):
            server.server_bind()
        # Not every system can say whether a socket listens; to do so twice is no harm.
        if sock.type == socket.SOCK_STREAM and not _listens(server.socket):
            server.server_activate()


def _is_bound(sock: socket.socket) -> bool:
    try:
        name = sock.getsockname()
    except OSError:
        return False  # as Windows says it
    return bool(name[1] if isinstance(name, tuple) else name)


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except (AttributeError, OSError):
        return False


class explained:  # noqa: N801 - used as a function
    """Turns a taken address into an error that says so."""

    def __init__(self, address: Address | None, who: str) -> None:
        self._address = address
        self._who = who

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"{self._who} cannot be bound: the address {format_address(self._address)} is in use; "
                "leave the address out to get a free one"
            ) from error
