"""Holding a subject to its contract: every check that was asked for, on every kind where it is of use."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from .._support import UsageError, preview
from ..launch import HandlerTarget, Kind, Unavailable
from ..transcript import Script
from ._answer import Accepts
from ._case import NEEDS_MEMORY, Case, transcript_of
from ._conversation import Conversation
from ._ground import Ground
from ._live_bench import LiveBench
from ._plainly import check_plainly
from ._plan import Record, describe_record
from ._promises import Promises
from ._registry import CheckInfo, NotApplicable, NotPromised, NotSimulated, checks_for
from ._report import CheckVerdict, Finding, Outcome, Result
from ._subject import Bench, Profile

__all__ = ("IN_MEMORY", "Contract", "Item", "Rehearsal", "prepared", "rehearsed")

IN_MEMORY = "in memory"


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of holding the conversations plainly, in memory.

    Attributes:
        conversations: Those that went as expected, with their replies.
        findings: What did not.
        late: Numbers of conversations whose replies came only when the client had finished sending.
        impossible: Why the handler cannot be held conversations with in memory.
    """

    conversations: tuple[Conversation, ...]
    findings: tuple[Finding, ...] = ()
    late: tuple[int, ...] = ()
    impossible: str = ""


def rehearsed(bench: Bench, conversations: Sequence[Conversation], promises: Promises) -> Rehearsal:
    """Hold every conversation as it is meant, one after the other."""
    held: list[Conversation] = []
    findings: list[Finding] = []
    late: list[int] = []
    plans = [conversation.plan() for conversation in conversations]
    if promises.stateful and plans:
        # One and the same process, or what one has stored is not there for the next.
        records = bench.rehearse([replace(plans[0], after=tuple(plans[1:]))])
        records = [records[0], *records[0].after]
    else:
        records = bench.rehearse(plans)
    for conversation, record in zip(conversations, records, strict=False):
        known = conversation.held(record)
        if record.outcome in ("hung", "died"):
            return Rehearsal((), impossible=f"in memory, {describe_record(record)}")
        if not known.agrees(record.received, any_order=bool(promises.any_order)):
            findings.append(_plain_finding(conversation, known, record))
            continue
        if not _in_time(known):
            late.append(conversation.number)
            known = known.late(record.received)
        if record.failure is not None and not record.failure.mild:
            known = replace(known, raised=(record.failure.type_name,))
        held.append(known)
    return Rehearsal(tuple(held), tuple(findings), tuple(late))


def _in_time(conversation: Conversation) -> bool:
    return all(
        exchange.answered_by(reply)
        for exchange, reply in zip(conversation.exchanges, conversation.replies, strict=True)
    )


def _plain_finding(conversation: Conversation, known: Conversation, record: Record) -> Finding:
    """What went wrong first: the first exchange that has another answer, and what left the handler."""
    wrong = next(
        (
            (exchange, reply)
            for exchange, reply in zip(conversation.exchanges, known.replies, strict=True)
            if not exchange.answered_by(reply)
        ),
        None,
    )
    exchange, reply = wrong or (conversation.exchanges[0], record.received)
    details = [f"sent     {preview(exchange.sent, 300)}", f"came     {preview(reply, 300)}"]
    if isinstance(exchange.expected, bytes):
        details.insert(1, f"expected {preview(exchange.expected, 300)}")
    elif isinstance(exchange.expected, re.Pattern):
        details.insert(1, f"expected what matches {preview(exchange.expected.pattern, 300)}")
    elif isinstance(exchange.expected, Accepts):
        details.insert(1, f"expected something else: {exchange.expected.objection(reply)}")
    if record.failure is not None:
        details.append(record.failure.traceback_text.rstrip())
    what = describe_record(record) or "the answer is not what was expected"
    return Finding(
        conversation.number,
        exchange.line,
        what,
        "\n".join([*details, record.stacks]).rstrip(),
        transcript=transcript_of(record),
    )


@dataclass(frozen=True, slots=True)
class Item:
    """A check, and where it is to be done.

    Attributes:
        info: The check.
        kind: On which kind of server; None if it is not to be done.
        verdict: What is said instead.
        reason: Why.
    """

    info: CheckInfo
    kind: Kind | None
    verdict: str = ""
    reason: str = ""

    @property
    def where(self) -> str:
        """The kind by its name, where there is a server."""
        return str(self.kind) if self.kind is not None and self.info.technique != "in memory" else IN_MEMORY


def _said(promises: Promises, name: str) -> bool:
    """Whether the promise says something that stands in the way: `reads` does by being denied, the others by being made."""
    value = getattr(promises, name)
    return value is False if name == "reads" else bool(value)


