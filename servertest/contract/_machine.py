"""Courses of events that nobody thought of: a Hypothesis state machine in which clients come, speak in part, pause, and leave as they like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ._case import Case
from ._conversation import Conversation
from ._plan import Ending, Piece, Plan, Record
from ._search import search_settings
from ._wrong import Wrong

if TYPE_CHECKING:
    from ._checks._common import Found

__all__ = ("course_of_events",)

#: Courses that are tried, and steps of each.
_COURSES, _STEPS = 80, 14
#: Clients at the same time.
_CLIENTS = 3


@dataclass(slots=True)
class _Client:
    """One of them: what it has said so far, and what happened then."""

    conversation: Conversation
    pieces: list[Piece] = field(default_factory=list)
    said: int = 0
    pause: float = 0.0
    long_silence: bool = False
    ending: Ending = "silence"
    at_wait: int | None = None
    inner: _Client | None = None

    def say(self, length: int) -> None:
        """The next bytes of its conversation, to the end of the request at the most."""
        end = next(boundary for boundary in self.conversation.boundaries if boundary > self.said)
        data = self.conversation.sent[self.said : min(self.said + length, end)]
        self.pieces.append(Piece(data, self.pause))
        self.said, self.pause = self.said + len(data), 0.0

    @property
    def is_done(self) -> bool:
        return self.said >= len(self.conversation.sent)

    def plan(self) -> Plan:
        inner = self.inner.plan() if self.inner is not None else None
        return Plan(
            pieces=tuple(self.pieces),
            ending=self.ending,
            inner=inner,
            at_wait=self.at_wait if inner else None,
        )


def course_of_events(case: Case) -> list[Found]:
    """Search for a course of events that ends badly.

    Returns:
        The shortest that was found, or nothing.
    """
    from hypothesis import seed
    from hypothesis.stateful import run_state_machine_as_test

    found: list[Found] = []
    machine = seed(case.seed)(_machine(case, found.append))
    try:
        run_state_machine_as_test(
            machine, settings=search_settings(case, _COURSES, stateful_step_count=_STEPS)
        )
    except _Seen:
        # The one that it was shrunk to is mostly the last, but others are tried afterwards, and not every way down leads to the bottom.
        return [_shorter(case, min(found, key=lambda one: _weight(one.plan)))]
    return []


def _shorter(case: Case, found: Found) -> Found:
    """What still ends as badly when clients and pieces are left out one by one."""
    what = next((what for what in found.record.problems if what in found.what), "")
    if not what or case.promises.stateful:
        return found
    again = True
    while again:
        again = False
        for plan in _parts(found.plan):
            record = case.play_all([plan], fresh=True)[0]
            if what in record.problems:
                found, again = replace(found, plan=plan, record=record, what=Wrong(what, _PROOF)), True
                break
    return found


_PROOF = "not record.problems"


def _parts(plan: Plan) -> Iterator[Plan]:
    """The same with something left out: all that comes later, who comes in between, one of each, a piece."""
    if plan.inner is not None:
        yield replace(plan.inner, after=())
        yield replace(plan, inner=None, at_wait=None)
    yield from (one for one in plan.after if len(plan.after) > 1 or one.after)
    if plan.after:
        yield replace(plan, after=())
    if plan.inner is not None:
        yield from (replace(plan, inner=part) for part in _parts(plan.inner))
    for number in range(len(plan.pieces)):
        yield replace(plan, pieces=plan.pieces[:number] + plan.pieces[number + 1 :])


def _weight(plan: Plan) -> tuple[int, int, int]:
    """How much there is to a plan: clients, pieces, bytes."""
    parts = [_weight(one) for one in ((plan.inner,) if plan.inner is not None else ()) + plan.after]
    own = (1, len(plan.pieces) + sum(piece.pause > 0 for piece in plan.pieces), len(plan.sent))
    clients, pieces, size = (sum(numbers) for numbers in zip(own, *parts, strict=True))
    return clients, pieces, size


class _Seen(Exception):  # noqa: N818 - not an error, but how Hypothesis is told that something was found
    """Something was found."""


def _machine(case: Case, note: Callable[[Found], None]) -> Any:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

    from ._checks._common import Found

    conversations = st.sampled_from(case.with_input())

    class Clients(RuleBasedStateMachine):
        """The one that came last acts: those before it wait until it has gone."""

        def __init__(self) -> None:
            super().__init__()
            self.clients: list[_Client] = []
            self.stack: list[_Client] = []

        @precondition(lambda self: not self.stack)
        @rule(conversation=conversations)
        def connects(self, conversation: Conversation) -> None:
            self.clients.append(_Client(conversation))
            self.stack.append(self.clients[-1])

        @precondition(lambda self: 0 < len(self.stack) < _CLIENTS and self.stack[-1].inner is None)
        @rule(conversation=conversations)
        def another_connects(self, conversation: Conversation) -> None:
            outer = self.stack[-1]
            outer.inner, outer.at_wait = _Client(conversation), len(outer.pieces)
            self.stack.append(outer.inner)

        @precondition(lambda self: self.stack and not self.stack[-1].is_done)
        @rule(length=st.integers(1, 200))
        def says(self, length: int) -> None:
            self.stack[-1].say(length)

        @precondition(lambda self: self.stack and not self.stack[-1].is_done)
        @rule(seconds=st.sampled_from([0.01, 3600.0]))
        def pauses(self, seconds: float) -> None:
            self.stack[-1].pause += seconds
            self.stack[-1].long_silence |= seconds > 1

        @precondition(lambda self: self.stack)
        @rule(ending=st.sampled_from(["fin", "close", "reset"] if not case.kind.local else ["fin", "close"]))
        def leaves(self, ending: Ending) -> None:
            self.stack.pop().ending = ending

        def teardown(self) -> None:
            if not self.clients:
                return
            first, *later = self.clients
            honest = () if case.promises.stateful else tuple(one.plan() for one in case.conversations)
            plan = replace(first.plan(), after=(*(one.plan() for one in later), *honest))
            record = case.play(plan, first.conversation)
            if what := _judge_all(case, self.clients, record):
                note(Found(plan, record, what))
                raise _Seen

    return Clients


def _judge_all(case: Case, clients: list[_Client], record: Record) -> str:
    """What is wrong with what came of those that came one after the other, and of honest ones after them."""
    for client, one in zip(clients, (record, *record.after), strict=False):
        if what := _judge(case, client, one):
            return what
    for conversation, after in zip(case.conversations, record.after[len(clients) - 1 :], strict=False):
        if what := case.wrong(after):
            return what.said("for a later client, ")
        if not case.agrees(conversation, after.received):
            return "a later client gets other replies than the first one of all"
    return ""


def _judge(case: Case, client: _Client, record: Record | None, who: str = "") -> str:
    """What is wrong with what came of a client, and of those in its midst."""
    if record is None:
        return ""  # it was held up: another check's affair
    timed_out = record.failure is not None and record.failure.type_name == "TimeoutError"
    if not timed_out and (what := case.wrong(record)):
        return what.said(who)
    if _counts(case, client, record) and not case.agrees(client.conversation, record.received):
        return f"{who}the replies are others than when nothing else happens"
    inner = client.inner
    return _judge(case, inner, record.inner, "for a client in between, ") if inner is not None else ""


def _counts(case: Case, client: _Client, record: Record) -> bool:
    """Whether its replies are known: it has said all in time and stayed, and nobody may have changed them."""
    promises = case.promises
    alone = bool(promises.concurrent) and not promises.stateful and not promises.broadcast
    return (
        client.is_done
        and client.ending == "fin"
        and not client.long_silence
        and alone
        and not record.held_up
        and client.conversation.exact
    )
