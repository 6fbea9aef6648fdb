"""One step of a script, and the verbs that say what is done in it."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Self

from .._support import UsageError
from ..faults import Plan, plan
from ._acts import Act, Garbage, HalfClosing, Hang, Push, Reply, Reset, Shutting, check_sayable, is_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._support import Transport
    from ..faults import Faults
    from ..transcript import Framing
    from ._matching import Matcher
    from ._values import Sayable

__all__ = ("Step",)

#: The path at which all files of this library begin.
OURS = str(Path(__file__).parent.parent)

#: As many times as it comes.
ANY = sys.maxsize


class Answers(ABC):
    """The verbs for what a server does: on a step, in answer to it; on a script, of the server's own accord."""

    @abstractmethod
    def do(self, act: Act) -> Step:
        """Do this, whatever it is: for acts of one's own.

        Raises:
            UsageError: It cannot be done on this transport, or never.
        """

    def reply(
        self,
        data: Sayable,
        *,
        delay: float = 0.0,
        pieces: int | Sequence[int] | None = None,
        pause: float = 0.0,
        slowly: float | None = None,
    ) -> Step:
        """Send something.

        Args:
            data: Bytes; a `Template` or a function of the `Request`, for what depends on it; a `Frame`, or `Raw` bytes.
            delay: Seconds before it begins.
            pieces: Into how many pieces of about the same size it is cut; or their sizes, of which the last one takes the rest.
            pause: Seconds between two pieces.
            slowly: Bytes per second at most; byte by byte if no pieces are given.
        """
        return self.do(Reply(data, delay, pieces, pause, slowly))

    def push(self, data: Sayable, *, delay: float = 0.0, times: int = 1, every: float = 0.0) -> Step:
        """Send something that nobody has asked for.

        Args:
            data: As for `reply`.
            delay: Seconds before the first time.
            times: How many times.
            every: Seconds between two of them.
        """
        return self.do(Push(data, delay, times, every))

    def close(self, *, delay: float = 0.0) -> Step:
        """Close the connection in order (FIN), after ``delay`` seconds."""
        return self.do(Shutting(delay))

    def half_close(self, *, delay: float = 0.0) -> Step:
        """Finish sending (FIN) after ``delay`` seconds, and go on receiving."""
        return self.do(HalfClosing(delay))

    def reset(self, *, delay: float = 0.0) -> Step:
        """Cut the connection off (RST) after ``delay`` seconds."""
        return self.do(Reset(delay))

    def hang(self, *, delay: float = 0.0) -> Step:
        """From then on, say nothing more and take no notice of anything; the connection stays open."""
        return self.do(Hang(delay))

    def garbage(self, size: int = 64, *, delay: float = 0.0) -> Step:
        """Send so many random bytes, which are the same for the same seed."""
        return self.do(Garbage(size, delay))


@dataclass(slots=True)
class Setting:
    """What the steps of one script share.

    Attributes:
        transport: "stream" or "datagram".
        framing: That of messages; None if they have none.
        lock: Held while a step is changed or looked at.
        changed: Called after each change.
        stand_aside: Takes a step out of the order.
    """

    transport: Transport
    framing: Framing | None
    lock: RLock
    changed: Callable[[], object]
    stand_aside: Callable[[Step], object]


