"""One direction of a simulated connection: from one end's send() to the other end's buffer, through a link and its faults."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any

from ..wire._line import ABORTED, CLOSED, FINISHED, Line
from ._handles import OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..wire._line import Output
    from ._route import Route
    from ._streams import StreamEnd

__all__ = ("LinePump", "Wire")


class LinePump:
    """Drives a line by the simulation's clock.

    Args:
        kernel: The kernel.
        line: What to drive.
        deliver: Takes what comes out.
        pumped: Is called after each round: there may be room now.
    """

    __slots__ = ("_deliver", "_kernel", "_pumped", "_timer", "line")

    def __init__(
        self, kernel: Any, line: Line, deliver: Callable[[Output], None], pumped: Callable[[], None]
    ) -> None:
        self._kernel = kernel
        self.line = line
        self._deliver = deliver
        self._pumped = pumped
        self._timer: int | None = None

    @property
    def now(self) -> float:
        """Seconds."""
        return float(self._kernel.now / 1e9)

    def pump(self, now: float | None = None) -> None:
        """Take what is due, and come back when more is."""
        for output in self.line.take(self.now if now is None else now):
            self._deliver(output)
        due = self.line.due
        if due is None:
            return
        when = max(math.ceil(due * 1e9), self._kernel.now)
        if self._timer is None or when < self._timer:
            self._timer = when
            self._kernel.call_at(when, lambda: self._on_timer(when))

    def _on_timer(self, when: int) -> None:
        if self._timer != when:
            return
        self._timer = None
        due = self.line.due
        now = self.now
        # A time in floating seconds may lie a hair behind the whole nanosecond that it was rounded up to.
        self.pump(due if due is not None and now < due <= (when + 1) / 1e9 else now)
        self._pumped()


class Wire:
    """From one end of a stream connection to the other.

    Attributes:
        source: The end that sends.
        sink: The end that receives.
        route: The way that packets take.
        capacity: Bytes that may be on their way or unread.
        cut: Whether a fault has ended the connection.
    """

    __slots__ = (
        "capacity",
        "cut",
        "direction",
        "held",
        "held_bytes",
        "number",
        "opened",
        "pump",
        "route",
        "sink",
        "source",
    )

    def __init__(self, source: StreamEnd, sink: StreamEnd, route: Route, number: int, direction: Any) -> None:
        self.source = source
        self.sink = sink
        self.route = route
        self.number = number
        self.direction = direction
        self.capacity = 0
        self.fit()
        self.cut = False
        self.held: list[Output] = []
        self.held_bytes = 0
        self.pump: LinePump | None = None
        self.opened = source.kernel.now / 1e9
        route.join(self)

    @property
    def room(self) -> int:
        """How many bytes may be sent now."""
        pump = self.pump
        waiting = self.held_bytes
        if pump is not None:
            if pump.line.full:
                return 0
            waiting += pump.line.waiting
        return max(self.capacity - waiting - len(self.sink.incoming), 0)

    def fit(self) -> None:
        """Hold as many bytes as the buffers of both ends: each has half of the window, unless a program says how many."""
        buffers = [
            end.options.get((socket.SOL_SOCKET, option))
            for end, option in ((self.source, socket.SO_SNDBUF), (self.sink, socket.SO_RCVBUF))
        ]
        window = self.route.window
        self.capacity = sum(size or window // 2 for size in buffers) if any(buffers) else window

    def set_stages(self, stages: Sequence[tuple[str, Any]]) -> None:
        """The faults have changed."""
        if self.pump is None:
            if not stages:
                return
            self.pump = LinePump(self.source.kernel, Line(), self._come, self._makes_room)
        self.pump.line.set_stages(stages, self.pump.now)
        self.pump.pump()

    def send(self, data: bytes) -> None:
        """Bytes go on their way."""
        if not self.source.host.up:
            return
        if self.cut:
            self.source.on_reset()
        elif self.pump is None:
            self._come(data)
        else:
            self.pump.line.put(data, self.pump.now)
            self.pump.pump()

    def finish(self) -> None:
        """FIN goes on its way."""
        if not self.source.host.up:
            return
        if self.pump is None:
            self._come(FINISHED)
        elif not self.cut:
            self.pump.line.finish(self.pump.now)
            self.pump.pump()

    def abort(self) -> None:
        """RST goes on its way."""
        if not self.source.host.up:
            return
        if self.pump is None:
            self._come(ABORTED)
        elif not self.cut:
            self.pump.line.abort(self.pump.now)
            self.pump.pump()

    def _come(self, output: Output) -> None:
        if self.route.closed:
            self.held.append(output)
            if isinstance(output, bytes):
                self.held_bytes += len(output)
        else:
            self._deliver(output)

    def let_go(self) -> None:
        """The way is free again."""
        held, self.held = self.held, []
        self.held_bytes = 0
        for output in held:
            self._deliver(output)
        self._makes_room()

    def _makes_room(self) -> None:
        self.source.changed(OUT)

    def _deliver(self, output: Output) -> None:
        if isinstance(output, bytes):
            self.sink.on_data(output)
        elif output is FINISHED:
            self.sink.on_fin()
        elif output is CLOSED:
            self._cut_both()
            self.sink.on_fin()
            self.source.on_fin()
        else:
            if self.source.state != "closed":
                self._cut_both()
                self.source.on_reset()
            self.sink.on_reset()

    def _cut_both(self) -> None:
        self.cut = True
        if self.sink.out is not None:
            self.sink.out.cut = True
