"""A report in the form that other programs read: JUnit's XML."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from .._support import preview

if TYPE_CHECKING:
    from ._report import Report
    from ._violation import Violation

__all__ = ("to_junit",)


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
        f"sent {preview(violation.sent, 2000)}",
        f"came {preview(violation.came, 2000)}",
        "" if violation.expected is None else f"expected {preview(violation.expected, 2000)}",
        violation.details,
        violation.transcript,
        violation.reproduction,
    ]
    return "\n".join(part for part in parts if part)
