"""Replies arrive whole, in time, and one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .._case import Case
from .._conversation import Conversation
from .._plan import Plan, Record
from .._registry import NotApplicable, contract_check
from .._reproduction import as_code
from .._violation import Violation
from .._wrong import Wrong
from ._common import Found, conforms, repeated, shortest, wrongs
from .framing import _due

__all__ = ("complete_replies_to_slow_readers", "replies_are_flushed", "writers_do_not_interleave")


@contract_check("writing", unless={"reads": "it reads nothing"})
def replies_are_flushed(case: Case) -> Iterator[Violation]:
    """A reply is there when the handler waits for the next request, and not only when a buffer is full or the connection ends.

    The client sends a request and waits; and it sends a request together with a part of the next one, and waits.
    """
    for conversation in case.with_input():
        if conversation.half_close or case.promises.ends_with == "eof":
            continue
        found = [*_late(case, conversation), *_due(case, conversation)]
        yield from shortest(case, found, conversation.answered)


def _late(case: Case, conversation: Conversation) -> Iterator[Found]:
    def judge(plan: Plan, record: Record) -> str:
        if what := case.wrong(record):
            return what
        for number, boundary in enumerate(conversation.boundaries, 1):
            due = b"".join(conversation.replies[:number])
            if (
                not record.due(boundary).startswith(due)
                and conversation.exact
                and not case.promises.any_order
            ):
                return Wrong(
                    "a reply is not there when the handler waits for the next request",
                    f"record.due({boundary}).startswith({as_code(due)})",
                )
        return ""

    yield from wrongs(case, conversation, [conversation.plan()], judge)


@contract_check("writing")
def complete_replies_to_slow_readers(case: Case) -> Iterator[Violation]:
    """Replies arrive whole when the connection takes only a part of what is sent at once.

    The handler's `send()` takes at most 1, 7 or 1000 bytes at a time, as it may when the client reads slowly.
    """
    for conversation in case.conversations:
        limits = [limit for limit in (1, 7, 1000) if limit * 20_000 > len(conversation.answered)]
        plans = [conversation.plan(send_limit=limit) for limit in limits]
        yield from shortest(
            case, wrongs(case, conversation, plans, conforms(case, conversation)), conversation.answered
        )


@contract_check("writing", needs=("pipelining",))
def writers_do_not_interleave(case: Case) -> Iterator[Violation]:
    """Two that write to the same client do not write into each other's messages.

    Many requests come at once, and every write of another thread than the handler's own gives way to the others; every line of the replies must be
    one that is also there when requests come one by one. Where clients hear each other (`broadcast`), another client speaks in the midst of every
    reply.
    """
    tried = False
    for conversation in case.with_input():
        if conversation.replies and not any(b"\n" in reply for reply in conversation.replies):
            continue
        tried = True
        yield from shortest(case, _torn(case, conversation), conversation.answered)
    if not tried:
        raise NotApplicable("no reply has lines that could be told apart")


def _torn(case: Case, conversation: Conversation) -> Iterator[Found]:
    lines = set(conversation.answered.splitlines(keepends=True))

    def judge(plan: Plan, record: Record) -> str:
        if what := case.wrong(record):
            return what
        whole = lines | (
            set(record.inner.received.splitlines(keepends=True)) if record.inner is not None else set()
        )
        torn = [line for line in record.received.splitlines(keepends=True) if line not in whole]
        if torn and conversation.exact:
            return Wrong(
                f"a message is torn apart by another: {torn[0][:60]!r}",
                _whole_lines(sorted(lines), record.inner is not None),
            )
        return ""

    plans = []
    try:
        longer = repeated(case, conversation, 4)
        plans.append(Plan.of(longer.sent))
    except NotApplicable:
        plans.append(Plan.of(conversation.sent))
    if case.promises.broadcast:
        inner = conversation.plan()
        size = len(conversation.answered)
        plans += [replace(conversation.plan(), inner=inner, at_send=at) for at in case.sample(range(1, size))]
    if case.promises.any_order or case.promises.broadcast:
        yield from wrongs(case, conversation, plans, judge)


def _whole_lines(lines: list[bytes], also_inner: bool) -> str:
    """A proof: that nothing came but these lines, and those of the client in between."""
    others = " | {*record.inner.received.splitlines(keepends=True)}" if also_inner else ""
    return f"{{*record.received.splitlines(keepends=True)}} <= {{{', '.join(map(as_code, lines))}}}{others}"
