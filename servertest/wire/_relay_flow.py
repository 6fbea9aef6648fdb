"""One direction of a relayed connection: from one socket through a line to the other."""

from __future__ import annotations

import errno
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from ._line import ABORTED, CLOSED, FINISHED, Ended, Line

if TYPE_CHECKING:
    from ..transcript import Direction
    from ._line import StageMaker
    from ._relay_connection import RelayedConnection
    from ._relay_leg import Leg

__all__ = ("Flow",)

#: Reads in one go, so that one busy connection does not keep the others waiting.
_TURN = 8

#: Pieces sent in one go: a fault may cut what it lets pass into thousands.
_PIECES = 64

#: Seconds that a sink which takes nothing may keep back the RST of a source that was cut off.
_RESET_PATIENCE = 1.0

#: Bytes that are read at once from a source that is to end: more than its buffers hold, and no more than a source can send for ever.
_DRAINED = 1 << 25

_WAIT = (BlockingIOError, InterruptedError)


class Flow:
    """Carries what its source sends to its sink.

    Where no fault is at work there is no line, and bytes go from a buffer that all connections share straight into
    the sink. A sink that does not take everything makes the rest wait here, and the source pause.

    Attributes:
        line: Its line; None as long as no fault is at work.
        stages: What the line's stages are, by key.
        pending: What the sink has to take first; None or empty if nothing waits.
        resting: Whether others have their turn, and what is pending goes on after that.
        reading: Whether more is expected from the source.
        done: Whether the sink was given its end.
        broken: Whether the sink is gone.
        received: Bytes read from the source.
        delivered: Bytes that the sink has taken.
        timer_at: When the relay calls `due`; None for never.
    """

    __slots__ = (
        "_ending",
        "_force_at",
        "_recorded",
        "_source_lost",
        "broken",
        "connection",
        "delivered",
        "direction",
        "done",
        "line",
        "pending",
        "reading",
        "received",
        "resting",
        "sink",
        "source",
        "stages",
        "timer_at",
    )

    def __init__(self, connection: RelayedConnection, direction: Direction, source: Leg, sink: Leg) -> None:
        self.connection = connection
        self.direction = direction
        self.source = source
        self.sink = sink
        source.incoming = self
        sink.outgoing = self
        self.line: Line | None = None
        self.stages: dict[str, StageMaker] = {}
        self.pending: deque[bytes | memoryview] | None = None
        self.reading = True
        self.done = self.broken = self.resting = False
        self.received = self.delivered = 0
        self.timer_at: float | None = None
        self._recorded = source.recorder is not None or sink.recorder is not None
        self._source_lost = False
        self._ending: Ended | None = None
        self._force_at: float | None = None

    # -- carrying

    def pump(self) -> None:
        """Carry what the source has, as far as it can go."""
        if self.resting:
            self.resting = False
            if not self.broken:
                self.flush()
            return
        source = self.source
        turns = _TURN
        while source.readable and self.reading and not self.pending:
            line, relay = self.line, self.connection.relay
            if turns == 0:
                relay.again(self)
                return
            if line is not None and line.full:
                return
            turns -= 1
            room = relay.room if line is None else relay.small_room
            try:
                size = source.recv_into(room)
            except _WAIT:
                source.readable = False
                return
            except OSError as error:
                self._source_failed(error)
                return
            if not size:
                self._source_finished()
                return
            if source.drains and size < len(room):
                source.readable = False
            self.received += size
            if line is None and not self._recorded:
                self._pass(room[:size])
            else:
                self._take(bytes(room[:size]))

    def drain(self) -> None:
        """Carry what has arrived by now, its end included, as far as the sink takes it and faults let it."""
        limit = self.received + _DRAINED
        self.source.readable = True
        while self.source.readable and self.reading and not self.pending and self.received < limit:
            if self.line is not None and self.line.full:
                break
            self.pump()

    def _pass(self, room: memoryview) -> None:
        """Straight into the sink: the shortest way there is, for this is what a round trip is made of."""
        sink = self.sink
        try:
            sent = sink.send(room)
        except _WAIT:
            sent = 0
        except OSError:
            self._sink_failed()
            return
        self.delivered += sent
        if sent < len(room):
            sink.writable = False
            self.pending = deque((bytes(room[sent:]),))

    def _take(self, data: bytes) -> None:
        source, line = self.source, self.line
        if source.recorder is not None:
            source.recorder.data(source.number, self.direction, data)
        if line is None:
            self._give(data)
        else:
            now = monotonic()
            line.put(data, now)
            self.deliver(now)

    def deliver(self, now: float) -> None:
        """Give the sink what is due by now."""
        line = self.line
        if line is None:
            return
        for count, output in enumerate(line.take(now)):
            if count == _PIECES:
                self._rest()
            if isinstance(output, Ended):
                self._end(output)
            elif output:
                self._give(output)
        if self.line is not None and (due := line.due) is not None:
            self.connection.relay.call_at(due, self)

    def due(self, now: float) -> None:
        """It is `timer_at`."""
        if self._force_at is not None and now >= self._force_at:
            self._settle()
            return
        self.deliver(now)
        if self.reading:
            self.pump()

    def failed(self, error: Exception) -> None:
        """Working for it has raised: the connection cannot go on."""
        self.connection.fail(error)

    def _give(self, data: bytes) -> None:
        if self.broken:
            return
        if self.pending or self.resting:
            if self.pending is None:
                self.pending = deque()
            self.pending.append(data)
            return
        sent = self._send(data)
        if sent < len(data):
            self.sink.writable = False
            self.pending = deque((data[sent:],))

    def _rest(self) -> None:
        """Let others have their turn before more is sent."""
        if not self.resting:
            self.resting = True
            self.connection.relay.again(self)

    def _send(self, data: bytes | memoryview) -> int:
        """How much the sink takes; all of it, for it is lost, if the sink is gone."""
        sink = self.sink
        try:
            sent = sink.send(data)
        except _WAIT:
            return 0
        except OSError:
            self._sink_failed()
            return len(data)
        self.delivered += sent
        if sink.recorder is not None and sent:
            sink.recorder.data(sink.number, self.direction, data[:sent])
        return sent

    def flush(self) -> None:
        """The sink may take more of what waits."""
        pending, pieces = self.pending, _PIECES
        while pending:
            if not pieces:
                self._rest()
                return
            pieces -= 1
            data = pending[0]
            sent = self._send(data)
            if self.broken:
                return
            if sent < len(data):
                self.sink.writable = False
                pending[0] = memoryview(data)[sent:]
                return
            pending.popleft()
        self.pending = None
        if self._ending is not None and not self.done:
            self._settle()
        if self.reading:
            self.pump()
        connection = self.connection
        if connection.on_drained is not None and connection.is_drained:
            connection.on_drained(connection)

    # -- ends

    def finish(self, now: float) -> None:
        """Go on as if the source had finished sending."""
        if not self.reading:
            return
        self.reading = False
        if self.line is not None:
            self.line.finish(now)
            self.deliver(now)
        elif not self.done:
            self._end(FINISHED)

    def drop(self) -> None:
        """The sink is gone: what is on its way to it is lost."""
        self.broken = True
        self.reading = False
        self.pending = None

    def source_is_lost(self) -> None:
        """The source was found to be cut off. What it sent before goes on; its end will be a RST."""
        self._source_lost = True
        if self.done:
            self.connection.reset()
        else:
            self.source.readable = True
            self.connection.relay.again(self)

    def source_failed_late(self) -> None:
        """The source was cut off after it had finished sending."""
        if self._ending is None or self.done:
            self.connection.reset()
        else:
            self._source_lost = True

    def end_stuck(self) -> None:
        """End it, if nothing that is on its way will ever arrive."""
        if not self.done and not self.pending and (self.line is None or self.line.due is None):
            self._end(FINISHED)

    def _source_finished(self) -> None:
        source = self.source
        source.spent = True
        if source.recorder is not None:
            source.recorder.half_close(source.number, source.peer)
        self.finish(monotonic())

    def _source_failed(self, error: OSError) -> None:
        self.reading = False
        self._source_lost = True
        self.source.was_cut_off("timeout" if error.errno == errno.ETIMEDOUT else "rst")
        self.connection.other(self).drop()
        if self.line is None:
            self._end(ABORTED)
        else:
            now = monotonic()
            self.line.abort(now)
            self.deliver(now)

    def _sink_failed(self) -> None:
        self.drop()
        self.sink.incoming.source_is_lost()

    def _end(self, how: Ended) -> None:
        # A fault may finish this direction while its source goes on: what comes then is read, and lost.
        if how is not FINISHED:
            self.reading = False
        if self.done:
            self._end_finished(how)
            return
        self._ending = how
        if not self.pending or (how is ABORTED and not self._source_lost and not self.resting):
            self._settle()
        elif how is ABORTED:
            self._force_at = monotonic() + _RESET_PATIENCE
            self.connection.relay.call_at(self._force_at, self)

    def _end_finished(self, how: Ended) -> None:
        """The connection ends after this direction has."""
        if how is ABORTED:
            self.connection.reset()
        elif how is CLOSED:
            self.connection.close_other(self)

    def _settle(self) -> None:
        """Everything has arrived: now the end."""
        connection, sink = self.connection, self.sink
        if self.done or connection.end is not None:
            return
        if self._ending is ABORTED or self._source_lost:
            connection.reset()
            return
        self.done = True
        if self._ending is CLOSED:
            sink.finish_sending()
            connection.close_other(self)
        elif sink.says_goodbye or not (sink.spent and connection.other(self).done):
            # Else both ends are closed at once, which does the same.
            sink.finish_sending()
        connection.flow_done()

    # -- faults

    def change(self, stages: dict[str, StageMaker], now: float) -> None:
        """Let these faults be at work from now on; those that stay go on as they were."""
        self.stages = stages
        if self.line is None:
            if not (stages and self.reading):
                return
            self.line = Line()
        line = self.line
        line.set_stages(tuple(stages.items()), now)
        self.deliver(now)
        if self.reading:
            if line.clear and line.ended is None:
                self.line = None
            self.pump()
