"""The exchanges as they are, with a server of one kind."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from .._support import DeadlineExceeded, HandlerFailed, StillRunning, UsageError
from ..launch import HandlerError, Kind, Running, Unavailable, launch
from ..transcript import Script, Transcript
from ._play import play
from ._rehearsal import is_mild
from ._report import Finding, Outcome, Verdict

__all__ = ("check_plainly",)


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
