"""`servertest check`: what breaks, and on which kind of server."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._support import UsageError, preview
from ._load import load_object
from ._status import BROKEN, FINE, FOUND, INTERRUPTED
from ._table import print_table

__all__ = ("add_to",)


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "check",
        help="hold recorded exchanges with a handler on every kind of server, and the handler to its contract",
        description="Hold every conversation of a .wire file with a request handler, on every kind of server that fits it, and then the "
        "handler to its contract: in all the ways in which networks, clients and time make it hard.",
    )
    parser.add_argument(
        "target", nargs="?", metavar="MODULE:HANDLER", help="for example http.server:SimpleHTTPRequestHandler"
    )
    parser.add_argument("--exchanges", metavar="FILE.wire", help="what clients say and what they expect")
    parser.add_argument(
        "--kind", action="append", metavar="KIND", help="on this kind only; may be given several times"
    )
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="for each step (default: 5)"
    )
    parser.add_argument(
        "--promise",
        action="append",
        metavar="NAME[=VALUE]",
        help="what the handler promises: idle_timeout=0.5, half_close, pipelining=no; may be given several times",
    )
    parser.add_argument(
        "--checks",
        action="append",
        metavar="NAME",
        help="this check or this family of checks only (default: all); may be given several times",
    )
    parser.add_argument("--plain", action="store_true", help="the exchanges as they are, and no checks")
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NAME=REASON",
        help="not this check; may be given several times",
    )
    parser.add_argument(
        "--profile",
        choices=("quick", "full"),
        help="quick: samples (the default). full: everything, and a search",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="what repeats random choices (default: 0)"
    )
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="all of it in simulations: virtual time, a simulated network. What cannot be simulated is said to be so",
    )
    parser.add_argument("--list", action="store_true", help="list the checks and what they need")
    parser.add_argument("--json", action="store_true", help="the report for programs")
    parser.add_argument("--junit", metavar="FILE", help="write the report as JUnit's XML")
    parser.add_argument("--html", metavar="FILE", help="write the report as a page")
    parser.add_argument("--output", action="store_true", help="what the handler printed, too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check. Exit status 1 if something was found, 3 if servertest itself broke."""
    if arguments.list:
        return _list()
    report, printed = _checked(arguments)
    for file, form in (
        ((arguments.junit, report.to_junit), (arguments.html, report.to_html)) if report is not None else ()
    ):
        if file:
            _write(file, form())
    if arguments.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report, arguments.exchanges)
    if arguments.output and printed:
        print(f"\nThe handler printed:\n{printed}", file=sys.stderr)
    if report.interrupted:
        return INTERRUPTED
    return BROKEN if report.broken else FINE if report.ok else FOUND


def _checked(arguments: argparse.Namespace) -> tuple[Any, str]:
    from .. import contract
    from ..transcript import load_exchanges

    if arguments.target is None or arguments.exchanges is None:
        raise UsageError(
            "say what to check, and what clients say: servertest check MODULE:HANDLER --exchanges FILE.wire"
        )
    handler = load_object(arguments.target)
    try:
        scripts = load_exchanges(arguments.exchanges)
    except OSError as error:
        raise UsageError(f"the exchanges cannot be read: {error}") from None
    options = _contract_options(arguments)
    printed = io.StringIO()
    with _progress() as (options["on_begin"], options["on_result"]), contextlib.redirect_stderr(printed):
        report = contract.check(handler, scripts, kinds=arguments.kind, timeout=arguments.timeout, **options)
    return report, printed.getvalue()


