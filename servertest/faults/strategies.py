"""Faults and whole plans for Hypothesis. What fails shrinks to the fewest faults, with usual values.

It imports Hypothesis; `servertest.faults` does not import it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import reject, strategies as st

from .._support import UsageError
from . import Entry, Fault, Place, Plan, Rule, Trigger, registry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._support import Transport

__all__ = ("faults", "plans", "triggers", "values")


def values(rule: Rule, *, longest: float = 2.0) -> st.SearchStrategy[Any]:
    """Values that a field may hold: short times, few bytes; no other values than those can be written down.

    Args:
        rule: What the field may hold.
        longest: The longest time in seconds.
    """
    least = rule.least or 0
    simple: st.SearchStrategy[Any]
    if rule.choices:
        simple = st.sampled_from(rule.choices)
    elif rule.kind == "data":
        simple = st.binary(min_size=int(least), max_size=int(least) + 16)
    elif rule.kind in ("bytes", "count"):
        few = 4096 if rule.kind == "bytes" else 8
        simple = st.integers(int(least), int(rule.most if rule.most is not None else least + few))
    elif rule.kind == "bytes per second":
        simple = st.sampled_from([1_000_000, 10_000, 100, 0])
    else:
        usual = longest if rule.kind == "seconds" else 2.0
        most = usual if rule.most is None else rule.most
        simple = st.integers(0, 100).map(lambda part: least + (most - least) * part / 100)
    return st.none() | simple if rule.optional else simple


def faults(
    transport: Transport = "stream",
    *,
    place: Place = "line",
    kinds: Iterable[type[Fault]] | None = None,
    longest: float = 2.0,
) -> st.SearchStrategy[Fault]:
    """Single faults, of every kind that makes sense.

    Args:
        transport: "stream" or "datagram".
        place: Where they work.
        kinds: Only these kinds; None for all that are registered.
        longest: The longest time in seconds: on real sockets it is waited for.
    """
    chosen = [
        kind
        for kind in (registry.values() if kinds is None else kinds)
        if transport in kind.carried_by and kind.place == place
    ]
    return st.one_of([_of_kind(kind, longest) for kind in chosen])


def triggers(transport: Transport = "stream") -> st.SearchStrategy[Trigger]:
    """Conditions under which a fault works."""
    numbers = st.integers(1, 5) | st.lists(st.integers(1, 9), min_size=1, max_size=3)
    windows = st.tuples(st.integers(0, 20), st.integers(1, 20)).map(
        lambda two: (two[0] / 10, (two[0] + two[1]) / 10)
    )
    dynamic: dict[str, st.SearchStrategy[Any]] = {
        "probability": st.integers(0, 100).map(lambda part: part / 100),
        "after_bytes": st.integers(0, 100),
        "pattern": st.binary(min_size=1, max_size=3),
        "between": windows,
    }
    if transport == "datagram":
        dynamic["datagram"] = numbers
    which = st.one_of(
        st.fixed_dictionaries({"connection": numbers}),
        st.fixed_dictionaries({}, optional={"every": st.integers(1, 4), "first": st.integers(1, 4)}),
    )
    both = st.tuples(which, st.fixed_dictionaries({}, optional=dynamic))
    return both.map(lambda two: Trigger(**two[0], **two[1]))


def plans(
    transport: Transport = "stream",
    *,
    max_faults: int = 4,
    place: Place = "line",
    kinds: Iterable[type[Fault]] | None = None,
    aimed: bool = True,
    triggered: bool = True,
    longest: float = 2.0,
) -> st.SearchStrategy[Plan]:
    """Whole plans, the empty one included.

    Args:
        transport: "stream" or "datagram".
        max_faults: How many faults at most.
        place: Where they work.
        kinds: Only these kinds; None for all that are registered.
        aimed: Whether some work on one direction alone.
        triggered: Whether some work on some connections, or at some times, alone.
        longest: The longest time in seconds that a fault takes: on real sockets it is waited for.
    """
    entry = st.builds(
        Entry,
        faults(transport, place=place, kinds=kinds, longest=longest),
        st.sampled_from([None, "upstream", "downstream"]) if aimed else st.none(),
        st.none() | triggers(transport).filter(bool) if triggered and place == "line" else st.none(),
    )
    return st.lists(entry, max_size=max_faults).map(lambda entries: Plan(tuple(entries)))


def _of_kind(kind: type[Fault], longest: float) -> st.SearchStrategy[Fault]:
    # Whatever need not be said is left out: a field that does not matter shrinks to its usual value.
    fields = {
        parameter.name: values(parameter.rule, longest=longest)
        for parameter in kind.parameters()
        if parameter.rule
    }
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: _built(kind, given))


def _built(kind: type[Fault], given: dict[str, Any]) -> Fault:
    usual: Any = kind.example()
    try:
        built: Fault = replace(usual, **given)
    except UsageError:
        reject()
    return built
