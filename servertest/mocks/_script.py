"""A script: what a server says and expects in a conversation, as plain data. Each connection runs its own copy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Self

from .._support import UsageError
from ..transcript import Datagrams, check_framing
from ._acts import Act
from ._matching import Anything, TheEnd, matcher_for
from ._step import Answers, Setting, Step, calling_place, check_act

if TYPE_CHECKING:
    from .._support import Transport
    from ..transcript import Framing
    from ._acts import Pieces
    from ._matching import Matcher
    from ._values import Expectable, Sayable

__all__ = ("Script",)


@dataclass(slots=True)
class Block:
    """Steps of which each has to come, in any order; mostly there is one."""

    steps: list[Step] = field(default_factory=list)
    any_order: bool = False

    @property
    def own(self) -> Step | None:
        """The step, if it is something that the server does on its own."""
        first = self.steps[0] if self.steps else None
        return first if first is not None and first.matcher is None else None


class Script(Answers):
    """What a server says and expects, step by step. It knows no socket; verbs may be added while it is played.

    Args:
        transport: "stream" or "datagram".
        framing: Where messages end. Without, a stream is taken as it comes: bytes and patterns are looked for at its
            beginning, however it is cut into packets.
    """

    def __init__(
        self,
        transport: Transport = "stream",
        framing: Framing | None = None,
        *,
        lock: RLock | None = None,
        changed: Callable[[], object] = lambda: None,
        title: str = "every connection",
    ) -> None:
        if transport == "datagram" and framing is None:
            framing = Datagrams()
        if framing is not None:
            check_framing(framing, transport)
        self.setting = Setting(transport, framing, lock or RLock(), changed, self._stand_aside)
        self.title = title
        self.blocks: list[Block] = []
        self.asides: list[Step] = []
        self.fallback: Step | None = None
        self._count = 0
        self._open: Block | None = None

    def __repr__(self) -> str:
        return f"<Script for {self.title}: {self._count} steps>"

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        # An empty script is one: "if script" asks whether there is one.
        return True

    @property
    def steps(self) -> list[Step]:
        """All steps, in the order in which they were said."""
        with self.setting.lock:
            found = [step for block in self.blocks for step in block.steps] + self.asides
            if self.fallback is not None:
                found.append(self.fallback)
        return sorted(found, key=lambda step: step.number)

    # -- verbs

    def banner(
        self,
        data: Sayable,
        *,
        delay: float = 0.0,
        pieces: Pieces = None,
        pause: float = 0.0,
        slowly: float | None = None,
    ) -> Step:
        """Say something as soon as a client has connected, or as soon as everything before it has come; as for `reply`.

        Raises:
            UsageError: Datagrams have no connection: nobody is there who could be greeted.
        """
        if self.setting.transport == "datagram":
            raise UsageError(
                "banner: nobody is known who could be greeted before the first datagram has come"
            )
        step = self._add(None, "banner")
        return step.reply(data, delay=delay, pieces=pieces, pause=pause, slowly=slowly)

    def expect(self, expected: Expectable) -> Step:
        """The client has to send this next; its answer is said by the verbs of the step that is returned.

        Args:
            expected: Bytes; a pattern, whose named groups are captured; a function of the message, which returns whether it
                is the right one, or a dict of what it captures; a `Frame`; or `Raw` bytes. With a framing each is about one
                whole message.

        Raises:
            UsageError: It is none of these, or can never come.
        """
        matcher = matcher_for(expected, self.setting.framing, self.setting.transport)
        return self._add(matcher, "expect")

    def expect_eof(self) -> Step:
        """The client has to finish sending next, by closing the connection or half of it."""
        self._refuse_datagrams("expect_eof")
        return self._add(TheEnd(), "expect_eof")

    def expect_reset(self) -> Step:
        """The client has to cut the connection off next (RST)."""
        self._refuse_datagrams("expect_reset")
        return self._add(TheEnd(reset=True), "expect_reset")

    def otherwise(self) -> Step:
        """What is done about requests that nothing else expects, which are no failure then."""
        with self.setting.lock:
            if self.fallback is None:
                matcher = Anything(self.setting.framing)
                self._count += 1
                self.fallback = Step(
                    self._count, matcher, self.setting, "otherwise", calling_place()
                ).forever()
            return self.fallback

    @contextlib.contextmanager
    def any_order(self) -> Iterator[Self]:
        """What is expected in this block may come in any order.

        Raises:
            UsageError: The block is in another one, or the server does something on its own in it.
        """
        with self.setting.lock:
            if self._open is not None:
                raise UsageError("any_order: this block is in another one already")
            self._open = block = Block(any_order=True)
        try:
            yield self
        finally:
            with self.setting.lock:
                self._open = None
                if block.steps:
                    self.blocks.append(block)
            self.setting.changed()

    def do(self, act: Act) -> Step:
        """Have the server do something on its own, once everything has come that has to come before.

        Raises:
            UsageError: It can never be done, or nobody could say when.
        """
        check_act(act, self.setting)
        return self._add(None, str(act).partition(" ")[0]).do(act)

    # -- inside

    def _add(self, matcher: Matcher | None, verb: str) -> Step:
        place = calling_place()
        with self.setting.lock:
            if matcher is None:
                self._refuse_vague(verb)
            self._count += 1
            step = Step(self._count, matcher, self.setting, verb, place)
            if self._open is not None:
                self._open.steps.append(step)
                return step
            self.blocks.append(Block([step]))
        # A step of the server's own is told of with its first act.
        if matcher is not None:
            self.setting.changed()
        return step

    def _refuse_vague(self, verb: str) -> None:
        if self._open is not None:
            raise UsageError(
                f"{verb}: in a block of any order, say it in answer to something: expect(...).{verb}(...)"
            )
        before = next((block for block in reversed(self.blocks) if block.steps), None)
        if before is not None and before.own is None and all(step.least == 0 for step in before.steps):
            raise UsageError(
                f"{verb}: nobody knows when to do this, for step {before.steps[-1].number} before it may come or not: say it in answer "
                "to something, or make that step .forever()"
            )

    def _refuse_datagrams(self, verb: str) -> None:
        if self.setting.transport == "datagram":
            raise UsageError(f"{verb}: datagrams have no connection that could end")

    def _stand_aside(self, step: Step) -> None:
        """Take a step out of the order."""
        with self.setting.lock:
            for block in [self._open, *self.blocks]:
                if block is not None and step in block.steps:
                    block.steps.remove(step)
                    self.asides.append(step)
            # Emptied blocks stay: conversations have their place among them.
