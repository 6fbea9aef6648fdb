"""Datagrams that pass through a relay: what one peer and the server say to each other."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from .._support import format_address
from ._line import Ended, Line
from ._relay_passage import End, Passage
from ._relay_poller import ENDED, READABLE, WRITABLE

if TYPE_CHECKING:
    from ..faults import Plan
    from ..transcript import Direction, Recorder
    from ._line import StageMaker
    from ._relay_poller import Watched

__all__ = ("DatagramEnd", "DatagramFlow", "RelayedPeer")

#: Datagrams read in one go, so that one busy peer does not keep the others waiting.
_TURN = 64

#: Seconds after which a full Unix socket is tried again that the system does not tell about: an unconnected one.
_RETRY = 0.005

#: Turns of reading in which whatever a queue can hold has been read.
_DRAINED = 64

_WAIT = (BlockingIOError, InterruptedError)


class DatagramEnd:
    """One of the two ends: a connected socket of its own, or a place that a shared socket sends to.

    Args:
        sock: The socket. The end owns it, unless it is shared.
        recorder: Where its datagrams are written down; None for nowhere.
        peer: The address by which the record knows the conversation.
        address: Where to send with a shared socket; None if nothing can be sent there.
        shared: Whether the socket serves other peers as well, and belongs to somebody else.

    Attributes:
        incoming: The direction that reads from it.
        outgoing: The direction that writes to it.
    """

    __slots__ = (
        "address",
        "fd",
        "incoming",
        "outgoing",
        "peer",
        "readable",
        "recorder",
        "shared",
        "sock",
        "writable",
    )

    incoming: DatagramFlow
    outgoing: DatagramFlow

    def __init__(
        self,
        sock: socket.socket,
        recorder: Recorder | None,
        peer: Any,
        *,
        shared: bool = False,
        address: Any = None,
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.fd = sock.fileno()
        self.recorder = recorder
        self.peer = peer
        self.shared = shared
        self.address = address
        self.readable = False
        self.writable = True

    def ready(self, events: int) -> None:
        """The socket, which is this end's own, has become ready."""
        if events & WRITABLE:
            self.writable = True
            if self.outgoing.pending:
                self.outgoing.flush()
        if events & (READABLE | ENDED):
            self.readable = True
            self.incoming.pump()

    def failed(self, error: Exception) -> None:
        """Working for it has raised: what it belongs to cannot go on."""
        self.incoming.connection.fail(error)

    def send(self, data: bytes) -> None:
        """Send a datagram; raises what the system does."""
        if not self.shared:
            self.sock.send(data)
        elif self.address:
            self.sock.sendto(data, self.address)
        else:
            raise OSError(errno.EDESTADDRREQ, "it was sent from a socket without a name")

    def record(self, direction: Direction, data: bytes) -> None:
        """Write down that a datagram passed here."""
        if self.recorder is not None:
            self.recorder.datagram(direction, data, self.peer)

    def close(self) -> None:
        """Close the socket, if it is this end's own."""
        if not self.shared:
            self.sock.close()


