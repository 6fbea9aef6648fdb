"""What a check has found: every violation, none hiding another."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ._violation import Violation

__all__ = ("CheckVerdict", "Finding", "Outcome", "Report", "Result", "Row", "Verdict")

Verdict: TypeAlias = Literal["ok", "found", "skipped", "broken"]
"""ok: as promised. found: the subject does something else. skipped: not tried, with the reason. broken: servertest itself failed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        conversation: The number of the conversation in which it showed; 0 if it belongs to none.
        line: The line of the file where that conversation, or the step in it, stands; 0 if there is no file.
        what: One line.
        details: The rest: difference, traceback.
        symptom: Where the handler raised: what the client saw of it.
        transcript: What passed in that conversation, rendered.
    """

    conversation: int
    line: int
    what: str
    details: str = ""
    symptom: str = ""
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the subject did on one kind of server.

    Attributes:
        kind: The kind, by its name.
        verdict: The worst that was seen.
        conversations: How many were held.
        findings: All that was found.
        reason: Why it was skipped, or how servertest broke.
        seconds: How long it took.
    """

    kind: str
    verdict: Verdict
    conversations: int = 0
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    seconds: float = 0.0


CheckVerdict: TypeAlias = Literal[
    "passed", "violated", "not promised", "not applicable", "not simulated", "excluded", "skipped", "broke"
]
"""passed, violated: the check was done. not promised: it needs a promise that is not made. not applicable: the exchanges hold
nothing that it could work with. not simulated: it needs what a simulation has not. excluded: somebody did not want it. skipped: something came before it. broke: servertest itself failed."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check on one kind of server.

    Attributes:
        check: The check.
        family: What it is about.
        kind: The kind; "in memory" where no server was needed.
        verdict: How it ended.
        violations: All that was found.
        reason: Why it was not done, or how servertest broke.
        seconds: How long it took.
    """

    check: str
    family: str
    kind: str
    verdict: CheckVerdict
    violations: tuple[Violation, ...] = ()
    reason: str = ""
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "check": self.check,
            "family": self.family,
            "kind": self.kind,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 6),
            "reason": self.reason,
            "violations": [violation.to_dict() for violation in self.violations],
        }


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one check, on all the kinds where it was the same.

    Attributes:
        check: The check.
        verdict: How it ended.
        kinds: On which kinds.
        seconds: How long it took, all together.
        note: What was found, or why it was not done.
    """

    check: str
    verdict: CheckVerdict
    kinds: tuple[str, ...]
    seconds: float
    note: str


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What came of holding the exchanges, kind by kind, and of the checks.

    Its text, `str(report)`, is a line for everything that was found, and the summary.

    Attributes:
        subject: What was checked, by its name.
        outcomes: How the exchanges as they are were held: one for each kind.
        results: What came of the checks.
        seed: What repeats them.
        interrupted: Whether somebody stopped it (Ctrl-C) before all was done; what was not done is skipped.
    """

    subject: str
    outcomes: tuple[Outcome, ...] = field(default=())
    results: tuple[Result, ...] = field(default=())
    seed: int = 0
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing was found and nothing broke, something was tried, and nobody stopped it."""
        if self.interrupted:
            return False
        verdicts = {outcome.verdict for outcome in self.outcomes} | {
            result.verdict for result in self.results
        }
        return bool(verdicts & {"ok", "passed"}) and not verdicts & {"found", "broken", "violated", "broke"}

    @property
    def stopped(self) -> bool:
        """Whether the exchanges as they are do not go as expected, without any server, so that no check was done."""
        return bool(self.findings and self.results) and all(
            result.verdict == "skipped" and result.kind == "in memory" for result in self.results
        )

    @property
    def broken(self) -> bool:
        """Whether servertest itself failed somewhere."""
        return any(outcome.verdict == "broken" for outcome in self.outcomes) or any(
            result.verdict == "broke" for result in self.results
        )

    @property
    def violations(self) -> tuple[Violation, ...]:
        """All that the checks have found."""
        return tuple(violation for result in self.results for violation in result.violations)

    def violated(self) -> tuple[str, ...]:
        """The checks that have found something."""
        return tuple(dict.fromkeys(result.check for result in self.results if result.verdict == "violated"))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings on all kinds."""
        return tuple(finding for outcome in self.outcomes for finding in outcome.findings)

    def grouped(self) -> Iterator[tuple[Finding, tuple[str, ...], tuple[int, ...]]]:
        """The findings, each with all the kinds and the conversations in which it showed.

        Two are one if they say the same: an exception from the same place, or the same difference in the same step.
        """
        groups: dict[tuple[object, ...], list[tuple[str, Finding]]] = {}
        for outcome in self.outcomes:
            for finding in outcome.findings:
                groups.setdefault(_identity(finding), []).append((outcome.kind, finding))
        for found in groups.values():
            kinds = dict.fromkeys(kind for kind, _ in found)
            conversations = dict.fromkeys(
                finding.conversation for _, finding in found if finding.conversation
            )
            yield found[0][1], tuple(kinds), tuple(conversations)

    def distinct(self) -> Iterator[tuple[Violation, tuple[Violation, ...]]]:
        """The violations, those of one cause together: the shortest example first, and then all of them.

        They have one cause if the same exception leaves the subject at the same place, or if one check says the same of them.
        """
        groups: dict[tuple[str, ...], list[Violation]] = {}
        for violation in self.violations:
            groups.setdefault(_cause(violation), []).append(violation)
        for alike in groups.values():
            yield min(alike, key=lambda one: (not one.reproduction, len(one.sent))), tuple(alike)

    def rows(self) -> Iterator[Row]:
        """The results as a table shows them: a check that ended the same way on several kinds has one row for all of them."""
        groups: dict[tuple[str, CheckVerdict, str], list[Result]] = {}
        for result in self.results:
            note = "; ".join(dict.fromkeys(violation.explanation for violation in result.violations)) or (
                "" if result.verdict == "broke" else result.reason
            )
            groups.setdefault((result.check, result.verdict, note), []).append(result)
        for (check, verdict, note), results in groups.items():
            seconds = sum(result.seconds for result in results)
            yield Row(check, verdict, tuple(result.kind for result in results), seconds, note)

    def summary(self) -> str:
        """What came of it all, in a line for each of the exchanges as they are, the checks, and the end if somebody stopped it."""
        return "\n".join(_summary(self))

    def __str__(self) -> str:
        found = [f"{one.what} (on {', '.join(kinds)})" for one, kinds, _ in self.grouped()]
        return "\n".join([*found, *(str(best) for best, _ in self.distinct()), self.summary()])

    def __repr__(self) -> str:
        return f"<Report: {' '.join(_summary(self))}>"

    def to_junit(self) -> str:
        """The report as JUnit's XML."""
        from ._forms import to_junit

        return to_junit(self)

    def to_html(self) -> str:
        """The report as a page."""
        from ._page import to_html

        return to_html(self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {
            "subject": self.subject,
            "ok": self.ok,
            "seed": self.seed,
            "interrupted": self.interrupted,
            "results": [result.to_dict() for result in self.results],
            "outcomes": [
                {
                    "kind": outcome.kind,
                    "verdict": outcome.verdict,
                    "conversations": outcome.conversations,
                    "seconds": round(outcome.seconds, 6),
                    "reason": outcome.reason,
                    "findings": [
                        {
                            "conversation": finding.conversation,
                            "line": finding.line,
                            "what": finding.what,
                            "details": finding.details,
                            "symptom": finding.symptom,
                            "transcript": finding.transcript,
                        }
                        for finding in outcome.findings
                    ],
                }
                for outcome in self.outcomes
            ],
        }


def _summary(report: Report) -> Iterator[str]:
    tried = [outcome for outcome in report.outcomes if outcome.verdict != "skipped"]
    if report.broken:
        yield f"{report.subject}: servertest broke; nothing can be said."
        return
    if not tried:
        why = (
            "stopped before anything was tried"
            if report.interrupted
            else "no kind of server fits these exchanges"
        )
        yield f"{report.subject}: {why}."
        return
    if report.stopped:
        count = len(report.results)
        yield f"{report.subject}: the exchanges do not go as expected. That comes first: none of the {count} checks was done."
        return
    clean = sum(outcome.verdict == "ok" for outcome in tried)
    if clean == len(tried):
        where = f"all {clean} kinds" if clean > 1 else "the one kind"
        yield f"{report.subject}: as expected on {where} of server."
    else:
        yield (
            f"{report.subject}: {len(list(report.grouped()))} finding(s) about the handler; "
            f"as expected on {clean} of {len(tried)} kinds of server."
        )
    if report.results:
        counts = Counter(result.verdict for result in report.results)
        words = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        yield f"Checks: {words}. Seed {report.seed}."
    if report.interrupted:
        yield "Stopped before all was done."


_RAISED = re.compile(r"the handler raises .*")


def _cause(violation: Violation) -> tuple[str, ...]:
    raised = _RAISED.search(violation.explanation)
    if raised is None or not violation.place:
        return (violation.check, violation.explanation)
    return (raised[0], violation.place)


def _identity(finding: Finding) -> tuple[object, ...]:
    if finding.symptom or finding.details.startswith("Traceback"):
        return (finding.what, finding.details.rpartition("  File ")[2])
    return (finding.conversation, finding.line, finding.what)
