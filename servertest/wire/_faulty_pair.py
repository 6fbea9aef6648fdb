"""The private pair behind a faulty socket: the program holds one end, the relay the other."""

from __future__ import annotations

import mmap
import socket
from typing import Any

from .._support import have_ipv6

__all__ = ("InnerEnd", "private_pair")

_UNIX = getattr(socket, "AF_UNIX", None)

#: Connections of others that may reach the listener of a moment before ours does.
_STRANGERS = 16


class InnerEnd(socket.socket):
    """The relay's end. Where the system knows no RST, it leaves a word for the other end when it is cut off.

    Attributes:
        cut: A byte that forked children see too: 1 once the connection was cut off; None where a RST is a RST.
    """

    __slots__ = ("cut",)

    cut: mmap.mmap | None

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        """Set an option. What is set for the sake of a RST (``SO_LINGER``) is what tells that there is to be one."""
        if self.cut is not None and level == socket.SOL_SOCKET and option == socket.SO_LINGER:
            self.cut[0] = 1
        super().setsockopt(level, option, *value)


def private_pair(family: int) -> tuple[socket.socket, InnerEnd]:
    """Two stream sockets connected with each other: the program's end and the relay's.

    Args:
        family: That of the real connection. For TCP it is a pair of TCP sockets on loopback, so that RST is a real RST.
    """
    outer, inner = socket.socketpair() if family == _UNIX else _tcp_pair(family)
    end = InnerEnd(inner.family, inner.type, inner.proto, inner.detach())
    end.cut = mmap.mmap(-1, 1) if family == _UNIX else None
    return outer, end


def _tcp_pair(family: int) -> tuple[socket.socket, socket.socket]:
    if family == socket.AF_INET6 and have_ipv6():
        family, host = socket.AF_INET6, "::1"
    else:
        family, host = socket.AF_INET, "127.0.0.1"
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        listener.listen(_STRANGERS)
        outer = socket.socket(family, socket.SOCK_STREAM)
        try:
            outer.connect(listener.getsockname())
            inner = _accept(listener, outer.getsockname())
            for end in (outer, inner):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            outer.close()
            raise
    return outer, inner


def _accept(listener: socket.socket, wanted: object) -> socket.socket:
    """The connection that is ours: anybody on this machine could connect."""
    while True:
        inner, peer = listener.accept()
        if peer == wanted:
            return inner
        inner.close()
