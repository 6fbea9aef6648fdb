"""The line: one direction of one connection, on which faults are at work.

All that moves bytes for this library moves them along lines: proxies, wrapped sockets, clients and simulations are
drivers that differ in where the clock and the bytes come from. The line alone knows order and time, so that no fault and no
driver can let the end of a stream overtake its bytes.

Stages stand in a row, each with a queue of what it has let pass and what is not due yet. What falls due goes to the next stage
*as of the moment at which it was due*, however late the driver comes, so times do not drift. On a stream each queue is
first in, first out, whatever the delays; datagrams overtake each other as their delays have it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeAlias, cast

from ..faults import Abort, Close, Finish, Send

if TYPE_CHECKING:
    from ..faults import Action, Stage

__all__ = ("ABORTED", "CLOSED", "FINISHED", "Ended", "Line", "Output")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a line ended; there is one of each kind.

    Attributes:
        how: "finished", "closed" or "aborted".
    """

    how: str


FINISHED = Ended("finished")
"""The source has finished and everything has arrived: give the sink FIN; the other direction goes on."""

CLOSED = Ended("closed")
"""A fault ends the connection in order: FIN both ways."""

ABORTED = Ended("aborted")
"""The source was cut off, or a fault cuts the connection off: RST both ways."""

Output: TypeAlias = bytes | Ended
"""What goes to the sink."""

# The source was cut off: a stage may hold that up. What a fault cuts off is cut off, whatever stages stand behind it.
_CUT = Ended("cut off by the source")


class _Section:
    """A stage and the queue behind it."""

    __slots__ = (
        "_closing",
        "_count",
        "_ended",
        "_finished",
        "_free_at",
        "_heap",
        "_last_due",
        "_queue",
        "due",
        "key",
        "queued",
        "stage",
    )

    def __init__(self, key: str, stage: Stage, *, ordered: bool) -> None:
        self.key = key
        self.stage = stage
        self.queued = 0
        # When the next thing falls due, be it in the queue or in the stage; infinite for never.
        self.due = inf
        # Made when something first has to wait: on most lines nothing ever does, and there may be thousands.
        self._queue: deque[tuple[float, Output]] | None = None
        self._heap: list[tuple[float, int, Output]] | None = None if ordered else []
        self._count = 0
        self._free_at = self._last_due = -inf
        self._ended = self._finished = self._closing = False

    @property
    def full(self) -> bool:
        return self.queued + self.stage.held > self.stage.window

    def passes(self, action: Action, now: float) -> bool:
        """Whether something need not wait at all, so that the queue may be left out."""
        return (
            type(action) is Send
            and not action.after
            and not action.takes
            and self._free_at <= now
            and not self._queue
            and not self._heap
        )

    def add(self, actions: Iterable[Action], now: float, abort: Ended = ABORTED) -> None:
        """Put what the stage asks for into the queue; an `Abort` as what it is here."""
        for action in actions:
            if isinstance(action, Send):
                start = self._free_at if self._free_at > now else now
                self._free_at = start = start + action.takes
                self.queued += len(action.data)
                self._put(start + action.after, action.data)
            else:
                # An end waits for what is still being transmitted; the end of datagrams also for those that are on their way.
                due = max(now, self._free_at) + action.after
                if isinstance(action, Abort):
                    self._put(due, abort)
                else:
                    self._put(max(due, self._last_due), self._ending(action))
        self.look()

    def finish(self, now: float) -> None:
        """Nothing more comes."""
        self._ended = True
        self.add(self.stage.end(now), now)

    def abort(self, now: float) -> None:
        """What comes was cut off."""
        self._ended = True
        self.add(self.stage.abort(now), now, _CUT)

    def close(self, now: float) -> None:
        """A fault before this one closes the connection: to the stage that is an end like any other, to be held back if it holds ends
        back, but what it lets out then ends both directions.
        """
        self._closing = True
        if self._finished:
            self.add((Close(),), now)
        elif not self._ended:
            self.finish(now)

    def _ending(self, action: Finish | Close) -> Ended:
        if isinstance(action, Finish):
            self._finished = True
            return CLOSED if self._closing else FINISHED
        return CLOSED

    def pop(self, now: float) -> Output | None:
        """What is due from the queue, if anything is."""
        if self._heap is not None:
            if not self._heap or self._heap[0][0] > now:
                return None
            output = heapq.heappop(self._heap)[2]
        else:
            if not self._queue or self._queue[0][0] > now:
                return None
            output = self._queue.popleft()[1]
        if isinstance(output, bytes):
            self.queued -= len(output)
        self.look()
        return output

    def drain(self) -> Iterable[Output]:
        """Everything that waits, in order, due or not."""
        while (output := self.pop(inf)) is not None:
            yield output

    def _put(self, due: float, output: Output) -> None:
        if self._heap is not None:
            self._count += 1
            if due > self._last_due:
                self._last_due = due
            heapq.heappush(self._heap, (due, self._count, output))
        else:
            self._last_due = due = due if due > self._last_due else self._last_due
            if self._queue is None:
                self._queue = deque()
            self._queue.append((due, output))

    def look(self) -> None:
        """See when the next thing falls due."""
        waiting = self._queue if self._heap is None else self._heap
        first = waiting[0][0] if waiting else inf
        wake_at = self.stage.wake_at
        self.due = first if wake_at is None or first <= wake_at else wake_at


StageMaker: TypeAlias = "Callable[[], Stage]"


