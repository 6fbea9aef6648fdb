"""A sink in a process of its own: it accepts whoever comes, and reads."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

__all__ = ("sink",)

_SINK = """
import select, socket, sys
from servertest.swarm._limits import raise_descriptor_limit
raise_descriptor_limit(20_000)
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)
epoll = select.epoll()
for fd in (listener.fileno(), 0):
    epoll.register(fd, select.EPOLLIN)
held = {}
while True:
    for fd, _ in epoll.poll():
        if fd == listener.fileno():
            while True:
                try:
                    one, _ = listener.accept()
                except OSError:
                    break
                one.setblocking(False)
                held[one.fileno()] = one
                epoll.register(one.fileno(), select.EPOLLIN)
        elif fd == 0:
            sys.exit()
        else:
            try:
                data = held[fd].recv(65536)
            except OSError:
                data = b""
            if not data:
                held.pop(fd).close()
"""


@contextlib.contextmanager
def sink() -> Iterator[tuple[str, int]]:
    """Put a sink up; gives its address. It ends with the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        fd = listener.fileno()
        child = subprocess.Popen(
            [sys.executable, "-c", _SINK, str(fd)], stdin=subprocess.PIPE, pass_fds=(fd,)
        )
        try:
            yield listener.getsockname()
        finally:
            assert child.stdin is not None
            child.stdin.close()
            try:
                child.wait(10)
            finally:
                child.kill()
                child.wait()
