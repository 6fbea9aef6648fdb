"""A datagram socket between which and the real one the network is as bad as its faults want it.

What the program holds is one end of a private pair that keeps the boundaries of what is written. Each datagram travels on it in a
frame with its address, so that one socket serves any number of peers, as a real one does.
"""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from ._faulty_calls import FaultyCalls
from ._relay_datagrams import DatagramEnd, RelayedPeer
from ._relay_poller import ENDED, READABLE

if TYPE_CHECKING:
    from ..faults import Plan
    from ..transcript import Side
    from ._observing import Buffer
    from ._relay import Relay
    from ._relay_passage import Tell

__all__ = ("DatagramHub", "FaultyDatagramSocket", "datagrams_between")

_HEAD = struct.Struct("<HH")  # the number of an error, or 0; the size of the address

#: More than any frame has: 64 KiB for UDP, the sender's buffer (a few hundred KiB) for Unix sockets.
_LARGEST = 1 << 20

#: What a UDP datagram holds at most (IPv4; IPv6 has 20 bytes more).
_UDP_LARGEST = 65_507

#: Frames read in one go, so that one busy socket does not keep the others waiting.
_TURN = 64

#: Seconds after which reading goes on that was paused because somebody did not take what was read.
_PAUSE = 0.005

#: What limits the program's own calls, which are made on the private pair.
_OF_CALLS = {
    (socket.SOL_SOCKET, getattr(socket, name))
    for name in ("SO_SNDTIMEO", "SO_RCVTIMEO")
    if hasattr(socket, name)
}

_WAIT = (BlockingIOError, InterruptedError)
_UNIX = getattr(socket, "AF_UNIX", None)


def _frame(address: Any, data: bytes, error: int = 0) -> bytes:
    place = marshal.dumps(address)
    return _HEAD.pack(error, len(place)) + place + data


def _unframe(frame: bytes) -> tuple[Any, bytes]:
    """Address and datagram.

    Raises:
        OSError: What the frame brings is an error.
    """
    number, size = _HEAD.unpack_from(frame)
    if number:
        raise OSError(number, os.strerror(number))
    place = _HEAD.size + size
    return marshal.loads(frame[_HEAD.size : place]), frame[place:]  # noqa: S302 - from this process or its parent


class _Home(DatagramEnd):
    """The program's end: what goes there is framed."""

    __slots__ = ()

    def send(self, data: bytes) -> None:
        self.sock.send(_frame(self.address, data))


class _Away(DatagramEnd):
    """The peer's end."""

    __slots__ = ("connected",)

    connected: bool

    def send(self, data: bytes) -> None:
        if self.connected:
            self.sock.send(data)
        else:
            super().send(data)


class _Peer(RelayedPeer):
    """One peer of a faulty datagram socket."""

    __slots__ = ("hub",)

    hub: DatagramHub

    def unreachable(self, end: DatagramEnd, error: OSError) -> None:
        """The program is told, as with a real socket."""
        if isinstance(end, _Away):
            self.hub.tell_error(error)

    @property
    def silent(self) -> bool:
        """Whether nothing is on its way to the peer that will ever arrive."""
        flow = self.hub.away_flow(self)
        return not flow.pending and (flow.line is None or flow.line.due is None)


class _Reading:
    """One of the two sockets that a hub reads from."""

    def __init__(self, hub: DatagramHub, pump: Callable[[], None]) -> None:
        self.hub = hub
        self.pump = pump
        self.readable = True
        self.writable = True
        self.timer_at: float | None = None

    @property
    def connection(self) -> DatagramHub:
        """Whom an error of `pump` is told."""
        return self.hub

    def ready(self, events: int) -> None:
        if events & (READABLE | ENDED):
            self.readable = True
            self.pump()

    def due(self, now: float) -> None:
        self.pump()

    def failed(self, error: Exception) -> None:
        self.hub.fail(error)


