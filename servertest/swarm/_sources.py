"""Addresses to connect from: one host has some 28,000 ports for one server, and 127/8 has many hosts."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._support import Address

__all__ = ("Sources",)

_MOST = 250


class Sources:
    """Connects sockets, from another loopback address as soon as the ports of one have run out.

    Args:
        address: The server's address, resolved.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        host = address[0] if isinstance(address, tuple) else ""
        self._spreads = sys.platform.startswith("linux") and str(host).startswith("127.")
        self._current = 0

    @property
    def used(self) -> int:
        """How many addresses are in use."""
        return self._current + 1

    def connect(self, make: Callable[[], socket.socket]) -> tuple[socket.socket, int]:
        """Begin to connect.

        Args:
            make: Makes a socket that does not block.

        Returns:
            The socket; and 0, or the error's number, such as EINPROGRESS.
        """
        while True:
            sock = make()
            try:
                if self._current:
                    self._bind(sock)
                code = sock.connect_ex(self._address)
            except BaseException:
                sock.close()
                raise
            if code != errno.EADDRNOTAVAIL or not self._spreads or self._current >= _MOST:
                return sock, code
            sock.close()
            self._current += 1

    def _bind(self, sock: socket.socket) -> None:
        # The port is chosen when it connects (ip(7)): it may then be one that is in use for another server.
        sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        sock.bind((f"127.0.{self._current // 250}.{self._current % 250 + 1}", 0))
