"""``python -m tests.bench``: measure, and print the table. What misses a target is shown, and fails nothing: this is no test.

The exit status is 1 only if something could not be measured at all.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from statistics import median
from typing import Any

from tests.bench._figures import Figure, figures
from tests.bench._sampling import Failed, Scale
from tests.bench._server import raise_descriptor_limit

__all__ = ("main",)


@dataclass(frozen=True, slots=True)
class Result:
    """The samples of one figure, in the order in which they were taken, or why there are none."""

    figure: Figure
    ours: list[float]
    other: list[float]
    failure: str | None = None

    @property
    def ratio(self) -> float | None:
        """Median to median."""
        return median(self.ours) / median(self.other) if self.ours and self.other else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """The lowest and the highest ratio of two neighbouring repetitions: what the machine's noise can do to the ratio."""
        ratios = (
            [ours / other for ours, other in zip(self.ours, self.other, strict=True)] if self.other else []
        )
        return (min(ratios), max(ratios)) if ratios else None

    @property
    def verdict(self) -> str:
        """Whether the target was met."""
        if self.failure is not None:
            return "FAILED"
        return "met" if self.figure.target.is_met(median(self.ours), self.ratio) else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """All of it, as plain data."""
        figure = self.figure
        return {
            "name": figure.name,
            "title": figure.title,
            "unit": figure.unit,
            "ours": {"label": figure.ours.label, "values": self.ours},
            "other": {"label": figure.other.label, "values": self.other} if figure.other else None,
            "ratio": self.ratio,
            "spread": self.spread,
            "target": str(figure.target),
            "verdict": self.verdict,
            "failure": self.failure,
        }


def measure(figure: Figure, scale: Scale, *, rounds: int | None = None) -> Result:
    """Sample both sides in turns."""
    ours: list[float] = []
    other: list[float] = []
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


def shown(value: float, unit: str) -> str:
    """A figure for a reader: milliseconds, megabytes, or a count."""
    if unit == "s":
        return f"{value * 1e3:.3f} ms"
    return f"{value / 1e6:,.0f} MB/s" if unit == "B/s" else f"{value:,.0f} {unit}"


HEADINGS = ("figure", "what", "ours", "other", "ratio", "quartiles", "n", "target", "")


def row(result: Result) -> tuple[str, ...]:
    """One line of the table."""
    figure, ratio, spread = result.figure, result.ratio, result.spread
    return (
        figure.name,
        figure.title,
        shown(median(result.ours), figure.unit) if result.ours else "-",
        shown(median(result.other), figure.unit) if result.other else "-",
        "-" if ratio is None else f"{ratio:.4f}x" if ratio < 0.01 else f"{ratio:.2f}x",
        "" if spread is None else f"{spread[0]:.2g}..{spread[1]:.2g}",
        str(len(result.ours)),
        str(figure.target),
        result.verdict,
    )


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows in columns."""
    lines = [HEADINGS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    left = (0, 1, 7, 8)
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    made.add_argument("--only", nargs="+", metavar="NAME", help="figures by name; * and ? are wildcards")
    made.add_argument("--list", action="store_true", help="print the names of the figures and stop")
    made.add_argument(
        "--quick", action="store_true", help="a fifth of the work, one round: a look, no result"
    )
    made.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="how often both sides are started anew, instead of each figure's own number",
    )
    made.add_argument("--json", action="store_true", help="all samples as JSON instead of the table")
    made.add_argument(
        "--module", default="servertest.servers", help="what is measured (default: %(default)s)"
    )
    made.add_argument(
        "--against", default="socketserver", help="what it is compared with (default: %(default)s)"
    )
    return made


def selected(names: list[str] | None, available: list[Figure]) -> list[Figure]:
    """The figures that `names` ask for.

    Raises:
        SystemExit: one of the names matches none.
    """
    if not names:
        return available
    for name in names:
        if not any(fnmatch(figure.name, name) for figure in available):
            raise SystemExit(f"no figure is called {name!r}; see --list")
    return [figure for figure in available if any(fnmatch(figure.name, name) for name in names)]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns the exit status."""
    options = parser().parse_args(arguments)
    chosen = selected(options.only, figures(options.module, options.against))
    if options.list:
        print("\n".join(figure.name for figure in chosen))
        return 0
    raise_descriptor_limit()
    scale, rounds = (Scale(0.2), options.rounds or 1) if options.quick else (Scale(), options.rounds)
    results = []
    for number, figure in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {figure.name} ...", file=sys.stderr, flush=True)
        results.append(measure(figure, scale, rounds=rounds))
    report(results, options)
    return 1 if any(result.failure for result in results) else 0


def report(results: list[Result], options: argparse.Namespace) -> None:
    """Print the results."""
    if options.json:
        print(json.dumps([result.as_json() for result in results], indent=1))
        return
    print(
        f"{options.module} against {options.against}, Python {platform.python_version()}; medians; A B A B\n"
    )
    print(table([row(result) for result in results]))
    for result in results:
        if result.failure:
            print(f"\n{result.figure.name} could not be measured: {result.failure}")


if __name__ == "__main__":
    sys.exit(main())
