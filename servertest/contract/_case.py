"""What a check works with: the subject's conversations and promises, ways to hold conversations, and violations to give."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from .._support import preview
from ..launch import HandlerTarget, Kind, Running, launch
from ._conversation import Conversation
from ._plan import DatagramPlan, Delivery, Family, Plan, Record, describe_record
from ._promises import Promises
from ._registry import NotApplicable, NotSimulated
from ._reproduction import as_code, check_test, plan_test
from ._subject import Profile
from ._violation import Violation
from ._wrong import Wrong

__all__ = ("IN_A_PROCESS", "NEEDS_MEMORY", "Case")

NEEDS_MEMORY = "it needs a request handler that can be called in memory"
#: How handlers are launched: where they can do no harm. What they leave behind is looked at by checks that tell what is there once from what
#: is there with every client.
IN_A_PROCESS: dict[str, Any] = {"host": "process", "options": {"leak_check": False}}
#: Cuts, prefixes and the like that the quick profile tries for each conversation, and the full one.
_SAMPLES = {"quick": 48, "full": 2000}
_LEAST = 16


@dataclass
class Case:
    """One check, on one kind of server.

    Attributes:
        check: The check's name.
        kind: The kind.
        target: What is checked, as a target of `launch`.
        promises: What it promises.
        conversations: What was held with it when all went well, with the replies that came.
        profile: "quick" or "full".
        seed: What repeats random choices.
        bench: Where planned conversations are held.
        timeout: Seconds of real time that a client of a live server waits.
        hosting: How a request handler is launched.
        module: Where `rehearse` is to be had.
        left_out: Why something that belongs to the check could not be done, if that is so.
    """

    check: str
    kind: Kind
    target: Any
    promises: Promises
    conversations: tuple[Conversation, ...]
    profile: Profile
    seed: int
    bench: Any
    timeout: float = 5.0
    where: str = "in memory"
    in_memory: bool = True
    played: int = 0
    hosting: Mapping[str, Any] = field(default_factory=lambda: IN_A_PROCESS)
    module: str = "servertest.contract"
    left_out: str = ""

    @cached_property
    def random(self) -> random.Random:
        """Random numbers of this check alone."""
        return random.Random(f"{self.seed} {self.check} {self.kind}")  # noqa: S311 - choices that repeat, no secrets

    @property
    def full(self) -> bool:
        """Whether everything is to be tried."""
        return self.profile == "full"

    def sample(self, values: Sequence[int], *always: int) -> list[int]:
        """As many of these values as the profile allows, those that must be in it among them."""
        limit = _SAMPLES[self.profile]
        if not self.full:  # many conversations share what a few would have
            limit = min(limit, max(_LEAST, 2 * limit // max(1, len(self.conversations))))
        if len(values) <= limit:
            return sorted(set(values))
        kept = {value for value in always if value in values} | {
            *values[: limit // 3],
            *values[-limit // 6 :],
        }
        rest = [value for value in values if value not in kept]
        return sorted({*kept, *self.random.sample(rest, max(0, limit - len(kept)))})

    # -- in memory

    def play(self, plan: Plan, conversation: Conversation | None = None, *, limit: float = 2.0) -> Record:
        """Hold one planned conversation."""
        return self.play_all([plan], conversation, limit=limit)[0]

    def play_all(
        self,
        plans: Iterable[Plan],
        conversation: Conversation | None = None,
        *,
        limit: float = 2.0,
        fresh: bool = False,
        together: bool = False,
        family: Family | None = None,
    ) -> list[Record]:
        """Hold planned conversations one after the other.

        Args:
            plans: The plans.
            conversation: Which one they were made of: where connections see what earlier ones have done, those before it go first.
            limit: Seconds of real time for each.
            fresh: Whether each finds the subject as it was at the beginning; so if it promises to be stateful ...
            together: ... unless it is said that what earlier plans have done does not matter.
            family: Of what family clients are; that of the kind by default.
        """
        plans = [replace(plan, family=family or self.family) for plan in plans]
        if not all(map(self.can_play, plans)):
            if self.left_out:
                raise NotSimulated(self.left_out)
            raise NotApplicable(NEEDS_MEMORY)
        self.played += len(plans)
        if self.promises.stateful:
            fresh = fresh or not together
            earlier = self.earlier(conversation)
            first = len(plans) if fresh else 1
            plans[:first] = [replace(plan, before=(*earlier, *plan.before)) for plan in plans[:first]]
        records: list[Record] = self.bench.rehearse(plans, fresh=fresh, limit=limit)
        return records

    def can_play(self, plan: Plan | DatagramPlan) -> bool:
        """Whether a plan can be carried out: with a live server, some things cannot."""
        from ._live_bench import can_be_live

        if not self.in_memory:
            return can_be_live(plan)
        reason: str = self.bench.why_not(plan)
        self.left_out = self.left_out or reason
        return not reason

    @property
    def family(self) -> Family:
        """What addresses clients of the kind have."""
        return "unix" if self.kind.local else "inet6" if self.kind.family == "inet6" else "inet"

    def deliver(self, plan: DatagramPlan) -> Delivery:
        """Let datagrams come."""
        return self.deliver_all([plan])[0]

    def deliver_all(self, plans: Iterable[DatagramPlan], *, fresh: bool = False) -> list[Delivery]:
        """Let datagrams come, plan by plan; from senders of the kind's family if they name no other.

        Args:
            plans: The plans.
            fresh: Whether each finds the subject as it was at the beginning; always so if it promises to be stateful.
        """
        if not self.in_memory:
            raise NotApplicable(NEEDS_MEMORY)
        plans = [replace(plan, family=self.family) if plan.family == "inet" else plan for plan in plans]
        if not all(map(self.can_play, plans)):
            raise NotSimulated(self.left_out)
        fresh = fresh or bool(self.promises.stateful)
        deliveries: list[Delivery] = self.bench.rehearse(plans, fresh=fresh, limit=5.0)
        return deliveries

    def wrong_delivery(self, delivery: Delivery) -> Wrong:
        """What is wrong with how datagrams were handled; nothing if all went in order."""
        return Wrong(describe_record(delivery), "not record.problems")

    def earlier(self, conversation: Conversation | None) -> tuple[Plan, ...]:
        """The conversations that go before this one."""
        if conversation is None or not self.promises.stateful:
            return ()
        return tuple(one.plan() for one in self.conversations if one.number < conversation.number)

    def with_input(self) -> tuple[Conversation, ...]:
        """The conversations in which the client says anything.

        Raises:
            NotApplicable: There is none.
        """
        found = tuple(one for one in self.conversations if one.sent)
        if not found:
            raise NotApplicable("no client says anything")
        return found

    def wrong(self, record: Record) -> Wrong:
        """What is wrong with how a conversation ended, as the end of a sentence; nothing if it ended in order, or as it always does."""
        if record.failure is not None and any(
            record.failure.type_name in one.raised for one in self.conversations
        ):
            return Wrong("")
        return Wrong(describe_record(record), "not record.problems")

    def gives(self, conversation: Conversation, what: str = "record.received") -> str:
        """A proof: that these are the replies, where they are always the same."""
        if not conversation.exact or self.promises.any_order:
            return ""
        return f"{what} == {as_code(conversation.answered)}"

    def agrees(self, conversation: Conversation, received: bytes, upto: int | None = None) -> bool:
        """Whether these are the replies that are expected."""
        return conversation.agrees(received, upto, any_order=bool(self.promises.any_order))

    # -- with a server

    @contextmanager
    def serving(self, **options: Any) -> Iterator[Running]:
        """A server of the case's kind; it is ended at the end of the block, and what it complains of then is not raised."""
        options.setdefault("timeout", self.timeout)
        if isinstance(self.target, HandlerTarget):
            for name, value in self.hosting.items():
                options.setdefault(name, value)
        running = launch(self.target, kind=self.kind, **options)
        try:
            yield running
        finally:
            running.errors.clear()
            with _forgiving():
                running.stop()

    # -- violations

    def violation(
        self,
        explanation: str,
        plan: Plan | DatagramPlan | None = None,
        record: Record | None = None,
        *,
        sent: bytes = b"",
        came: bytes = b"",
        expected: bytes | None = None,
        details: str = "",
        transcript: str = "",
        also: int = 0,
        proof: str = "",
    ) -> Violation:
        """A violation of this check.

        Args:
            explanation: What is wrong, in a sentence.
            plan: The plan that showed it ...
            record: ... and what came of it.
            sent: What the client sent, if there is no plan.
            came: What it got.
            expected: What it should have got.
            details: More.
            transcript: What passed.
            also: How many more examples there are.
            proof: An expression about `record`, what comes of the plan, that would be true if it were right; by default that of the explanation.
                Without any, or without a plan, the reproduction is the whole check.
        """
        if plan is not None:
            sent = sent or plan.sent
        proof = proof or getattr(explanation, "proof", "")
        explanation = str(explanation)
        if record is not None:
            came = came or record.received
            details = "\n".join(part for part in (details, _details(record)) if part)
            transcript = transcript or transcript_of(record)
        return Violation(
            self.check,
            self.where,
            explanation,
            sent,
            came,
            expected,
            self.seed,
            details,
            transcript,
            self._reproduction(explanation, plan, proof),
            also,
        )

    def _reproduction(self, explanation: str, plan: Plan | DatagramPlan | None, proof: str) -> str:
        if plan is None or not proof or not self.in_memory:
            return check_test(self, explanation)
        return plan_test(self, explanation, proof, plan)

    def datagram_violation(
        self, explanation: str, plan: DatagramPlan, delivery: Delivery, *, also: int = 0
    ) -> Violation:
        """A violation of this check, shown by datagrams."""
        details = (
            delivery.failure.traceback_text.rstrip() if delivery.failure is not None else delivery.stacks
        )
        lines = []
        for number, (peer, data) in enumerate(plan.datagrams):
            lines.append(f"--> {preview(data)} (from sender {peer})")
            replies = delivery.replies[number] if number < len(delivery.replies) else ()
            lines += [f"<-- {preview(got)} (to sender {at})" for at, got in replies]
        return self.violation(
            explanation,
            plan,
            came=delivery.received,
            details=details,
            transcript="\n".join(lines),
            also=also,
        )


@contextmanager
def _forgiving() -> Iterator[None]:
    from .._support import HandlerFailed, StillRunning

    try:
        yield
    except (HandlerFailed, StillRunning):
        pass


def _details(record: Record) -> str:
    parts = [record.failure.traceback_text.rstrip() if record.failure is not None else "", record.stacks]
    return "\n".join(part for part in parts if part)


_ARROWS = {">": "-->", "<": "<--"}
_ENDS = {
    "fin": "the client finishes sending",
    "close": "the client closes",
    "reset": "the client cuts the connection off (RST)",
}


def transcript_of(record: Record) -> str:
    """What passed, line by line."""
    lines = [
        f"{_ARROWS[what]} {preview(data)}" if what in _ARROWS else f"    {_ENDS[what]}"
        for what, data in record.events
    ]
    if len(lines) > 40:
        lines[20:-20] = [f"    ... {len(lines) - 40} more"]
    return "\n".join(lines)
