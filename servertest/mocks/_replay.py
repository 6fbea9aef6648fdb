"""A server that answers as another one did, from a file that says what passed."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._support import UsageError
from ..transcript import (
    Cutter,
    Disconnect,
    Expect,
    ExpectEof,
    ExpectReset,
    FinishSending,
    Script as Recorded,
    Send,
    load_exchanges,
)
from ._acts import Act, Cue, HalfClosing, Moment, Push, Reply, Reset, Shutting
from ._scrub import Scrub, relaxed, scrubs_of
from ._server import MockServer
from ._values import Raw

if TYPE_CHECKING:
    from ..launch import Kind
    from ..transcript import Framing
    from ._script import Script
    from ._scrub import Scrubbing
    from ._step import Answers, Step

__all__ = ("Matching", "Timing", "replay")

Matching: TypeAlias = Literal["strict", "requests"]
"""Strictly as recorded, conversation by conversation; or each request as it was answered, whenever it comes."""

Timing: TypeAlias = "Literal['none', 'original'] | float"
"""Answers come at once, when they came then, or at so many times the time that they took."""

#: More connections than anybody makes.
_MANY = 1 << 40


def replay(
    source: str | os.PathLike[str] | Iterable[Recorded],
    *,
    match: Matching = "strict",
    timing: Timing = "none",
    repeat: bool = False,
    kind: str | Kind | None = None,
    framing: Framing | None = None,
    scrub: Scrubbing = (),
    **options: Any,
) -> MockServer:
    """A mock server that answers as recorded.

    Args:
        source: A `.wire` file; or scripts for the server's side, as of ``load_exchanges(path, side="server")``.
        match: "strict": the first connection plays the first conversation of the file, the second the second, and each has
            to be played to its end. "requests": each connection may send any recorded request at any time, and gets the
            answer that it got then; of several answers to the same request, one after the other, and the last again and again.
        timing: "none", "original", or a factor, such as 0.1 for a tenth of the time. Files without times have none.
        repeat: Strictly, but from the first conversation again when all have been played.
        kind: The kind of server; "tcp" or "udp" by default, as the file has it.
        framing: Where requests end. Without, those that came in a row, with no answer in between, are one.
        scrub: What was scrubbed when this was recorded, and may be anything now.
        options: As for `MockServer`: address, tls, faults, ...

    Raises:
        OSError: The file cannot be read.
        WireSyntaxError: It is not in the `.wire` form.
        UsageError: It holds nothing to be replayed, or streams and datagrams; or an argument cannot be.
    """
    recorded, name = _recorded(source)
    clock = _Clock(_factor(timing))
    if match not in ("strict", "requests"):
        raise UsageError(f'replay: match is "strict" or "requests", not {match!r}')
    scrubs = scrubs_of(scrub)
    chosen = kind or ("udp" if recorded[0].transport == "datagram" else "tcp")
    mock = MockServer(chosen, framing=framing, **options)
    try:
        writer = _Writer(name, framing, scrubs, clock)
        if match == "strict":
            for number, conversation in enumerate(recorded, 1):
                numbers = range(number, _MANY, len(recorded)) if repeat else number
                writer.write(conversation, mock.on(numbers))
        else:
            writer.pool(recorded, mock)
    except BaseException:
        mock.forgive()
        mock.stop()
        raise
    return mock


def _recorded(source: str | os.PathLike[str] | Iterable[Recorded]) -> tuple[list[Recorded], str]:
    if isinstance(source, (str, os.PathLike)):
        recorded, name = load_exchanges(source, side="server"), os.fspath(source)
    else:
        recorded, name = list(source), "script"
    if not recorded:
        raise UsageError(f"{name} holds no conversation that could be replayed")
    first = recorded[0]
    if other := next((one for one in recorded if one.transport != first.transport), None):
        sorts = {"stream": "a connection", "datagram": "datagrams"}
        raise UsageError(
            f"{name}:{other.line}: here are {sorts[other.transport]}, and {sorts[first.transport]} in line {first.line}: one server cannot replay "
            "both; make two files of it"
        )
    return recorded, name


def _factor(timing: Timing) -> float:
    factor = {"none": 0.0, "original": 1.0}.get(timing, timing) if isinstance(timing, str) else timing
    if isinstance(factor, str) or not 0 <= factor < float("inf"):
        raise UsageError(f'replay: timing is "none", "original" or a factor from 0 up, not {timing!r}')
    return float(factor)


@dataclass(slots=True)
class _Clock:
    """Turns recorded times into delays."""

    factor: float
    last: float | None = None

    def begin(self) -> None:
        self.last = None

    def came(self, time: float | None) -> None:
        self.last = time if time is not None else self.last

    def delay(self, time: float | None) -> float:
        before, self.last = self.last, time if time is not None else self.last
        return 0.0 if time is None or before is None else max(0.0, time - before) * self.factor


@dataclass(slots=True)
class _Writer:
    """Writes mock scripts from recorded ones."""

    name: str
    framing: Framing | None
    scrubs: tuple[Scrub, ...]
    clock: _Clock
    relaxed: dict[Expect, bytes | re.Pattern[bytes]] = field(default_factory=dict)

    def _begin(self, recorded: Recorded) -> None:
        self.clock.begin()
        steps = [step for step in recorded.steps if isinstance(step, Expect)]
        expected = relaxed([step.expected for step in steps], self.scrubs)
        self.relaxed = dict(zip(steps, expected, strict=True))

    # -- strictly

    def write(self, recorded: Recorded, script: Script) -> None:
        """The whole conversation, step by step."""
        self._begin(recorded)
        answers: Answers = script
        for step in recorded.steps:
            if isinstance(step, (Expect, ExpectEof, ExpectReset)):
                answers = self._expect(step, script) or answers
            else:
                made = answers.do(self._act(step, asked=answers is not script))
                if answers is script:
                    made.place = f"{self.name}:{step.line}"

    def _expect(self, step: Expect | ExpectEof | ExpectReset, script: Script) -> Step | None:
        made: Step | None = None
        if isinstance(step, Expect):
            self.clock.came(step.until)
            for expected in self._requests(step):
                made = script.expect(expected)
                made.place = f"{self.name}:{step.line}"
            return made
        self.clock.came(step.time)
        made = script.expect_eof() if isinstance(step, ExpectEof) else script.expect_reset()
        made.place = f"{self.name}:{step.line}"
        return made

    def _requests(self, step: Expect) -> Iterator[bytes | re.Pattern[bytes]]:
        """What is expected in a row, message by message if these have a framing."""
        if self.framing is None:
            yield self.relaxed.get(step, step.expected)
            return
        if isinstance(step.expected, re.Pattern):
            raise UsageError(
                f"{self.name}:{step.line}: a regular expression cannot be cut into messages: replay it without a framing"
            )
        cutter = Cutter(self.framing)
        yield from relaxed([*cutter.feed(step.expected), *cutter.end()], self.scrubs)

    def _act(self, step: Send | FinishSending | Disconnect, *, asked: bool) -> Act:
        delay = self.clock.delay(step.time)
        if isinstance(step, Send):
            # As it stands, whatever framing the requests have.
            data = step.data if self.framing is None else Raw(step.data)
            return Reply(data, delay) if asked else Push(data, delay)
        if isinstance(step, FinishSending):
            return HalfClosing(delay)
        return Reset(delay) if step.reset else Shutting(delay)

    # -- request by request

    def pool(self, recorded: list[Recorded], mock: MockServer) -> None:
        """Every request of every conversation, with its answers."""
        entries: dict[bytes | re.Pattern[bytes], _Answers] = {}
        greeting: list[Act] = []
        lines: dict[bytes | re.Pattern[bytes], int] = {}
        for conversation in recorded:
            self._begin(conversation)
            current: list[Act] = []
            greeting = greeting or current
            for step in conversation.steps:
                if isinstance(step, Expect):
                    self.clock.came(step.until)
                    for request in self._requests(step):
                        current = []
                        entries.setdefault(request, _Answers()).answers.append(current)
                        lines.setdefault(request, step.line)
                elif isinstance(step, (ExpectEof, ExpectReset)):
                    current = []  # how a connection ended that the client had ended belongs to no request
                else:
                    current.append(self._act(step, asked=True))
        for act in greeting:
            mock.do(act)
        # A request that begins as a longer one does is tried after that.
        for request in sorted(entries, key=_length, reverse=True):
            made = mock.expect(request).forever().do(entries[request])
            made.place = f"{self.name}:{lines[request]}"


def _length(request: bytes | re.Pattern[bytes]) -> int:
    return len(request) if isinstance(request, bytes) else 0


@dataclass(eq=False)
class _Answers(Act):
    """What was answered to a request: each time the next answer, and the last one again and again."""

    answers: list[list[Act]] = field(default_factory=list)
    _given: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, moment: Moment) -> Iterator[Cue]:
        """The next answer."""
        with self._lock:
            answer = self.answers[min(self._given, len(self.answers) - 1)]
            self._given += 1
        for act in answer:
            yield from act.play(moment)

    def __str__(self) -> str:
        kinds = len(self.answers)
        if kinds == 1:
            return "; ".join(map(str, self.answers[0])) or "no answer"
        return f"the next of {kinds} answers"