_PROFILES: tuple[str, ...] = Profile.__args__  # type: ignore[attr-defined]


@dataclass
class Contract:
    """A subject with all that is to be checked of it.

    Attributes:
        target: The subject, as a target of `launch`.
        conversations: What is held with it.
        promises: What it promises.
        kinds: On which kinds.
        checks: Which checks.
        exclude: Names of checks that are not wanted, each with the reason.
        profile: "quick" or "full".
        seed: What repeats random choices.
        timeout: Seconds that clients of live servers wait.
        unrehearsed: Why nothing can be done in memory, if that is so.
        ground: Where it is held to it.
    """

    target: Any
    conversations: tuple[Conversation, ...]
    promises: Promises
    kinds: Sequence[Kind]
    checks: Sequence[CheckInfo]
    exclude: Mapping[str, str] = field(default_factory=dict)
    profile: Profile = "quick"
    seed: int = 0
    timeout: float = 5.0
    unrehearsed: str = "only request handlers can be called in memory"
    ground: Ground = field(default_factory=Ground)

    def __post_init__(self) -> None:
        if self.profile not in _PROFILES:
            raise UsageError(f"profile is one of {', '.join(_PROFILES)}, not {self.profile!r}")
        seed: object = self.seed
        if not isinstance(seed, int):
            raise UsageError(f"seed is a whole number, not {seed!r}")
        timeout: object = self.timeout
        if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise UsageError(f"timeout is a number of seconds above 0, not {self.timeout!r}")
        exclude: object = self.exclude
        if not isinstance(exclude, Mapping) or not all(
            isinstance(reason, str) and reason.strip() for reason in exclude.values()
        ):
            raise UsageError(
                f'exclude gives each check that is not wanted with the reason, as in {{"garbage": "only friends call"}}, not {exclude!r}'
            )
        for name in self.exclude:
            checks_for(name)

    @property
    def can_be_rehearsed(self) -> bool:
        """Whether the subject is a request handler that can be called without a server: not one of a selector server."""
        if not isinstance(self.target, HandlerTarget):
            return False
        return not any(
            base.__name__.startswith("Selector") for base in getattr(self.target.handler, "__mro__", ())
        )

    def items(self) -> Iterator[Item]:
        """All that there is to be done, and what there is not, with the reason."""
        for info in self.checks:
            kinds = [kind for kind in self.kinds if kind.transport == info.transport]
            if not kinds:
                continue
            suited = [kind for kind in kinds if info.kinds is None or info.kinds(kind)]
            if info.name in self.exclude:
                yield Item(info, None, "excluded", self.exclude[info.name])
            elif missing := self.promises.missing(info.needs):
                yield Item(info, None, "not promised", f"it does not promise {', '.join(missing)}")
            elif denied := [name for name in info.unless if _said(self.promises, name)]:
                yield Item(info, None, "not applicable", info.unless[denied[0]])
            elif not suited:
                yield Item(info, None, "not applicable", "none of the kinds of server is one that it is for")
            elif info.technique == "in memory":
                # There, kinds differ only in the client's address.
                yield Item(info, min(suited, key=lambda kind: kind.local))
            else:
                yield from (Item(info, kind) for kind in suited)

    def plainly(
        self, subject: Any, kind: Kind | None, scripts: list[Script], options: Mapping[str, Any]
    ) -> Outcome:
        """Hold conversations as they are, with a server of a kind.

        Args:
            subject: The subject as it was given; None for the target.
            kind: The kind; None for a subject that is a server itself.
            scripts: The conversations.
            options: How it is launched.
        """
        return check_plainly(
            self.target if subject is None else subject, self.target, kind, scripts, self.timeout, options
        )

    def result(self, item: Item, bench: Any, failed: Mapping[str, str], hall: Any = None) -> Result:
        """What comes of one of the items.

        Args:
            item: The check, and where it is to be done.
            bench: Where planned conversations are held; None if the subject is no handler that can be called.
            failed: Kinds, by name, on which the conversations do not go as expected, each with what was found there.
            hall: What the ground needs to hold what is done with servers.
        """
        info, kind = item.info, item.kind
        if kind is None:
            return self._result(info, item.where, item.verdict, item.reason)
        if info.technique == "in memory":
            if bench is None:
                return self._held(hall, "live_result", item, failed)
            return self.check(info, kind, self.ground.name or item.where, bench)
        if reason := self.ground.why_not(kind):
            return self._result(info, item.where, "not simulated", reason)
        if str(kind) in failed:
            return self._result(info, item.where, "skipped", failed[str(kind)])
        if kind.reason is not None:
            return self._result(info, item.where, "skipped", kind.reason)
        return self._held(hall, "check", info, kind, item.where, None)

    def _held(self, hall: Any, method: str, *arguments: Any) -> Result:
        result: Result = self.ground.held(hall, self, method, *arguments)
        return result

    def live_result(self, item: Item, failed: Mapping[str, str]) -> Result:
        """A check that would be done in memory, done with a server, as far as that goes."""
        info, kind = item.info, item.kind
        assert kind is not None
        if info.transport == "datagram":
            return self._result(info, item.where, "skipped", self.unrehearsed)
        live = next(
            (
                one
                for one in self.kinds
                if one.transport == info.transport
                and str(one) not in failed
                and one.reason is None
                and not self.ground.why_not(one)
            ),
            None,
        )
        if live is None:
            return self._result(
                info, str(kind), "skipped", next(iter(failed.values()), "there is no server to do it with")
            )
        bench = LiveBench(self.target, live, self.ground.hosting_of(self.target))
        try:
            return self.check(info, live, str(live), bench)
        finally:
            bench.close()

    def check(self, info: CheckInfo, kind: Kind, where: str, bench: Bench | LiveBench | None) -> Result:
        """Do one check on one kind. It ends, whatever the subject does; if it is servertest that fails, it says so."""
        case = Case(
            info.name,
            kind,
            self.target,
            self.promises,
            self.conversations,
            self.profile,
            self.seed,
            bench,
            self.timeout,
            where,
            in_memory=not isinstance(bench, LiveBench),
            hosting=self.ground.hosting,
            module=self.ground.module,
        )
        began = monotonic()
        try:
            violations = tuple(info.function(case))
        except NotApplicable as reason:
            return self._result(info, where, "not applicable", str(reason))
        except NotPromised as reason:
            return self._result(info, where, "not promised", str(reason))
        except NotSimulated as reason:
            return self._result(info, where, "not simulated", str(reason))
        except Unavailable as reason:
            return self._result(info, where, "skipped", str(reason))
        except Exception as error:  # noqa: BLE001 - reported as what it is: ours, not the subject's
            if what := self.ground.explained(error):
                return Result(
                    info.name,
                    info.family,
                    where,
                    "violated",
                    (case.violation(what),),
                    "",
                    monotonic() - began,
                )
            return Result(
                info.name, info.family, where, "broke", (), traceback.format_exc(), monotonic() - began
            )
        if not violations and not case.in_memory and not case.played:
            return self._result(info, where, "not applicable", NEEDS_MEMORY)
        if not violations and case.left_out:
            return self._result(info, where, "not simulated", f"in part: {case.left_out}")
        verdict: CheckVerdict = "violated" if violations else "passed"
        return Result(info.name, info.family, where, verdict, violations, "", monotonic() - began)

    def _result(self, info: CheckInfo, where: str, verdict: Any, reason: str) -> Result:
        return Result(info.name, info.family, where, verdict, (), reason)


