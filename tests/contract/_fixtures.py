"""Holding the handlers of `fixtures` to their contracts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from fixtures import Fixture, good_ones
from servertest.contract import Profile, Report, check
from servertest.launch import HandlerTarget, Kind, kinds

__all__ = ("contract_of", "described", "every_kind", "one_kind", "two_kinds")


def contract_of(
    fixture: Fixture,
    wanted: Iterable[Kind | str],
    *,
    checks: Collection[str] | None = None,
    seed: int = 0,
    profile: Profile = "quick",
    timeout: float = 5.0,
) -> Report:
    """The report on a fixture."""
    return check(
        HandlerTarget(fixture.handler, dict(fixture.server)),
        list(fixture.exchanges),
        kinds=list(wanted),
        promises=dict(fixture.promises),
        checks=checks,
        seed=seed,
        profile=profile,
        timeout=timeout,
    )


def one_kind(fixture: Fixture) -> list[Kind]:
    """The kind on which its bug shows; TLS and processes are the checks' own affair."""
    kind = Kind.parse(fixture.proved_on.partition("+")[0]) if fixture.check else _threading(fixture)
    special = kind.forks or kind.transport == "datagram" or kind.concurrency == "pool"
    return [kind] if special else [_threading(fixture)]


def _threading(fixture: Fixture) -> Kind:
    return Kind(transport=fixture.transport)


def every_kind(fixture: Fixture) -> list[Kind]:
    """Every kind that the fixture promises to run on."""
    families = [
        family for family, wanted in (("inet", True), ("unix", fixture.promises.get("unix"))) if wanted
    ]
    found: list[Any] = kinds(transport=fixture.transport, family=families)  # type: ignore[arg-type]
    return [kind for kind in found if not kind.forks or fixture.promises.get("forking")]


def two_kinds(fixture: Fixture) -> list[Kind]:
    """The threading kind, and one of the others that it promises to run on: another for each fixture, so that all have their turn."""
    first = _threading(fixture)
    others = [kind for kind in every_kind(fixture) if kind != first]
    place = [one.name for one in good_ones()].index(fixture.name)
    return [first, others[place % len(others)]]


def described(report: Report) -> str:
    """What was found, for the message of a failed test."""
    lines = [
        f"{outcome.kind}: {outcome.verdict} {outcome.reason} {[one.what for one in outcome.findings]}"
        for outcome in report.outcomes
        if outcome.verdict != "ok"
    ]
    for result in report.results:
        if result.verdict == "broke":
            lines.append(f"{result.check} broke on {result.kind}:\n{result.reason}")
        for violation in result.violations:
            lines += [
                str(violation),
                f"  sent {violation.sent[:200]!r}",
                f"  came {violation.came[:200]!r}",
                f"  expected {violation.expected!r:.200}",
            ]
            lines += [violation.details, violation.transcript, violation.reproduction]
    return "\n".join(lines)
