"""A connection that passes through a relay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..faults import Decision, start
from ._relay_flow import Flow

if TYPE_CHECKING:
    from ..faults import Plan
    from ._relay import Relay
    from ._relay_leg import Leg

__all__ = ("End", "RelayedConnection", "Tell")

Tell: TypeAlias = Callable[[Decision], None]
"""Is told each decision of a fault, in the relay's thread."""

End: TypeAlias = Literal["finished", "reset", "forced"]


class RelayedConnection:
    """Two sockets, and the two directions between them. Made by `Relay.join`.

    Its methods are for the relay's thread (see `Relay.call`); what it says may be read from any.

    Attributes:
        number: Its number, from 1: part of what faults draw their random numbers from.
        client: The leg towards the client.
        server: The leg towards the server.
        upstream: From client to server.
        downstream: From server to client.
        opened: When it was made, on the clock of `time.monotonic`.
        ended: When it ended; None while it lives.
        end: How: "finished" in order, "reset" by a RST, or "forced" by the end of the relay.
        error: What a fault or a trigger raised, if that is what ended it.
    """

    __slots__ = (
        "__weakref__",
        "_on_end",
        "_seed",
        "_tell",
        "client",
        "downstream",
        "end",
        "ended",
        "error",
        "number",
        "opened",
        "relay",
        "server",
        "upstream",
    )

    def __init__(
        self,
        relay: Relay,
        client: Leg,
        server: Leg,
        *,
        seed: int | str,
        number: int,
        tell: Tell,
        on_end: Callable[[Any], object] | None,
        opened: float | None = None,
    ) -> None:
        self.relay = relay
        self.number = number
        self.client = client
        self.server = server
        self.upstream = Flow(self, "upstream", client, server)
        self.downstream = Flow(self, "downstream", server, client)
        self.opened = monotonic() if opened is None else opened
        self.ended: float | None = None
        self.end: End | None = None
        self.error: Exception | None = None
        self._seed = seed
        self._tell = tell
        self._on_end = on_end

    def __repr__(self) -> str:
        return f"<RelayedConnection {self.number}: {self.end or 'open'}>"

    @property
    def flows(self) -> tuple[Flow, Flow]:
        """Both directions."""
        return self.upstream, self.downstream

    @property
    def legs(self) -> tuple[Leg, Leg]:
        """Both sockets."""
        return self.client, self.server

    def other(self, flow: Flow) -> Flow:
        """The opposite direction."""
        return self.downstream if flow is self.upstream else self.upstream

    # -- faults

    def begin(self, plans: Mapping[str, Plan]) -> None:
        """Carry from now on, through these faults."""
        self._change({}, plans)
        for leg in self.legs:
            leg.readable = True
        for flow in self.flows:
            if flow.reading:
                flow.pump()

    def add_faults(self, key: str, faults: Plan) -> None:
        """Let these faults be at work from now on, behind those that are.

        Args:
            key: What to remove them by.
            faults: The faults.
        """
        if self.end is None:
            self._change(None, {key: faults})

    def remove_faults(self, key: str) -> None:
        """Take these faults away; what they held goes on at once."""
        for flow in self.flows if self.end is None else ():
            stages = {name: make for name, make in flow.stages.items() if name.partition("\0")[0] != key}
            if len(stages) < len(flow.stages):
                flow.change(stages, monotonic())

    def _change(self, before: Mapping[str, Any] | None, plans: Mapping[str, Plan]) -> None:
        now = monotonic()
        for flow in self.flows:
            stages = dict(flow.stages if before is None else before)
            for key, faults in plans.items():
                started = start(
                    faults,
                    seed=self._seed,
                    connection=self.number,
                    direction=flow.direction,
                    transport="stream",
                    opened=self.opened,
                    note=self._tell,
                )
                stages.update((f"{key}\0{name}", make) for name, make in started)
            if stages or flow.stages:
                flow.change(stages, now)

    # -- ends

    def flow_done(self) -> None:
        """A direction has ended in order."""
        if self.end is None and self.upstream.done and self.downstream.done:
            for leg in self.legs:
                leg.close()
            self._over("finished")

    def close_other(self, flow: Flow) -> None:
        """A fault has closed the connection: the opposite direction ends, too, when what is on its way has arrived."""
        other = self.other(flow)
        other.finish(monotonic())
        other.end_stuck()

    def reset(self) -> None:
        """Cut it off: both sides get RST, what is on its way is lost."""
        self._cut("reset")

    def force(self) -> None:
        """Cut it off, since the relay ends."""
        self._cut("forced")

    def fail(self, error: Exception) -> None:
        """Something has raised that should not: cut it off, and keep the error."""
        self.error = error
        self.relay.errors.append(error)
        self.reset()

    def _cut(self, how: End) -> None:
        if self.end is None:
            for flow in self.flows:
                flow.drop()
            for leg in self.legs:
                leg.reset()
            self._over(how)

    def _over(self, how: End) -> None:
        self.end = how
        self.ended = monotonic()
        for flow in self.flows:
            flow.line = None
            flow.stages = {}
        self.relay.forget(self)
        if self._on_end is not None:
            self._on_end(self)
