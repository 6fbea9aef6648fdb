"""Nothing is left behind, and nothing grows without bounds."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace

from .._case import Case
from .._conversation import Conversation
from .._plan import Piece, Plan, Record
from .._registry import NotApplicable, contract_check
from .._violation import Violation
from .._wrong import Wrong
from ._common import shortest, wrongs, wrongs_together

__all__ = ("endless_line", "length_header", "linear_cost", "no_leak_after_failures", "no_leak_after_requests")


#: Bytes of memory that a handler may take besides what is promised to be served.
_SLACK = 16 << 20
#: Blocks of memory for each request above which it counts as growth: one object that stays with each client does.
_GROWTH = 0.7
#: How often a conversation is held to see what it leaves behind.
_TIMES = {"quick": 24, "full": 200}
#: How much more often, if something seems to be left behind.
_AGAIN = 8


@contract_check("resources")
def no_leak_after_requests(case: Case) -> Iterator[Violation]:
    """After many requests, descriptors, threads, children and memory are back to where they were.

    After a warm-up the conversation is held many times. What is there once (a background thread, a cache) is no leak; what there is more of with every
    request is. Memory is counted in blocks, in two halves, of which both must have grown; a handler that promises to be `stateful` may keep what it
    is told.
    """
    for conversation in case.conversations:
        yield from _leaks(case, conversation, [conversation.plan()], "")


def _leaks(case: Case, conversation: Conversation, plans: Iterable[Plan], when: str) -> Iterator[Violation]:
    def judge(plan: Plan, record: Record) -> str:
        if record.left:
            return Wrong(
                f"something is left behind by every client{when}: {', '.join(record.left)}", "not record.left"
            )
        if record.growth > _GROWTH and not case.promises.stateful:
            return Wrong(
                f"memory grows with every client{when}: {record.growth:.1f} blocks each stay allocated",
                f"record.growth <= {_GROWTH}",
            )
        return ""

    times = _TIMES[case.profile]
    suspects = [
        one.plan for one in wrongs(case, conversation, _often(plans, times), judge, limit=20.0, fresh=True)
    ]
    # A table that is full one day has grown until then.
    again = _often(suspects, times * _AGAIN)
    yield from shortest(case, wrongs(case, conversation, again, judge, limit=60.0, fresh=True))


def _often(plans: Iterable[Plan], times: int) -> list[Plan]:
    return [replace(plan, times=times) for plan in plans]


@contract_check("resources")
def no_leak_after_failures(case: Case) -> Iterator[Violation]:
    """After many clients that gave up, descriptors, threads, children and memory are back to where they were.

    Clients leave in the midst of requests (closing, and cutting the connection off), and in the midst of replies.
    """
    for conversation in case.conversations:
        plans = []
        for pieces in _broken_off(case, conversation):
            plans.append(Plan(pieces=pieces, ending="close"))
            if case.full and not case.kind.local:
                plans.append(Plan(pieces=pieces, ending="reset"))
        if len(conversation.answered) > 1:
            plans.append(conversation.plan(reset_after=len(conversation.answered) // 2))
        yield from _leaks(case, conversation, plans, " that gives up")


def _broken_off(case: Case, conversation: Conversation) -> list[tuple[Piece, ...]]:
    """Requests that end in the middle, one for each exchange."""
    found = []
    pieces = conversation.pieces()
    for number, piece in enumerate(pieces[:6] if not case.full else pieces):
        if len(piece) > 1:
            found.append(
                (
                    *map(Piece, pieces[:number]),
                    Piece(piece[: -(-len(piece) * 3 // 4) if len(piece) > 3 else 1]),
                )
            )
    return found


@contract_check("resources", needs=("max_request",), unless={"reads": "it reads nothing"})
def endless_line(case: Case) -> Iterator[Violation]:
    """A request without an end takes no more memory than the longest that is promised.

    Megabytes without an end of line follow the beginning of each request; and each line in the middle of a request is repeated without
    end, as a flood of headers is. What counts is the address space, whether the handler hangs up, skips the rest or reads on.
    """
    longest = case.promises.max_request or 0
    bound = 4 * longest + _SLACK
    total = bound + (24 << 20)
    for conversation in case.with_input():
        plans = [Plan(pieces=pieces, measure=True) for pieces in _floods(conversation, total)]

        def judge(plan: Plan, record: Record) -> str:
            if record.memory > bound:
                return Wrong(
                    f"a request without an end takes {record.memory >> 20} MiB of memory, though requests of {longest} bytes are promised",
                    f"record.memory <= {bound}",
                )
            return (
                case.wrong(record)
                if record.outcome in ("hung", "spinning", "died") or _no_memory(record)
                else ""
            )

        yield from shortest(case, wrongs(case, conversation, plans, judge, limit=15.0))


def _no_memory(record: Record) -> bool:
    return record.failure is not None and record.failure.type_name in (
        "MemoryError",
        "RecursionError",
        "OverflowError",
    )


def _floods(conversation: Conversation, total: int) -> Iterator[tuple[Piece, ...]]:
    block = 1 << 16
    seen: set[bytes] = set()
    pieces = conversation.pieces()
    for number, piece in enumerate(pieces):
        before = tuple(map(Piece, pieces[:number]))
        start = piece[: max(1, len(piece) // 2)].rstrip(b"\r\n")
        if number == 0 or len(pieces) <= 3:
            yield (*before, Piece(start), *[Piece(b"x" * block)] * (total // block))
        for line in piece.splitlines(keepends=True)[1:-1]:
            if line.strip() and line not in seen and line.endswith(b"\n"):
                seen.add(line)
                at = piece.index(line)
                lines = line * max(1, block // len(line))
                yield (*before, Piece(piece[:at]), *[Piece(lines)] * (total // len(lines)))


@contract_check("resources", needs=("max_request",), unless={"reads": "it reads nothing"})
def length_header(case: Case) -> Iterator[Violation]:
    """A length that a client claims is not believed.

    Numbers in requests, written in digits or in two, four or eight bytes, are replaced by huge ones, by -1 and by nothing, and single bytes by 00 and
    ff. No exception may leave the handler, no memory may be taken in advance, and nothing may be waited for that the promised limits do not allow.
    """
    longest = case.promises.max_request or 0
    bound = 4 * longest + _SLACK
    for conversation in case.with_input():
        plans = list(_lies(case, conversation, bound))

        def judge(plan: Plan, record: Record) -> str:
            if record.memory > bound:
                return Wrong(
                    f"for a length that is only claimed, {record.memory >> 20} MiB of memory are taken",
                    f"record.memory <= {bound}",
                )
            if what := case.wrong(record):
                return what.said("for a length that is only claimed, ")
            return ""

        yield from shortest(case, wrongs_together(case, conversation, plans, judge))


_FILLER = b"y" * (1 << 16)
#: Lengths in so many bytes: the longest, the longest with a sign, below zero, and one gigabyte, which a machine may well have.
_HUGE = {
    size: (
        b"\xff" * size,
        b"\x7f" + b"\xff" * (size - 1),
        b"\x80" + b"\0" * (size - 1),
        *((1 << 30).to_bytes(size, order) for order in ("big", "little") if size > 2),
    )
    for size in (2, 4, 8)
}
_NUMBER = re.compile(rb"(?<![0-9])[0-9]+(?![0-9])")


def _lies(case: Case, conversation: Conversation, bound: int) -> Iterator[Plan]:
    pieces = conversation.pieces()
    filler = (Piece(_FILLER),) * ((bound + (16 << 20)) // len(_FILLER))
    for number, piece in enumerate(pieces[:8]):
        before = tuple(map(Piece, pieces[:number]))
        for changed, negative in _changed(piece, case):
            yield Plan(pieces=(*before, Piece(changed)), measure=True)
            if negative:
                yield Plan(pieces=(*before, Piece(changed), *filler), measure=True)


def _changed(piece: bytes, case: Case) -> Iterator[tuple[bytes, bool]]:
    for found in _NUMBER.finditer(piece[:4096]):
        for other in (b"99999999999", b"999999999", b"-1", b""):
            yield piece[: found.start()] + other + piece[found.end() :], other == b"-1"
    for size, form in ((2, "H"), (4, "I"), (8, "Q")):
        for place in range(min(len(piece) - size + 1, 16)):
            if _is_length(piece, place, size, form):
                for value in _HUGE[size]:
                    yield piece[:place] + value + piece[place + size :], False
    for place in case.sample(range(min(len(piece), 64)))[:24]:
        for value in (b"\0", b"\xff"):
            yield piece[:place] + value + piece[place + 1 :], False


def _is_length(piece: bytes, place: int, size: int, form: str) -> bool:
    """Whether it may be the length of what follows, or of a part of it."""
    rest = len(piece) - place - size
    field = piece[place : place + size]
    return any(struct.unpack(order + form, field)[0] <= rest for order in "<>")


@contract_check("resources", needs=("max_request",), unless={"reads": "it reads nothing"})
def linear_cost(case: Case) -> Iterator[Violation]:
    """Four times as many bytes cost about four times as much, not sixteen times.

    Requests of a quarter of the promised maximum and of the maximum itself arrive in small pieces; what is compared is the processor time of the
    handler's thread, the best of three. Above seven times, and above a tenth of a second, the cost is not linear. Without the promise `sized`, it is the
    beginning of a request that grows.
    """
    longest = min(case.promises.max_request or 0, 1 << 18)
    if longest < 16_384:
        raise NotApplicable(f"requests of up to {longest} bytes are too short to tell")
    conversation = case.with_input()[0]
    large, small = (_in_pieces(_request(case, conversation, size), 512) for size in (longest, longest // 4))
    records = case.play_all([small, large] * 2, conversation, limit=20.0)
    slow, quick = min(record.cpu for record in records[1::2]), min(record.cpu for record in records[::2])
    if slow > 0.1 and slow > 7 * quick:
        more = case.play_all([small, large] * 2, conversation, limit=20.0)
        slow, quick = (
            min(slow, *(record.cpu for record in more[1::2])),
            min(quick, *(record.cpu for record in more[::2])),
        )
    hung = [record for record in records if record.outcome == "hung"]
    if hung or (slow > 0.1 and slow > 7 * quick):
        what = f"{longest} bytes take {slow:.2f} s of processor time, {longest // 4} bytes take {quick:.3f} s"
        yield case.violation(
            f"the cost of a request grows with the square of its size: {what}", large, records[1]
        )


def _request(case: Case, conversation: Conversation, size: int) -> bytes:
    if case.promises.sized is not None:
        return case.promises.sized(size).sent
    request = conversation.exchanges[0].sent or conversation.sent
    middle = max(1, len(request) // 2)
    byte = request[middle - 1 : middle].strip() or b"x"
    return request[:middle] + byte * max(0, size - len(request)) + request[middle:]


def _in_pieces(data: bytes, size: int) -> Plan:
    return replace(
        Plan.of(*(data[place : place + size] for place in range(0, len(data), size))), measure=True
    )
