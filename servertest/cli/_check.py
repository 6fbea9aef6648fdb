"""`servertest check`: what breaks, and on which kind of server."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from typing import Any

from .._support import UsageError
from ._load import load_object
from ._status import BROKEN, FINE, FOUND
from ._table import print_table

__all__ = ("add_to",)


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "check",
        help="hold recorded exchanges with a handler on every kind of server",
        description="Hold every conversation of a .wire file with a request handler, on every kind of server that fits it.",
    )
    parser.add_argument(
        "target", metavar="MODULE:HANDLER", help="for example http.server:SimpleHTTPRequestHandler"
    )
    parser.add_argument(
        "--exchanges", required=True, metavar="FILE.wire", help="what clients say and what they expect"
    )
    parser.add_argument(
        "--kind", action="append", metavar="KIND", help="on this kind only; may be given several times"
    )
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="for each step (default: 5)"
    )
    parser.add_argument("--json", action="store_true", help="the report for programs")
    parser.add_argument("--output", action="store_true", help="what the handler printed, too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check. Exit status 1 if something was found, 3 if servertest itself broke."""
    from ..contract import check
    from ..transcript import load_exchanges

    handler = load_object(arguments.target)
    try:
        scripts = load_exchanges(arguments.exchanges)
    except OSError as error:
        raise UsageError(f"the exchanges cannot be read: {error}") from None
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        report = check(handler, scripts, kinds=arguments.kind, timeout=arguments.timeout)
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report, arguments.exchanges)
    if arguments.output and printed.getvalue():
        print(f"\nThe handler printed:\n{printed.getvalue()}", file=sys.stderr)
    return BROKEN if report.broken else FINE if report.ok else FOUND


def _print(report: Any, file: str) -> None:
    rows = [
        (
            outcome.kind,
            outcome.verdict,
            str(outcome.conversations),
            f"{outcome.seconds * 1000:.1f}",
            _note(outcome),
        )
        for outcome in report.outcomes
    ]
    print_table(("kind", "verdict", "conversations", "ms", "note"), rows)
    for number, (finding, kinds, conversations) in enumerate(report.grouped(), 1):
        print(f"\n{number}. {finding.what}")
        print(f"   on {', '.join(kinds)}")
        if conversations:
            print(f"   in {_numbers(conversations)} of {file}; the first is at line {finding.line}")
        if finding.symptom:
            print(f"   the client saw: {finding.symptom}")
        for text in (finding.details, finding.transcript):
            if text:
                print("\n".join(f"   | {line}" for line in text.splitlines()))
    for outcome in report.outcomes:
        if outcome.verdict == "broken":
            print(f"\nservertest itself broke on {outcome.kind}; please report it:\n{outcome.reason}")
    print(f"\n{_summary(report)}")


def _numbers(numbers: tuple[int, ...]) -> str:
    noun = "conversation" if len(numbers) == 1 else "conversations"
    return f"{noun} {', '.join(map(str, numbers))}"


def _note(outcome: Any) -> str:
    if outcome.verdict == "skipped":
        return str(outcome.reason)
    whats = dict.fromkeys(finding.what for finding in outcome.findings)
    return "; ".join(whats)


def _summary(report: Any) -> str:
    tried = [outcome for outcome in report.outcomes if outcome.verdict != "skipped"]
    if report.broken:
        return f"{report.subject}: servertest broke; nothing can be said."
    if not tried:
        return f"{report.subject}: no kind of server fits these exchanges."
    clean = sum(outcome.verdict == "ok" for outcome in tried)
    if clean == len(tried):
        return f"{report.subject}: as expected on all {clean} kinds of server."
    return (
        f"{report.subject}: {len(list(report.grouped()))} finding(s) about the handler; "
        f"as expected on {clean} of {len(tried)} kinds of server."
    )
