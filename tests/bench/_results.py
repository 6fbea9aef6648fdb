"""Measuring a figure, and what came of it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

from tests.bench._figures import Figure
from tests.bench._sampling import Failed, Sample, Scale

__all__ = ("Result", "measure", "table")

HEADINGS = ("figure", "what", "ours", "other", "ratio", "quartiles", "cpu", "n", "target", "")
LEFT = {"figure", "what", "target", ""}  # the other columns hold figures


@dataclass(frozen=True, slots=True)
class Result:
    """The samples of one figure, in the order in which they were taken, or why there are none."""

    figure: Figure
    ours: list[Sample]
    other: list[Sample]
    failure: str | None = None

    @property
    def value(self) -> float | None:
        """Our median."""
        return _median([sample.value for sample in self.ours])

    @property
    def other_value(self) -> float | None:
        """The other side's median."""
        return _median([sample.value for sample in self.other])

    @property
    def ratio(self) -> float | None:
        """Median to median."""
        return _ratio(self.value, self.other_value)

    @property
    def cpu(self) -> float | None:
        """The ratio of processor time that the servers spent on each unit, median to median. Less is better."""
        ours, other = (
            [each.cpu for each in side if each.cpu is not None] for side in (self.ours, self.other)
        )
        return _ratio(_median(ours), _median(other))

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """The first and third quartile of the ratios of neighbouring samples: what the machine's noise does to them."""
        pairs = zip(self.ours, self.other, strict=True) if self.other else ()
        ratios = [ours.value / other.value for ours, other in pairs]
        if len(ratios) < 2:
            return None
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        return low, high

    @property
    def verdict(self) -> str:
        """Whether the target was met."""
        if self.failure is not None or self.value is None:
            return "FAILED"
        return "met" if self.figure.target.is_met(self.value, self.ratio) else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """All of it, as plain data."""
        figure = self.figure
        return {
            "name": figure.name,
            "title": figure.title,
            "unit": figure.unit,
            "ours": _side_as_json(figure.ours.label, self.ours),
            "other": _side_as_json(figure.other.label, self.other) if figure.other else None,
            "ratio": self.ratio,
            "quartiles": self.quartiles,
            "cpu": self.cpu,
            "target": str(figure.target),
            "verdict": self.verdict,
            "failure": self.failure,
        }

    def as_row(self) -> tuple[str, ...]:
        """One line of the table."""
        figure, ratio, quartiles = self.figure, self.ratio, self.quartiles
        return (
            figure.name,
            figure.title,
            _shown(self.value, figure.unit),
            _shown(self.other_value, figure.unit),
            "-" if ratio is None else f"{ratio:.4f}x" if ratio < 0.01 else f"{ratio:.2f}x",
            "" if quartiles is None else f"{quartiles[0]:.2g}..{quartiles[1]:.2g}",
            "" if self.cpu is None else f"{self.cpu:.2f}x",
            str(len(self.ours)),
            str(figure.target),
            self.verdict,
        )


def measure(figure: Figure, scale: Scale, *, rounds: int | None = None) -> Result:
    """Sample both sides in turns."""
    ours: list[Sample] = []
    other: list[Sample] = []
    try:
        for _ in range(rounds or figure.rounds):
            with ExitStack() as stack:
                sample_ours = stack.enter_context(figure.ours.open(scale))
                sample_other = stack.enter_context(figure.other.open(scale)) if figure.other else None
                for _ in range(figure.samples):
                    ours.append(sample_ours())
                    if sample_other:
                        other.append(sample_other())
    except Failed as error:
        return Result(figure, [], [], str(error))
    return Result(figure, ours, other)


def table(results: list[Result]) -> str:
    """All results in columns."""
    lines = [HEADINGS, *(result.as_row() for result in results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if heading in LEFT else cell.rjust(width)
            for heading, cell, width in zip(HEADINGS, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _median(values: list[float]) -> float | None:
    return median(values) if values else None


def _ratio(ours: float | None, other: float | None) -> float | None:
    return None if ours is None or other is None else ours / other


def _side_as_json(label: str, samples: list[Sample]) -> dict[str, Any]:
    return {"label": label, "values": [each.value for each in samples], "cpu": [each.cpu for each in samples]}


def _shown(value: float | None, unit: str) -> str:
    """A figure for a reader: milliseconds, megabytes, or a count."""
    if value is None:
        return "-"
    if unit == "s":
        return f"{value * 1e3:.3f} ms"
    return f"{value / 1e6:,.0f} MB/s" if unit == "B/s" else f"{value:,.0f} {unit}"
