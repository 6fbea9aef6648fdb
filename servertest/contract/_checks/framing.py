"""Where one message ends and the next begins is the server's to know: the network cuts and joins as it likes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .._case import Case
from .._conversation import Conversation
from .._plan import Piece, Plan, Record
from .._registry import NotApplicable, NotPromised, contract_check
from .._reproduction import as_code
from .._violation import Violation
from .._wrong import Wrong
from ._common import Found, conforms, repeated, shortest, wrongs

__all__ = (
    "coalesced_requests",
    "one_byte_at_a_time",
    "partial_request_is_not_answered",
    "pipelined_requests",
    "sizes_around_buffers",
    "split_at_every_byte",
    "split_characters",
)


#: Requests longer than this are not cut at every byte, even in the full profile: only around what is in them and at samples.
_SIZES = (4096, 8192, 65536)


@contract_check("framing")
def split_at_every_byte(case: Case) -> Iterator[Violation]:
    """A request that arrives in two pieces, cut at any byte, has the same reply as one that arrives whole.

    Every request is delivered in two reads, cut at each of its bytes in turn; the client waits for each reply before the next request. For requests
    with many bytes the quick profile tries the first, the last and samples in between. A second round lets a long silence pass at the cut, in
    virtual time: the handler may then hang up, but if it goes on it must not have lost the first piece.
    """
    for conversation in case.with_input():
        judge = conforms(case, conversation)
        cuts = _cuts(case, conversation)
        plans = [conversation.cut_plan([cut]) for cut in cuts]
        found = list(wrongs(case, conversation, plans, judge))
        if not found:
            found = list(_after_a_pause(case, conversation, cuts))
        yield from shortest(case, found, conversation.answered)


def _cuts(case: Case, conversation: Conversation) -> list[int]:
    boundaries = {0, *conversation.boundaries}
    inside = [cut for cut in range(1, len(conversation.sent)) if cut not in boundaries]
    near = [cut for cut in inside if cut + 1 in boundaries or cut - 1 in boundaries]
    return case.sample(inside, *near)


def _after_a_pause(case: Case, conversation: Conversation, cuts: list[int]) -> Iterator[Found]:
    """Cut at samples, with a silence that is longer than any limit at the cut."""
    plans = []
    for cut in cuts[:: max(1, len(cuts) // 12)]:
        plan = conversation.cut_plan([cut])
        plans.append(replace(plan, pieces=_paused(plan.pieces, cut)))

    def judge(plan: Plan, record: Record) -> str:
        if record.outcome in ("spinning", "hung", "died"):
            return case.wrong(record)
        kept = record.received.removesuffix(case.promises.goodbye or b"")
        if (
            record.ended_before
            or conversation.answered.startswith(kept)
            or case.agrees(conversation, record.received)
        ):
            return ""
        if not conversation.exact or record.failure is not None:
            return ""  # it has hung up, with whatever last words
        return Wrong(
            "after a long silence inside a request, the handler goes on without what came before it",
            f"{as_code(conversation.answered)}.startswith(record.received)"
            if not case.promises.goodbye
            else "",
        )

    yield from wrongs(case, conversation, plans, judge)


def _paused(pieces: tuple[Piece, ...], cut: int) -> tuple[Piece, ...]:
    """The piece that begins at the cut comes an hour later."""
    found, place = [], 0
    for piece in pieces:
        found.append(replace(piece, pause=3600.0) if place == cut else piece)
        place += len(piece.data)
    return tuple(found)


@contract_check("framing")
def one_byte_at_a_time(case: Case) -> Iterator[Violation]:
    """Requests that arrive byte by byte have the same replies.

    Of long requests, the first and the last 200 bytes come one by one, the rest in pieces of 97 bytes.
    """
    for conversation in case.with_input():
        plan = conversation.cut_plan(_single(len(conversation.sent)))
        yield from shortest(
            case, wrongs(case, conversation, [plan], conforms(case, conversation)), conversation.answered
        )


def _single(length: int) -> list[int]:
    return [place for place in range(1, length) if place <= 200 or place >= length - 200 or place % 97 == 0]


@contract_check("framing", needs=("encoding",))
def split_characters(case: Case) -> Iterator[Violation]:
    """Text that is cut inside of a character has the same reply.

    Each request is cut inside of every character that takes more than one byte in the promised encoding. If the exchanges have no such
    character, there is nothing to cut.
    """
    tried = False
    for conversation in case.with_input():
        cuts = _inside_characters(conversation.sent, case.promises.encoding or "utf-8")
        tried = tried or bool(cuts)
        plans = [conversation.cut_plan([cut]) for cut in case.sample(cuts)]
        yield from shortest(
            case, wrongs(case, conversation, plans, conforms(case, conversation)), conversation.answered
        )
    if not tried:
        raise NotApplicable(
            "no request has a character of more than one byte: give one, or nobody knows what it does with them"
        )


def _inside_characters(data: bytes, encoding: str) -> list[int]:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return []
    cuts: list[int] = []
    place = 0
    for character in text:
        size = len(character.encode(encoding))
        cuts += range(place + 1, place + size)
        place += size
    return cuts


@contract_check("framing")
def coalesced_requests(case: Case) -> Iterator[Violation]:
    """Requests that arrive together have all their replies.

    All requests of a conversation come in one read, and each pair of neighbours does. Where requests have replies this needs the promise
    `pipelining`: a client that waits for each reply never sends two at once.
    """
    tried = False
    for conversation in case.with_input():
        plans = [plan for plan in _joined(conversation) if _allowed(case, conversation)]
        tried = tried or bool(plans)
        yield from shortest(
            case, wrongs(case, conversation, plans, conforms(case, conversation)), conversation.answered
        )
    if not tried:
        _refuse(case)


def _allowed(case: Case, conversation: Conversation) -> bool:
    """Whether a client may send the next request at once: by promise, or because nothing is answered."""
    return bool(case.promises.pipelining) or (
        case.promises.pipelining is None
        and all(exchange.expected == b"" for exchange in conversation.exchanges[:-1])
    )


def _refuse(case: Case) -> None:
    if not case.promises.pipelining:
        raise NotPromised("it does not promise pipelining")
    raise NotApplicable("no conversation has two requests")


def _joined(conversation: Conversation) -> list[Plan]:
    pieces = list(conversation.pieces())
    if len(pieces) < 2:
        return []
    plans = [Plan.of(b"".join(pieces))]
    if len(pieces) > 2:
        plans += [
            Plan.of(*pieces[:at], pieces[at] + pieces[at + 1], *pieces[at + 2 :])
            for at in range(len(pieces) - 1)
        ]
    return plans


@contract_check("framing", needs=("pipelining",))
def pipelined_requests(case: Case) -> Iterator[Violation]:
    """Many requests in advance have all their replies, and a reply does not wait for the rest of the next request.

    More than ten kilobytes of requests come at once (the conversation over and over, where that gives the same replies each time). And while a
    request has come and only a part of the next one, the reply to the first is due as soon as the handler waits for more.
    """
    tried = False
    for conversation in case.with_input():
        found = list(_due(case, conversation))
        try:
            longer = repeated(case, conversation, _times(case, conversation))
        except NotApplicable:
            longer = conversation
        if len(longer.pieces()) > 1:
            tried = True
            plans = [Plan.of(longer.sent), Plan.of(*_chunks(longer.sent, 1000))]
            found += wrongs(case, conversation, plans, conforms(case, longer), limit=10.0)
        yield from shortest(case, found, conversation.answered)
    if not tried:
        raise NotApplicable("no conversation has two requests, or can be repeated")


def _times(case: Case, conversation: Conversation) -> int:
    """How often a conversation is repeated: until it is long, but not where each reply takes its time."""
    most = 20 if case.promises.any_order or case.promises.reply_seconds else 400
    fitting = 200_000 // max(1, len(conversation.answered))
    return max(2, min(most, fitting, -(-12_000 // len(conversation.sent))))


def _chunks(data: bytes, size: int) -> list[bytes]:
    return [data[place : place + size] for place in range(0, len(data), size)]


def _due(case: Case, conversation: Conversation, *, every: bool = False) -> Iterator[Found]:
    """A whole request and a part of the next one: the reply is due when the handler waits."""
    if case.promises.any_order or not _allowed(case, conversation):
        return
    pieces, boundaries = conversation.pieces(), conversation.boundaries
    if len(pieces) != len(conversation.exchanges) or conversation.half_close:
        return
    for number in range(len(pieces) - 1):
        for part in {1, len(pieces[number + 1]) // 2, len(pieces[number + 1]) - 1} - {
            0,
            len(pieces[number + 1]),
        }:
            begun, rest = pieces[number + 1][:part], pieces[number + 1][part:]
            plan = Plan.of(*pieces[:number], pieces[number] + begun, rest, *pieces[number + 2 :])
            at = boundaries[number] + part

            def judge(plan: Plan, record: Record, at: int = at, number: int = number) -> str:
                if what := case.wrong(record):
                    return what
                if case.agrees(conversation, record.due(at), number + 1) or not case.agrees(
                    conversation, record.received
                ):
                    return conforms(case, conversation)(plan, record)
                if record.due(at).startswith(b"".join(conversation.replies[: number + 1])):
                    return ""  # more than is due
                due = b"".join(conversation.replies[: number + 1])
                return Wrong(
                    "a reply is held back until the next request is complete",
                    f"record.due({at}).startswith({as_code(due)})" if conversation.exact else "",
                )

            yield from wrongs(case, conversation, [plan], judge)


@contract_check(
    "framing",
    unless={
        "streaming": "it answers bytes as they come",
        "ends_with": "a request ends with the client's sending",
        "reads": "it reads nothing",
    },
)
def partial_request_is_not_answered(case: Case) -> Iterator[Violation]:
    """The beginning of a request, followed by silence, is not answered as if it were the whole.

    The client stops after each prefix of each request. A part of the reply may come (an echo does that); the whole of it may not.
    """
    for conversation in case.with_input():
        found: list[Found] = []
        for number, exchange in enumerate(conversation.exchanges):
            reply = conversation.replies[number]
            if (
                not reply
                or len(exchange.sent) < 2
                or b"".join(conversation.replies[:number]).endswith(reply) is None
            ):
                continue
            found += _answered_early(case, conversation, number)
        yield from shortest(case, found)


def _answered_early(case: Case, conversation: Conversation, number: int) -> Iterator[Found]:
    begin = conversation.boundaries[number] - len(conversation.exchanges[number].sent)
    request = conversation.exchanges[number].sent
    lengths = case.sample(range(1, len(request)), len(request) - 1, len(request) - 2)
    before = conversation.first(number).pieces()
    plans = [
        Plan(pieces=(*map(Piece, before), Piece(request[:length])), ending="silence") for length in lengths
    ]

    def judge(plan: Plan, record: Record) -> str:
        if record.outcome in ("spinning", "hung", "died"):
            return case.wrong(record)
        at = len(plan.sent)
        marks = [wait for wait in record.waits if wait.sent == at]
        received = record.received[: marks[-1].received] if marks else record.received
        if not record.received.startswith(received) or len(plan.sent) == begin:
            return ""
        answered = received[len(b"".join(conversation.replies[:number])) :].removesuffix(
            case.promises.goodbye or b""
        )
        wanted = conversation.exchanges[number]
        if answered and wanted.answered_by(answered) and _says_no_more(conversation, number, plan):
            return Wrong(
                "a request that is not complete is answered as if it were",
                f"record.due({at}) != {as_code(received)}",
            )
        return ""

    yield from wrongs(case, conversation, plans, judge)


def _says_no_more(conversation: Conversation, number: int, plan: Plan) -> bool:
    """Whether what is missing could matter: a line that has its end is a request, whatever belongs to the next."""
    missing = conversation.exchanges[number].sent[len(plan.pieces[-1].data) :]
    return bool(missing)


@contract_check("framing", needs=("max_request", "sized"))
def sizes_around_buffers(case: Case) -> Iterator[Violation]:
    """Requests of sizes around those of usual buffers, and up to the longest that is promised, are answered like others.

    Sizes are 4096, 8192, 65536 and the promised maximum, and one more and one less, as far as they are promised. They come whole and cut in the middle.
    Requests of a given size are made by the promise `sized`.
    """
    longest = case.promises.max_request or 0
    sized = case.promises.sized
    assert sized is not None
    sizes = sorted(
        {size + more for size in (*_SIZES, longest) for more in (-1, 0, 1) if 20 <= size + more <= longest}
    )
    for size in sizes:
        exchange = sized(size)
        one = Conversation(1, (exchange,), half_close=case.promises.ends_with == "eof")
        wanted = exchange.expected if isinstance(exchange.expected, bytes) else None
        plans = [
            Plan.of(exchange.sent),
            Plan.of(exchange.sent[: size // 2], exchange.sent[size // 2 :]),
            Plan.of(*_chunks(exchange.sent, 1460)),
        ]
        found = list(wrongs(case, one, plans, conforms(case, one)))
        if found:
            best = found[0]
            yield case.violation(
                f"with {size} bytes, {best.what}",
                best.plan,
                best.record,
                expected=wanted,
                also=len(found) - 1,
                proof="not record.problems"
                if best.record.problems
                else f"record.received == {as_code(wanted)}"
                if wanted is not None
                else "",
            )