def _contract_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `check` is told of the contract."""
    from ..contract import Promises

    if arguments.plain and (said := [name for name in _OF_CHECKS if getattr(arguments, name)]):
        raise UsageError(f"--plain does no checks, so --{said[0]} says nothing: leave one of them out")

    exclude = {}
    for word in arguments.exclude:
        name, equals, reason = word.partition("=")
        if not equals or not reason.strip():
            raise UsageError(f"--exclude {word}: say why, as in --exclude {name}='the protocol wants it so'")
        exclude[name] = reason
    checks = () if arguments.plain else arguments.checks
    ground = None
    if arguments.simulate:
        from ..sim import Simulated

        ground = Simulated(arguments.seed)
    return {
        "ground": ground,
        "promises": Promises.parse(arguments.promise or []),
        "checks": None if checks and "all" in checks else checks,
        "exclude": exclude,
        "profile": arguments.profile or "quick",
        "seed": arguments.seed,
    }


_OF_CHECKS = ("promise", "checks", "exclude", "profile")


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int], object], Callable[[Any], object]]]:
    """Show how many of the checks are done, with rich where it is installed and somebody looks.

    Yields:
        What is to be told how many there are, and what each result.
    """
    progress: Any = None
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from rich.console import Console
            from rich.progress import Progress

            progress = Progress(console=Console(file=sys.stderr), transient=True)
    if progress is None:
        yield lambda total: None, lambda result: None
        return
    with progress:
        task = progress.add_task("checks", total=None)
        yield (
            lambda total: progress.update(task, total=total),
            lambda result: progress.update(
                task, advance=1, description=f"{result.check} on {result.kind}: {result.verdict}"
            ),
        )


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the report cannot be written: {error}") from None


def _list() -> int:
    from ..contract import all_checks

    rows = [
        (info.name, info.family, info.transport, ", ".join(info.needs) or "-", info.summary)
        for info in all_checks()
    ]
    print_table(("check", "family", "transport", "needs", "what it does"), rows)
    return FINE


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
            _print_quoted(text)
    for outcome in report.outcomes:
        if outcome.verdict == "broken":
            print(f"\nservertest itself broke on {outcome.kind}; please report it:\n{outcome.reason}")
    if report.results and not report.stopped:
        _print_checks(report)
    print(f"\n{report.summary()}")


def _print_checks(report: Any) -> None:
    """The checks, each with what came of it on all kinds; and then what was found."""
    print()
    print_table(("check", "verdict", "on", "ms", "note"), list(_check_rows(report)))
    for number, (violation, alike) in enumerate(report.distinct(), 1):
        print(f"\n{number}. {violation}")
        _print_alike(violation, alike)
        print(f"   sent     {preview(violation.sent, 300)}")
        print(f"   came     {preview(violation.came, 300)}")
        if violation.expected is not None:
            print(f"   expected {preview(violation.expected, 300)}")
        for text in (violation.details, violation.transcript):
            _print_quoted(text)
        if violation.reproduction:
            print("   to see it:")
            print("\n".join(f"       {line}" for line in violation.reproduction.splitlines()))
    for result in report.results:
        if result.verdict == "broke":
            print(
                f"\nservertest itself broke in {result.check} on {result.kind}; please report it:\n{result.reason}"
            )


def _print_alike(violation: Any, alike: tuple[Any, ...]) -> None:
    """Where else the same was seen; all of it is in the report's other forms."""
    others = dict.fromkeys(f"{one.check} ({one.kind})" for one in alike)
    others.pop(f"{violation.check} ({violation.kind})", None)
    if len(alike) > 1:
        print(f"   the shortest of {len(alike)} examples from as many conversations and checks")
    if others:
        print(f"   seen as well by {', '.join(others)}")


def _check_rows(report: Any) -> Iterator[tuple[str, str, str, str, str]]:
    for row in report.rows():
        where = row.kinds[0] if len(row.kinds) == 1 else f"{len(row.kinds)} kinds"
        yield row.check, row.verdict, where, f"{row.seconds * 1000:.0f}", row.note


def _print_quoted(text: str) -> None:
    if text:
        print("\n".join(f"   | {line}" for line in text.splitlines()))


def _numbers(numbers: tuple[int, ...]) -> str:
    noun = "conversation" if len(numbers) == 1 else "conversations"
    return f"{noun} {', '.join(map(str, numbers))}"


def _note(outcome: Any) -> str:
    if outcome.verdict == "skipped":
        return str(outcome.reason)
    whats = dict.fromkeys(finding.what for finding in outcome.findings)
    return "; ".join(whats)
