"""Messages between a server process, the children that it forks, and the test's process.

One socket carries them all. Forked children inherit it and write to it at the same time, so the socket keeps the
boundaries of what is written: `SOCK_SEQPACKET`, which also tells when the last process that held it is gone, or
`SOCK_DGRAM` where the platform has no better (macOS). A message that is longer than a packet travels in pieces;
each piece says whose it is, so that pieces of several writers may mingle.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import select
import socket
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._support import Deadline

__all__ = ("Channel", "channel_pair")

#: Bytes in a packet, head included: well below what a socket holds by default, so that several writers keep moving.
PACKET = 32_768
_HEAD = struct.Struct("<IIB")  # pid of the writer, number of its message, whether more pieces follow
_BUFFER = 1 << 20


class Channel:
    """One end of the line. Any thread and any forked child may send; one reader receives.

    Attributes:
        tells_end: Whether `receive` notices that nobody holds the other end any more.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.tells_end = sock.type == socket.SOCK_SEQPACKET
        self._numbers = itertools.count()
        self._pieces: dict[tuple[int, int], list[bytes]] = {}

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self.socket.fileno()

    def send(self, message: tuple[Any, ...], deadline: Deadline | None = None) -> None:
        """Send a message.

        Args:
            message: Plain values, or anything that pickles by reference.
            deadline: Needed for a socket that does not block: until when to wait for room.

        Raises:
            OSError: The other side is gone.
            DeadlineExceeded: The other side does not read.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        writer, number = os.getpid(), next(self._numbers) & 0xFFFFFFFF
        for start in range(0, len(data), PACKET - _HEAD.size):
            piece = data[start : start + PACKET - _HEAD.size]
            more = start + len(piece) < len(data)
            self._send_packet(_HEAD.pack(writer, number, more) + piece, deadline)

    def _send_packet(self, packet: bytes, deadline: Deadline | None) -> None:
        while True:
            try:
                self.socket.send(packet)
                return
            except BlockingIOError:
                if deadline is None:
                    raise
                deadline.check()
                _wait(self.socket, select.POLLOUT, deadline)

    def receive(self, flags: int = 0) -> tuple[Any, ...] | None:
        """The next message; waits if the socket blocks.

        Args:
            flags: As for recv(2).

        Returns:
            The message, or None when every process that could have sent one is gone.

        Raises:
            BlockingIOError: The socket does not block, and no complete message is there.
        """
        while True:
            try:
                packet = self.socket.recv(PACKET, flags)
            except ConnectionResetError:
                return None  # it ended without having read what we had sent
            if not packet:
                return None
            if (data := self._put_together(packet)) is not None:
                return pickle.loads(data)  # type: ignore[no-any-return]  # noqa: S301 - from a process of our own

    def _put_together(self, packet: bytes) -> bytes | None:
        writer, number, more = _HEAD.unpack_from(packet)
        pieces = self._pieces.setdefault((writer, number), [])
        pieces.append(packet[_HEAD.size :])
        return None if more else b"".join(self._pieces.pop((writer, number)))

    def receive_now(self) -> tuple[Any, ...] | None:
        """A message if there is one, on a socket that blocks.

        The socket's mode is shared with forked children, so it is left as it is.
        """
        try:
            return self.receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def waiting(self) -> Iterator[tuple[Any, ...] | None]:
        """Every message that is there already; a last None if no more can come. For sockets that do not block."""
        with contextlib.suppress(BlockingIOError):
            while (message := self.receive()) is not None:
                yield message
            yield None

    def close(self) -> None:
        """Give the descriptor back."""
        self.socket.close()


def channel_pair() -> tuple[Channel, socket.socket]:
    """A line to a process that does not exist yet: our end, which does not block, and the socket for the other end."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    ours.setblocking(False)
    return Channel(ours), theirs


def _wait(sock: socket.socket, event: int, deadline: Deadline) -> None:
    poll = select.poll()
    poll.register(sock, event)
    rest = deadline.remaining()
    poll.poll(None if rest is None else rest * 1000)
