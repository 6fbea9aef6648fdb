"""What connections know of each other: nothing, or what was promised, and that safely."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from .._case import Case
from .._conversation import Conversation
from .._plan import Plan, Record
from .._registry import contract_check
from .._violation import Violation
from .._wrong import Wrong
from ._common import Found, shortest, wrongs
from .endings import _prefixes

__all__ = ("nothing_survives_the_connection", "replies_do_not_mix", "shared_state_under_threads")


#: Places at which a conversation is interrupted, in the quick and in the full profile.
_STEPS = {"quick": 60, "full": 600}
#: How often it is tried to see the same again, where replies change with time.
_AGAIN = 4


@contract_check(
    "state",
    needs=("concurrent",),
    unless={"stateful": "what one does, others may see", "broadcast": "what one says, others hear"},
)
def replies_do_not_mix(case: Case) -> Iterator[Violation]:
    """Clients that are served at the same time get their own replies.

    One client stops at each byte of its requests; meanwhile another has its whole conversation (a different one, where several are declared, and
    parts of the same one); then the first goes on. Both must get what they would have got alone.
    """
    for conversation in case.with_input():
        found: list[Found] = []
        for other in _others(case, conversation):
            plans = _interrupted_by(case, conversation, other)
            found += wrongs(case, conversation, plans, _both(case, conversation, other))
        found += wrongs(
            case, conversation, _with_strangers(case, conversation), _undisturbed(case, conversation)
        )
        yield from shortest(case, found, conversation.answered)


def _with_strangers(case: Case, conversation: Conversation) -> list[Plan]:
    """The conversation, and at the end of each of its requests another client that says something else."""
    return [
        replace(conversation.plan(), inner=stranger, at_wait=number)
        for number in range(len(conversation.pieces()))
        for stranger in strangers(conversation)
    ]


def strangers(conversation: Conversation) -> list[Plan]:
    """Clients that say the like of it, and not the same: the last word of each request is another, or every word is; or they stop after the first."""
    last = [_LAST_WORD.sub(lambda found: _other(found[0]), piece) for piece in conversation.pieces()]
    every = [_other(piece) for piece in conversation.pieces()]
    return [Plan.of(*last), Plan.of(*every), Plan.of(*last[:1])]


_LAST_WORD = re.compile(rb"[A-Za-z0-9]+(?=[^A-Za-z0-9]*\Z)")
_OTHERS = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    b"bcdefghijklmnopqrstuvwxyzaBCDEFGHIJKLMNOPQRSTUVWXYZA1234567890",
)


def _other(data: bytes) -> bytes:
    return data.translate(_OTHERS)


def _undisturbed(case: Case, conversation: Conversation) -> Callable[[Plan, Record], str]:
    def judge(plan: Plan, record: Record) -> str:
        if what := case.wrong(record):
            return what
        if case.agrees(conversation, record.received):
            return ""
        return Wrong(
            "a client gets other replies when another says something else in between",
            case.gives(conversation),
        )

    return judge


def _others(case: Case, conversation: Conversation) -> list[Conversation]:
    """Conversations to be held in the midst of this one, as different from it as there are."""
    others = [one for one in case.conversations if one.sent and one.number != conversation.number]
    shorter = [
        conversation.first(count)
        for count in range(1, len(conversation.exchanges))
        if conversation.first(count).sent
    ]
    return [conversation, *(others[:2] if not case.full else others), *shorter[:1]]


def _interrupted_by(case: Case, conversation: Conversation, other: Conversation) -> list[Plan]:
    plans = []
    for cut in case.sample(range(len(conversation.sent)), *conversation.boundaries):
        plan = conversation.cut_plan([cut])
        places = [0]
        for piece in plan.pieces:
            places.append(places[-1] + len(piece.data))
        plans.append(replace(plan, inner=other.plan(), at_wait=places.index(cut)))
    return plans


def _both(case: Case, conversation: Conversation, other: Conversation) -> Callable[[Plan, Record], str]:
    def judge(plan: Plan, record: Record) -> str:
        if what := case.wrong(record):
            return what
        if record.inner is None:
            return ""  # it was held up: another check's affair
        if what := case.wrong(record.inner):
            return what.said("for the client in between, ")
        if not case.agrees(conversation, record.received):
            return Wrong(
                "a client gets other replies when another is served in between", case.gives(conversation)
            )
        if not case.agrees(other, record.inner.received):
            return Wrong(
                "a client gets other replies when it is served while another is in the midst of a request",
                case.gives(other, "record.inner.received"),
            )
        return ""

    return judge


@contract_check("state", unless={"stateful": "it promises to remember"})
def nothing_survives_the_connection(case: Case) -> Iterator[Violation]:
    """A new client finds nothing of what earlier ones did.

    After each prefix of each conversation, whether the client closed, finished sending or cut the connection off, the next client gets the same
    replies as the first one of all. In the quick profile those are the same conversation and two others; in the full one, all.
    """
    for conversation in case.conversations:
        others = [one for one in case.conversations if one.number != conversation.number]
        later = [conversation, *others[: None if case.full else 2]]
        following = [other.plan() for other in later]
        plans = [
            Plan(pieces=pieces, ending=ending, after=tuple(following))
            for pieces in _prefixes(case, conversation)
            for ending in ("close", "fin")
        ]

        def judge(plan: Plan, record: Record, later: list[Conversation] = later) -> str:
            for number, (other, after) in enumerate(zip(later, record.after, strict=False)):
                if what := case.wrong(after):
                    return what.said("for a later client, ")
                if not case.agrees(other, after.received):
                    return Wrong(
                        "a later client gets other replies than the first one of all",
                        case.gives(other, f"record.after[{number}].received"),
                    )
            return ""

        yield from shortest(case, wrongs(case, conversation, plans, judge))


@contract_check("state", needs=("concurrent",), unless={"broadcast": "what one says, others hear"})
def shared_state_under_threads(case: Case) -> Iterator[Violation]:
    """Two clients served by two threads get what they would get one after the other.

    No luck is needed: a conversation is stopped before each line of the subject's own code in turn, and before each write to an attribute or an item,
    and another conversation is held there from beginning to end. The replies to both, and to a third client after them, must be
    the same as when the other conversation comes between two requests.
    """
    for conversation in case.with_input():
        yield from shortest(case, _races(case, conversation), conversation.answered)


def _races(case: Case, conversation: Conversation) -> Iterator[Found]:
    plan = replace(conversation.plan(), after=(conversation.plan(),))
    if len(conversation.answered) > 100_000:
        return
    counted = case.play_all([replace(plan, count_steps=True)], conversation, fresh=True)[0]
    steps = _sampled(case, counted)
    inner = conversation.plan()
    serial = [replace(plan, inner=inner, at_wait=number) for number in range(len(conversation.pieces()) + 1)]
    first, second = (_outcomes(case, conversation, serial) for _ in range(2))
    if first != second:
        yield from _distinct(case, conversation, plan, inner, steps)
        return
    outcomes = set(first)
    interrupted = [replace(plan, inner=inner, at_step=step) for step in steps]

    def judge(plan: Plan, record: Record) -> str:
        if record.outcome in ("hung", "died"):
            return case.wrong(record)
        if record.inner is None or _seen(case, record) in outcomes:
            return ""
        if record.held_up and len(conversation.exchanges) > 1:
            return ""  # it waited for a lock, and then both went on, request by request
        if what := case.wrong(record) or case.wrong(record.inner):
            return what.said(f"when two threads run into each other {_place(counted, plan)}, ")
        return f"when two threads run into each other {_place(counted, plan)}, the replies are others than one after the other"

    found = list(wrongs(case, conversation, interrupted, judge, fresh=True))
    for one in found:
        for _ in range(_AGAIN):
            # What says the time says something else now and then: before and after it must be the same.
            before = _outcomes(case, conversation, serial)
            outcomes.clear()
            outcomes.update(before)
            confirmed = list(wrongs(case, conversation, [one.plan], judge, fresh=True))
            if before == _outcomes(case, conversation, serial):
                yield from confirmed
                break


def _outcomes(case: Case, conversation: Conversation, plans: list[Plan]) -> list[tuple[object, ...]]:
    return [_seen(case, record) for record in case.play_all(plans, conversation, fresh=True)]


def _seen(case: Case, record: Record) -> tuple[object, ...]:
    """All that clients have seen, the third one too; whose reply is whose does not matter where both say the same."""
    inner = record.inner.received if record.inner is not None else None
    return (
        *sorted([_sorted(case, record.received), _sorted(case, inner or b"")]),
        *(_sorted(case, after.received) for after in record.after),
    )


def _sorted(case: Case, received: bytes) -> bytes:
    return b"".join(sorted(received.splitlines(keepends=True))) if case.promises.any_order else received


def _sampled(case: Case, counted: Record) -> list[int]:
    """Steps at which to interrupt: all writes, and lines as the profile allows: in the quick one, when they are reached for the first time."""
    writes = [number for number, (_, _, what) in enumerate(counted.steps) if what != "line"]
    lines = [number for number, (_, _, what) in enumerate(counted.steps) if what == "line"]
    if not case.full:
        lines = list({counted.steps[number]: number for number in reversed(lines)}.values())[::-1]
    limit = _STEPS[case.profile]
    return sorted({*writes[:limit], *lines[: max(10, limit - len(writes))]})


def _place(counted: Record, plan: Plan) -> str:
    assert plan.at_step is not None
    if plan.at_step >= len(counted.steps):
        return "somewhere"
    file, line, what = counted.steps[plan.at_step]
    return f"at line {line} of {file.rpartition('/')[2]}" + (
        " (between reading and writing)" if what != "line" else ""
    )


def _distinct(
    case: Case, conversation: Conversation, plan: Plan, inner: Plan, steps: list[int]
) -> Iterator[Found]:
    """Where replies differ from run to run, they can still be looked at one by one."""

    def judge(plan: Plan, record: Record) -> str:
        if record.outcome in ("hung", "died"):
            return case.wrong(record)
        if record.inner is None:
            return ""
        for one in (record, record.inner):
            if what := case.wrong(one):
                return what.said("when two threads run into each other, ")
            if not case.agrees(conversation, one.received):
                return "when two threads run into each other, the replies are not as expected"
        return ""

    yield from wrongs(
        case, conversation, [replace(plan, inner=inner, at_step=step) for step in steps], judge, fresh=True
    )
