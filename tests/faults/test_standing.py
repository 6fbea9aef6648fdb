"""Faults that stand on a link or a server: their names and their random numbers, while others come and go."""

from __future__ import annotations

from servertest.faults import Latency, Loss, Plan, Slicer, plan
from servertest.faults._standing import Standing, StandingPlan


def drawn(faults: Plan) -> list[str]:
    return [stream for _, stream, _ in faults.streams()]


def test_the_first_ones_draw_as_they_would_anywhere_else() -> None:
    whole = Latency(1) | Loss() | Latency(1)
    _, standing = Standing().add(None, whole)

    assert drawn(standing) == drawn(whole)
    assert [name for name, _ in standing.named()] == ["latency", "loss", "latency#2"]


def test_equal_faults_in_two_groups_draw_apart() -> None:
    standing = Standing()
    first, second = (standing.add(None, plan(Loss()))[1] for _ in range(2))

    assert drawn(first) != drawn(second)
    assert [name for name, _ in second.named()] == ["loss#2"]


def test_a_fault_that_is_changed_draws_as_before() -> None:
    standing = Standing()
    _, before = standing.add("key", Latency(1) | Latency(2) | Slicer(3))
    after = standing.replace("key", Latency(2) | Slicer(4) | Latency(5))

    one, two, slicer = drawn(before)
    assert drawn(after) == [two, slicer, one]


def test_a_fault_that_is_added_draws_apart_from_a_changed_one() -> None:
    standing = Standing()
    standing.add("key", plan(Latency(1)))
    standing.replace("key", plan(Latency(2)))
    _, again = standing.add("more", plan(Latency(1)))

    assert drawn(again) != drawn(standing.groups["key"])
    assert isinstance(standing.groups["key"], StandingPlan)
