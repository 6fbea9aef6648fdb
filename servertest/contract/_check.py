"""`check`: a subject, its exchanges, and every kind of server that fits."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from .._support import DeadlineExceeded, HandlerFailed, StillRunning, UsageError
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
from ._play import play
from ._report import Finding, Outcome, Report, Verdict

__all__ = ("check",)

_CONCURRENCY: tuple[Concurrency, ...] = ("sync", "threading", "forking", "pool", "prefork", "selector")


def check(
    subject: Any,
    exchanges: Sequence[Script] | Sequence[Exchange],
    *,
    kinds: Iterable[Kind | str] | None = None,
    timeout: float = 5.0,
    progress: Callable[[Outcome], object] | None = None,
) -> Report:
    """Hold the exchanges with the subject on every kind of server that fits it.

    Args:
        subject: A request handler, or anything else that `launch` takes.
        exchanges: Scripts, as `load_exchanges` reads them from a `.wire` file: each is held on a connection of its own, in
            their order. Or plain exchanges, which are held on one connection.
        kinds: On these kinds; by default on all predefined ones of the exchanges' transport. A subject that is a server
            itself is checked as it is.
        timeout: Seconds for each step of a conversation, and for stopping the server.
        progress: Called with each outcome as soon as it is there.

    Returns:
        The report. Violations are in it, not raised.

    Raises:
        UsageError: There is nothing to check, or the subject is nothing that can be served.
    """
    scripts = _scripts(exchanges)
    target = target_for(subject)
    outcomes = []
    for kind in _kinds(target, scripts, kinds):
        fitting = [script for script in scripts if kind is None or script.transport == kind.transport]
        outcome = _on_kind(subject, target, kind, fitting, timeout)
        outcomes.append(outcome)
        if progress is not None:
            progress(outcome)
    return Report(target.name, tuple(outcomes))


def _scripts(exchanges: Sequence[Script] | Sequence[Exchange]) -> list[Script]:
    if not exchanges:
        raise UsageError("there is nothing to check: give at least one exchange")
    scripts: list[Script] = []
    plain: list[Exchange] = []
    for exchange in exchanges:
        if isinstance(exchange, Script):
            scripts.append(exchange)
        elif isinstance(exchange, Exchange):
            plain.append(exchange)
        else:
            raise UsageError(
                f"{exchange!r} is no exchange: write Exchange(sent, expected), or load_exchanges(file)"
            )
    if plain:
        scripts.append(_script(len(scripts) + 1, plain))
    return scripts


def _script(number: int, exchanges: Iterable[Exchange]) -> Script:
    steps: list[Any] = []
    for exchange in exchanges:
        if exchange.sent:
            steps.append(Send(exchange.sent, line=exchange.line))
        if exchange.expected != b"":
            if not isinstance(exchange.expected, bytes | re.Pattern):
                raise UsageError(
                    "a function cannot say when an answer is complete: expect bytes or a pattern here"
                )
            steps.append(Expect(exchange.expected, line=exchange.line))
    return Script(number, "stream", tuple(steps))


def _kinds(target: Any, scripts: list[Script], wanted: Iterable[Kind | str] | None) -> list[Kind | None]:
    if not isinstance(target, HandlerTarget):
        return [None] if wanted is None else [Kind.parse(kind) for kind in wanted]
    if wanted is not None:
        return [Kind.parse(kind) for kind in wanted]
    transports = tuple(dict.fromkeys(script.transport for script in scripts))
    return list(all_kinds(transport=transports, concurrency=_CONCURRENCY))


def _on_kind(subject: Any, target: Any, kind: Kind | None, scripts: list[Script], timeout: float) -> Outcome:
    name = target.name if kind is None else str(kind)
    if not scripts and kind is not None:
        return Outcome(name, "skipped", reason=f"no exchange is for {kind.transport}s")
    began = monotonic()
    try:
        running = launch(subject, kind=kind, timeout=timeout)
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
            findings.append(Finding(0, 0, "the handler raised while the server was stopped", str(failure)))
        except StillRunning as still:
            findings.append(Finding(0, 0, "the server had to be forced to stop", str(still)))
    return findings


def _with_causes(
    seen: dict[int, Finding], errors: Iterable[HandlerError], held: list[Script], running: Running
) -> Iterator[Finding]:
    """What clients saw and what handlers raised; where both belong to one connection, the latter explains the former."""
    for error in errors:
        script = held[error.connection - 1] if 0 < error.connection <= len(held) else None
        symptom = seen.pop(error.connection, None)
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