def prepared(
    contract: Contract, bench: Bench | None
) -> tuple[Contract, Bench | None, tuple[Finding, ...], tuple[int, ...]]:
    """Hold the conversations plainly in memory, if that can be done.

    Returns:
        The contract, knowing what was answered; the bench, if it is of use; what did not go as expected; and the numbers of conversations whose
        replies came late, which say nothing on a live server before a time-out.
    """
    streams = tuple(one for one in contract.conversations if one.transport == "stream")
    if not streams:
        return contract, bench, (), ()
    if bench is None:
        return _known_by_expectation(contract), None, (), ()
    try:
        rehearsal = rehearsed(bench, streams, contract.promises)
    except (UsageError, NotSimulated) as error:
        return _known_by_expectation(replace(contract, unrehearsed=str(error))), None, (), ()
    if rehearsal.impossible:
        return _known_by_expectation(replace(contract, unrehearsed=rehearsal.impossible)), None, (), ()
    return replace(contract, conversations=rehearsal.conversations), bench, rehearsal.findings, rehearsal.late


def _known_by_expectation(contract: Contract) -> Contract:
    """What is answered when all goes well, as far as exact expectations say it: enough where a server has held the exchanges."""
    known = (
        replace(
            one,
            replies=tuple(
                exchange.expected for exchange in one.exchanges if isinstance(exchange.expected, bytes)
            ),
        )
        if one.exact
        else replace(one, replies=(b"",) * len(one.exchanges))
        for one in contract.conversations
    )
    return replace(contract, conversations=tuple(known))
