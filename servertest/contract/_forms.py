"""A report in the forms that other programs read: JUnit's XML, and a page of HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from ._report import Report, Result
    from ._violation import Violation

__all__ = ("to_html", "to_junit")


def to_junit(report: Report) -> str:
    """The report as JUnit's XML: a test case for each outcome and each result.

    What is not promised, not applicable, not simulated, excluded or skipped is skipped there, with the reason.
    """
    suite = ElementTree.Element("testsuite", name=f"servertest {report.subject}")
    counts = {"failures": 0, "errors": 0, "skipped": 0}
    for outcome in report.outcomes:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{report.subject}.exchanges",
            name=outcome.kind,
            time=f"{outcome.seconds:.6f}",
        )
        for finding in outcome.findings:
            _note(case, counts, "failures", finding.what, f"{finding.details}\n{finding.transcript}")
        if outcome.verdict in ("skipped", "broken"):
            _note(case, counts, "skipped" if outcome.verdict == "skipped" else "errors", outcome.reason)
    for result in report.results:
        name = f"{result.check}[{result.kind}]"
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{report.subject}.{result.family}",
            name=name,
            time=f"{result.seconds:.6f}",
        )
        for violation in result.violations:
            _note(case, counts, "failures", violation.explanation, _text(violation))
        if result.verdict == "broke":
            _note(case, counts, "errors", "servertest itself broke", result.reason)
        elif result.verdict not in ("passed", "violated"):
            _note(case, counts, "skipped", f"{result.verdict}: {result.reason}")
    suite.set("tests", str(len(suite)))
    for name, count in counts.items():
        suite.set(name, str(count))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


_TAGS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _note(case: ElementTree.Element, counts: dict[str, int], what: str, message: str, text: str = "") -> None:
    element = ElementTree.SubElement(case, _TAGS[what], message=_printable(message))
    element.text = _printable(text) or None
    counts[what] += 1


def _printable(text: str) -> str:
    """XML has no form for control characters."""
    return "".join(
        char
        if char in "\n\t" or (char >= " " and not "\ud800" <= char <= "\udfff" and char not in "\ufffe\uffff")
        else repr(char)[1:-1]
        for char in text
    )


def _text(violation: Violation) -> str:
    parts = [
        f"sent {violation.sent[:2000]!r}",
        f"came {violation.came[:2000]!r}",
        "" if violation.expected is None else f"expected {violation.expected[:2000]!r}",
        violation.details,
        violation.transcript,
        violation.reproduction,
    ]
    return "\n".join(part for part in parts if part)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .25em .8em .25em 0; border-bottom: 1px solid #ddd; vertical-align: top; }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto; } details { margin: .8em 0; } summary { cursor: pointer; font-weight: 600; }
.like { margin-left: 1.5em; } .like > summary { font-weight: 400; color: #777; }
.passed, .ok { color: #176f2c; } .violated, .found { color: #b3261e; font-weight: 600; } .broke, .broken { color: #8e24aa; font-weight: 600; } .dim { color: #777; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } pre { background: #262626; } td, th { border-color: #333; } }
"""


def to_html(report: Report) -> str:
    """The report as one page that needs nothing else."""
    escape = html.escape
    found = "".join(_cause_html(*alike) for alike in report.distinct())
    plain = "".join(
        f"<tr><td>{escape(outcome.kind)}</td><td class='{outcome.verdict}'>{outcome.verdict}</td><td>{escape('; '.join(one.what for one in outcome.findings) or outcome.reason)}</td></tr>"
        for outcome in report.outcomes
    )
    checks = "".join(map(_result_html, report.results))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(report.subject)}: contract</title><style>{_STYLE}</style>"
        f"<h1>{escape(report.subject)}</h1><p>{len(report.violations)} violation(s), seed {report.seed}</p>{found}"
        f"<h2>The exchanges as they are</h2><table><tr><th>kind</th><th>verdict</th><th></th></tr>{plain}</table>"
        f"<h2>Checks</h2><table><tr><th>check</th><th>on</th><th>verdict</th><th></th></tr>{checks}</table></html>\n"
    )


def _result_html(result: Result) -> str:
    escape = html.escape
    dim = "" if result.verdict in ("passed", "violated", "broke") else " class='dim'"
    note = "; ".join(violation.explanation for violation in result.violations) or result.reason
    return (
        f"<tr{dim}><td>{escape(result.check)}</td><td>{escape(result.kind)}</td>"
        f"<td class='{result.verdict.split()[0]}'>{result.verdict}</td><td>{escape(note)}</td></tr>"
    )


def _cause_html(best: Violation, alike: tuple[Violation, ...]) -> str:
    """The shortest example; below it the others of the same cause, to be opened one by one."""
    rest = "".join(_violation_html(one) for one in alike if one is not best)
    if not rest:
        return _violation_html(best)
    return f"{_violation_html(best)}<details class='like'><summary>{len(alike) - 1} more of the same cause</summary>{rest}</details>"


def _violation_html(violation: Violation) -> str:
    escape = html.escape
    return (
        f"<details><summary>{escape(str(violation))}</summary><pre>{escape(_text(violation))}</pre></details>"
    )
