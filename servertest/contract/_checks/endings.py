"""Clients leave when they like, and as they like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .._case import Case
from .._conversation import Conversation
from .._plan import Ending, Piece, Plan, Record
from .._registry import NotApplicable, contract_check
from .._reproduction import as_code
from .._violation import Violation
from .._wrong import Wrong
from ._common import Found, shortest, wrongs, wrongs_together

__all__ = (
    "close_after_each_prefix",
    "half_close_is_answered",
    "no_busy_loop",
    "reset_after_each_prefix",
    "reset_in_mid_reply",
    "returns_when_the_client_has_gone",
    "silent_client",
)


def _prefixes(case: Case, conversation: Conversation) -> list[tuple[Piece, ...]]:
    """What a client has sent that leaves after each of the bytes: requests one by one, the last one in part."""
    sent = conversation.sent
    lengths = case.sample(
        range(len(sent) + 1),
        *conversation.boundaries,
        *(at + 1 for at in conversation.boundaries),
        len(sent) - 1,
    )
    found = []
    for length in lengths:
        pieces, place = [], 0
        for piece in conversation.pieces():
            part = piece[: max(0, length - place)]
            place += len(piece)
            if part:
                pieces.append(Piece(part))
        found.append(tuple(pieces))
    return found


def _ends_in_order(case: Case) -> Callable[[Plan, Record], str]:
    return lambda plan, record: case.wrong(record)


def _then_serves(case: Case, conversation: Conversation) -> Callable[[Plan, Record], str]:
    """A judge that also wants the next client to be served as ever."""

    def judge(plan: Plan, record: Record) -> str:
        if what := case.wrong(record):
            return what
        for after in record.after:
            if what := case.wrong(after):
                return what.said("for the next client, ")
            if not case.agrees(conversation, after.received):
                return Wrong(
                    "the next client gets other replies", case.gives(conversation, "record.after[0].received")
                )
        return ""

    return judge


@contract_check("endings")
def close_after_each_prefix(case: Case) -> Iterator[Violation]:
    """A client that closes the connection after any byte of its requests does no harm.

    It has taken the replies so far, and closes: the handler returns, and raises nothing, also when it writes to somebody who has gone. It also closes
    after each part of the replies, without reading the rest.
    """
    for conversation in case.conversations:
        plans = [Plan(pieces=pieces, ending="close") for pieces in _prefixes(case, conversation)]
        plans += [Plan(pieces=pieces, ending="fin") for pieces in _prefixes(case, conversation)]
        if conversation.sent:
            plans.append(Plan(pieces=(Piece(conversation.sent),), ending="close", early_end=True))
        plans += [
            conversation.plan(reset_after=after)
            for after in case.sample(range(len(conversation.answered)))[::4]
        ]
        yield from shortest(case, wrongs_together(case, conversation, plans, _ends_in_order(case)))


@contract_check("endings")
def reset_after_each_prefix(case: Case) -> Iterator[Violation]:
    """A client that cuts the connection off (RST) after any byte of its requests does no harm.

    Reading fails with ConnectionResetError then, and so does writing. The handler returns, and raises nothing.
    """
    if case.kind.local:
        raise NotApplicable("Unix sockets know no RST")
    for conversation in case.conversations:
        plans = [Plan(pieces=pieces, ending="reset") for pieces in _prefixes(case, conversation)]
        if conversation.sent:
            plans.append(Plan(pieces=(Piece(conversation.sent),), ending="reset", early_end=True))
        yield from shortest(case, wrongs_together(case, conversation, plans, _ends_in_order(case)))


@contract_check("endings")
def reset_in_mid_reply(case: Case) -> Iterator[Violation]:
    """A client that cuts the connection off in the midst of a reply does no harm.

    It goes after each part of the replies; writing fails from then on, with ConnectionResetError the first time and BrokenPipeError later. The
    handler returns, raises nothing, and the next client is served.
    """
    tried = False
    for conversation in case.conversations:
        size = len(conversation.answered)
        after = case.sample(
            range(size),
            *(len(b"".join(conversation.replies[:number])) for number in range(len(conversation.replies))),
        )
        following = () if case.promises.stateful else (conversation.plan(),)
        plans = [conversation.plan(reset_after=at, after=following) for at in after]
        tried = tried or bool(plans)
        yield from shortest(case, wrongs(case, conversation, plans, _then_serves(case, conversation)))
    if not tried:
        raise NotApplicable("nothing is answered")


@contract_check("endings")
def returns_when_the_client_has_gone(case: Case) -> Iterator[Violation]:
    """When the client has gone, the handler returns soon: within 10 seconds, or within the times that are promised.

    The client finishes sending, closes, or cuts the connection off after each prefix of its requests. From then on the handler's thread, and all that it
    holds, is there for nobody. Time is virtual, and what the handler sleeps counts. Longer is what is promised by `idle_timeout`, `patience` or
    `reply_seconds`.
    """
    promises = case.promises
    deadline = max(
        10.0, 1.5 * (promises.idle_timeout or 0), promises.patience or 0, promises.reply_seconds or 0
    )

    def judge(plan: Plan, record: Record) -> str:
        if record.outcome == "hung":
            return case.wrong(record).said("when the client has gone, ")
        if record.silence > deadline:
            return Wrong(
                f"the handler returns only {record.silence:.3g} s after the client has gone",
                f"record.silence <= {deadline!r}",
            )
        return ""

    for conversation in case.conversations:
        plans = [
            Plan(pieces=pieces, ending=ending)
            for pieces in _prefixes(case, conversation)[:: 1 if case.full else 4]
            for ending in _GONE
            if not (ending == "reset" and case.kind.local)
        ]
        yield from shortest(case, wrongs_together(case, conversation, plans, judge))


_GONE: tuple[Ending, ...] = ("fin", "close", "reset")


@contract_check("endings", needs=("half_close",))
def half_close_is_answered(case: Case) -> Iterator[Violation]:
    """A client that finishes sending still gets all replies, and then end of file.

    Each conversation is sent at once, and the end of it, before the handler starts to read (needs `pipelining` where there are several requests); and
    request by request, the last one together with the end.
    """
    for conversation in case.with_input():
        plans = []
        if case.promises.pipelining or len(conversation.exchanges) == 1:
            plans.append(replace(Plan.of(conversation.sent), early_end=True))
        plans.append(conversation.plan())
        for number in range(1, len(conversation.exchanges)):
            first = conversation.first(number)
            if first.sent and (number == 1 or case.promises.pipelining):
                plans.append(replace(Plan.of(first.sent), early_end=True))

        def judge(plan: Plan, record: Record, conversation: Conversation = conversation) -> str:
            if what := case.wrong(record):
                return what
            count = sum(boundary <= len(plan.sent) for boundary in conversation.boundaries)
            if case.agrees(conversation, record.received, count) or case.agrees(
                conversation, record.received
            ):
                return ""
            wanted = b"".join(conversation.replies[:count])
            return Wrong(
                "the end of what the client sends keeps replies from it"
                if wanted.startswith(record.received)
                else "the replies are others when the client has finished sending",
                f"record.received == {as_code(wanted)}" if conversation.exact else "",
            )

        found = list(wrongs(case, conversation, plans, judge))
        yield from shortest(case, found, conversation.answered)


@contract_check("endings")
def silent_client(case: Case) -> Iterator[Violation]:
    """A client that connects and says nothing, and then leaves or stays, does no harm.

    If it stays, the handler hangs up after the promised `idle_timeout`; without that promise it may wait.
    """
    plans = [
        Plan(ending=ending)
        for ending in ("fin", "close", "reset", "silence")
        if not (ending == "reset" and case.kind.local)
    ]
    found: list[Found] = []
    for plan, record in zip(plans, case.play_all(plans), strict=True):
        what = case.wrong(record)
        if (
            plan.ending == "silence"
            and record.failure is not None
            and record.failure.type_name == "TimeoutError"
        ):
            what = Wrong("")
        if (
            not what
            and plan.ending == "silence"
            and record.outcome == "silent"
            and case.promises.idle_timeout
        ):
            what = Wrong(
                "a client that says nothing at all may stay for ever, though it is promised to be cut off after "
                f"{case.promises.idle_timeout:g} s",
                "record.outcome != 'silent'",
            )
        if what:
            found.append(Found(plan, record, what))
    yield from shortest(case, found)


@contract_check("endings")
def no_busy_loop(case: Case) -> Iterator[Violation]:
    """Whoever waits for input waits, and does not ask again and again: above all not at the end of the connection.

    Reads that return nothing, or say "not yet", are counted after each prefix of each request, for clients that finish sending, and for those that
    stay silent.
    """
    for conversation in case.conversations:
        prefixes = _prefixes(case, conversation)
        plans = [Plan(pieces=pieces, ending=ending) for pieces in prefixes for ending in ("fin", "silence")]

        def judge(plan: Plan, record: Record) -> str:
            if record.outcome == "spinning":
                where = (
                    "at the end of the connection" if plan.ending == "fin" else "while the client is silent"
                )
                return Wrong(
                    f"the handler asks again and again, {where}, and never rests", "not record.problems"
                )
            return case.wrong(record) if record.outcome == "hung" else ""

        yield from shortest(case, wrongs_together(case, conversation, plans, judge))
