"""One connection's own copy of a script: bytes and times go in, and what is to be done comes out. It knows no socket, clock or thread.

What a client sends goes through a line to the matcher; what the server does is put into a queue of cues, each with its
time, and goes through another line to the client. So faults meet a script as they meet everything else, and a reply that takes
its time is not overtaken by the next one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..faults import Plan, derived_seed
from ..transcript import BadFrame
from ..wire._line import ABORTED, CLOSED, FINISHED, Line
from ._acts import Cue, Ending, Moment
from ._course import Course, Scenarios
from ._dressing import Dressing
from ._matching import Found, TheEnd
from ._occurrences import Occurrence, Trouble, Unexpected
from ._values import Request

if TYPE_CHECKING:
    from ..faults import Decision
    from ._acts import Act
    from ._script import Script
    from ._step import Step

__all__ = ("Performance",)

ClientEnd: TypeAlias = Literal["fin", "rst"]


@dataclass(frozen=True, slots=True)
class _Queued:
    due: float
    cue: Cue
    occurrence: Occurrence | None
    act: int


class Performance:
    """A conversation that follows a script.

    A driver tells it what happens (`open`, `receive`, `finish`, `cut`, `refresh`), with times that never run backwards; takes
    what is to be done (`take`); and calls `take` again at `due`.

    Args:
        script: The script, which may grow meanwhile.
        number: The connection's number.
        seed: Where random numbers come from.
        faults: What goes wrong on the whole connection.
        scenarios: The states that all connections share.
        patient: Whether a request that nothing expects waits until something does.
        heard: Is told each request, when it has been recognized or found to be unexpected.
        note: Is told what faults decide.

    Attributes:
        occurrences: The steps that have come, in order.
        unexpected: What came instead of what was expected.
        troubles: Functions of the script that have raised.
        client_end: How the client has ended; None while it has not.
        server_end: How the server has ended; None while it has not.
        opened: When it began.
        came: Bytes that the client has sent.
    """

    def __init__(
        self,
        script: Script,
        number: int = 1,
        *,
        seed: int | str = 0,
        faults: Plan | None = None,
        scenarios: Scenarios | None = None,
        patient: bool = False,
        heard: Callable[[Request], object] = lambda request: None,
        note: Callable[[Decision], None] = lambda decision: None,
    ) -> None:
        self.script = script
        self.number = number
        self.occurrences: list[Occurrence] = []
        self.unexpected: list[Unexpected] = []
        self.troubles: list[Trouble] = []
        self.client_end: ClientEnd | None = None
        self.server_end: Ending | None = None
        self.variables: dict[str, bytes] = {}
        self.opened = self.ended_at = 0.0
        self.came = 0
        self._seed = seed
        self._dressing = Dressing(faults or Plan(), seed, number, script.setting.transport, note)
        self._course = Course(script, scenarios or Scenarios())
        self._patient = patient
        self._heard = heard
        self._datagrams = script.setting.transport == "datagram"
        self._latest: dict[Step, Occurrence] = {}
        self._buffer = bytearray()
        self._inbox: deque[bytes] = deque()
        self._deaf = self._end_met = False
        self._queue: deque[_Queued] = deque()
        self._free_at = self._sent_at = 0.0
        self._up = Line(ordered=not self._datagrams)
        self._down = Line(ordered=not self._datagrams)
        self._down_for: Occurrence | None = None
        self._up_for: Step | None = None
        self._closing = False
        self._out: list[bytes | Ending] = []

    def __repr__(self) -> str:
        return f"<Performance {self.number}: {len(self.occurrences)} steps of {len(self.script)}>"

    # -- what happens

    def open(self, now: float) -> None:
        """The client has connected; for datagrams, the first one is about to be told."""
        self.opened = self._free_at = self._sent_at = now
        self._dressing.opened = now
        if self._dressing.whole:
            self._up.set_stages(self._dressing.stages("upstream"), now)
            self._down.set_stages(self._dressing.stages("downstream"), now)
        self._go_on(now)

    def receive(self, data: bytes, now: float) -> None:
        """The client has sent bytes, or a datagram."""
        self.came += len(data)
        self._up.put(data, now)
        self._go_on(now)

    def finish(self, now: float) -> None:
        """The client has finished sending."""
        self._up.finish(now)
        self._go_on(now)

    def cut(self, now: float) -> None:
        """The client has cut the connection off."""
        if self.client_end != "rst":
            self.client_end, self.ended_at = "rst", now
            self._drop_lines(now)
            self._meet_end(now)
            self._deaf = True

    def refresh(self, now: float) -> None:
        """The script, or a scenario, has changed."""
        self._go_on(now)

    @property
    def due(self) -> float | None:
        """When `take` has to be called next; None for not before something happens."""
        times = [self._up.due, self._down.due]
        if self._queue and not self._held_up:
            times.append(self._queue[0].due)
        return min((time for time in times if time is not None), default=None)

    @property
    def full(self) -> bool:
        """Whether so much is on its way that the driver should not read more."""
        return self._up.full

    @property
    def over(self) -> bool:
        """Whether the server has closed the connection, or cut it off."""
        return self.server_end in (Ending.CLOSE, Ending.RESET)

    @property
    def hung(self) -> bool:
        """Whether the server takes no notice of anything."""
        return self.server_end is Ending.HANG

    def take(self, now: float) -> Sequence[bytes | Ending]:
        """What is to be done by now, in order. After CLOSE or RESET nothing follows."""
        self._go_on(now)
        out, self._out = self._out, []
        return out

    # -- what is owed

    @property
    def state(self) -> str:
        """The state that the conversation is in."""
        return self._course.state

    @property
    def owed(self) -> list[Step]:
        """The steps that have to come and have not, the server's own ones included."""
        return self._course.owed

    def count(self, step: Step) -> int:
        """How many times a step has come."""
        return self._course.count(step)

    def passed_over(self, step: Step) -> bool:
        """Whether the script has gone on without this step, which did not have to come."""
        return self._course.passed_over(step)

    @property
    def unconsumed(self) -> bytes:
        """What has come and was not recognized yet."""
        return b"".join(self._inbox) if self._datagrams else bytes(self._buffer)

    # -- time

    def _go_on(self, now: float) -> None:
        # Not under the script's lock: functions of the script may wait for other conversations, or add to the script.
        self._hear(now)
        self._play_added(now)
        self._consume(now)
        self._send(now)

    def _hear(self, now: float) -> None:
        """Take what has come through the upstream line."""
        for output in self._up.take(now):
            if isinstance(output, bytes):
                if self._datagrams:
                    self._inbox.append(output)
                else:
                    self._buffer += output
            elif output is FINISHED:
                self.client_end, self.ended_at = self.client_end or "fin", now
            elif self.client_end != "rst":
                # A fault has ended the connection.
                self._out.append(Ending.RESET if output is ABORTED else Ending.CLOSE)
                self._end(self._out[-1])  # type: ignore[arg-type]

    def _send(self, now: float) -> None:
        """Give what is due to the downstream line, each at its time, and take what comes out."""
        while self._queue and self._queue[0].due <= now:
            at = max(self._queue[0].due, self._sent_at)
            self._collect(at)
            if self._held_up:
                # What went before, through other faults, has to arrive first.
                released = self._down.due
                if released is None or released > now:
                    break
                self._collect(released)
                continue
            queued = self._queue.popleft()
            self._dress(queued.occurrence, at)
            if queued.occurrence is not None:
                queued.occurrence.waiting[queued.act] -= 1
            self._perform(queued.cue.what, at)
        self._collect(now)

    def _perform(self, what: bytes | Ending, now: float) -> None:
        if isinstance(what, bytes):
            self._down.put(what, now)
        elif what is Ending.FINISH:
            self._down.finish(now)
        elif what is Ending.CLOSE:
            self._closing = True
            if self._down.ended is FINISHED:
                self._out.append(Ending.CLOSE)
                self._end(Ending.CLOSE)
            else:
                self._down.finish(now)
        elif what is Ending.RESET:
            self._down.abort(now)
        else:
            self._end(Ending.HANG)
            self._queue.clear()

    def _collect(self, now: float) -> None:
        self._sent_at = max(self._sent_at, now)
        for output in self._down.take(now):
            if isinstance(output, bytes):
                self._out.append(output)
                continue
            ending = {ABORTED: Ending.RESET, CLOSED: Ending.CLOSE}.get(output, Ending.FINISH)
            if ending is Ending.FINISH and self._closing:
                ending = Ending.CLOSE
            self._out.append(ending)
            self._end(ending)

    def _end(self, ending: Ending) -> None:
        if not self.over:
            self.server_end = ending
        if ending is not Ending.FINISH:
            self._deaf = True

    def _drop_lines(self, now: float) -> None:
        self._queue.clear()
        self._up.set_stages((), now)
        self._down.set_stages((), now)

    # -- faults

    @property
    def _held_up(self) -> bool:
        """Whether what is next has to wait until what went before, through other faults, has arrived."""
        return bool(self._down.waiting) and self._dress_for(self._queue[0].occurrence) is not self._down_for

    def _dress_for(self, occurrence: Occurrence | None) -> Occurrence | None:
        return occurrence if occurrence is not None and occurrence.step.faults else None

    def _dress(self, occurrence: Occurrence | None, now: float) -> None:
        """Put the faults of a step to work on what it does."""
        wanted = self._dress_for(occurrence)
        if wanted is not self._down_for:
            self._down_for = wanted
            if wanted is None:
                self._down.set_stages(self._dressing.stages("downstream"), now)
                return
            name = f"step {wanted.step.number} time {self.occurrences.index(wanted)}"
            self._down.set_stages(self._dressing.stages("downstream", wanted.step.faults, name), now)

    def _dress_upstream(self, now: float) -> None:
        """Put the faults that are aimed upstream to work which the step has that is waited for."""
        waited = next(iter(self._course.candidates()), None)
        step = waited[1] if waited is not None else None
        if step is self._up_for or not any(s.faults for s in (step, self._up_for) if s is not None):
            return
        self._up_for = step
        stages = (
            self._dressing.stages("upstream")
            if step is None
            else self._dressing.stages("upstream", step.faults, f"step {step.number}")
        )
        self._up.set_stages(stages, now)

    # -- matching

    def _consume(self, now: float) -> None:
        """Go through the script as far as what has come allows."""
        while self._listens():
            self._advance(now)
            self._dress_upstream(now)
            if not self._listens() or not self._something_came():
                break
            if not self._recognize(now):
                return
        if self._listens() and self.client_end is not None:
            self._meet_end(now)
            if self._listens():
                self._close_after_all(now)

    def _listens(self) -> bool:
        return not self._deaf

    def _something_came(self) -> bool:
        return bool(self._inbox if self._datagrams else self._buffer)

    def _recognize(self, now: float) -> bool:
        """Take the first message, if it can be told what it is; whether to go on."""
        data = self._inbox[0] if self._datagrams else self._buffer
        unsure = False
        for index, step in self._course.candidates():
            assert step.matcher is not None
            try:
                answer = step.matcher.offer(data, ended=self.client_end is not None)
            except Exception as error:  # noqa: BLE001 - a function of the script may raise anything
                self._drop(len(data))
                self._trouble(step, error, now)
                return self._datagrams
            if isinstance(answer, Found):
                self._drop(answer.size)
                self._come(index, step, answer, now)
                return True
            if answer == "maybe":
                return False
            unsure = unsure or answer == "unsure"
        if (unsure or self._patient) and self.client_end is None:
            return False
        return self._refuse(now)

    def _advance(self, now: float) -> None:
        """Do what the server does on its own now, and leave steps behind that have come as often as they may."""
        while self._listens():
            with self.script.setting.lock:
                own = self._course.next_own()
            if own is None:
                return
            self._occur(own, self._request(b"", own, now), now)

    def _come(self, index: int | None, step: Step, found: Found, now: float) -> None:
        self._course.is_after(index)
        self.variables.update(found.variables)
        request = self._request(found.message, step, now)
        self._heard(request)
        self._occur(step, request, now)

    def _request(self, data: bytes, step: Step | None, now: float) -> Request:
        return Request(data, self.number, now, None if step is None else step.number, dict(self.variables))

    def _occur(self, step: Step, request: Request, now: float) -> None:
        occurrence = Occurrence(step, request, now)
        self.occurrences.append(occurrence)
        self._latest[step] = occurrence
        self._course.occurs(step)
        self._play(occurrence, now)

    def _drop(self, size: int) -> None:
        if self._datagrams:
            self._inbox.popleft()
        else:
            del self._buffer[:size]

    def _meet_end(self, now: float) -> None:
        """The client has ended: that may be what is expected."""
        if self._end_met:
            return
        self._end_met = True
        for index, step in self._course.candidates():
            if isinstance(step.matcher, TheEnd) and step.matcher.reset == (self.client_end == "rst"):
                self._course.is_after(index)
                self._occur(step, self._request(b"", step, now), now)
                self._advance(now)
                return

    def _refuse(self, now: float) -> bool:
        """Nothing expects this: on a stream, that is the end of the conversation. Whether to go on."""
        data, whole = self._first_message()
        if not whole and self.client_end is None:
            return False
        request = self._request(data, None, now)
        awaited = tuple(dict.fromkeys(step for _, step in self._course.candidates()))
        midst = self.client_end is not None and not whole
        self.unexpected.append(Unexpected(request, awaited, midst, self.state))
        self._heard(request)
        self._drop(len(self._buffer))
        if not self._datagrams:
            self._close_after_all(now)
        return self._datagrams

    def _first_message(self) -> tuple[bytes, bool]:
        """The first message of what has come, and whether it is whole; all of it where messages have no framing."""
        if self._datagrams:
            return self._inbox[0], True
        framing = self.script.setting.framing
        if framing is None:
            waited = next(iter(self._course.candidates()), None)
            return bytes(self._buffer), self.client_end is None or waited is None
        try:
            cut = framing.cut(self._buffer, ended=self.client_end is not None)
        except BadFrame:
            return bytes(self._buffer), True
        return (bytes(self._buffer), False) if cut is None else (cut.message, True)

    # -- acting

    def _play_added(self, now: float) -> None:
        """Acts may be added to a step that has come already."""
        for occurrence in list(self._latest.values()):
            if occurrence.played < len(occurrence.step.acts):
                self._play(occurrence, now)

    def _play(self, occurrence: Occurrence, now: float) -> None:
        step = occurrence.step
        while occurrence.played < len(step.acts) and not self._deaf:
            position, act = occurrence.played, step.acts[occurrence.played]
            occurrence.played += 1
            try:
                cues = list(act.play(self._moment(occurrence, position)))
            except Exception as error:  # noqa: BLE001 - a function of the script may raise anything
                self._trouble(step, error, now)
                return
            occurrence.waiting[position] = len(cues)
            for cue in cues:
                self._schedule(cue, occurrence, position, now)

    def _moment(self, occurrence: Occurrence, position: int) -> Moment:
        setting = self.script.setting
        seed = derived_seed(self._seed, self.number, str(occurrence), len(self.occurrences), position)
        return Moment(occurrence.request, setting.framing, setting.transport, random.Random(seed))  # noqa: S311

    def _schedule(self, cue: Cue, occurrence: Occurrence | None, act: int, now: float) -> None:
        self._free_at = max(self._free_at, now) + cue.after
        self._queue.append(_Queued(self._free_at, cue, occurrence, act))
        if cue.what in (Ending.CLOSE, Ending.RESET, Ending.HANG):
            # Whatever the client says from here on is said to nobody.
            self._deaf = True

    def _close_after_all(self, now: float) -> None:
        self._schedule(Cue(Ending.CLOSE), None, 0, now)

    def _trouble(self, step: Step, error: Exception, now: float) -> None:
        self.troubles.append(Trouble(step, error, now))
        if not self._datagrams:
            self._close_after_all(now)

    def is_pending(self, act: Act, occurrence: Occurrence) -> bool:
        """Whether an act of a step that has come is not done yet."""
        acts = occurrence.step.acts
        position = next(index for index, each in enumerate(acts) if each is act)
        return occurrence.waiting.get(position, 1) > 0
