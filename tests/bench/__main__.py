"""``python -m tests.bench``: measure, and print the table. What misses a target is shown, and fails nothing: this is no test.

The exit status is 1 only if something could not be measured at all.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from fnmatch import fnmatch

from tests.bench._figures import Figure, figures
from tests.bench._proxies import proxies
from tests.bench._results import Result, measure, table
from tests.bench._sampling import Scale
from tests.bench._server import raise_descriptor_limit
from tests.bench._suites import suites

__all__ = ("main", "selected")

LEGEND = """\
ratio: of the medians of n samples, taken in turns; quartiles: of the ratios of neighbouring samples;
cpu: the processor time that the server spends on each unit, ours to the other's, less is better.
"""


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
    for name in names or ():
        if not any(fnmatch(figure.name, name) for figure in available):
            raise SystemExit(f"no figure is called {name!r}; see --list")
    return [figure for figure in available if not names or any(fnmatch(figure.name, name) for name in names)]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns the exit status."""
    options = parser().parse_args(arguments)
    chosen = selected(options.only, [*figures(options.module, options.against), *suites(), *proxies()])
    if options.list:
        print("\n".join(figure.name for figure in chosen))
        return 0
    raise_descriptor_limit()
    scale, rounds = (Scale(0.2), options.rounds or 1) if options.quick else (Scale(), options.rounds)
    results = []
    for number, figure in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {figure.name} ...", file=sys.stderr, flush=True)
        results.append(measure(figure, scale, rounds=rounds))
    if options.json:
        print(json.dumps([result.as_json() for result in results], indent=1))
    else:
        report(results, f"{options.module} against {options.against}, Python {platform.python_version()}")
    return 1 if any(result.failure for result in results) else 0


def report(results: list[Result], title: str) -> None:
    """Print the results for readers."""
    print(f"{title}\n{LEGEND}\n{table(results)}")
    for result in results:
        if result.failure:
            print(f"\n{result.figure.name} could not be measured: {result.failure}")


if __name__ == "__main__":
    sys.exit(main())
