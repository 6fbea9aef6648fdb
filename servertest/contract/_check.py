"""`check`: a subject, its exchanges, and every kind of server that fits."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from time import monotonic
from types import MappingProxyType
from typing import Any

from .._support import DeadlineExceeded, HandlerFailed, StillRunning, Transport, UsageError
from ..launch import (
    Concurrency,
    HandlerError,
    HandlerTarget,
    Kind,
    Running,
    Unavailable,
    kinds as all_kinds,
    launch,
)
from ..launch._targets import target_for
from ..transcript import Exchange, Expect, Script, Send, Transcript
from ._case import IN_A_PROCESS
from ._contract import IN_MEMORY, Contract, prepared
from ._conversation import conversations_of
from ._play import play
from ._promises import Promises
from ._registry import checks_for, select_checks
from ._rehearsal import is_mild
from ._report import Finding, Outcome, Report, Result, Verdict
from ._subject import Bench, Profile

__all__ = ("check",)

_CONCURRENCY: tuple[Concurrency, ...] = ("sync", "threading", "forking", "pool", "prefork", "selector")


def check(
    subject: Any,
    exchanges: Sequence[Script] | Sequence[Exchange],
    *,
    kinds: Iterable[Kind | str] | None = None,
    timeout: float = 5.0,
    progress: Callable[[Outcome], object] | None = None,
    promises: Promises | Mapping[str, Any] | None = None,
    checks: str | Collection[str] | None = None,
    exclude: Mapping[str, str] | None = None,
    profile: Profile = "quick",
    seed: int = 0,
    on_result: Callable[[Result], object] | None = None,
    on_begin: Callable[[int], object] | None = None,
) -> Report:
    """Hold the exchanges with the subject on every kind of server that fits it, and the subject to its promises.

    The exchanges as they are come first. What does not go as expected there stops the rest: on that kind of server, or altogether if it shows without any. If
    neither `promises` nor `checks` are given, that is all.

    Args:
        subject: A request handler, or anything else that `launch` takes.
        exchanges: Scripts, as `load_exchanges` reads them from a `.wire` file: each is held on a connection of its own, in
            their order. Or plain exchanges, which are held on one connection.
        kinds: On these kinds; by default on all predefined ones of the exchanges' transport. A subject that is a server
            itself is checked as it is.
        timeout: Seconds for each step of a conversation, and for stopping the server.
        progress: Called with each outcome as soon as it is there.
        promises: What the subject promises: `Promises`, or a mapping of their names.
        checks: Names of checks or of families of checks; all that the promises allow by default.
        exclude: Checks that are not wanted, by name, each with the reason.
        profile: "quick" tries samples where "full" tries everything, and searches.
        seed: What repeats random choices.
        on_result: Called with the result of each check as soon as it is there.
        on_begin: Called with the number of those results, before the first.

    Returns:
        The report. Violations are in it, not raised; so is what was found before somebody pressed Ctrl-C, see `Report.interrupted`.

    Raises:
        UsageError: There is nothing to check, or the subject is nothing that can be served.
    """
    target = target_for(subject)
    kinds = None if kinds is None else list(kinds)
    transport = _transport(target, kinds)
    scripts = _scripts(exchanges, transport)
    chosen = _kinds(target, scripts, kinds)
    if promises is None and checks is None:
        return Report(target.name, tuple(_plain(subject, target, chosen, scripts, timeout, progress)))
    conversations = tuple(conversations_of(exchanges, transport))
    wanted = [kind if kind is not None else _kind_of(target) for kind in chosen]
    infos = select_checks(checks)
    given = Promises.of(promises)
    for name in exclude or {}:
        checks_for(name)
    contract = Contract(target, conversations, given, wanted, infos, exclude or {}, profile, seed, timeout)
    with ExitStack() as stack:
        bench = None
        if isinstance(target, HandlerTarget) and contract.can_be_rehearsed:
            bench = stack.enter_context(Bench(target))
        contract, bench, findings, late = prepared(contract, bench)
        if findings:
            outcome = Outcome(IN_MEMORY, "found", len(conversations), findings)
            return Report(target.name, (outcome,), _stopped(contract, outcome), seed)
        plain = [script for number, script in enumerate(scripts, 1) if number not in late]
        safely: dict[str, Any] = IN_A_PROCESS if isinstance(target, HandlerTarget) else {}
        items = list(contract.items())
        if on_begin is not None:
            on_begin(len(items))
        outcomes: list[Outcome] = []
        results: list[Result] = []
        interrupted = False
        try:
            outcomes.extend(_plain(subject, target, chosen, plain, timeout, progress, safely))
            failed = {one.kind: why(one) for one in outcomes if stops(one)}
            for item in items:
                results.append(contract.result(item, bench, failed))
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


def _transport(target: Any, kinds: Sequence[Kind | str] | None) -> Transport:
    """Of what exchanges that do not say are: what the subject is written for, or what it is asked to run on."""
    own: Transport | None = getattr(target, "transport", None)
    if own is None and kinds and all(Kind.parse(kind).transport == "datagram" for kind in kinds):
        return "datagram"
    return own or "stream"


def _plain(
    subject: Any,
    target: Any,
    kinds: Iterable[Kind | None],
    scripts: list[Script],
    timeout: float,
    progress: Callable[[Outcome], object] | None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Outcome]:
    """Hold the exchanges as they are, kind by kind."""
    for kind in kinds:
        fitting = [script for script in scripts if kind is None or script.transport == kind.transport]
        outcome = check_plainly(subject, target, kind, fitting, timeout, options)
        if progress is not None:
            progress(outcome)
        yield outcome


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


def _scripts(exchanges: Sequence[Any], transport: Transport) -> list[Script]:
    if not exchanges:
        raise UsageError("there is nothing to check: give at least one exchange")
    scripts: list[Script] = []
    plain: list[Exchange] = []
    for exchange in exchanges:
        if isinstance(exchange, Script):
            scripts.append(exchange)
        elif isinstance(exchange, Exchange):
            plain.append(exchange)
        elif isinstance(exchange, list | tuple) and exchange and isinstance(exchange[0], Exchange):
            scripts.append(_script(len(scripts) + 1, exchange, transport))
        else:
            raise UsageError(
                f"{exchange!r} is no exchange: write Exchange(sent, expected), or load_exchanges(file)"
            )
    if plain:
        scripts.append(_script(len(scripts) + 1, plain, transport))
    return scripts


def _script(number: int, exchanges: Iterable[Exchange], transport: Transport) -> Script:
    steps: list[Any] = []
    for exchange in exchanges:
        if exchange.sent or transport == "datagram":
            steps.append(Send(exchange.sent, line=exchange.line))
        if exchange.expected != b"":
            if not isinstance(exchange.expected, bytes | re.Pattern):
                raise UsageError(
                    "a function cannot say when an answer is complete: expect bytes or a pattern here"
                )
            steps.append(Expect(exchange.expected, line=exchange.line))
    return Script(number, transport, tuple(steps))


def _kinds(target: Any, scripts: list[Script], wanted: Iterable[Kind | str] | None) -> list[Kind | None]:
    if not isinstance(target, HandlerTarget):
        return [None] if wanted is None else [Kind.parse(kind) for kind in wanted]
    if wanted is not None:
        return [Kind.parse(kind) for kind in wanted]
    transports = tuple(dict.fromkeys(script.transport for script in scripts))
    return list(all_kinds(transport=transports, concurrency=_CONCURRENCY))


def check_plainly(
    subject: Any,
    target: Any,
    kind: Kind | None,
    scripts: list[Script],
    timeout: float,
    options: Mapping[str, Any],
) -> Outcome:
    name = target.name if kind is None else str(kind)
    if not scripts and kind is not None:
        return Outcome(name, "skipped", reason=f"no exchange is for {kind.transport}s")
    began = monotonic()
    try:
        running = launch(subject, kind=kind, timeout=timeout, **options)
    except (UsageError, Unavailable) as error:
        return Outcome(name, "skipped", reason=str(error))
    except Exception:  # noqa: BLE001 - reported as what it is: ours, not the subject's
        return Outcome(name, "broken", reason=traceback.format_exc(), seconds=monotonic() - began)
    findings: tuple[Finding, ...] = ()
    reason = ""
    verdict: Verdict = "ok"
    try:
        findings = tuple(_converse(running, scripts, timeout))
        verdict = "found" if findings else "ok"
    except Exception:  # noqa: BLE001 - reported as what it is: ours, not the subject's
        verdict, reason = "broken", traceback.format_exc()
    return Outcome(name, verdict, len(scripts), findings, reason, monotonic() - began)


def _converse(running: Running, scripts: list[Script], timeout: float) -> list[Finding]:
    findings: list[Finding] = []
    seen: dict[int, Finding] = {}  # by connection: what the client saw
    held: list[Script] = []  # one after the other, so that the server's nth connection is the nth of these
    try:
        for script in scripts:
            client = _connect(script, running, timeout, findings)
            if client is None:
                continue
            held.append(script)
            finding = play(script, client)
            if finding is not None:
                seen[len(held)] = finding
        _settle(running, len(held), timeout)
        findings += _with_causes(seen, running.errors.clear(), held, running)
    finally:
        try:
            running.stop()
        except HandlerFailed as failure:
            if not _all_mild(failure):
                findings.append(
                    Finding(0, 0, "the handler raised while the server was stopped", str(failure))
                )
        except StillRunning as still:
            findings.append(Finding(0, 0, "the server had to be forced to stop", str(still)))
    return findings


def _all_mild(failure: HandlerFailed) -> bool:
    """Whether nothing but the ends of replies could not be sent any more."""
    cause = failure.__cause__
    errors = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause,)
    texts = str(failure).split("Traceback (most recent call last):")[1:]
    return bool(texts) and all(isinstance(error, OSError) for error in errors) and all(map(is_mild, texts))


def _with_causes(
    seen: dict[int, Finding], errors: Iterable[HandlerError], held: list[Script], running: Running
) -> Iterator[Finding]:
    """What clients saw and what handlers raised; where both belong to one connection, the latter explains the former."""
    for error in errors:
        script = held[error.connection - 1] if 0 < error.connection <= len(held) else None
        symptom = seen.pop(error.connection, None)
        if symptom is None and _to_nobody(error, script):
            continue
        yield Finding(
            conversation=script.number if script else 0,
            line=symptom.line if symptom else script.line if script else 0,
            what=f"{error.where} raised {error.type_name.rpartition('.')[2]}: {error.message}",
            details=error.traceback_text.rstrip(),
            symptom=symptom.what if symptom else "",
            transcript=_transcript(running, error.connection),
        )
    for connection, finding in seen.items():
        yield replace(finding, transcript=_transcript(running, connection))


def _to_nobody(error: HandlerError, script: Script | None) -> bool:
    """Whether a datagram could not be sent as the client, which expects none, has gone: on a Unix socket its path goes with it."""
    stream = script is not None and script.transport == "stream"
    return not stream and isinstance(error.exception, OSError) and is_mild(error.traceback_text)


def _connect(script: Script, running: Running, timeout: float, findings: list[Finding]) -> Any:
    try:
        return running.connect(timeout=timeout)
    except OSError as error:
        findings.append(Finding(script.number, script.line, "cannot connect", str(error)))
        return None


def _settle(running: Running, connections: int, timeout: float) -> None:
    """Let handlers come to their end: what they raise then belongs to their conversations."""
    if running.transcript is not None:
        try:
            running.transcript.wait_for(connections=connections, timeout=timeout)
            running.transcript.wait_idle(timeout=timeout)
        except DeadlineExceeded:
            pass  # the stop tells what still runs


def _transcript(running: Running, connection: int) -> str:
    if running.transcript is None:
        return ""
    events = [event for event in running.transcript.events if event.connection == connection]
    return Transcript.from_events(events).render() if events else ""
