"""Datagrams come or do not come, twice, in another order, from anybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .._case import Case
from .._conversation import Conversation
from .._plan import DatagramPlan, Delivery
from .._registry import NotApplicable, contract_check
from .._violation import Violation
from .._wrong import Wrong
from .robustness import _WORDS, _mutated, _wire_data

__all__ = (
    "amplification",
    "as_declared",
    "datagram_garbage",
    "datagram_leaks",
    "datagram_leaks_after_failures",
    "duplicated_datagrams",
    "empty_datagram",
    "maximal_datagram",
    "oversized_datagram",
    "plain_datagrams",
    "reordered_and_lost_datagrams",
    "reply_goes_to_sender",
)


#: The most that UDP over IPv4 carries.
_MOST = 65_507
#: How often datagrams come to see what they leave behind, and how many blocks of memory each time may cost.
_TIMES, _GROWTH = 48, 0.7


def as_declared(conversation: Conversation, delivery: Delivery) -> str:
    """What is not as declared in the replies to a conversation's datagrams; the stock handler's empty ones count as none."""
    for number, exchange in enumerate(conversation.exchanges):
        got = [data for _, data in delivery.replies[number]] if number < len(delivery.replies) else []
        if not (
            any(exchange.answered_by(data) for data in got) or (exchange.answered_by(b"") and not any(got))
        ):
            return f"datagram {number + 1} has another reply than expected: {got!r}"
    return ""


def _each(conversation: Conversation) -> DatagramPlan:
    return DatagramPlan.of(*(one.sent for one in conversation.exchanges))


@contract_check("datagrams", transport="datagram")
def plain_datagrams(case: Case) -> Iterator[Violation]:
    """Every datagram has its declared reply, and again when all of them come once more, from another sender.

    A handler that promises to be `stateful` may remember the first time; there they come once.
    """
    for conversation in case.conversations:
        once = _each(conversation)
        again = () if case.promises.stateful else tuple((1, data) for _, data in once.datagrams)
        plan = DatagramPlan(datagrams=(*once.datagrams, *again))
        delivery = case.deliver(plan)
        what = case.wrong_delivery(delivery) or as_declared(conversation, delivery)
        if not what and again:
            rest = Delivery(replies=delivery.replies[len(once.datagrams) :])
            if what := as_declared(conversation, rest):
                what = f"when all of them come from another sender, {what}"
        if what:
            yield case.datagram_violation(what, plan, delivery)


@contract_check("datagrams", transport="datagram")
def empty_datagram(case: Case) -> Iterator[Violation]:
    """An empty datagram does no harm, and the next one is answered."""
    yield from _and_then(case, [b""], "after an empty datagram")


def _and_then(case: Case, datagrams: list[bytes], when: str) -> Iterator[Violation]:
    """Send something and then an honest datagram, which is to be answered."""
    conversation = case.conversations[0]
    honest = conversation.exchanges[0]
    plans = [DatagramPlan.of(data, honest.sent) for data in datagrams]
    found = []
    for plan, delivery in zip(plans, case.deliver_all(plans), strict=True):
        what = case.wrong_delivery(delivery)
        if (
            not what
            and not case.promises.stateful
            and as_declared(conversation.first(1), Delivery(replies=delivery.replies[1:]))
        ):
            what = Wrong(f"{when}, the next one is not answered as ever")
        if what:
            found.append((plan, delivery, what))
    if found:
        plan, delivery, what = min(found, key=lambda one: len(one[0].sent))
        yield case.datagram_violation(what, plan, delivery, also=len(found) - 1)


@contract_check("datagrams", transport="datagram", needs=("max_request",))
def maximal_datagram(case: Case) -> Iterator[Violation]:
    """A datagram of the longest size that is promised is answered, and one of the size that UDP can carry does no harm.

    Without the promise `sized` it is filled with a declared datagram over and over, and only has to do no harm.
    """
    longest = min(case.promises.max_request or 0, _MOST)
    if case.promises.sized is not None:
        for size in sorted({longest, longest - 1}):
            exchange = case.promises.sized(size)
            plan = DatagramPlan.of(exchange.sent)
            delivery = case.deliver(plan)
            what = case.wrong_delivery(delivery) or as_declared(
                Conversation(1, (exchange,), transport="datagram"), delivery
            )
            if what:
                yield case.datagram_violation(f"with {size} bytes, {what}", plan, delivery)
                break
    yield from _and_then(
        case, [_filled(case, longest), _filled(case, _MOST)], "after the longest of datagrams"
    )


def _filled(case: Case, size: int) -> bytes:
    one = next((one.sent for one in case.conversations[0].exchanges if one.sent), b"x")
    return (one * (size // len(one) + 1))[:size]


@contract_check("datagrams", transport="datagram", needs=("max_request",))
def oversized_datagram(case: Case) -> Iterator[Violation]:
    """A datagram that is longer than the server takes is not mistaken for a whole one.

    The server reads `max_packet_size` bytes (8192 if nobody says otherwise) and the rest is lost. Whoever promises as much as that cannot tell a
    datagram that was cut from a whole one: it must have room for one more byte. What is sent are declared datagrams over and over, cut at that size; if
    the reply is one that a whole datagram could have had, and not the one to the rest, it was taken for whole.
    """
    size = _packet_size(case)
    found = []
    if size > (case.promises.max_request or 0):
        size += 1  # there is room for one more, by which one that is too long can be told
    for long in _overlong(case, size):
        cut, damaged, whole = (
            DatagramPlan.of(long),
            DatagramPlan.of(long[: size - 1] + b"\xff"),
            DatagramPlan.of(long[: long.rfind(b"\n", 0, size) + 1]),
        )
        got, refused, shorter = case.deliver_all([cut, damaged, whole])
        if what := case.wrong_delivery(got):
            found.append((cut, got, what))
        elif got.received and got.received not in (refused.received, shorter.received):
            found.append(
                (cut, got, Wrong("a datagram that was cut at max_packet_size is taken for a whole one"))
            )
    if found:
        plan, delivery, what = found[0]
        yield case.datagram_violation(what, plan, delivery, also=len(found) - 1)


def _packet_size(case: Case) -> int:
    return int(getattr(case.target, "attributes", {}).get("max_packet_size", 8192))


def _overlong(case: Case, size: int) -> Iterator[bytes]:
    """Lines of declared datagrams, put together so that the cut falls on every place of the longest."""
    exchanges = [one for conversation in case.conversations for one in conversation.exchanges]
    lines = sorted(
        {line for one in exchanges for line in one.sent.splitlines(keepends=True) if line.endswith(b"\n")},
        key=len,
    )
    if not lines:
        one = max((one.sent for one in exchanges), key=len, default=b"")
        yield (one or b"x") * (size // max(1, len(one)) + 2)
        return
    last = lines[-1]
    for place in range(1, len(last)):
        for count in range(len(last)):
            head = lines[0] * count
            rest = size - place - len(head)
            if rest >= 0 and rest % len(last) == 0:
                yield head + last * (rest // len(last) + 2)
                break


@contract_check("datagrams", transport="datagram", needs=("idempotent",))
def duplicated_datagrams(case: Case) -> Iterator[Violation]:
    """A datagram that comes twice does what it does once, and has the same reply.

    All declared datagrams come in their order, each twice in a row, and then all of them again.
    """
    for conversation in case.conversations:
        once, twice = (
            _each(conversation),
            DatagramPlan.of(*(one.sent for one in conversation.exchanges for _ in range(2))),
        )
        first, second = case.deliver_all([once, twice], fresh=True)
        if what := case.wrong_delivery(second):
            yield case.datagram_violation(what, twice, second)
            continue
        for number in range(len(conversation.exchanges)):
            replies = second.replies[2 * number : 2 * number + 2]
            if len(set(replies)) > 1 or (number < len(first.replies) and replies[0] != first.replies[number]):
                yield case.datagram_violation(
                    f"datagram {number + 1} comes twice, and the second time it has another reply",
                    twice,
                    second,
                )
                break


@contract_check("datagrams", transport="datagram")
def reordered_and_lost_datagrams(case: Case) -> Iterator[Violation]:
    """Datagrams that come in another order, or not at all, do no harm."""
    for conversation in case.conversations:
        sent = [one.sent for one in conversation.exchanges]
        plans = [
            DatagramPlan.of(*reversed(sent)),
            *(DatagramPlan.of(*sent[:lost], *sent[lost + 1 :]) for lost in range(len(sent))),
        ]
        for plan, delivery in zip(plans, case.deliver_all(plans, fresh=True), strict=True):
            if what := case.wrong_delivery(delivery):
                yield case.datagram_violation(what, plan, delivery)
                break


@contract_check("datagrams", transport="datagram")
def reply_goes_to_sender(case: Case) -> Iterator[Violation]:
    """Each reply goes to the address that the datagram came from, and nowhere else.

    Three senders take turns.
    """
    for conversation in case.conversations:
        plan = DatagramPlan(
            datagrams=tuple((peer, one.sent) for one in conversation.exchanges for peer in (0, 1, 2, 1))
        )
        delivery = case.deliver(plan)
        wrong = [
            number
            for number, ((peer, _), replies) in enumerate(zip(plan.datagrams, delivery.replies, strict=False))
            if any(at != peer for at, _ in replies)
        ]
        if wrong:
            yield case.datagram_violation(
                "a reply goes to another address than the datagram came from", plan, delivery
            )


@contract_check("datagrams", transport="datagram", needs=("amplification",))
def amplification(case: Case) -> Iterator[Violation]:
    """No reply is longer than the promised multiple of the datagram that asked for it.

    A server that answers a few bytes with many is used to flood others, as a sender's address is easily forged. All declared datagrams are sent, and
    short and random ones.
    """
    most = case.promises.amplification or 0.0
    datagrams = [one.sent for conversation in case.conversations for one in conversation.exchanges]
    datagrams += [
        b"?",
        b"\0",
        b"x",
        b"help",
        b"\n",
        b"*",
        *(data[:1] for data in datagrams if data),
        *(data[: len(data) // 2] for data in datagrams),
    ]
    plans = [DatagramPlan.of(data) for data in dict.fromkeys(datagrams) if data]
    worst = []
    for plan, delivery in zip(plans, case.deliver_all(plans), strict=True):
        factor = len(delivery.received) / len(plan.sent)
        if factor > most:
            worst.append((factor, plan, delivery))
    if worst:
        factor, plan, delivery = max(worst, key=lambda one: one[0])
        yield case.datagram_violation(
            f"a reply is {factor:.3g} times as long as the datagram that asked for it; {most:g} times are promised",
            plan,
            delivery,
            also=len(worst) - 1,
        )


@contract_check("robustness", transport="datagram", name="garbage")
def datagram_garbage(case: Case) -> Iterator[Violation]:
    """Arbitrary datagrams never make the handler raise, and the next honest one is answered.

    Each declared datagram is cut at every byte; bytes are changed, put in and left out; and there are random ones. The choice repeats by the seed.
    """
    declared = tuple(one.sent for conversation in case.conversations for one in conversation.exchanges)
    found = [data[:length] for data in declared for length in case.sample(range(len(data)))]
    found += [
        _mutated(case.random.choice(declared), declared, case.random)
        for _ in range(2000 if case.full else 150)
    ]
    found += [word for word in _WORDS if word]
    found += _wire_data(case)
    found += [case.random.randbytes(size) for size in (1, 2, 3, 4, 8, 12, 16, 64, 500)]
    yield from _and_then(case, found, "after garbage")


@contract_check("resources", transport="datagram", name="no_leak_after_requests")
def datagram_leaks(case: Case) -> Iterator[Violation]:
    """After many datagrams, descriptors, threads, children and memory are back to where they were.

    A handler that promises to be `stateful` may keep what it is told.
    """
    if not case.conversations:
        raise NotApplicable("there is no conversation")
    for conversation in case.conversations:
        yield from _leaks(case, _each(conversation), "")


@contract_check("resources", transport="datagram", name="no_leak_after_failures")
def datagram_leaks_after_failures(case: Case) -> Iterator[Violation]:
    """After many datagrams that make no sense, descriptors, threads, children and memory are back to where they were.

    Declared datagrams are cut in the middle, doubled, and begun with other bytes; and there are empty ones.
    """
    if not case.conversations:
        raise NotApplicable("there is no conversation")
    declared = [one.sent for conversation in case.conversations for one in conversation.exchanges]
    crooked = [
        changed
        for data in declared[:6]
        for changed in (data[: len(data) // 2], data + data, b"\xff\0" + data)
    ]
    yield from _leaks(case, DatagramPlan.of(b"", *crooked), " that makes no sense")


def _leaks(case: Case, once: DatagramPlan, which: str) -> Iterator[Violation]:
    for times in (_TIMES, _TIMES * 8):  # a table that is full one day has grown until then
        plan = replace(once, times=times)
        delivery = case.deliver(plan)
        what = Wrong("")
        if delivery.left:
            what = Wrong(
                f"something is left behind by every datagram{which}: {', '.join(delivery.left)}",
                "not record.left",
            )
        elif delivery.growth > _GROWTH and not case.promises.stateful:
            what = Wrong(
                f"memory grows with every datagram{which}: {delivery.growth / len(once.datagrams):.1f} blocks each stay allocated",
                f"record.growth <= {_GROWTH}",
            )
        if not what:
            return
    yield case.datagram_violation(what, plan, delivery)
