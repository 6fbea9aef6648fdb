"""A picture of a swarm: clients over time by state, and below it how long the probes took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import ceil, floor, log10
from typing import TYPE_CHECKING

from ._ledger import STATES
from ._table import behaviour_rows, probe_rows, summary_rows, time_rows

if TYPE_CHECKING:
    from ._probe import Probed
    from ._result import Result

__all__ = ("as_html", "as_svg")

_WIDTH, _LEFT, _RIGHT = 900, 64, 16
_TOP, _UPPER, _GAP, _LOWER, _FOOT = 76, 240, 44, 110, 40
_HEADROOM = 1.1
"""The slowest probe does not touch the words above."""

_COLOURS = {
    "connecting": "#e0a93b",
    "connected": "#3f7fd1",
    "finished": "#57a26a",
    "cut off": "#cf5a3d",
    "turned away": "#7d55a0",
}
_STYLE = """
.chart { font: 12px system-ui, sans-serif; }
.chart .paper { fill: #fff; } .chart text { fill: #333; } .chart .axis { stroke: #999; } .chart .grid { stroke: #e6e6e6; }
.chart .title { font-size: 15px; font-weight: 600; } .chart .served { fill: #2f6db8; } .chart .unserved { stroke: #c0341d; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
 .chart .paper { fill: #1c1e21; } .chart text { fill: #ddd; } .chart .axis { stroke: #777; } .chart .grid { stroke: #33363a; }
 .chart .served { fill: #6fa8ec; } .chart .unserved { stroke: #ff7a63; }
}
"""
_PAGE = """
body { font: 14px system-ui, sans-serif; margin: 2em auto; max-width: 940px; padding: 0 1em; background: #fff; color: #222; }
svg { width: 100%; height: auto; } table { border-collapse: collapse; margin: 1em 0; } td, th { padding: .15em .8em; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr { border-bottom: 1px solid #8884; } .note { color: #a33; }
@media (prefers-color-scheme: dark) { body { background: #1c1e21; color: #ddd; } .note { color: #f98; } }
"""


class _Scale:
    """Seconds to the right, from the first probe to the end."""

    def __init__(self, result: Result) -> None:
        ends = [probe.at + probe.latency for probe in result.probes]
        self.first = min([0.0, *(probe.at for probe in result.probes)])
        self.last = max([result.seconds, 0.001, *ends])

    def __call__(self, at: float) -> float:
        share = (at - self.first) / (self.last - self.first)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def as_svg(result: Result) -> str:
    """The chart as a picture."""
    x = _Scale(result)
    height = _TOP + _UPPER + _FOOT + (_GAP + _LOWER if result.probes else 0)
    name = result.profile.name or "swarm"
    title = f"{name}: {result.clients:,} clients of {result.address}"
    about = escape(f"{title}: {result.sentence}")
    parts = [
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{about}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>',
        *_legend(result),
        *_states(result, x),
    ]
    bottom = _TOP + _UPPER
    if result.probes:
        parts += _probes(result.probes, x, bottom + _GAP)
        bottom += _GAP + _LOWER
    parts += _seconds(x, bottom)
    return "\n".join([*parts, "</svg>\n"])


def _states(result: Result, x: _Scale) -> Iterator[str]:
    """Areas upon each other, one for each state."""
    moments = result.timeline()
    most = max(sum(moment.states) for moment in moments) or 1
    yield from _marks(most, _TOP, _UPPER, lambda value: f"{value:,g}")
    below = [0] * len(moments)
    for place, state in enumerate(STATES):
        above = [low + moment.states[place] for low, moment in zip(below, moments, strict=True)]
        if above != below:
            there = [f"{x(m.at):.1f},{_y(v, most)}" for m, v in zip(moments, above, strict=True)]
            back = [f"{x(m.at):.1f},{_y(v, most)}" for m, v in zip(moments, below, strict=True)]
            points = " ".join([*there, *reversed(back)])
            yield f'<polygon fill="{_COLOURS[state]}" points="{points}"/>'
        below = above
    yield f'<text x="{_LEFT}" y="{_TOP - 6}">clients</text>'


def _y(value: float, most: float) -> str:
    return f"{_TOP + _UPPER * (1 - value / most):.1f}"


def _probes(probes: Sequence[Probed], x: _Scale, top: float) -> Iterator[str]:
    """A dot for each probe that was served, a cross for one that was not."""
    most = max(probe.latency for probe in probes) * 1000 * _HEADROOM or 1.0
    yield from _marks(most, top, _LOWER, lambda value: f"{value:,g} ms")
    for probe in probes:
        at, y = x(max(probe.at, x.first)), top + _LOWER * (1 - probe.latency * 1000 / most)
        if probe.served:
            yield f'<circle class="served" cx="{at:.1f}" cy="{y:.1f}" r="3"/>'
        else:
            yield (
                f'<path class="unserved" d="M{at - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"><title>{escape(probe.error)}</title></path>'
            )
    yield f'<text x="{_LEFT}" y="{top - 6}">probes: time to the reply (a cross was not served)</text>'


def _marks(most: float, top: float, height: float, words: Callable[[float], str]) -> Iterator[str]:
    for value in _steps(most):
        y = top + height * (1 - value / most)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{words(value)}</text>'
    yield f'<line class="axis" x1="{_LEFT}" x2="{_LEFT}" y1="{top}" y2="{top + height}"/>'


def _seconds(x: _Scale, bottom: float) -> Iterator[str]:
    yield f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    for value in _steps(x.last, 10):
        yield f'<line class="axis" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
        yield f'<text x="{x(value):.1f}" y="{bottom + 18}" text-anchor="middle">{value:g} s</text>'


def _steps(most: float, wanted: int = 4) -> list[float]:
    """Round numbers from 0 to a value."""
    step = 10.0 ** floor(log10(most / wanted)) if most > 0 else 1.0
    step *= next(by for by in (1, 2, 5, 10) if most / (step * by) <= wanted)
    return [round(step * number, 9) for number in range(ceil(most / step + 1e-9)) if step * number <= most]


def _legend(result: Result) -> Iterator[str]:
    at = float(_LEFT)
    shown = [any(moment.states[place] for moment in result.timeline()) for place in range(len(STATES))]
    for state, is_there in zip(STATES, shown, strict=True):
        if is_there:
            yield f'<rect fill="{_COLOURS[state]}" x="{at:.0f}" y="33" width="11" height="11"/>'
            yield f'<text x="{at + 16:.0f}" y="43">{state}</text>'
            at += 34 + 7 * len(state)


def as_html(result: Result) -> str:
    """A page with the tables and the chart."""
    name = escape(result.profile.name or "swarm")
    tables: list[Sequence[Sequence[str]]] = [summary_rows(result), time_rows(result)]
    if len(result.profile.parts) > 1:
        tables.insert(1, behaviour_rows(result))
    if result.probes:
        tables.append(probe_rows(result))
    notes = [*result.notes, *(f"{count} x {error}" for error, count in result.errors.items())]
    if result.stopped:
        notes.append("it was stopped before its time")
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{_PAGE}</style></head><body>',
            f"<h1>{name}</h1><p>{escape(result.profile.about)}</p><p>{escape(result.sentence)}</p>",
            as_svg(result),
            *(_html_table(rows) for rows in tables),
            *(f'<p class="note">{escape(note)}</p>' for note in notes),
            "</body></html>\n",
        ]
    )


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
