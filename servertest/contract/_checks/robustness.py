"""Whatever comes, nothing breaks: no exception gets out, nothing hangs, and the next client is served."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from .._case import Case
from .._conversation import Conversation
from .._plan import Piece, Plan, Record
from .._registry import NotApplicable, contract_check
from .._violation import Violation
from .._wrong import Wrong
from ._common import shortest, wrongs_together

__all__ = ("any_course_of_events", "garbage", "invalid_text", "survives_system_exit")


#: How many inputs are tried in the quick profile, for each conversation.
_TRIES = {"quick": 120, "full": 600}
_WORDS = (
    b"",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"\xff",
    b"\n\n\n",
    b"-1",
    b"0",
    b"{}",
    b"[]",
    b"null",
    b'""',
    b"\x7f",
    b"%s",
    b"../",
    b";",
)


@contract_check("robustness", unless={"reads": "it reads nothing"})
def garbage(case: Case) -> Iterator[Violation]:
    """Arbitrary input never makes the handler raise, hang, spin or end the server, and the next honest client is served.

    The input is made of the declared requests: bytes changed, left out, put in and repeated, words replaced, lines doubled, requests cut and joined;
    and of random bytes. The choice is random and repeats by the seed. In the full profile there is Faker's wire data, too, and Hypothesis searches as
    well, and shrinks what it finds.
    """
    for conversation in case.with_input():
        plans = [_then(case, conversation, pieces) for pieces in _inputs(case, conversation)]
        found = list(wrongs_together(case, conversation, plans, _harmless(case, conversation)))
        if case.full and not found:
            from .._search import searched

            found = searched(case, conversation, _harmless(case, conversation))
        yield from shortest(case, found)


def _then(case: Case, conversation: Conversation, pieces: tuple[bytes, ...]) -> Plan:
    """The input, and an honest client after it; not where the input may rightly change what that one gets."""
    following = () if case.promises.stateful else (conversation.plan(),)
    return Plan(pieces=tuple(map(Piece, pieces)), after=following)


def _harmless(case: Case, conversation: Conversation) -> Callable[[Plan, Record], str]:
    def judge(plan: Plan, record: Record) -> str:
        if what := case.wrong(record):
            return what
        if ended := [note for note in record.notes if any(word in note for word in _ENDS_THE_SERVER)]:
            return Wrong(f"arbitrary input {' and '.join(ended)}", "not record.notes")
        for after in record.after:
            if what := case.wrong(after):
                return what.said("for the next client, ")
            if not case.agrees(conversation, after.received):
                return Wrong(
                    "the next client gets other replies", case.gives(conversation, "record.after[0].received")
                )
        return ""

    return judge


#: In what is noted of a handler: it has done away with the server.
_ENDS_THE_SERVER = ("shuts the whole server down", "closes the listening socket")


def _inputs(case: Case, conversation: Conversation) -> list[tuple[bytes, ...]]:
    pieces = conversation.pieces()
    chosen = case.random
    found: list[tuple[bytes, ...]] = [(word,) for word in _WORDS if word]
    for number, piece in enumerate(pieces):
        found += [(*pieces[:number], part) for part in _simple(piece)]
    while len(found) < _TRIES[case.profile]:
        number = chosen.randrange(len(pieces))
        changed = pieces[number]
        for _ in range(chosen.choice((1, 1, 2, 4))):
            changed = _mutated(changed, pieces, chosen)
        found.append((*pieces[:number], changed, *pieces[number + 1 :]))
    found += [(chosen.randbytes(size),) for size in (1, 2, 3, 5, 8, 16, 64, 300, 5000)]
    found += [(*pieces[:number], data) for data in _wire_data(case) for number in {0, len(pieces) - 1}]
    return found


def _wire_data(case: Case) -> list[bytes]:
    """Faker's, in the full profile: to import it takes longer than a quick check."""
    if not case.full:
        return []
    from faker import Generator

    from ..._support._wire_data import WireProvider

    generator = Generator()
    generator.seed_instance(case.random.getrandbits(64))
    provider = WireProvider(generator)
    return [provider.wire_garbage() for _ in range(60)] + [provider.wire_datagram() for _ in range(20)]


