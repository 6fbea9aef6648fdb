"""Planned conversations with a server that runs: for subjects that are no handlers which could be called in memory.

What a plan asks for is done over a real connection and in real time. A client cannot see when a server waits for input: it waits for replies that are due,
and otherwise for a moment. Pieces may then arrive together, so something may be missed; nothing is found that is not there.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from .._support import ServertestError, hard_reset
from ..launch import Kind, Running, launch
from ._live import failures_of
from ._plan import DatagramPlan, Ended, Plan, Record, Wait

__all__ = ("LiveBench", "can_be_live")

#: Seconds that a client waits between two pieces if nothing is due, and for what is due.
_MOMENT, _DUE = 0.004, 1.0


def can_be_live(plan: Plan | DatagramPlan) -> bool:
    """Whether a plan asks for nothing that only a handler in memory can be given."""
    if isinstance(plan, DatagramPlan):
        return False
    rest = (plan.send_limit, plan.inner, plan.at_wait, plan.at_send, plan.at_step)
    special = (
        plan.count_steps
        or plan.measure
        or plan.times > 1
        or plan.ending == "silence"
        or plan.family == "inet6"
    )
    if special or any(one is not None for one in rest) or any(piece.pause for piece in plan.pieces):
        return False
    return all(can_be_live(one) for one in (*plan.before, *plan.after))


class LiveBench:
    """Holds planned conversations with a server of one kind.

    Args:
        target: The subject.
        kind: The kind of server.
        hosting: How it is launched: keywords of `launch`.
    """

    def __init__(self, target: Any, kind: Kind, hosting: Mapping[str, Any]) -> None:
        self._target = target
        self._hosting = hosting
        self._kind = kind
        self._running: Running | None = None

    def close(self) -> None:
        """Stop the server."""
        running, self._running = self._running, None
        if running is not None:
            running.errors.clear()
            with suppress(ServertestError):
                running.stop()

    def rehearse(self, plans: Iterable[Any], *, fresh: bool = False, limit: float = 2.0) -> list[Any]:
        """As `Bench.rehearse`, for plans that `can_be_live`."""
        records = []
        for plan in plans:
            if fresh:
                self.close()
            records.append(self._play(plan, limit))
        return records

    def _play(self, plan: Plan, limit: float) -> Record:
        if self._running is None:
            self._running = launch(self._target, kind=self._kind, timeout=limit, **self._hosting)
        for earlier in plan.before:
            self._hold(self._running, earlier, limit)
        record = self._hold(self._running, plan, limit)
        if record.outcome == "hung":
            self.close()
            return record
        after = [self._hold(self._running, following, limit) for following in plan.after]
        return Record(
            record.outcome,
            record.received,
            record.waits,
            record.failure,
            after=tuple(after),
            events=record.events,
        )

    def _hold(self, running: Running, plan: Plan, limit: float) -> Record:
        running.errors.clear()
        client = _Client(running.address, plan, limit)
        ended = client.run()
        transcript = running.transcript
        if transcript is not None and ended == "returned":
            with suppress(ServertestError):
                transcript.wait_idle(timeout=limit)
        # What an earlier conversation has raised may only come to be known now.
        number = len(transcript.connections) if transcript is not None else 0
        failures = failures_of([error for error in running.errors.clear() if error.connection in (0, number)])
        return Record(
            "raised" if failures else ended,
            bytes(client.received),
            tuple(client.waits),
            failures[0] if failures else None,
            events=tuple(client.events),
            stacks=running.dump() if ended == "hung" else "",
        )


class _Client:
    """One conversation from the client's side."""

    def __init__(self, address: Any, plan: Plan, limit: float) -> None:
        family = (
            socket.AF_UNIX
            if isinstance(address, str | bytes)
            else socket.AF_INET6
            if len(address) > 2
            else socket.AF_INET
        )
        self._sock = socket.socket(family)
        self._address = address
        self._plan = plan
        self._limit = limit
        self._sent = 0
        self._over = False
        self.received = bytearray()
        self.waits: list[Wait] = []
        self.events: list[tuple[str, bytes]] = []

    def run(self) -> Ended:
        """Do what the plan says; how it ended."""
        with self._sock:
            self._sock.settimeout(self._limit)
            self._sock.connect(self._address)
            if self._sock.family != socket.AF_UNIX:
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in self._plan.pieces:
                self._wait()
                self._send(piece.data)
            if not self._plan.early_end:
                self._wait()
            return self._end()

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError:  # the server has closed; what it said before is still to be read
            self._over = True
        self._sent += len(data)
        self.events.append((">", data))

    def _wait(self) -> None:
        """Let replies come: what is due, or whatever comes within a moment."""
        due = dict(self._plan.due or ()).get(self._sent, 0)
        end = monotonic() + (_DUE if due > len(self.received) else _MOMENT)
        while (
            not self._over
            and monotonic() < end
            and (due == 0 or len(self.received) < due)
            and not self._cut()
        ):
            if not self._comes(end):
                break
            self._read()
        self.waits.append(Wait(self._sent, len(self.received), 0.0))

    def _comes(self, end: float) -> bool:
        """Whether something can be read until then. Not by select(), which knows no descriptor above 1023."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            return bool(selector.select(max(0.0, end - monotonic())))

    def _cut(self) -> bool:
        return self._plan.reset_after is not None and len(self.received) >= self._plan.reset_after

    def _read(self) -> None:
        try:
            data = self._sock.recv(65_536)
        except OSError:
            data = b""
        self._over = self._over or not data
        self.received += data
        if data:
            self.events.append(("<", data))

    def _end(self) -> Ended:
        ending = "reset" if self._plan.reset_after is not None else self._plan.ending
        self.events.append((ending, b""))
        if ending == "reset":
            hard_reset(self._sock)
        elif ending == "fin":
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
            end = monotonic() + self._limit
            while not self._over:
                if not self._comes(end):
                    return "hung"
                self._read()
        return "returned"
