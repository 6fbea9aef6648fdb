"""Servers that keep their clients waiting: a black hole, and a tarpit."""

from __future__ import annotations

import select
from typing import Any, ClassVar

from ._base import Peer, ready

__all__ = ("BlackHole", "Tarpit")

# Linux alone tells of a peer's end without reading what is before it.
_END: int = getattr(select, "POLLRDHUP", 0)


class BlackHole(Peer):
    """Accepts connections and does nothing with them: it reads nothing, says nothing, and closes only when the client does.

    As nothing is read, a client that sends much will block once the buffers are full.
    """

    datagrams: ClassVar[bool] = True

    def converse(self, sock: Any) -> None:
        """Until the client has finished sending."""
        if not _END:
            while sock.recv(65_536):
                pass
            return
        poll = select.poll()
        poll.register(sock, _END)
        poll.poll()


class Tarpit(Peer):
    """Sends one byte after the other, slowly and without end: what a client takes for the beginning of an answer.

    Subclass it to say something else: ``class Slow(Tarpit): interval = 0.5``.
    """

    #: Seconds between two bytes.
    interval: ClassVar[float] = 1.0

    #: What it sends, over and over.
    text: ClassVar[bytes] = b"one moment, please ... "

    def converse(self, sock: Any) -> None:
        """Until the client closes the connection; what it sends is thrown away."""
        sent = 0
        while True:
            if ready(sock, seconds=self.interval)[0]:
                if not sock.recv(65_536):
                    return
                continue
            sock.sendall(self.text[sent % len(self.text) :][:1])
            sent += 1