class DatagramHub:
    """All ways between a faulty datagram socket and the peers of the real one.

    Args:
        relay: Carries them.
        real: The real socket.
        inner: The relay's end of the private pair.
        plans: The faults, by key; looked up for each new peer.
        side: Whose socket it is.
        seed: Where random numbers come from.
        next_number: Gives each peer its number.
        tell: Is told each decision.
        on_end: Is called when all is over.
    """

    def __init__(
        self,
        relay: Relay,
        real: socket.socket,
        inner: socket.socket,
        plans: Mapping[str, Plan],
        *,
        side: Side,
        seed: int | str,
        next_number: Callable[[], int],
        tell: Tell,
        on_end: Callable[[Any], object],
    ) -> None:
        self.relay = relay
        self.real = real
        self.inner = inner
        self.end: str | None = None
        self.connected = False
        self.pid = os.getpid()
        self._plans = plans
        self._side = side
        self._seed = seed
        self._next_number = next_number
        self._tell = tell
        self._on_end = on_end
        self._peers: dict[Any, _Peer] = {}
        self._leaving = False
        self._from_real = _Reading(self, self._pump_real)
        self._from_home = _Reading(self, self._pump_home)

    def begin(self, plans: Mapping[str, Plan]) -> None:
        """Carry from now on. In the relay's thread, as all that follows."""
        for sock in (self.real, self.inner):
            sock.setblocking(False)
        self.relay.add(cast("Any", self))
        self._pump_real()

    @property
    def watched(self) -> list[tuple[int, Any]]:
        """See `Passage.watched`."""
        return [(self.real.fileno(), self._from_real), (self.inner.fileno(), self._from_home)]

    def away_flow(self, peer: RelayedPeer) -> Any:
        """The direction towards a peer."""
        return peer.downstream if self._side == "server" else peer.upstream

    def home_flow(self, peer: RelayedPeer) -> Any:
        """The direction towards the program."""
        return peer.upstream if self._side == "server" else peer.downstream

    # -- faults

    def add_faults(self, key: str, faults: Plan) -> None:
        """See `Passage.add_faults`."""
        for peer in self._peers.values():
            peer.add_faults(key, faults)

    def replace_faults(self, key: str, faults: Plan) -> None:
        """See `Passage.replace_faults`."""
        for peer in self._peers.values():
            peer.replace_faults(key, faults)

    def remove_faults(self, key: str) -> None:
        """See `Passage.remove_faults`."""
        for peer in self._peers.values():
            peer.remove_faults(key)

    # -- carrying

    def _pump_real(self) -> None:
        for _ in range(_TURN):
            if self.end is not None or self._leaving:
                return
            try:
                data, address = self.real.recvfrom(_LARGEST)
            except _WAIT:
                return
            except OSError as error:
                self.tell_error(error)
                continue
            if not self._carry(self._from_real, self.home_flow(self._peer(address)), data):
                return
        self.relay.again(self._from_real)

    def _pump_home(self) -> None:
        for _ in range(_TURN):
            if self.end is not None:
                return
            try:
                frame = self.inner.recv(_LARGEST)
            except _WAIT:
                return
            except OSError:
                frame = b""
            if not frame:
                self.let_go()
                return
            address, data = _unframe(frame)
            if not self._carry(self._from_home, self.away_flow(self._peer(address)), data):
                return
        self.relay.again(self._from_home)

    def _carry(self, source: _Reading, flow: Any, data: bytes) -> bool:
        """Whether the source may go on at once: it pauses for somebody who does not take what comes."""
        flow.put(data)
        if flow.full:
            self.relay.call_at(monotonic() + _PAUSE, source)
        return not flow.full

    def _peer(self, address: Any) -> _Peer:
        if self.connected:
            address = None
        peer = self._peers.get(address)
        return self._new_peer(address) if peer is None else peer

    def _new_peer(self, address: Any) -> _Peer:
        home = _Home(self.inner, None, address, shared=True, address=address)
        away = _Away(self.real, None, address, shared=True, address=address)
        away.connected = self.connected
        client, server = (away, home) if self._side == "server" else (home, away)
        peer = _Peer(
            self.relay,
            client,
            server,
            seed=self._seed,
            number=self._next_number(),
            tell=self._tell,
            on_end=None,
        )
        peer.hub = self
        self._peers[address] = peer
        self.relay.add(peer)
        peer.begin(self._plans)
        return peer

    def tell_error(self, error: OSError) -> None:
        """Let the program's next call fail with what the system has said of the real socket."""
        if error.errno is not None:
            with contextlib.suppress(OSError):
                self.inner.send(_frame(None, b"", error.errno))

    # -- ends

    def let_go(self) -> None:
        """The program has closed its socket: what it has sent goes on, and nothing more is read for it."""
        self._leaving = True
        self._close_if_silent()

    def _close_if_silent(self) -> None:
        if self.end is not None:
            return
        waits = [self.away_flow(peer) for peer in self._peers.values() if not peer.silent]
        if not waits:
            self.close()
            return
        # Asked again when the next of them is due; pending ones are tried again soon in any case.
        times = [flow.line.due for flow in waits if not flow.pending and flow.line is not None]
        self.relay.call_at(min([time for time in times if time] or [monotonic() + _PAUSE]), _Again(self))

    def wind_up(self) -> None:
        """Whoever had the socket has ended."""
        self._pump_home()
        self.let_go()

    def peer_has_finished(self) -> bool:
        """Nobody can tell."""
        return False

    def force(self) -> None:
        """End it at once."""
        self.close()

    def fail(self, error: Exception) -> None:
        """Something has raised that should not."""
        self.relay.errors.append(error)
        self.close()

    def close(self) -> None:
        """Forget all peers, and close both sockets."""
        if self.end is not None:
            return
        self.end = "finished"
        for peer in list(self._peers.values()):
            peer.close()
        self.relay.forget(cast("Any", self))
        self.abandon()
        self._on_end(self)

    def abandon(self) -> None:
        """See `Passage.abandon`."""
        self.real.close()
        self.inner.close()


class _Again:
    """Looks again whether a hub can end."""

    def __init__(self, hub: DatagramHub) -> None:
        self._hub = hub
        self.timer_at: float | None = None

    def due(self, now: float) -> None:
        self._hub._close_if_silent()  # noqa: SLF001 - a part of it

    def failed(self, error: Exception) -> None:
        self._hub.fail(error)


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
        frame = socket.socket.recv(self, _LARGEST, flags & ~getattr(socket, "MSG_TRUNC", 0))
        # Nothing at all is the end: the socket was shut down.
        address, data = _unframe(frame) if frame else (None, b"")
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
        socket.socket.send(self, _frame(_completed(address, self.family), whole), flags)
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
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
    return pair
