"""A report as a page of HTML that needs nothing else: no script, no font, no other file."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from .._support import preview

if TYPE_CHECKING:
    from ._report import Finding, Report, Row
    from ._violation import Violation

__all__ = ("to_html",)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff; }
table { border-collapse: collapse; width: 100%; margin: .5em 0; }
td, th { text-align: left; padding: .25em .8em .25em 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td:nth-child(2), td:nth-child(3) { white-space: nowrap; }
.bytes td { border: 0; white-space: normal; overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: 13px; }
.bytes td:first-child { font-family: system-ui, sans-serif; width: 6em; color: #777; }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto; font-size: 13px; line-height: 1.4; margin: .3em 0 .8em; }
details { margin: .8em 0; } summary { cursor: pointer; font-weight: 600; }
details > *:not(summary) { margin-left: 1.2em; } .like > summary, .what { font-weight: 400; color: #777; }
.passed, .ok { color: #176f2c; } .violated, .found { color: #b3261e; font-weight: 600; } .broke, .broken { color: #8e24aa; font-weight: 600; } .dim { color: #777; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } pre { background: #262626; } td, th { border-color: #333; } }
"""


def to_html(report: Report) -> str:
    """The page."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>{escape(report.subject)}: contract</title><style>{_STYLE}</style>",
        f"<h1>{escape(report.subject)}</h1><p>{escape(_summary(report))}</p>",
        *(_finding(*group) for group in report.grouped()),
        *(_cause(*alike) for alike in report.distinct()),
        "<h2>The exchanges as they are</h2>",
        _outcomes(report),
    ]
    if report.results:
        rows = "".join(map(_row, report.rows()))
        parts.append(
            f"<h2>Checks</h2><table><tr><th>check</th><th>verdict</th><th>on</th><th></th></tr>{rows}</table>"
        )
    return "".join(parts) + "</html>\n"


def _summary(report: Report) -> str:
    kinds: Counter[str] = Counter(outcome.verdict for outcome in report.outcomes)
    checks: Counter[str] = Counter(result.verdict for result in report.results)
    parts = [f"The exchanges: {_counted(kinds)}."]
    if checks:
        parts.append(f"Checks: {_counted(checks)}.")
    parts.append(f"Seed {report.seed}.")
    if report.interrupted:
        parts.append("Stopped before all was done.")
    return " ".join(parts)


def _counted(verdicts: Counter[str]) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()) or "none was tried"


def _outcomes(report: Report) -> str:
    rows = []
    for outcome in report.outcomes:
        notes = dict.fromkeys(one.what for one in outcome.findings) or {outcome.reason: None}
        rows.append(
            f"<tr><td>{escape(outcome.kind)}</td><td class='{outcome.verdict}'>{outcome.verdict}</td>"
            f"<td style='white-space: normal'>{escape('; '.join(notes))}</td></tr>"
        )
    return f"<table><tr><th>kind</th><th>verdict</th><th></th></tr>{''.join(rows)}</table>"


def _row(row: Row) -> str:
    dim = "" if row.verdict in ("passed", "violated", "broke") else " class='dim'"
    where = row.kinds[0] if len(row.kinds) == 1 else f"{len(row.kinds)} kinds"
    return (
        f"<tr{dim}><td>{escape(row.check)}</td><td class='{row.verdict.split()[0]}'>{row.verdict}</td>"
        f"<td title='{escape(', '.join(row.kinds))}'>{escape(where)}</td><td>{escape(row.note)}</td></tr>"
    )


def _finding(finding: Finding, kinds: tuple[str, ...], conversations: tuple[int, ...]) -> str:
    where = f"on {', '.join(kinds)}"
    if conversations:
        where += f", in conversation {', '.join(map(str, conversations))}"
    seen = f"; the client saw: {finding.symptom}" if finding.symptom else ""
    return (
        f"<details><summary>The exchanges: {escape(finding.what)}</summary><p class='what'>{escape(where + seen)}</p>"
        f"{_quoted('', finding.details)}{_quoted('What passed', finding.transcript)}</details>"
    )


def _cause(best: Violation, alike: tuple[Violation, ...]) -> str:
    """The shortest example; below it the others of the same cause, to be opened one by one."""
    rest = "".join(_violation(one) for one in alike if one is not best)
    if not rest:
        return _violation(best)
    return _violation(
        best,
        f"<details class='like'><summary>{len(alike) - 1} more of the same cause</summary>{rest}</details>",
    )


def _violation(violation: Violation, more: str = "") -> str:
    rows = [("sent", violation.sent), ("came", violation.came), ("expected", violation.expected)]
    said = "".join(
        f"<tr><td>{name}</td><td>{escape(preview(value, 2000))}</td></tr>"
        for name, value in rows
        if value is not None
    )
    return (
        f"<details><summary>{escape(str(violation))}</summary><table class='bytes'>{said}</table>"
        f"{_quoted('', violation.details)}{_quoted('What passed', violation.transcript)}"
        f"{_quoted('To see it, in a test module', violation.reproduction)}{more}</details>"
    )


def _quoted(title: str, text: str) -> str:
    if not text:
        return ""
    head = f"<div class='what'>{title}</div>" if title else ""
    return f"{head}<pre>{escape(text)}</pre>"