@dataclass(eq=False)
class Step(Answers):
    """What a client is expected to do, and what the server does then; or, where nothing is expected, what it does on its own.

    You get one from the verbs of a script, and its own verbs return it again. What a step says may be added to at any time.

    Attributes:
        number: Its place in the script, from 1.
        matcher: What is expected; None where the server acts on its own.
        verb: How it was said: "expect", "banner", "push" ...
        place: The file and line where it was said.
        least: How many times it has to come.
        most: How many times it may come.
        aside: Whether it may come at any point of the conversation, as often as it likes.
        acts: What the server does.
        state: In which state of the conversation it counts; None for any.
        scenes: In which states of named scenarios, which all connections share.
        next_state: The state afterwards; None for no change.
        next_scenes: The states of named scenarios afterwards.
        faults: What goes wrong with what the server does.
    """

    number: int
    matcher: Matcher | None
    setting: Setting
    verb: str = "expect"
    place: str = ""
    least: int = 1
    most: int = 1
    aside: bool = False
    acts: list[Act] = field(default_factory=list)
    state: str | None = None
    scenes: Mapping[str, str] = field(default_factory=dict)
    next_state: str | None = None
    next_scenes: Mapping[str, str] = field(default_factory=dict)
    faults: Plan = field(default_factory=Plan)

    def __repr__(self) -> str:
        return f"<Step {self.number}: {self.title}>"

    @property
    def title(self) -> str:
        """What it expects, in words."""
        if self.matcher is None:
            return self.verb
        return f"{self.verb} {self.matcher}" if self.verb == "expect" else str(self.matcher)

    @property
    def often(self) -> str:
        """How often it may or has to come, in words; nothing for once."""
        if self.aside:
            return "any time"
        if (self.least, self.most) == (1, 1):
            return ""
        if self.most == ANY:
            return f"at least {self.least} times"
        if self.least == self.most:
            return f"{self.most} times"
        return "optional" if (self.least, self.most) == (0, 1) else f"{self.least} to {self.most} times"

    # -- what is done

    def do(self, act: Act) -> Self:
        """See `Answers.do`."""
        check_act(act, self.setting)
        with self.setting.lock:
            self.acts.append(act)
        self.setting.changed()
        return self

    def with_faults(self, *faults: Faults) -> Self:
        """Have things go wrong with what the server does in this step: any faults that work on what passes, or their text.

        Those that are aimed upstream work on what the client sends while this is the step that is waited for.

        Raises:
            UsageError: A fault is not for this transport, or works elsewhere.
        """
        whole = self.faults
        for fault in faults:
            whole = whole | plan(fault)
        whole.check(self.setting.transport, ("line",))
        with self.setting.lock:
            self.faults = whole
        self.setting.changed()
        return self

    # -- how often

    def times(self, least: int, most: int | None = None) -> Self:
        """It has to come so many times in a row; with ``most``, that many at the most (``times(1, 3)``).

        Raises:
            UsageError: The numbers are no numbers of times.
        """
        most = least if most is None else most
        self._refuse_own("times")
        if not (is_count(most) and (least == 0 or is_count(least)) and least <= most):
            raise UsageError(f"times: it comes from 0 up to at least 1 times, not {least!r} to {most!r}")
        return self._change(least=least, most=most)

    def once(self) -> Self:
        """It has to come once; which is so unless something else is said."""
        return self.times(1)

    def optional(self) -> Self:
        """It may come once here, or not."""
        return self.times(0, 1)

    def at_least(self, times: int) -> Self:
        """It has to come so many times in a row, and may go on."""
        return self.times(times, ANY)

    def forever(self) -> Self:
        """It may come at any point of the conversation, as often as it likes, and does not move the script on."""
        self._refuse_own("forever")
        self._change(least=0, most=ANY, aside=True)
        self.setting.stand_aside(self)
        return self

    # -- in which state

    def when(self, state: str | None = None, /, **scenarios: str) -> Self:
        """It counts only in this state of the conversation, which begins as "start"; and in these states of named scenarios.

        Each connection has a state of its own. Scenarios are shared by all, and begin as "start", too.
        """
        return self._change(state=state, scenes={**self.scenes, **scenarios})

    def then(self, state: str | None = None, /, **scenarios: str) -> Self:
        """Afterwards the conversation is in this state, and the named scenarios are in theirs."""
        return self._change(next_state=state, next_scenes={**self.next_scenes, **scenarios})

    # -- inside

    def _refuse_own(self, verb: str) -> None:
        if self.matcher is None:
            raise UsageError(
                f"{verb}: the server does this on its own, once; it is what clients do that may come more often"
            )

    def _change(self, **values: object) -> Self:
        with self.setting.lock:
            for name, value in values.items():
                setattr(self, name, value)
        self.setting.changed()
        return self


def check_act(act: Act, setting: Setting) -> None:
    """Refuse what can never be done.

    Raises:
        UsageError: It says why, and what to do.
    """
    if not isinstance(act, Act):
        raise UsageError(f"do: an Act can be done, not {act!r}")
    if setting.transport not in act.carried_by:
        raise UsageError(
            f"{act}: datagrams have no connection to be ended; leave the request without a reply instead"
        )
    data = getattr(act, "data", None)
    if data is not None:
        check_sayable(
            data, setting.framing, setting.transport, str(getattr(act, "verb", type(act).__name__.lower()))
        )


def calling_place() -> str:
    """The file and line outside of this library that has called."""
    frame = sys._getframe(1)  # noqa: SLF001 - traceback.extract_stack() reads every source file on the way
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    try:
        path = path.relative_to(Path.cwd())
    except (ValueError, OSError):
        pass  # it is elsewhere
    return f"{path}:{frame.f_lineno}"
