"""A connection that passes through a relay."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from ._relay_flow import Flow
from ._relay_passage import End, Passage

if TYPE_CHECKING:
    from ..faults import Plan
    from ._relay_leg import Leg
    from ._relay_poller import Watched

__all__ = ("RelayedConnection",)


class RelayedConnection(Passage):
    """Two stream sockets, and the two directions between them."""

    __slots__ = ()

    transport: ClassVar = "stream"
    way: ClassVar = Flow

    client: Leg
    server: Leg
    upstream: Flow
    downstream: Flow

    @property
    def watched(self) -> list[tuple[int, Watched]]:
        """See `Passage.watched`."""
        return [(self.client.fd, self.client), (self.server.fd, self.server)]

    def other(self, flow: Flow) -> Flow:
        """The opposite direction."""
        return self.downstream if flow is self.upstream else self.upstream

    def begin(self, plans: Mapping[str, Plan]) -> None:
        """Carry from now on, through these faults."""
        self._begin_faults(plans)
        for flow in self.directions:
            if flow.reading:
                flow.source.readable = True
                flow.pump()

    # -- ends

    def drain(self) -> None:
        """Carry what has arrived by now; see `Flow.drain`."""
        for flow in self.directions:
            if self.end is None:
                flow.drain()

    @property
    def is_drained(self) -> bool:
        """Whether nothing waits for a sink to take it."""
        return self.end is not None or not any(flow.pending for flow in self.directions)

    def flow_done(self) -> None:
        """A direction has ended in order."""
        if self.end is None and self.upstream.done and self.downstream.done:
            self.end = "finished"
            self.client.close()
            self.server.close()
            self._over("finished")

    def close_other(self, flow: Flow) -> None:
        """A fault has closed the connection: the opposite direction ends, too, when what is on its way has arrived."""
        other = self.other(flow)
        other.finish(monotonic())
        other.end_stuck()

    def reset(self) -> None:
        """Cut it off: both sides get RST, what is on its way is lost."""
        if self.end is None:
            self.end = "reset"
            self._drop()
            self.client.reset()
            self.server.reset()
            self._over("reset")

    def force(self) -> None:
        """End it at once, and yet in order: both sides get FIN, what is on its way is lost."""
        if self.end is None:
            self.end = "forced"
            self._drop()
            for leg in (self.client, self.server):
                leg.finish_sending()
                leg.close("forced")
            self._over("forced")

    def abandon(self) -> None:
        """See `Passage.abandon`."""
        for leg in (self.client, self.server):
            leg.sock.close()

    def _drop(self) -> None:
        for flow in self.directions:
            flow.drop()

    def _over(self, how: End) -> None:
        for flow in self.directions:
            flow.line = None
            flow.stages = {}
        super()._over(how)
        self.relay.take_apart(self)

    def come_apart(self) -> None:
        """It has ended, and nobody is busy with it: undo the circles in which its parts hold each other, for the collector of garbage
        would take longer.
        """
        for leg in (self.client, self.server):
            del leg.incoming, leg.outgoing
        for flow in self.directions:
            flow.drop()
            # What is still to be done for it is nothing.
            flow.resting, flow.timer_at = False, None
            del flow.connection
