"""From a plan to what goes wrong in the calls of one socket, or of one listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from ._call_gate import CallGate
from ._calls import PASS, Calls, Verdict
from ._stage import Site
from ._start import teller, untold

if TYPE_CHECKING:
    from .._support import Transport
    from ..transcript import Direction
    from ._fault import Entry, Plan
    from ._trace import Decision

__all__ = ("start_calls", "start_listener")


def start_calls(
    plan: Plan,
    *,
    seed: int | str = 0,
    connection: int = 1,
    receives: Direction = "downstream",
    transport: Transport = "stream",
    opened: float = 0.0,
    note: Callable[[Decision], None] = untold,
) -> Calls:
    """What has to be asked before each call on a socket. The strictest verdict of all faults counts.

    A fault that is aimed the way in which the socket receives works on ``recv`` alone; aimed the other way, on ``send``.

    Args:
        plan: The faults; those of other places are left out.
        seed: The seed of the run.
        connection: The connection's number, from 1.
        receives: What the socket receives: "downstream" at a client, "upstream" at a server.
        transport: "stream" or "datagram".
        opened: When the connection was made.
        note: Is told each decision.

    Raises:
        UsageError: A fault is for the other transport.
    """
    plan.check(transport)
    faults: list[Calls] = []
    for name, stream, entry in plan.streams():
        if entry.fault.place != "calls" and not entry.fault.at_connect:
            continue
        site = Site(
            seed,
            stream,
            connection=connection,
            direction=entry.direction or receives,
            transport=transport,
            opened=opened,
            note=teller(note, connection, entry.direction or receives, name),
        )
        if entry.trigger is None or entry.trigger.meets(site):
            faults.append(_aimed(entry, site, receives))
    return _Together(faults)


def start_listener(
    plan: Plan,
    *,
    seed: int | str = 0,
    transport: Transport = "stream",
    opened: float = 0.0,
    note: Callable[[Decision], None] = untold,
    number: Callable[[], int] | None = None,
) -> Calls:
    """What has to be asked by a listener: before it listens, before each ``accept`` for which somebody has come, and before each
    thread or fork that shall serve. What is accepted next is connection 1, 2, ... for triggers; a call that fails counts.

    Args:
        plan: The faults; those of other places are left out.
        seed: The seed of the run.
        transport: "stream" or "datagram".
        opened: When the listener began.
        note: Is told each decision.
        number: Says which connection would be accepted next, where somebody knows; else they are counted from 1.

    Raises:
        UsageError: A fault is for the other transport.
    """
    plan.check(transport)
    faults: list[Calls] = [
        _Numbered(
            name,
            entry,
            Site(seed, stream, direction="upstream", transport=transport, opened=opened),
            note,
            count(1).__next__ if number is None else number,
        )
        for name, stream, entry in plan.streams()
        if entry.fault.place == "listener"
    ]
    return _Together(faults)


def _aimed(entry: Entry, site: Site, receives: Direction) -> Calls:
    calls = entry.fault.calls(site)
    if entry.trigger is not None and entry.trigger.counts:
        calls = CallGate(calls, entry.trigger, site.transport)
    if entry.trigger is not None and entry.trigger.between is not None:
        calls = _Timed(calls, site.opened, entry.trigger.between)
    if entry.fault.place != "calls":
        calls = _OneWay(calls, "connect")
    elif entry.direction is not None:
        calls = _OneWay(calls, "recv" if entry.direction == receives else "send")
    return calls


class _Around(Calls):
    """Lets some calls come to others, which count what passes and remember it."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    @property
    def memory(self) -> Any:
        return self._calls.memory

    @memory.setter
    def memory(self, memory: Any) -> None:
        self._calls.memory = memory

    def moved(self, call: str, data: bytes) -> None:
        self._calls.moved(call, data)


class _OneWay(_Around):
    def __init__(self, calls: Calls, call: str) -> None:
        super().__init__(calls)
        self._call = call

    def before(self, call: str, size: int, now: float) -> Verdict:
        return self._calls.before(call, size, now) if call == self._call else PASS


class _Timed(_Around):
    def __init__(self, calls: Calls, opened: float, between: tuple[float, float]) -> None:
        super().__init__(calls)
        self._start, self._stop = (opened + time for time in between)

    def before(self, call: str, size: int, now: float) -> Verdict:
        if not self._start <= now < self._stop:
            return PASS
        verdict = self._calls.before(call, size, now)
        # Who would have to wait for longer goes on when the time is over.
        return replace(verdict, delay=self._stop - now) if verdict.delay > self._stop - now else verdict


class _Numbered(_Around):
    """Counts connections for a fault's trigger; the fault's own count goes over those that the trigger lets it see."""

    def __init__(
        self,
        name: str,
        entry: Entry,
        site: Site,
        note: Callable[[Decision], None],
        number: Callable[[], int],
    ) -> None:
        self._name = name
        self._number = number
        self._trigger = entry.trigger
        self._site = site
        self._site.connection = 0
        self._site.note = self._tell
        self._note = note
        super().__init__(entry.fault.calls(site))
        if self._trigger is not None and self._trigger.between is not None:
            self._calls = _Timed(self._calls, site.opened, self._trigger.between)
        self._meets = True

    def before(self, call: str, size: int, now: float) -> Verdict:
        if call == "listen" and self._trigger is not None:
            return PASS  # the listener is everybody's
        if call == "accept":
            self._site.connection = self._number()
            self._meets = self._trigger is None or self._trigger.meets(self._site)
        return self._calls.before(call, size, now) if self._meets else PASS

    def _tell(self, time: float, what: str) -> None:
        site = self._site
        teller(self._note, site.connection, site.direction, self._name)(time, what)


class _Together(Calls):
    """Asks all faults, so that each counts every call."""

    def __init__(self, faults: list[Calls]) -> None:
        self._faults = faults

    def __bool__(self) -> bool:
        return bool(self._faults)

    @property
    def memory(self) -> tuple[Any, ...]:
        return tuple(fault.memory for fault in self._faults)

    @memory.setter
    def memory(self, memory: tuple[Any, ...]) -> None:
        for fault, its in zip(self._faults, memory, strict=True):
            fault.memory = its

    def before(self, call: str, size: int, now: float) -> Verdict:
        verdicts = [fault.before(call, size, now) for fault in self._faults]
        errors = [verdict.error for verdict in verdicts if verdict.error]
        limits = [verdict.limit for verdict in verdicts if verdict.limit is not None]
        return Verdict(
            error=errors[0] if errors else None,
            limit=min(limits, default=None),
            delay=max((verdict.delay for verdict in verdicts), default=0.0),
        )

    def moved(self, call: str, data: bytes) -> None:
        for fault in self._faults:
            fault.moved(call, data)
