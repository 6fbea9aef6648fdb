"""Results as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..clients.behaviours import HOWS

if TYPE_CHECKING:
    from ..clients.behaviours import How
    from ._probe import Probed
    from ._result import Result

__all__ = ("as_text", "behaviour_rows", "milliseconds", "probe_rows", "summary_rows", "time_rows")

_TIMES = {
    "connect": "until connected",
    "first_byte": "until the first byte",
    "held": "connected",
    "cut_off": "until cut off by the server",
    "late": "behind the timetable",
}


def milliseconds(seconds: float) -> str:
    """A time for people."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def summary_rows(result: Result) -> list[tuple[str, str]]:
    """What there is to count."""
    rows = [
        ("clients", f"{result.clients:,}"),
        ("connections", f"{result.connections:,}"),
        ("connected", f"{result.connected:,}"),
    ]
    rows += [(_words(how), f"{result.count(how):,}") for how in HOWS[2:]]
    if result.never_began:
        rows.append(("did not begin", f"{result.never_began:,}"))
    rows += [
        ("sent", f"{result.sent:,} B"),
        ("received", f"{result.received:,} B"),
        ("time", f"{result.seconds:.2f} s"),
        ("seed", str(result.profile.seed)),
    ]
    return rows


def _words(how: How) -> str:
    special = {"closed": "cut off with FIN", "reset": "cut off with RST", "held": "held to the end"}
    return special.get(how, how.replace("_", " "))


def behaviour_rows(result: Result) -> list[tuple[str, ...]]:
    """How the connections of each behaviour ended; the first row is the heading."""
    hows = [how for how in HOWS[2:] if result.count(how)]
    rows: list[tuple[str, ...]] = [("behaviour", *map(_words, hows))]
    for part, counts in zip(result.profile.parts, result.counts, strict=True):
        rows.append((part.behaviour.name, *(f"{counts.get(how, 0):,}" for how in hows)))
    return rows


def time_rows(result: Result) -> list[tuple[str, ...]]:
    """Percentiles of the times; the first row is the heading."""
    rows: list[tuple[str, ...]] = [("seconds", "50 %", "90 %", "99 %", "most")]
    for what, title in _TIMES.items():
        if found := result.percentiles(what):
            rows.append((title, *(milliseconds(value) for value in found.values())))
    return rows


def probe_rows(result: Result) -> list[tuple[str, ...]]:
    """What became of the probes, before, during and after; the first row is the heading."""
    rows: list[tuple[str, ...]] = [("probes", "served", "median", "most", "first error")]
    for name, probes in _phases(result):
        if probes:
            served = sorted(probe.latency for probe in probes if probe.served)
            errors = [probe.error for probe in probes if probe.error]
            rows.append(
                (
                    name,
                    f"{len(served)} of {len(probes)}",
                    milliseconds(served[len(served) // 2]) if served else "-",
                    milliseconds(served[-1]) if served else "-",
                    errors[0] if errors else "",
                )
            )
    return rows


def _phases(result: Result) -> Iterator[tuple[str, list[Probed]]]:
    yield "before", [probe for probe in result.probes if probe.at < 0]
    yield "during", [probe for probe in result.probes if 0 <= probe.at <= result.seconds]
    yield "after", [probe for probe in result.probes if probe.at > result.seconds]


def as_text(result: Result) -> str:
    """All of it, for people."""
    title = result.profile.name or "swarm"
    parts = [f"{title} against {result.address}: {result.sentence}", _columns(summary_rows(result))]
    if len(result.profile.parts) > 1:
        parts.append(_columns(behaviour_rows(result)))
    parts.append(_columns(time_rows(result)))
    if result.probes:
        parts.append(_columns(probe_rows(result)))
    parts += [f"{count} x {error}" for error, count in result.errors.items()]
    parts += [f"note: {note}" for note in result.notes]
    if result.stopped:
        parts.append("note: it was stopped before its time")
    return "\n\n".join(parts)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        rest = (cell.strip().rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join((first, *rest)).rstrip())
    return "\n".join(lines)
