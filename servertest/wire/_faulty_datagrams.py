"""A datagram socket between which and the real one the network is as bad as its faults want it.

What the program holds is one end of a private pair that keeps the boundaries of what is written. Each datagram travels on it in a
frame with its address, so that one socket serves any number of peers, as a real one does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ._faulty_calls import FaultyCalls
from ._faulty_hub import LARGEST_FRAME, DatagramHub, framed, unframed

if TYPE_CHECKING:
    from ..faults import Plan
    from ..transcript import Side
    from ._observing import Buffer
    from ._relay import Relay
    from ._relay_passage import Tell

__all__ = ("FaultyDatagramSocket", "datagrams_between")

#: What a UDP datagram holds at most (IPv4; IPv6 has 20 bytes more).
_UDP_LARGEST = 65_507

#: What limits the program's own calls, which are made on the private pair.
_OF_CALLS = {
    (socket.SOL_SOCKET, getattr(socket, name))
    for name in ("SO_SNDTIMEO", "SO_RCVTIMEO")
    if hasattr(socket, name)
}

_UNIX = getattr(socket, "AF_UNIX", None)


class FaultyDatagramSocket(FaultyCalls, socket.socket):
    """A `socket.socket` for datagrams, with faults; made by `faulty`.

    Attributes:
        servertest_hub: The ways to its peers; None if it is on the real descriptor, because only its calls go wrong.
    """

    servertest_hub: DatagramHub | None = None
    servertest_here: Any = None
    servertest_there: Any = None
    servertest_family: Any = None
    servertest_proto: int = 0

    # -- who it is

    @property
    def family(self) -> Any:
        """The real socket's."""
        return super().family if self.servertest_hub is None else self.servertest_family

    @property
    def type(self) -> Any:
        """The real socket's."""
        return super().type if self.servertest_hub is None else socket.SOCK_DGRAM

    @property
    def proto(self) -> Any:
        """The real socket's."""
        return super().proto if self.servertest_hub is None else self.servertest_proto

    def getsockname(self) -> Any:
        """The real socket's own address."""
        own = super().getsockname()  # raises if it is closed
        if self.servertest_hub is None:
            return own
        with contextlib.suppress(OSError):  # in a forked child the real one is not open
            self.servertest_here = self.servertest_hub.real.getsockname()
        return self.servertest_here

    def getpeername(self) -> Any:
        """The address that the real socket is connected to."""
        if self.servertest_hub is None:
            return super().getpeername()
        if not self.servertest_hub.connected:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.servertest_there

    def connect(self, address: Any, /) -> None:
        """Connect the real socket."""
        hub = self.servertest_hub
        if hub is None:
            super().connect(address)
            return
        self.servertest_calls.before("connect", timeout=self.gettimeout())
        hub.real.connect(address)
        hub.connected = True
        self.servertest_there = hub.real.getpeername()

    def getsockopt(self, level: int, option: int, *size: Any) -> Any:
        """The real socket's, as long as it can be asked."""
        hub = self.servertest_hub
        if hub is not None and hub.real.fileno() >= 0 and option != getattr(socket, "SO_ERROR", None):
            return hub.real.getsockopt(level, option, *size)
        return super().getsockopt(level, option, *size)

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        """Set it on the real socket."""
        hub = self.servertest_hub
        if hub is None or hub.real.fileno() < 0 or (level, option) in _OF_CALLS:
            super().setsockopt(level, option, *value)
        else:
            hub.real.setsockopt(level, option, *value)

    # -- receiving

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receive a datagram."""
        if self.servertest_hub is None:
            return super().recvfrom(bufsize, flags)
        address, data = self._receive(bufsize, flags)
        return data[:bufsize], address

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive a datagram."""
        return (
            super().recv(bufsize, flags) if self.servertest_hub is None else self.recvfrom(bufsize, flags)[0]
        )

    def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """Receive a datagram."""
        if self.servertest_hub is None:
            return super().recvfrom_into(buffer, nbytes, flags)
        with memoryview(buffer) as given, given.cast("B") as view:
            address, data = self._receive(nbytes or len(view), flags)
            data = data[: nbytes or len(view)]
            view[: len(data)] = data
        return len(data), address

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive a datagram."""
        if self.servertest_hub is None:
            return super().recv_into(buffer, nbytes, flags)
        return self.recvfrom_into(buffer, nbytes, flags)[0]

    if hasattr(socket.socket, "recvmsg"):

        def recvmsg(
            self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
        ) -> tuple[bytes, Any, int, Any]:
            """Receive a datagram; ancillary data stays behind."""
            if self.servertest_hub is None:
                return super().recvmsg(bufsize, ancbufsize, flags)
            address, data = self._receive(bufsize, flags)
            return data[:bufsize], [], socket.MSG_TRUNC if len(data) > bufsize else 0, address

        def sendmsg(
            self, buffers: Iterable[Buffer], ancdata: Any = (), flags: int = 0, address: Any = None, /
        ) -> int:
            """Send a datagram; ancillary data stays behind."""
            if self.servertest_hub is None:
                return super().sendmsg(buffers, ancdata, flags, *(() if address is None else (address,)))
            return self._send(b"".join(buffers), flags, address)

    def _receive(self, size: int, flags: int) -> tuple[Any, bytes]:
        self._may_receive(size)
        frame = socket.socket.recv(self, LARGEST_FRAME, flags & ~getattr(socket, "MSG_TRUNC", 0))
        # Nothing at all is the end: the socket was shut down.
        address, data = unframed(frame) if frame else (None, b"")
        if not flags & socket.MSG_PEEK:
            self.servertest_calls.moved("recv", data)
        return address, data

    # -- sending

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Send a datagram to the peer that the socket is connected to."""
        return super().send(data, flags) if self.servertest_hub is None else self._send(data, flags, None)

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Send a datagram to the peer that the socket is connected to."""
        FaultyDatagramSocket.send(self, data, flags)

    def sendto(self, data: Buffer, *flags_and_address: Any) -> int:
        """Send a datagram."""
        if self.servertest_hub is None:
            return super().sendto(data, *flags_and_address)
        *flags, address = flags_and_address
        return self._send(data, flags[0] if flags else 0, address)

    def _send(self, data: Buffer, flags: int, address: Any) -> int:
        with memoryview(data) as given:
            whole = bytes(given.cast("B"))
        self._may_send(len(whole))
        assert self.servertest_hub is not None
        if address is None and not self.servertest_hub.connected:
            raise OSError(errno.EDESTADDRREQ, os.strerror(errno.EDESTADDRREQ))
        if self.family != _UNIX and len(whole) > _UDP_LARGEST:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        socket.socket.send(self, framed(_completed(address, self.family), whole), flags)
        self.servertest_calls.moved("send", whole)
        return len(whole)

    # -- its life

    def dup(self) -> FaultyDatagramSocket:
        """Duplicate; the real one is closed when both are."""
        own_family, own_type, own_proto = (
            super(socket.socket, self).family,
            super(socket.socket, self).type,
            super(socket.socket, self).proto,
        )
        double = type(self)(own_family, own_type, own_proto, socket.dup(self.fileno()))
        double.settimeout(self.gettimeout())
        vars(double).update(vars(self))
        return double


def _completed(address: Any, family: int) -> Any:
    """An address as the system would give it for the same peer, so that one peer stays one."""
    if not isinstance(address, tuple):
        return address
    if family == getattr(socket, "AF_INET6", None):
        return (*address, 0, 0)[:4]
    return address


def datagrams_between(
    relay: Relay,
    real: socket.socket,
    plans: Mapping[str, Plan],
    begin: Callable[[DatagramHub], None],
    *,
    side: Side,
    seed: int | str,
    next_number: Callable[[], int],
    tell: Tell,
    on_end: Callable[[Any], object],
) -> FaultyDatagramSocket:
    """Put ways with faults between a real datagram socket, which belongs to the relay from now on, and the one returned.

    See `DatagramHub`; ``begin`` is called in the relay's thread, and lets the hub begin.
    """
    timeout, family, proto = real.gettimeout(), real.family, real.proto
    outer, inner = _packet_pair()
    made = FaultyDatagramSocket(outer.family, outer.type, outer.proto, outer.detach())
    made.settimeout(timeout)
    taken = socket.socket(family, socket.SOCK_DGRAM, proto, real.detach())
    hub = DatagramHub(
        relay, taken, inner, plans, side=side, seed=seed, next_number=next_number, tell=tell, on_end=on_end
    )
    made.servertest_family, made.servertest_proto = family, proto
    made.servertest_here = taken.getsockname()
    with contextlib.suppress(OSError):
        made.servertest_there = taken.getpeername()
        hub.connected = True
    made.servertest_hub = hub
    try:
        relay.call(lambda: begin(hub))
    except BaseException:
        for sock in (made, inner, taken):
            sock.close()
        raise
    return made


def _packet_pair() -> tuple[socket.socket, socket.socket]:
    try:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_FRAME)
    return pair
