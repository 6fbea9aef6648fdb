"""Sockets for both ends of a relayed connection, and how a stream is read to its end."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from servertest._support import SocketDirectory, bound_socket
from servertest.faults import Decision, Faults, plan
from servertest.transcript import Transcript
from servertest.wire._relay import Relay
from servertest.wire._relay_connection import RelayedConnection
from servertest.wire._relay_datagrams import DatagramEnd, RelayedPeer
from servertest.wire._relay_leg import Leg, make_prompt
from servertest.wire._relay_passage import Passage

LIMIT = 10.0
"""Seconds that nothing here takes unless it is broken."""

LONG = 100.0
"""The same for what all tests of a module have begun together, and each comes to when it is its turn."""


def connected(family: str = "inet") -> tuple[socket.socket, socket.socket]:
    """The two ends of one connection."""
    with SocketDirectory() as directory, bound_socket("stream", family, directory=directory) as listener:  # type: ignore[arg-type]
        client = socket.socket(listener.family)
        client.settimeout(LIMIT)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        server.settimeout(LIMIT)
        return client, server


@dataclass
class Joined:
    """A client's and a server's socket with a relay between them."""

    client: socket.socket
    server: socket.socket
    connection: RelayedConnection
    over: threading.Event

    def wait_end(self) -> str | None:
        """How the connection ended."""
        assert self.over.wait(LIMIT), self.connection
        return self.connection.end

    def ends(self, direction: str) -> tuple[socket.socket, socket.socket]:
        """Who sends in this direction, and who receives."""
        return (self.client, self.server) if direction == "upstream" else (self.server, self.client)

    def close(self) -> None:
        self.client.close()
        self.server.close()


def join(
    relay: Relay,
    faults: Faults = None,
    *,
    near: str = "inet",
    far: str = "inet",
    transcript: Transcript | None = None,
    upstream_transcript: Transcript | None = None,
    **options: Any,
) -> Joined:
    """A relayed connection between two fresh pairs."""
    client, client_end = connected(near)
    server_end, server = connected(far)
    over = threading.Event()
    number = 0 if transcript is None else transcript.connect(client.getsockname(), client.getpeername())
    onward = (
        0
        if upstream_transcript is None
        else upstream_transcript.connect(server_end.getsockname(), server_end.getpeername())
    )
    for sock in (client_end, server_end):
        make_prompt(sock)
    try:
        connection = carried(
            relay,
            RelayedConnection,
            Leg(client_end, "client", transcript, number),
            Leg(server_end, "server", upstream_transcript, onward),
            faults,
            on_end=lambda _: over.set(),
            **options,
        )
        return Joined(client, server, connection, over)
    except BaseException:
        client.close()
        server.close()
        raise


def join_datagrams(
    relay: Relay, near: socket.socket, far: socket.socket, faults: Faults = None
) -> RelayedPeer:
    """Relay between two connected datagram sockets."""
    ends = DatagramEnd(near, None, near.getpeername()), DatagramEnd(far, None, far.getsockname())
    return carried(relay, RelayedPeer, *ends, faults, on_end=None)


P = TypeVar("P", bound=Passage)


def carried(
    relay: Relay,
    kind: type[P],
    client: Any,
    server: Any,
    faults: Faults,
    *,
    on_end: Callable[[Any], object] | None,
    seed: int = 0,
    connection: int = 1,
    trace: Callable[[Decision], None] | None = None,
) -> P:
    """Something that is carried between two ends."""
    wanted = plan(faults)
    wanted.check(kind.transport)
    tell = (lambda decision: None) if trace is None else trace

    def begin() -> P:
        made = kind(
            relay,
            client,
            server,
            seed=seed,
            number=connection,
            tell=tell,
            on_end=on_end,
        )
        relay.carry(made, {"": wanted})
        return made

    return relay.call(begin)


def read_all(sock: socket.socket, size: int = -1) -> tuple[bytes, str]:
    """What comes until the end, or until so many bytes, and how it ends: "fin", "rst" or "open"."""
    got = bytearray()
    while len(got) < size or size < 0:
        try:
            data = sock.recv(65536)
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE):
                raise
            return bytes(got), "rst"
        if not data:
            return bytes(got), "fin"
        got += data
    return bytes(got), "open"


def cut_off(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def send_all(sock: socket.socket, data: bytes) -> None:
    """Send, and let the other side have cut the connection off meanwhile."""
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    except (ConnectionError, OSError) as error:
        if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
            raise
