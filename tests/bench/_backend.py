"""A server behind proxies under measurement: ``python -m tests.bench._backend SECONDS``. As little Python as possible.

It says where it listens, echoes what comes, and takes or sends a number of bytes for a client that begins with "U" or "D" and
twenty digits. It ends by itself after so many seconds.
"""

from __future__ import annotations

import _socket
import json
import select
import signal
import sys
from typing import Any

from tests.bench._server import BACKLOG, raise_descriptor_limit

__all__ = ("HEAD", "Backend")

HEAD = 21
CHUNK = b"x" * (1 << 20)


class Backend:
    """One thread, one epoll."""

    def __init__(self) -> None:
        self._listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._poll = select.epoll()
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        self._sockets: dict[int, Any] = {}
        self._room = bytearray(1 << 20)

    @property
    def address(self) -> Any:
        """Where it listens."""
        return self._listener.getsockname()

    def serve(self) -> None:
        """Serve for ever."""
        listener = self._listener.fileno()
        while True:
            for fd, _ in self._poll.poll():
                if fd == listener:
                    self._accept()
                else:
                    self._answer(fd, self._sockets[fd])

    def _accept(self) -> None:
        while True:
            try:
                fd, _ = self._listener._accept()  # type: ignore[attr-defined] # what socket.accept() is made of
            except BlockingIOError:
                return
            sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, fd)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self._sockets[fd] = sock
            self._poll.register(fd, select.EPOLLIN)

    def _answer(self, fd: int, sock: Any) -> None:
        try:
            data = sock.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            del self._sockets[fd]
            sock.close()
        elif data[:1] in b"UD" and len(data) >= HEAD:
            (self._take if data[:1] == b"U" else self._give)(sock, int(data[1:HEAD]), len(data) - HEAD)
        else:
            sock.send(data)

    def _take(self, sock: Any, size: int, taken: int) -> None:
        while taken < size and (count := sock.recv_into(self._room)):
            taken += count
        sock.send(b"done")

    def _give(self, sock: Any, size: int, _: int) -> None:
        for _ in range(0, size, len(CHUNK)):
            sock.sendall(CHUNK)


if __name__ == "__main__":
    signal.alarm(int(sys.argv[1]))
    raise_descriptor_limit()
    backend = Backend()
    print(json.dumps(backend.address), flush=True)
    backend.serve()