class DatagramFlow:
    """Carries the datagrams of one direction.

    Attributes:
        line: Its line; None as long as no fault is at work.
        stages: What the line's stages are, by key.
        pending: What the sink could not take yet.
        received: Bytes that have come.
        delivered: Bytes that the sink has taken.
        lost: Datagrams that the system would not take, for a reason other than being busy.
        last: When the last one came.
        timer_at: When the relay calls `due`; None for never.
    """

    __slots__ = (
        "connection",
        "delivered",
        "direction",
        "last",
        "line",
        "lost",
        "pending",
        "received",
        "sink",
        "source",
        "stages",
        "timer_at",
    )

    def __init__(
        self, connection: RelayedPeer, direction: Direction, source: DatagramEnd, sink: DatagramEnd
    ) -> None:
        self.connection = connection
        self.direction = direction
        self.source = source
        self.sink = sink
        source.incoming = self
        sink.outgoing = self
        self.line: Line | None = None
        self.stages: dict[str, StageMaker] = {}
        self.pending: deque[bytes] = deque()
        self.received = self.delivered = self.lost = 0
        self.last = connection.opened
        self.timer_at: float | None = None

    @property
    def full(self) -> bool:
        """Whether the source should pause."""
        return bool(self.pending) or (self.line is not None and self.line.full)

    def pump(self) -> None:
        """Carry what the source, which has a socket of its own, has."""
        source, room = self.source, self.connection.relay.room
        turns = _TURN
        while source.readable and not source.shared and self.connection.end is None and not self.full:
            if not turns:
                self.connection.relay.again(self)
                return
            turns -= 1
            try:
                size = source.sock.recv_into(room)
            except _WAIT:
                source.readable = False
            except OSError as error:
                self.connection.unreachable(source, error)
            else:
                self.put(bytes(room[:size]))

    def put(self, data: bytes) -> None:
        """A datagram has come."""
        now = monotonic()
        self.received += len(data)
        self.last = now
        self.source.record(self.direction, data)
        if self.line is None:
            self._give(data)
        else:
            self.line.put(data, now)
            self.deliver(now)

    def deliver(self, now: float) -> None:
        """Give the sink what is due by now."""
        line = self.line
        if line is None:
            return
        for output in line.take(now):
            if isinstance(output, Ended):
                self.connection.close("finished")
                return
            self._give(output)
        if (due := line.due) is not None:
            self.connection.relay.call_at(due, self)

    def due(self, now: float) -> None:
        """It is `timer_at`."""
        if self.connection.end is None:
            self.deliver(now)
            self.flush()

    def failed(self, error: Exception) -> None:
        """Working for it has raised: nothing more passes."""
        self.connection.fail(error)

    def flush(self) -> None:
        """The sink may take what waits."""
        while self.pending and self._send(self.pending[0]):
            self.pending.popleft()
        if not self.pending:
            self.pump()

    def _give(self, data: bytes) -> None:
        if self.pending or not self._send(data):
            self.pending.append(data)

    def _send(self, data: bytes) -> bool:
        """Whether the sink was not too busy to take it."""
        sink = self.sink
        try:
            sink.send(data)
        except _WAIT:
            sink.writable = False
            if sink.shared:
                self.connection.relay.call_at(monotonic() + _RETRY, self)
            return False
        except OSError as error:
            self.lost += 1
            self.connection.unreachable(sink, error)
            return True
        self.delivered += len(data)
        sink.record(self.direction, data)
        return True

    def change(self, stages: dict[str, StageMaker], now: float) -> None:
        """Let these faults be at work from now on; those that stay go on as they were."""
        self.stages = stages
        if self.line is None:
            if not stages:
                return
            self.line = Line(ordered=False)
        line = self.line
        line.set_stages(tuple(stages.items()), now)
        self.deliver(now)
        if line.clear:
            self.line = None
        self.pump()


class RelayedPeer(Passage):
    """Two ends of datagrams, and the two directions between them."""

    __slots__ = ()

    transport: ClassVar = "datagram"
    way: ClassVar = DatagramFlow

    client: DatagramEnd
    server: DatagramEnd
    upstream: DatagramFlow
    downstream: DatagramFlow

    @property
    def watched(self) -> list[tuple[int, Watched]]:
        """See `Passage.watched`. A socket that serves other peers as well is watched by whoever owns it."""
        return [(end.fd, end) for end in (self.client, self.server) if not end.shared]

    @property
    def last(self) -> float:
        """When the last datagram came from either side."""
        return max(self.upstream.last, self.downstream.last)

    def begin(self, plans: Mapping[str, Plan]) -> None:
        """Carry from now on, through these faults."""
        self._begin_faults(plans)
        for flow in self.directions:
            flow.source.readable = True
            flow.pump()

    def unreachable(self, end: DatagramEnd, error: OSError) -> None:
        """The system says that an end cannot be reached, now or for the datagram sent before."""
        if end.recorder is not None:
            end.recorder.note(0, f"a datagram to {format_address(end.peer)} was lost: {error}")

    def close(self, how: End = "finished") -> None:
        """Forget the peer; what is on its way is lost."""
        if self.end is not None:
            return
        for flow in self.directions:
            flow.line = None
            flow.stages = {}
            flow.pending.clear()
        self._over(how)
        self.client.close()
        self.server.close()

    def drain(self) -> None:
        """Carry what has arrived by now."""
        for flow in self.directions:
            flow.source.readable = True
            for _ in range(_DRAINED):
                if self.end is not None or not flow.source.readable or flow.source.shared or flow.full:
                    break
                flow.pump()

    def force(self) -> None:
        """End it, since the relay ends."""
        self.close("forced")

    def abandon(self) -> None:
        """See `Passage.abandon`."""
        for end in (self.client, self.server):
            end.close()

    def reset(self) -> None:
        """End it at once."""
        self.close("reset")