class Line:
    """Carries one direction of one connection through its faults. It knows no socket, clock or thread.

    A driver puts in what its source gives, with the time; takes out what is due; calls again at `due`; and stops
    reading from its source while the line is `full`.

    Args:
        ordered: Whether what was first put in comes first out: for streams.
    """

    __slots__ = ("_ended", "_finished", "_ordered", "_out", "_sections")

    def __init__(self, *, ordered: bool = True) -> None:
        self._ordered = ordered
        self._sections: list[_Section] = []
        self._out: list[Output] = []
        self._finished = False
        self._ended: Ended | None = None

    def __repr__(self) -> str:
        return f"<Line of {[section.key for section in self._sections]}, {self.waiting} bytes on the way, {self._ended or 'open'}>"

    @property
    def ended(self) -> Ended | None:
        """How the line has ended; None while it carries. After `FINISHED` the connection may still be closed or aborted."""
        return self._ended

    @property
    def clear(self) -> bool:
        """Whether no fault is at work: a driver may carry the bytes past the line."""
        return not self._sections and not self._out

    @property
    def full(self) -> bool:
        """Whether so much is on its way that the source should pause."""
        return any(section.full for section in self._sections)

    @property
    def waiting(self) -> int:
        """Bytes that were put in and have not come out."""
        return sum(section.queued + section.stage.held for section in self._sections)

    @property
    def due(self) -> float | None:
        """When `take` has to be called next, if nothing is put in before.

        A line that has finished may still have something to do: a fault can cut off a connection that is closed half.
        """
        if self._ended is not None and self._ended is not FINISHED:
            return None
        first = inf
        for section in self._sections:
            if section.due < first:
                first = section.due
        return None if first == inf else first

    def put(self, data: bytes, now: float) -> None:
        """The source has sent bytes, or a datagram.

        Args:
            data: The bytes.
            now: Seconds on the driver's clock.
        """
        self._advance(now)
        if not self._finished and not self._ended:
            self._feed(0, data, now)
            self._advance(now)

    def finish(self, now: float) -> None:
        """The source has finished sending (FIN)."""
        self._advance(now)
        if not self._finished and not self._ended:
            self._finished = True
            self._feed(0, FINISHED, now)
            self._advance(now)

    def abort(self, now: float) -> None:
        """The source was cut off (RST). What is on its way arrives first, as it would from a real network."""
        self._advance(now)
        if not self._over:
            self._finished = True
            self._feed(0, _CUT, now)
            self._advance(now)

    def take(self, now: float) -> Sequence[Output]:
        """What is due for the sink by now, in order. After an `Ended` other than `FINISHED` nothing follows."""
        self._advance(now)
        if not self._out:
            return ()
        out, self._out = self._out, []
        return out

    def set_stages(self, stages: Sequence[tuple[str, StageMaker]], now: float) -> None:
        """Change the faults, also while bytes are on their way.

        A stage whose key stays keeps its state and its queue. What a removed one held goes on at once, in order; nothing
        is lost.

        Args:
            stages: A key for each stage and what makes it, in the order in which bytes meet them.
            now: Seconds on the driver's clock.
        """
        self._advance(now)
        wanted = dict(stages)
        position = 0
        while position < len(self._sections):
            if self._sections[position].key in wanted:
                position += 1
            else:
                self._remove(position, now)
        kept = {section.key: section for section in self._sections}
        begun = []
        self._sections = []
        for key, make in stages:
            section = kept.get(key)
            if section is None:
                section = _Section(key, make(), ordered=self._ordered)
                begun.append(section)
            self._sections.append(section)
        for section in begun:
            section.add(section.stage.begin(now), now)
        self._advance(now)

    def _remove(self, position: int, now: float) -> None:
        section = self._sections.pop(position)
        queued = [*section.drain()]
        section.stage.wake_at = None
        section.add(section.stage.leave(now), now, _CUT)
        for output in (*queued, *section.drain()):
            self._feed(position, output, now)

    def _feed(self, position: int, output: Output, now: float) -> None:
        """Give something to the stage at a position, or to the sink."""
        if position >= len(self._sections):
            self._come_out(output)
            return
        section = self._sections[position]
        if isinstance(output, bytes):
            self._absorb(position, section.stage.data(output, now), now)
        elif output is FINISHED:
            section.finish(now)
        elif output is CLOSED:
            section.close(now)
        elif output is _CUT:
            section.abort(now)
        else:
            # What one fault has cut off is so for every stage behind; it comes in its turn.
            section.add((Abort(),), now)

    def _absorb(self, position: int, actions: Iterable[Action], now: float) -> None:
        """Do what a stage asks for. What leaves the last one and need not wait comes out at once."""
        section = self._sections[position]
        if position + 1 < len(self._sections):
            section.add(actions, now)
            return
        for action in actions:
            if section.passes(action, now):
                self._come_out(cast("Send", action).data)
            else:
                section.add((action,), now)
        section.look()

    @property
    def _over(self) -> bool:
        return self._ended is not None and self._ended is not FINISHED

    def _come_out(self, output: Output) -> None:
        output = ABORTED if output is _CUT else output
        if self._ended is None or (self._ended is FINISHED and (output is CLOSED or output is ABORTED)):
            self._out.append(output)
            if isinstance(output, Ended):
                self._ended = output

    def _advance(self, now: float) -> None:
        """Let everything happen that is due by now, in the order of the times at which it is due."""
        sections = self._sections
        position = 0
        while sections and (self._ended is None or self._ended is FINISHED):
            section = sections[0]
            first = section.due
            if len(sections) > 1:
                for index, each in enumerate(sections):
                    # Of two things due at once the one further on goes first, to make way.
                    if each.due <= first:
                        first, position, section = each.due, index, each
            if first > now or first == inf:
                return
            output = section.pop(first)
            if output is not None:
                self._feed(position + 1, output, first)
            else:
                section.stage.wake_at = None
                self._absorb(position, section.stage.wake(first), first)
