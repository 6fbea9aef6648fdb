"""Several engines that play one swarm: what they say, put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ("Merging",)


class Merging:
    """Makes one story of those of several engines.

    Args:
        count: How many engines there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._last: dict[int, dict[str, Any]] = {}
        self._results: dict[int, dict[str, Any]] = {}
        self._started = False

    def has_result(self, engine: int) -> bool:
        """Whether one of them has told its result."""
        return engine in self._results

    def hear(self, engine: int, report: dict[str, Any]) -> list[dict[str, Any]]:
        """One of them has said something: what all of them say together, if that is anything."""
        kind = report["kind"]
        if kind == "started":
            first, self._started = not self._started, True
            return [{"kind": "started"}] if first else []
        if kind == "result":
            self._results[engine] = report
            everyone = len(self._results) == self._count
            return [{"kind": "results", "results": [*self._results.values()]}] if everyone else []
        if kind == "progress":
            self._last[engine] = report
            return [self._together(self._last.values())]
        return [report]

    def _together(self, reports: Iterable[dict[str, Any]]) -> dict[str, Any]:
        reports = list(reports)
        counts: dict[str, int] = {}
        for report in reports:
            for how, count in report["counts"].items():
                counts[how] = counts.get(how, 0) + count
        return {
            "kind": "progress",
            "begun": len(reports) == self._count and all(report["begun"] for report in reports),
            "seconds": max(report["seconds"] for report in reports),
            **{name: sum(report[name] for report in reports) for name in ("waiting", "open", "connections")},
            "counts": counts,
        }