def _simple(piece: bytes) -> Iterator[bytes]:
    """Changes that people make: words left out, lines left empty, everything twice."""
    words = piece.split(b" ")
    for number in range(len(words)):
        end = piece[len(piece.rstrip(b"\r\n")) :]
        yield b" ".join(words[:number] + words[number + 1 :]).rstrip(b"\r\n") + end
        yield b" ".join(words[: number + 1]).rstrip(b"\r\n") + end
    yield piece + piece
    body, end = piece.rstrip(b"\r\n"), piece[len(piece.rstrip(b"\r\n")) :]
    for other in _WORDS:
        yield other + end
        if body:
            yield body + other + end


def _mutated(data: bytes, pieces: tuple[bytes, ...], chosen: random.Random) -> bytes:
    if not data:
        return chosen.choice(_WORDS)
    place = chosen.randrange(len(data))
    size = chosen.choice((1, 1, 1, 2, 4, len(data) - place))
    other = chosen.choice(pieces)
    return chosen.choice(
        (
            data[:place] + bytes((chosen.randrange(256),)) + data[place + 1 :],
            data[:place] + data[place + size :],
            data[:place] + chosen.choice(_WORDS) + data[place:],
            data[: place + size] + data[place:],
            data[:place] + other + data[place:],
            data[:place] + bytes((data[place] ^ 1 << chosen.randrange(8),)) + data[place + 1 :],
        )
    )


@contract_check("robustness", needs=("encoding",))
def invalid_text(case: Case) -> Iterator[Violation]:
    """Bytes that are no text in the promised encoding never make the handler raise.

    They are put at the beginning, in the middle and at the end of each request: bytes that no character has, the first half of a character, a
    surrogate, an overlong form, NUL.
    """
    for conversation in case.with_input():
        plans = []
        pieces = conversation.pieces()
        for number, piece in enumerate(pieces):
            end = len(piece.rstrip(b"\r\n"))
            for wrong in (
                b"\xff",
                b"\xfe\xff",
                b"\xc3",
                b"\xed\xa0\x80",
                b"\xc0\x80",
                b"\xf0\x9f\x98",
                b"\0",
                b"\x80",
            ):
                for place in {0, end // 2, end}:
                    changed = piece[:place] + wrong + piece[place:]
                    plans.append(
                        _then(case, conversation, (*pieces[:number], changed, *pieces[number + 1 :]))
                    )
        yield from shortest(case, wrongs_together(case, conversation, plans, _harmless(case, conversation)))


@contract_check("robustness")
def survives_system_exit(case: Case) -> Iterator[Violation]:
    """No input makes the handler end the server: no SystemExit, no KeyboardInterrupt, no end of the process.

    SystemExit leaves no trace where handlers run in threads; a server that serves one client at a time ends. The declared conversations are held, and what
    `garbage` makes of them.
    """

    def judge(plan: Plan, record: Record) -> str:
        if record.outcome == "died":
            return Wrong(f"the handler ends its process: {record.stacks}", "not record.problems")
        if record.failure is not None and record.failure.type_name in (
            "SystemExit",
            "KeyboardInterrupt",
            "GeneratorExit",
        ):
            return Wrong(
                f"the handler raises {record.failure.type_name}, which ends the server", "not record.problems"
            )
        return ""

    if not case.conversations:
        raise NotApplicable("there is no conversation")
    for conversation in case.conversations:
        plans = [conversation.plan()]
        if conversation.sent:
            plans += [Plan(pieces=tuple(map(Piece, pieces))) for pieces in _inputs(case, conversation)[:60]]
        yield from shortest(case, wrongs_together(case, conversation, plans, judge))


@contract_check("robustness", unless={"reads": "it reads nothing"})
def any_course_of_events(case: Case) -> Iterator[Violation]:
    """Whatever clients do, in whatever order, does no harm to the handler, to each other and to those that come later.

    In the full profile, a state machine of Hypothesis has up to three clients connect, say parts of their requests, pause, finish sending, close and cut
    off their connections, one in the midst of the other; what ends badly is shrunk to the shortest course of events.
    """
    if not case.full:
        raise NotApplicable("it searches, which takes the full profile")
    case.with_input()
    from .._machine import course_of_events

    yield from shortest(case, course_of_events(case))
