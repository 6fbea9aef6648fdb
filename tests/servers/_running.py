"""A server in a thread, and the small clients that the tests of the framework need. No fixture of ours: those are built on what is tested here."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from servertest import servers

LIMIT = 10.0  # seconds that anything in these tests may take before it counts as hanging


class Echo(servers.StreamRequestHandler):
    """Sends back each line in capitals."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Held(servers.StreamRequestHandler):
    """Says that it is there and waits for its client."""

    def handle(self) -> None:
        self.wfile.write(b"here\n")
        self.rfile.readline()


class EchoDatagram(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.packet.upper())


@contextlib.contextmanager
def serving(server: Any, **options: Any) -> Iterator[Any]:
    """`server` in a thread; stopped and closed at the end, unless the test did so. An exception of its loop is raised here."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.serve_forever(**options)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=run, name="serving")
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(LIMIT)
        server.server_close()
        assert not thread.is_alive(), "serve_forever() did not end"
    if failures:
        raise failures[0]


def connect(server: Any) -> socket.socket:
    client = socket.socket(server.address_family, socket.SOCK_STREAM)
    client.settimeout(LIMIT)
    client.connect(server.server_address)
    return client


def ask(server: Any, line: bytes = b"hello\n") -> bytes:
    """One line on a connection of its own, and what comes back until EOF."""
    with connect(server) as client:
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)


def join(thread: threading.Thread) -> None:
    thread.join(LIMIT)
    assert not thread.is_alive(), f"{thread.name} hangs"


def third_comes_when_first_goes(server: Any) -> None:
    """Three clients of a server that sees to two at a time, with Held as its handler."""
    with connect(server) as first, connect(server) as second, connect(server) as third:
        assert first.recv(5) == second.recv(5) == b"here\n"
        third.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(third.recv(5))
        third.settimeout(LIMIT)
        first.sendall(b"done\n")
        assert third.recv(5) == b"here\n"
        second.sendall(b"done\n")
        third.sendall(b"done\n")
