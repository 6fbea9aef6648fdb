"""Carries bytes through a plan in virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from servertest.faults import Faults, Trace, plan, start
from servertest.wire._line import Ended, Line, Output

FOREVER = 1e9


@dataclass
class Carried:
    """What came out of a line."""

    outputs: list[tuple[float, Output]] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)

    @property
    def data(self) -> bytes:
        return b"".join(output for _, output in self.outputs if isinstance(output, bytes))

    @property
    def datagrams(self) -> list[bytes]:
        return [output for _, output in self.outputs if isinstance(output, bytes)]

    @property
    def ended(self) -> Ended | None:
        endings = [output for _, output in self.outputs if isinstance(output, Ended)]
        return endings[-1] if endings else None

    @property
    def times(self) -> list[float]:
        return [round(time, 9) for time, _ in self.outputs]

    @property
    def decided(self) -> list[str]:
        return [decision.what for decision in self.trace]


class Driver:
    """A line, a clock that somebody turns, and all that came out."""

    def __init__(self, faults: Faults, transport: Any = "stream", **site: Any) -> None:
        self.site = {"direction": "downstream", **site, "transport": transport}
        self.carried = Carried()
        self.line = Line(ordered=transport == "stream")
        self.now = 0.0
        self.set(faults)

    def set(self, faults: Faults) -> None:
        self.line.set_stages(start(plan(faults), note=self.carried.trace, **self.site), self.now)
        self._take()

    def until(self, time: float) -> None:
        """Turn the clock, stopping wherever the line wants to be called."""
        while (due := self.line.due) is not None and due <= time:
            self.now = max(self.now, due)
            self._take()
        self.now = max(self.now, time)
        self._take()

    def put(self, *data: bytes) -> None:
        for each in data:
            self.line.put(each, self.now)
            self._take()

    def finish(self) -> None:
        self.line.finish(self.now)
        self._take()

    def abort(self) -> None:
        self.line.abort(self.now)
        self._take()

    def _take(self) -> None:
        self.carried.outputs += [(self.now, output) for output in self.line.take(self.now)]


def carry(
    faults: Faults,
    data: bytes | Sequence[bytes] | Iterable[tuple[float, bytes]] = (),
    transport: Any = "stream",
    **site: Any,
) -> Carried:
    """Put bytes in, at once or at their times, then the end; and see what comes out in the whole of time."""
    driver = Driver(faults, transport, **site)
    for each in (data,) if isinstance(data, bytes) else data:
        time, chunk = each if isinstance(each, tuple) else (driver.now, each)
        driver.until(time)
        driver.put(chunk)
    driver.finish()
    driver.until(FOREVER)
    return driver.carried


def cut(data: bytes, *places: int) -> list[bytes]:
    """The bytes, cut at these places."""
    marks = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[start:stop] for start, stop in pairwise(marks) if data[start:stop]]
