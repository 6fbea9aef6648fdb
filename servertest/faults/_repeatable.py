"""The check that a run repeats."""

from __future__ import annotations

from collections.abc import Callable

from .._support import Mismatch
from ._trace import Trace

__all__ = ("check_repeatable",)


def check_repeatable(run: Callable[[], Trace]) -> Trace:
    """Run something twice, and compare what its faults have decided: see `Trace.difference`.

    Args:
        run: Does the same each time, with the same seed, and returns the trace.

    Returns:
        The trace of the first run.

    Raises:
        Mismatch: The runs differ; the message shows the first difference.
    """
    first, second = run(), run()
    difference = first.difference(second)
    if difference is not None:
        raise Mismatch(f"the same seed gave different decisions: {difference}")
    return first
