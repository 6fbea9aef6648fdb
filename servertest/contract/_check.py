"""`check`: a subject, its exchanges, and every kind of server that fits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

from .._support import Transport, UsageError
from ..launch import (
    Concurrency,
    HandlerTarget,
    Kind,
    kinds as all_kinds,
)
from ..launch._targets import target_for
from ..transcript import Exchange, Framing, Script
from ._contract import IN_MEMORY, Contract, prepared
from ._conversation import Conversation, conversations_of
from ._ground import Ground
from ._live import script_of
from ._promises import Promises
from ._registry import select_checks
from ._report import Outcome, Report, Result
from ._subject import Profile

__all__ = ("check",)

_CONCURRENCY: tuple[Concurrency, ...] = ("sync", "threading", "forking", "pool", "prefork", "selector")


def check(
    subject: Any,
    exchanges: Exchange | Script | Sequence[Any],
    *,
    kinds: Iterable[Kind | str] | None = None,
    framing: Framing | None = None,
    timeout: float = 5.0,
    progress: Callable[[Outcome], object] | None = None,
    promises: Promises | Mapping[str, Any] | None = None,
    checks: str | Collection[str] | None = None,
    exclude: Mapping[str, str] | None = None,
    profile: Profile = "quick",
    seed: int = 0,
    on_result: Callable[[Result], object] | None = None,
    on_begin: Callable[[int], object] | None = None,
    ground: Ground | None = None,
) -> Report:
    r"""Hold the exchanges with the subject on every kind of server that fits it, and the subject to its promises.

    The exchanges as they are come first. What does not go as expected there stops the rest: on that kind of server, or altogether if it shows without any.

    Args:
        subject: A request handler, or anything else that `launch` takes.
        exchanges: Scripts, as `load_exchanges` reads them from a `.wire` file: each is held on a connection of its own, in
            their order. Or plain exchanges, which are held on one connection; or lists of those, each of which is held on its own.
        kinds: On these kinds; by default on all predefined ones of the exchanges' transport. A subject that is a server
            itself is checked as it is.
        framing: Says where replies end, for exchanges that do not say it themselves, such as ``Delimited(b"\r\n")``. Exact replies need none; what a function
            or a pattern is to judge is one whole message then, with what marks its end.
        timeout: Seconds for each step of a conversation, and for stopping the server.
        progress: Called with each outcome as soon as it is there.
        promises: What the subject promises: `Promises`, or a mapping of their names.
        checks: Names of checks or of families of checks; all that the promises allow by default. With ``()`` the exchanges are held as they are, and
            that is all.
        exclude: Checks that are not wanted, by name, each with the reason.
        profile: "quick" tries samples where "full" tries everything, and searches.
        seed: What repeats random choices.
        on_result: Called with the result of each check as soon as it is there.
        on_begin: Called with the number of those results, before the first.
        ground: Where all of it is done: this machine, or `servertest.sim.Simulated` time and network.

    Returns:
        The report. Violations are in it, not raised; so is what was found before somebody pressed Ctrl-C, see `Report.interrupted`.

    Raises:
        UsageError: There is nothing to check, or the subject is nothing that can be served.
    """
    target = target_for(subject)
    kinds = None if kinds is None else list(kinds)
    if kinds == []:
        raise UsageError("kinds: name at least one kind of server, or leave it out for all that fit")
    transport = _transport(target, kinds)
    exchanges = [exchanges] if isinstance(exchanges, Exchange | Script) else list(exchanges)
    conversations = tuple(conversations_of(exchanges, transport, framing))
    scripts = _scripts(exchanges, conversations)
    chosen = _kinds(target, scripts, kinds)
    where = ground or Ground()
    if checks is not None and not checks:
        nothing = Contract(target, (), Promises(), (), (), seed=seed, timeout=timeout, ground=where)
        with _bench(nothing) as bench:
            return Report(target.name, tuple(_plain(nothing, subject, chosen, scripts, progress, bench)))
    wanted = [kind if kind is not None else _kind_of(target) for kind in chosen]
    infos = select_checks(checks)
    given = Promises.of(promises)
    contract = Contract(
        target, conversations, given, wanted, infos, exclude or {}, profile, seed, timeout, ground=where
    )
    with _bench(contract) as hall:
        contract, bench, findings, late = prepared(contract, hall if contract.can_be_rehearsed else None)
        if findings:
            outcome = Outcome(where.name or IN_MEMORY, "found", len(conversations), findings)
            return Report(target.name, (outcome,), _stopped(contract, outcome), seed)
        plain = [script for number, script in enumerate(scripts, 1) if number not in late]
        safely = where.hosting_of(target)
        items = list(contract.items())
        if on_begin is not None:
            on_begin(len(items))
        outcomes: list[Outcome] = []
        results: list[Result] = []
        interrupted = False
        try:
            outcomes.extend(_plain(contract, subject, chosen, plain, progress, hall, safely))
            failed = {one.kind: why(one) for one in outcomes if stops(one)}
            for item in items:
                results.append(contract.result(item, bench, failed, hall))
                if on_result is not None:
                    on_result(results[-1])
        except KeyboardInterrupt:
            interrupted = True
            results += [
                Result(
                    one.info.name, one.info.family, one.where, "skipped", reason="stopped before it was done"
                )
                for one in items[len(results) :]
            ]
    return Report(target.name, tuple(outcomes), tuple(results), seed, interrupted)


def _bench(contract: Contract) -> AbstractContextManager[Any]:
    bench = contract.ground.bench(contract.target, rehearsed=contract.can_be_rehearsed)
    return nullcontext() if bench is None else bench


def _transport(target: Any, kinds: Sequence[Kind | str] | None) -> Transport:
    """Of what exchanges that do not say are: what the subject is written for, or what it is asked to run on."""
    own: Transport | None = getattr(target, "transport", None)
    if own is None and kinds and all(Kind.parse(kind).transport == "datagram" for kind in kinds):
        return "datagram"
    return own or "stream"


def _plain(
    contract: Contract,
    subject: Any,
    kinds: Iterable[Kind | None],
    scripts: list[Script],
    progress: Callable[[Outcome], object] | None,
    hall: Any = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Outcome]:
    """Hold the exchanges as they are, kind by kind."""
    for kind in kinds:
        fitting = [script for script in scripts if kind is None or script.transport == kind.transport]
        outcome = plain_outcome(contract, hall, subject, kind, fitting, options)
        if progress is not None:
            progress(outcome)
        yield outcome


def plain_outcome(
    contract: Contract,
    hall: Any,
    subject: Any,
    kind: Kind | None,
    scripts: list[Script],
    options: Mapping[str, Any],
) -> Outcome:
    """Hold the exchanges as they are on a kind of server, where the ground has one."""
    reason = contract.ground.why_not(kind or _kind_of(contract.target))
    if reason:
        return Outcome(contract.target.name if kind is None else str(kind), "skipped", reason=reason)
    outcome: Outcome = contract.ground.held(hall, contract, "plainly", subject, kind, scripts, options)
    return outcome


def stops(outcome: Outcome) -> bool:
    """Whether there is no use in checks there; that it was hard to stop is something that checks look into."""
    return outcome.verdict in ("skipped", "broken") or any(
        finding.conversation for finding in outcome.findings
    )


def why(outcome: Outcome) -> str:
    if outcome.findings:
        return f"the exchanges do not go as expected there: {outcome.findings[0].what}"
    return outcome.reason or "the exchanges could not be held there"


def _stopped(contract: Contract, outcome: Outcome) -> tuple[Result, ...]:
    return tuple(
        Result(info.name, info.family, IN_MEMORY, "skipped", reason=why(outcome))
        for info in contract.checks
        if any(kind.transport == info.transport for kind in contract.kinds)
    )


def _kind_of(target: Any) -> Kind:
    """The kind of a subject that is a server itself."""
    transport: Transport = getattr(target, "transport", None) or "stream"
    cls = getattr(target, "cls", None)
    return Kind.parse(cls) if cls is not None else Kind(transport=transport)


def _scripts(exchanges: Sequence[Any], conversations: Sequence[Conversation]) -> list[Script]:
    """What clients do: scripts as they are, and what the conversations say that were made of the rest."""
    if not exchanges:
        raise UsageError("there is nothing to check: give at least one exchange")
    given = [one for one in exchanges if not isinstance(one, Exchange)]
    return [
        one if isinstance(one, Script) else script_of(conversation)
        for one, conversation in zip_longest(given, conversations)
    ]


def _kinds(target: Any, scripts: list[Script], wanted: Iterable[Kind | str] | None) -> list[Kind | None]:
    if not isinstance(target, HandlerTarget):
        return [None] if wanted is None else [Kind.parse(kind) for kind in wanted]
    if wanted is not None:
        return [Kind.parse(kind) for kind in wanted]
    transports = tuple(dict.fromkeys(script.transport for script in scripts))
    return list(all_kinds(transport=transports, concurrency=_CONCURRENCY))
