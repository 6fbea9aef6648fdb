"""What several checks have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .._case import Case
from .._conversation import Conversation
from .._plan import Plan, Record
from .._registry import NotApplicable
from .._violation import Violation
from .._wrong import Wrong

__all__ = ("Found", "conforms", "repeated", "shortest", "wrongs", "wrongs_together")


#: So many of the shortest examples are looked at once more, each by itself, and then twice as many, until one shows there, too.
_CONFIRMED = 3


@dataclass(frozen=True, slots=True)
class Found:
    """A plan that showed something."""

    plan: Plan
    record: Record
    what: str


def _size(found: Found) -> tuple[int, int]:
    return len(found.plan.sent), len(found.plan.pieces)


def shortest(case: Case, found: Iterable[Found], expected: bytes | None = None) -> Iterator[Violation]:
    """One violation for all that was found in a conversation: the first of the shortest examples, and how many more there are."""
    examples = list(found)
    if examples:
        best = min(examples, key=_size)
        yield case.violation(best.what, best.plan, best.record, expected=expected, also=len(examples) - 1)


def wrongs(
    case: Case,
    conversation: Conversation,
    plans: Iterable[Plan],
    judge: Callable[[Plan, Record], str],
    *,
    limit: float = 2.0,
    fresh: bool = False,
) -> Iterator[Found]:
    """Hold plans, and give those of which the judge has something to say."""
    plans = [plan for plan in plans if case.can_play(plan)]
    records = case.play_all(plans, conversation, limit=limit, fresh=fresh)
    found = list(_judged(plans, records, judge))
    yield from found if fresh else _alone(case, conversation, found, judge, limit)


def wrongs_together(
    case: Case,
    conversation: Conversation,
    plans: Iterable[Plan],
    judge: Callable[[Plan, Record], str],
    *,
    limit: float = 2.0,
) -> Iterator[Found]:
    """As `wrongs`, for a judge who does not look at replies: subjects that promise to be stateful need not begin anew for each plan, which takes long."""
    plans = [plan for plan in plans if case.can_play(plan)]
    found = list(_judged(plans, case.play_all(plans, conversation, limit=limit, together=True), judge))
    yield from _alone(case, conversation, found, judge, limit)


def _alone(
    case: Case,
    conversation: Conversation,
    found: list[Found],
    judge: Callable[[Plan, Record], str],
    limit: float,
) -> list[Found]:
    """The same; of the shortest only those that show also where nothing has gone before, if any do: the example is complete then."""
    by_size = sorted(found, key=_size)
    place, count = 0, _CONFIRMED
    while place < len(by_size):
        plans = [one.plan for one in by_size[place : place + count]]
        alone = list(_judged(plans, case.play_all(plans, conversation, limit=limit, fresh=True), judge))
        if alone:
            return [*alone, *by_size[place + count :]]
        place, count = place + count, 2 * count
    return found


def _judged(
    plans: Iterable[Plan], records: Iterable[Record], judge: Callable[[Plan, Record], str]
) -> Iterator[Found]:
    for plan, record in zip(plans, records, strict=True):
        if what := judge(plan, record):
            yield Found(plan, record, what)


def conforms(case: Case, conversation: Conversation) -> Callable[[Plan, Record], str]:
    """A judge that wants the conversation's replies, and a handler that ends in order."""

    def judge(plan: Plan, record: Record) -> str:
        if what := case.wrong(record):
            return what
        if case.agrees(conversation, record.received):
            return ""
        proof = case.gives(conversation)
        if conversation.answered.startswith(record.received):
            return Wrong("replies are missing", proof)
        return Wrong("the replies are others than when each request comes whole", proof)

    return judge


def repeated(case: Case, conversation: Conversation, times: int) -> Conversation:
    """The conversation several times over on one connection, if that gives the same replies each time.

    Raises:
        NotApplicable: It does not: the server closes the connection, or remembers.
    """
    if conversation.server_closes or conversation.half_close or case.promises.last_closes:
        raise NotApplicable("the server closes the connection at the end of the conversation")
    if case.promises.banner or not all(exchange.sent for exchange in conversation.exchanges):
        raise NotApplicable("the server speaks first, once in a connection")
    longer = Conversation(
        conversation.number,
        conversation.exchanges * times,
        replies=conversation.replies * times,
        farewell=conversation.farewell,
    )
    record = case.play(longer.plan(), conversation)
    held = longer.held(record)
    if not held.agrees(record.received, any_order=bool(case.promises.any_order)):
        raise NotApplicable("held a second time on the same connection, the conversation has other replies")
    return held
