"""What a check has found: every violation, none hiding another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ("Finding", "Outcome", "Report", "Verdict")

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


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes of a check, in the order of the kinds.

    Attributes:
        subject: What was checked, by its name.
        outcomes: One for each kind.
    """

    subject: str
    outcomes: tuple[Outcome, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing was found and nothing broke, and at least one kind was tried."""
        verdicts = {outcome.verdict for outcome in self.outcomes}
        return "ok" in verdicts and not verdicts & {"found", "broken"}

    @property
    def broken(self) -> bool:
        """Whether servertest itself failed somewhere."""
        return any(outcome.verdict == "broken" for outcome in self.outcomes)

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

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {
            "subject": self.subject,
            "ok": self.ok,
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


def _identity(finding: Finding) -> tuple[object, ...]:
    if finding.symptom or finding.details.startswith("Traceback"):
        return (finding.what, finding.details.rpartition("  File ")[2])
    return (finding.conversation, finding.line, finding.what)
