"""What the ready-made peers have in common: one class serves streams and datagrams, and has a name for the command line."""

from __future__ import annotations

import math
import re
import select
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ..._support import UsageError
from ...servers import BaseRequestHandler

__all__ = ("Peer", "peers")

_peers: dict[str, type[Peer]] = {}
peers: Mapping[str, type[Peer]] = MappingProxyType(_peers)
"""Every ready-made peer, by the name that it has on the command line."""


class Peer(BaseRequestHandler):
    """A handler of streams, of datagrams, or of both; a subclass overrides what it can do.

    None of them takes a time-out or a limit: they serve until their client is done, or the server is stopped.
    """

    #: Whether it can serve datagrams, too.
    datagrams: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.__module__.startswith(f"{__package__}."):
            _peers[re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()] = cls

    def handle(self) -> None:
        """Serve a connection, or answer a datagram."""
        if not isinstance(self.request, tuple):
            try:
                self.converse(self.request)
            except ConnectionError:
                pass  # the client has gone, as clients do
            return
        if not self.datagrams:
            raise UsageError(
                f"{type(self).__name__} talks on connections, and this server takes datagrams: take a kind for streams"
            )
        data, sock = self.request
        reply = self.answer(data)
        if reply is not None and self.client_address:
            sock.sendto(reply, self.client_address)

    def converse(self, sock: Any) -> None:
        """Serve the connection to its end."""
        raise NotImplementedError

    def answer(self, data: bytes) -> bytes | None:
        """The reply to a datagram; None for no reply."""
        return None


def ready(sock: Any, *, writing: bool = False, seconds: float | None = None) -> tuple[bool, bool]:
    """Wait until a socket can be read from or, if that is of interest, written to; whether it can, each.

    Args:
        sock: The socket.
        writing: Whether to wait for room to write, too.
        seconds: How long at the most; without a limit if left out, for the end of the client and of the server can be read, too.
    """
    if not hasattr(select, "poll"):
        readers, writers, _ = select.select([sock], [sock] if writing else [], [], seconds)
        return bool(readers), bool(writers)
    poll = select.poll()
    poll.register(sock, select.POLLIN | (select.POLLOUT if writing else 0))
    found = poll.poll(None if seconds is None else math.ceil(seconds * 1000))
    events = found[0][1] if found else 0
    return bool(events & ~select.POLLOUT), bool(events & select.POLLOUT)
