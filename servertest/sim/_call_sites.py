"""Faults of calls and of listeners in a simulation: which sockets they work on, and when."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ..faults import FailFork, derived_seed, start_calls, start_listener
from ..wire._faulty_calls import CallFaults

if TYPE_CHECKING:
    from ..faults import Plan, Verdict
    from ..transcript import Direction
    from ._network import Network
    from ._streams import StreamEnd

__all__ = ("CallSites", "SimCallFaults", "refuse_forks")


class SimCallFaults(CallFaults):
    """What goes wrong in the calls on one end, by the simulation's clock.

    Args:
        network: The network.
        number: The connection's number; 0 for a listener.
        receives: What the end receives.
        transport: "stream" or "datagram".
        listener: The end, if it listens.
    """

    __slots__ = ("_network", "listener", "receives", "transport")

    def __init__(
        self,
        network: Network,
        number: int,
        receives: Direction,
        transport: Any = "stream",
        listener: StreamEnd | None = None,
    ) -> None:
        super().__init__(number)
        self._network = network
        self.receives = receives
        self.transport = transport
        self.listener = listener
        self.opened = network.kernel.now / 1e9

    def verdicts(self, call: Any, size: int = 0) -> list[Verdict]:
        """See `CallFaults`."""
        now = self._network.kernel.now / 1e9
        asked = [calls.before(call, size, now) for calls in self._groups.values()]
        return [verdict for verdict in asked if verdict.error or verdict.delay or verdict.limit is not None]


class CallSites:
    """All ends of a simulation on whose calls something may go wrong.

    Args:
        network: The network.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def wanted(self) -> bool:
        """Whether there are such faults at all."""
        return any(_of_calls(plan) for plan in self._network.plans.values())

    def begin(self, end: Any) -> None:
        """An end listens, is about to be connected, or belongs to a connection now."""
        if not self.wanted:
            return
        if end.kind == socket.SOCK_DGRAM:
            self.arm(end, 1, "upstream" if end.bound is not None else "downstream")
        elif end.state == "listening":
            self.arm(end, 0, "upstream", listens=True)
        elif end.state == "connected":
            self.arm(end, end.number, "upstream" if end.side == "server" else "downstream")
        elif end.state == "new":
            self.arm(end, self._network.recorder.connections + 1, "downstream")

    def arm(self, end: Any, number: int, receives: Direction, *, listens: bool = False) -> None:
        """Let the faults that are at work now, and those to come, work on the calls on an end."""
        if isinstance(end.calls, SimCallFaults):
            end.calls.number = number
            return
        transport = "datagram" if end.kind == socket.SOCK_DGRAM else "stream"
        calls = end.calls = SimCallFaults(
            self._network, number, receives, transport, listener=end if listens else None
        )
        for key, plan in self._network.plans.items():
            self._put(calls, key, plan)

    def changed(self, key: Any, plan: Plan | None) -> None:
        """Other faults are at work from now on in the place of those of this key."""
        for end in list(self._network.ends):
            if isinstance(end.calls, SimCallFaults):
                self._put(end.calls, key, plan)
            elif end.state in ("listening", "connected") or end.kind == socket.SOCK_DGRAM:
                self.begin(end)

    def _put(self, calls: SimCallFaults, key: Any, plan: Plan | None) -> None:
        if plan is None or not _of_calls(plan):
            calls.put(str(key), None)
            calls.put(f"{key} listener", None)
        else:
            seed = self._network.seed if key == "" else derived_seed(self._network.seed, str(key))
            given: Any = {
                "seed": seed,
                "transport": calls.transport,
                "opened": self._network.kernel.now / 1e9,
                "note": self._network.recorder.decided,
            }
            calls.put(
                str(key),
                start_calls(plan, connection=max(calls.number, 1), receives=calls.receives, **given),
            )
            if calls.listener is not None:
                calls.put(f"{key} listener", start_listener(plan, number=self._next_of(calls), **given))
        if calls.listener is not None:
            self.set_backlog(calls.listener)

    def _next_of(self, calls: SimCallFaults) -> Any:
        def number() -> int:
            listener = calls.listener
            return listener.queue[0].number if listener is not None and listener.queue else 0

        return number

    def set_backlog(self, listener: StreamEnd) -> None:
        """Make the queue of a listener as long as its faults let it be."""
        limits = [one.limit for one in listener.calls.verdicts("listen") if one.limit is not None]
        listener.backlog = min([listener.wanted_backlog, *limits])


def _of_calls(plan: Plan) -> bool:
    return any(entry.fault.place != "line" or entry.fault.at_connect for entry in plan.entries)


def refuse_forks(plan: Plan) -> Plan:
    """The plan, if nothing in it needs a child process.

    Raises:
        UsageError: Something does.
    """
    if any(isinstance(entry.fault, FailFork) for entry in plan.entries):
        raise UsageError("FailFork: servers that fork cannot be simulated; take FailThreadStart")
    return plan
