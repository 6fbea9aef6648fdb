"""The ways between a faulty datagram socket and the peers of the real one."""

from __future__ import annotations

import contextlib
import marshal
import os
import socket
import struct
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from ._relay_datagrams import DatagramEnd, RelayedPeer
from ._relay_poller import ENDED, READABLE

if TYPE_CHECKING:
    from ..faults import Plan
    from ..transcript import Side
    from ._relay import Relay
    from ._relay_passage import Tell

__all__ = ("LARGEST_FRAME", "DatagramHub", "framed", "unframed")

_HEAD = struct.Struct("<HH")  # the number of an error, or 0; the size of the address

LARGEST_FRAME = 1 << 20
"""More than any frame has: 64 KiB for UDP, the sender's buffer (a few hundred KiB) for Unix sockets."""

#: Frames read in one go, so that one busy socket does not keep the others waiting.
_TURN = 64

#: Seconds after which reading goes on that was paused because somebody did not take what was read.
_PAUSE = 0.005

_WAIT = (BlockingIOError, InterruptedError)


def framed(address: Any, data: bytes, error: int = 0) -> bytes:
    """A datagram with its peer's address; or an error, by its number, in its place."""
    place = marshal.dumps(address)
    return _HEAD.pack(error, len(place)) + place + data


def unframed(frame: bytes) -> tuple[Any, bytes]:
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
        self.sock.send(framed(self.address, data))


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
                data, address = self.real.recvfrom(LARGEST_FRAME)
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
                frame = self.inner.recv(LARGEST_FRAME)
            except _WAIT:
                return
            except OSError:
                frame = b""
            if not frame:
                self.let_go()
                return
            address, data = unframed(frame)
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
                self.inner.send(framed(None, b"", error.errno))

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
