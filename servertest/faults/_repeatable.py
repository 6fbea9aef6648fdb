"""The check that a run repeats."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

from .._support import Mismatch
from ._trace import Decision, Trace

__all__ = ("check_repeatable", "first_difference_of")

_Story = dict[tuple[int, str, str], list[str]]


def check_repeatable(run: Callable[[], Trace]) -> Trace:
    """Run something twice, and compare what its faults have decided.

    Times may differ, and what connections do at the same time may happen in another order; what each fault decides on each
    direction of each connection may not.

    Args:
        run: Does the same each time, with the same seed, and returns the trace.

    Returns:
        The trace of the first run.

    Raises:
        Mismatch: The runs differ; the message shows the first difference.
    """
    first, second = run(), run()
    difference = first_difference_of(first, second)
    if difference is not None:
        raise Mismatch(f"the same seed gave different decisions: {difference}")
    return first


def first_difference_of(expected: Trace, found: Trace) -> str | None:
    """Where two runs part: in words, with the decisions around it; None if they decide the same."""
    wanted, got = _stories(expected), _stories(found)
    for place in sorted(wanted.keys() | got.keys()):
        one, other = wanted.get(place, []), got.get(place, [])
        for number, (left, right) in enumerate(zip_longest(one, other)):
            if left != right:
                return _shown(place, number, one, left, right)
    if expected.counts != found.counts:
        return f"first {dict(expected.counts)}, then {dict(found.counts)} decisions in all"
    return None


def _stories(trace: Trace) -> _Story:
    stories: _Story = {}
    for decision in trace:
        stories.setdefault(_place(decision), []).append(decision.what)
    return stories


def _place(decision: Decision) -> tuple[int, str, str]:
    return decision.connection, decision.direction, decision.fault


def _shown(
    place: tuple[int, str, str], number: int, before: list[str], left: str | None, right: str | None
) -> str:
    connection, direction, fault = place
    lines = [f"decision {number + 1} of {fault} on connection {connection} {direction}"]
    lines += [f"    {what}" for what in before[max(0, number - 2) : number]]
    lines += [f"  - {left or '(nothing more)'}", f"  + {right or '(nothing more)'}"]
    return "\n".join(lines)
