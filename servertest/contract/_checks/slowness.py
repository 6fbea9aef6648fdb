"""Time: how long a client may be silent, and who has to wait for whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .._case import Case
from .._conversation import Conversation
from .._plan import Piece, Plan, Record
from .._registry import contract_check
from .._violation import Violation
from .._wrong import Wrong
from ._common import Found, shortest, wrongs
from .endings import _prefixes

__all__ = ("idle_promise", "patience_promise", "slow_client_blocks_nobody")


#: How much later or earlier than promised a client may be cut off.
_EARLY, _LATE = 0.9, 1.5


@contract_check("slowness", needs=("idle_timeout",))
def idle_promise(case: Case) -> Iterator[Violation]:
    """A silent client is cut off when it was promised, neither much later nor earlier.

    The client falls silent after each prefix of each request, and the handler has to end within 1.5 times of `idle_timeout`. And it is silent for a
    little less than that, and then goes on: it must be served as ever. All of this in virtual time: a promise of an hour takes no longer to check.
    """
    limit = case.promises.idle_timeout or 0.0
    for conversation in case.conversations:
        plans = [
            Plan(pieces=pieces, ending="silence", patience=max(3600.0, 100 * limit))
            for pieces in _prefixes(case, conversation)
        ]

        def too_late(plan: Plan, record: Record) -> str:
            if record.outcome == "silent" and record.ended_before == 0:
                return Wrong(
                    f"a silent client may stay for ever, though it is promised to be cut off after {limit:g} s",
                    "record.outcome != 'silent'",
                )
            if record.outcome in ("hung", "spinning", "died"):
                return case.wrong(record)
            if record.silence > limit * _LATE + 0.05:
                return Wrong(
                    f"a silent client is cut off after {record.silence:.3g} s, though {limit:g} s are promised",
                    f"record.silence <= {limit * _LATE + 0.05!r}",
                )
            if record.failure is not None and record.failure.type_name == "TimeoutError":
                return ""
            return case.wrong(record)

        yield from shortest(
            case, wrongs(case, conversation, plans, too_late, limit=max(2.0, min(limit * 4, 8.0)))
        )
        yield from shortest(case, _cut_off_early(case, conversation, limit), conversation.answered)


def _cut_off_early(case: Case, conversation: Conversation, limit: float) -> Iterator[Found]:
    plans = []
    for cut in case.sample(range(len(conversation.sent)), 0, *conversation.boundaries)[
        :: 1 if case.full else 3
    ]:
        plan = conversation.cut_plan([cut])
        plans.append(replace(plan, pieces=_with_pause(plan.pieces, cut, limit * _EARLY)))

    def judge(plan: Plan, record: Record) -> str:
        if case.agrees(conversation, record.received):
            return ""
        return Wrong(
            f"a client that was silent for {limit * _EARLY:.3g} s is cut off or forgotten, though it has {limit:g} s",
            case.gives(conversation),
        )

    many = conversation.cut_plan(range(0, len(conversation.sent), max(1, len(conversation.sent) // 4)))
    plans.append(replace(many, pieces=tuple(replace(piece, pause=limit * _EARLY) for piece in many.pieces)))
    yield from wrongs(case, conversation, plans, judge)


def _with_pause(pieces: tuple[Piece, ...], cut: int, seconds: float) -> tuple[Piece, ...]:
    found, place = [], 0
    for piece in pieces:
        found.append(replace(piece, pause=seconds) if place == cut else piece)
        place += len(piece.data)
    return tuple(found)


@contract_check("slowness", needs=("patience",))
def patience_promise(case: Case) -> Iterator[Violation]:
    """A client that is silent for as long as it was promised that it may be is served as ever.

    It falls silent before and inside of every request, in virtual time.
    """
    seconds = (case.promises.patience or 0.0) * _EARLY
    for conversation in case.with_input():
        plans = []
        for cut in case.sample(range(len(conversation.sent)), *conversation.boundaries)[
            :: 1 if case.full else 3
        ]:
            plan = conversation.cut_plan([cut])
            plans.append(replace(plan, pieces=_with_pause(plan.pieces, cut, seconds)))

        def judge(plan: Plan, record: Record, conversation: Conversation = conversation) -> str:
            return (
                ""
                if case.agrees(conversation, record.received)
                else Wrong(
                    f"a client that was silent for {seconds:g} s is not served any more",
                    case.gives(conversation),
                )
            )

        yield from shortest(case, wrongs(case, conversation, plans, judge), conversation.answered)


@contract_check("slowness", needs=("concurrent",))
def slow_client_blocks_nobody(case: Case) -> Iterator[Violation]:
    """While one client is slow, others are served.

    One client stops after each prefix of its requests, and while the handler waits for it, another one has its whole conversation. The same in the
    midst of each reply, as for a client that reads slowly. On servers that
    serve one at a time this cannot be; it is the handler that is looked at here: what it holds (a lock, above all) while it waits.
    """
    for conversation in case.with_input():
        size = len(conversation.answered)
        places = case.sample(range(1, size), size // 2) if size > 1 else []
        plans = _interrupted(case, conversation)
        plans += [
            conversation.plan(inner=conversation.plan(), at_send=place)
            for place in places[:: max(1, len(places) // 12)]
        ]

        def judge(plan: Plan, record: Record) -> str:
            if record.outcome in ("hung", "died"):
                return case.wrong(record)
            if record.held_up:
                return Wrong("while one client is slow, another one is not served", "not record.held_up")
            return ""

        suspects = sorted(
            (one.plan for one in wrongs(case, conversation, plans, judge)), key=lambda plan: len(plan.sent)
        )[:1]
        # The machine may have been busy: whoever holds a lock holds it for a second, too. It takes that second, so one has to do.
        again = [replace(plan, turn=1.0) for plan in suspects]
        yield from shortest(case, wrongs(case, conversation, again, judge, limit=8.0))


def _interrupted(case: Case, conversation: Conversation) -> list[Plan]:
    """Conversations that are cut once, each with another one in its midst, at the cut."""
    cuts = case.sample(range(len(conversation.sent)), *conversation.boundaries)
    plans = []
    for cut in cuts[:: 1 if case.full else 2]:
        plan = conversation.cut_plan([cut])
        places = [0]
        for piece in plan.pieces:
            places.append(places[-1] + len(piece.data))
        plans.append(replace(plan, inner=conversation.plan(), at_wait=places.index(cut)))
    return plans
