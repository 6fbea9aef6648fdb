"""Load generators: as little Python as possible between the system calls, so that the server is what is measured.

They use the C type below `socket.socket`, connect with blocking calls (on loopback the kernel completes the handshake without the server), and
wait for all replies in one epoll. Each is bounded in requests and, by LIMIT, in the time that a single reply may take.
"""

from __future__ import annotations

import _socket
import select
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from socket import AF_INET, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET
from time import perf_counter
from typing import Any

__all__ = ("Stalled", "connections", "datagrams", "download", "idle", "requests", "upload")

Address = tuple[str, int]

LIMIT = 15.0  # seconds until a reply that does not come ends the measurement
BATCH = 64  # idle connections that are opened at a time, well below the server's backlog


class Stalled(TimeoutError):
    """The server has not replied for too long: there is nothing to measure."""


def _open(kind: int, address: Address) -> Any:
    sock = _socket.socket(AF_INET, kind, 0)
    # By the kernel, not by a timeout of Python's, which would cost a poll() for each call.
    limit = struct.pack("@ll", int(LIMIT), 0)
    sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
    sock.connect(address)
    return sock


def _stalled(done: int, count: int) -> Stalled:
    return Stalled(f"no reply within {LIMIT:g} s, after {done} of {count}")


def connections(address: Address, count: int, clients: int) -> float:
    """Connections per second: each of `clients` connects, sends, reads the reply, closes, and connects again."""
    if clients == 1:
        return _connections_one_by_one(address, count)
    new, poll = _socket.socket, select.epoll()
    sockets: dict[int, Any] = {}
    register, wait = poll.register, poll.poll

    def begin() -> None:
        sock = new(AF_INET, SOCK_STREAM, 0)
        sock.connect(address)
        sock.send(b"hello\n")
        fd = sock.fileno()
        sockets[fd] = sock
        register(fd, select.EPOLLIN)

    started, done = perf_counter(), 0
    try:
        for _ in range(min(clients, count)):
            begin()
        left = count - len(sockets)
        while sockets:
            ready = wait(LIMIT)
            if not ready:
                raise _stalled(done, count)
            for fd, _ in ready:
                sock = sockets.pop(fd)
                reply = sock.recv(64)
                sock.close()  # which also takes it out of the epoll
                if reply != b"hello\n":
                    raise ConnectionError(f"the server replied {reply!r}")
                done += 1
                if left > 0:
                    left -= 1
                    begin()
        return count / (perf_counter() - started)
    finally:
        for sock in sockets.values():
            sock.close()
        poll.close()


def _connections_one_by_one(address: Address, count: int) -> float:
    new = _socket.socket
    started = perf_counter()
    for done in range(count):
        sock = new(AF_INET, SOCK_STREAM, 0)
        sock.connect(address)
        sock.send(b"hello\n")
        reply = sock.recv(64)
        sock.close()
        if reply != b"hello\n":
            raise ConnectionError(f"the server replied {reply!r} to request {done + 1}")
    return count / (perf_counter() - started)


def requests(address: Address, count: int, clients: int) -> float:
    """Requests per second over `clients` connections that stay open; each has one request under way at a time."""
    return _ping_pong(SOCK_STREAM, address, count, clients)


def datagrams(address: Address, count: int, clients: int) -> float:
    """Datagrams per second that are answered to `clients` sockets; each has one under way at a time."""
    return _ping_pong(SOCK_DGRAM, address, count, clients)


def _ping_pong(kind: int, address: Address, count: int, clients: int) -> float:
    sockets = {sock.fileno(): sock for sock in (_open(kind, address) for _ in range(clients))}
    poll = select.epoll()
    try:
        calls = {fd: (sock.recv, sock.send) for fd, sock in sockets.items()}
        for fd in sockets:
            poll.register(fd, select.EPOLLIN)
        started, done = perf_counter(), 0
        for _, send in calls.values():
            send(b"hello\n")
        while done < count:
            ready = poll.poll(LIMIT)
            if not ready:
                raise _stalled(done, count)
            for fd, _ in ready:
                receive, send = calls[fd]
                if receive(64) != b"hello\n":
                    raise ConnectionError("the server replied something else, or closed")
                send(b"hello\n")
            done += len(ready)
        return done / (perf_counter() - started)
    finally:
        poll.close()
        for sock in sockets.values():
            sock.close()


@contextmanager
def idle(address: Address, count: int) -> Iterator[None]:
    """Hold `count` connections that the server has accepted, and answered once, and that say nothing more."""
    held: list[Any] = []
    try:
        while len(held) < count:
            batch = [_open(SOCK_STREAM, address) for _ in range(min(BATCH, count - len(held)))]
            held += batch
            for sock in batch:
                sock.send(b"idle\n")
            for sock in batch:
                if sock.recv(64) != b"idle\n":
                    raise ConnectionError("the server did not take a connection")
        yield
    finally:
        for sock in held:
            sock.close()


def upload(address: Address, size: int) -> float:
    """Bytes per second to the server."""
    sock, data = _open(SOCK_STREAM, address), b"x" * (1 << 20)
    try:
        started = perf_counter()
        sock.send(b"%d\n" % size)
        for _ in range(size // len(data)):
            sock.sendall(data)
        if sock.recv(64) != b"done\n":
            raise ConnectionError("the server did not take it all")
        return size / (perf_counter() - started)
    finally:
        sock.close()


def download(address: Address, size: int) -> float:
    """Bytes per second from the server."""
    sock, buffer = _open(SOCK_STREAM, address), bytearray(1 << 20)
    try:
        started, left = perf_counter(), size
        sock.send(b"%d\n" % size)
        while left > 0:
            received = sock.recv_into(buffer)
            if not received:
                raise ConnectionError(f"the server closed with {left} bytes to go")
            left -= received
        return size / (perf_counter() - started)
    finally:
        sock.close()
