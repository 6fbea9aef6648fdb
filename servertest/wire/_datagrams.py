"""Datagram sockets that write down what passes through them."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._support import UsageError

if TYPE_CHECKING:
    from ..transcript import Direction, Recorder, Side
    from ._observing import Buffer

__all__ = ("ObservedDatagramSocket", "observe_datagrams")

# Datagrams that are merely looked at, or that are errors reported by the system, are not recorded.
_ASIDE = socket.MSG_PEEK | getattr(socket, "MSG_ERRQUEUE", 0)


class Peers:
    """What one datagram socket, and its duplicates, have exchanged with whom."""

    __slots__ = ("_incoming", "_numbers", "_outgoing", "_recorder")

    def __init__(self, recorder: Recorder | None, side: Side) -> None:
        self._recorder = recorder
        self._numbers: dict[Any, int] = {}
        self._incoming: Direction = "upstream" if side == "server" else "downstream"
        self._outgoing: Direction = "downstream" if side == "server" else "upstream"

    def came(self, data: bytes, address: Any) -> None:
        """A datagram was received."""
        if self._recorder is not None:
            self._numbers[address] = self._recorder.datagram(self._incoming, data, address)

    def went(self, data: Buffer, address: Any) -> None:
        """A datagram was sent."""
        if self._recorder is not None:
            data = memoryview(data).cast("B")
            self._numbers[address] = self._recorder.datagram(self._outgoing, data, address)

    def number(self, address: Any) -> int | None:
        """The number that stands for this peer in the record, if it has been heard of."""
        return self._numbers.get(address)


class ObservedDatagramSocket(socket.socket):
    """A `socket.socket` that writes down the datagrams that pass; made by `observe_datagrams`."""

    __slots__ = ("peers",)

    peers: Peers

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        self.peers = Peers(None, "server")
        super().__init__(family, type, proto, fileno)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receive, and record the datagram."""
        data, address = super().recvfrom(bufsize, flags)
        if not flags & _ASIDE:
            self.peers.came(data, address)
        return data, address

    def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receive, and record the datagram."""
        count, address = super().recvfrom_into(buffer, nbytes, flags)
        if not flags & _ASIDE:
            self.peers.came(bytes(memoryview(buffer).cast("B")[:count]), address)
        return count, address

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive, and record the datagram."""
        return self.recvfrom(bufsize, flags)[0]

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive, and record the datagram."""
        return self.recvfrom_into(buffer, nbytes, flags)[0]

    def sendto(self, data: Buffer, *flags_and_address: Any) -> int:
        """Send, and record the datagram."""
        count: int = super().sendto(data, *flags_and_address)
        self.peers.went(data, flags_and_address[-1])
        return count

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Send to the peer that the socket is connected to, and record the datagram."""
        count = super().send(data, flags)
        self.peers.went(data, self.getpeername())
        return count

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Send to the peer that the socket is connected to, and record the datagram."""
        super().sendall(data, flags)
        self.peers.went(data, self.getpeername())

    if hasattr(socket.socket, "recvmsg"):

        def recvmsg(
            self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
        ) -> tuple[bytes, Any, int, Any]:
            """Receive, and record the datagram."""
            data, ancillary, msg_flags, address = super().recvmsg(bufsize, ancbufsize, flags)
            if not flags & _ASIDE:
                self.peers.came(data, address)
            return data, ancillary, msg_flags, address

        def recvmsg_into(
            self, buffers: Iterable[Buffer], ancbufsize: int = 0, flags: int = 0, /
        ) -> tuple[int, Any, int, Any]:
            """Receive, and record the datagram."""
            buffers = list(buffers)
            count, ancillary, msg_flags, address = super().recvmsg_into(buffers, ancbufsize, flags)
            if not flags & _ASIDE:
                self.peers.came(b"".join(buffers)[:count], address)
            return count, ancillary, msg_flags, address

        def sendmsg(
            self, buffers: Iterable[Buffer], ancdata: Any = (), flags: int = 0, address: Any = None, /
        ) -> int:
            """Send, and record the datagram."""
            buffers = list(buffers)
            count = super().sendmsg(buffers, ancdata, flags, address)
            self.peers.went(b"".join(buffers), self.getpeername() if address is None else address)
            return count

    def dup(self) -> ObservedDatagramSocket:
        """Duplicate; what passes through either is recorded."""
        double = super().dup()
        double.peers = self.peers
        return double


def observe_datagrams(
    sock: socket.socket, recorder: Recorder, *, side: Side = "server"
) -> ObservedDatagramSocket:
    """Record every datagram that passes through a socket.

    Use the socket that is returned; the given one is detached and empty afterwards.

    Args:
        sock: A datagram socket: UDP or Unix.
        recorder: A `Transcript`, or what stands for one in another process.
        side: The side that this socket is on.

    Raises:
        UsageError: The socket is of another transport, or is no plain ``socket.socket``.
    """
    if sock.type != socket.SOCK_DGRAM:
        raise UsageError(f"observe_datagrams() is for datagram sockets, and this is {sock!r}")
    timeout = sock.gettimeout()
    # What a subclass says of itself may be of another socket than its descriptor.
    family, type_, proto = (_own(sock, name) for name in ("family", "type", "proto"))
    observed = _observing_class(type(sock))(family, type_, proto, sock.detach())
    observed.settimeout(timeout)
    observed.peers = Peers(recorder, side)
    if hasattr(sock, "__dict__"):
        vars(observed).update(vars(sock))
    return observed


def _observing_class(kind: type[socket.socket]) -> type[ObservedDatagramSocket]:
    if kind is socket.socket or issubclass(kind, ObservedDatagramSocket):
        return ObservedDatagramSocket
    return type(f"Observed{kind.__name__}", (ObservedDatagramSocket, kind), {"__module__": __name__})


def _own(sock: socket.socket, name: str) -> int:
    return int(getattr(super(socket.socket, sock), name))
