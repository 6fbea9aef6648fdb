"""The handlers of `fixtures` held to their contracts in simulations: broken ones are caught, or said to be not simulated; good ones are clean."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures import Fixture, broken_ones, good_ones
from servertest import check
from servertest._support import have_ipv6
from servertest.contract import Profile
from servertest.launch import HandlerTarget, Kind
from servertest.sim import Simulated
from tests.contract._fixtures import described, one_kind, two_kinds


def simulated(fixture: Fixture, kinds: list[Kind], **options: Any) -> Any:
    return check(
        HandlerTarget(fixture.handler, dict(fixture.server)),
        list(fixture.exchanges),
        kinds=kinds,
        promises=dict(fixture.promises),
        timeout=1.5,
        ground=Simulated(),
        **options,
    )


#: Broken ones that show only in a real process: each with what the report says instead.
REAL = {
    "hooks_never_reaped": "posix_spawn",
    "tickets_vanish_in_the_child": "forks",
}
#: Those that do not even hold their exchanges there, as the network has less room than a loopback interface, or somebody computes for ever.
PLAINLY = {"http_sends_part_of_the_page", "journal_looks_again_and_again"}
#: Checks that count memory, processor time, or what a process has.
MEASURING = {
    "no_leak_after_requests",
    "no_leak_after_failures",
    "endless_line",
    "length_header",
    "linear_cost",
}
SLOW = {"journal_looks_again_and_again"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "fixture",
    [
        pytest.param(one, id=str(one), marks=[pytest.mark.slow] if one.name in SLOW else [])
        for one in broken_ones()
    ],
)
def test_a_broken_handler_is_caught_or_said_to_be_not_simulated(fixture: Fixture) -> None:
    if "ipv6" in fixture.check and not have_ipv6():
        pytest.skip("no ::1 on this machine")
    profile: Profile = "full" if fixture.check == "any_course_of_events" else "quick"
    report = simulated(fixture, one_kind(fixture), checks=[fixture.check], profile=profile)
    assert not report.broken, described(report)
    verdicts = {result.verdict for result in report.results}
    reasons = " ".join([*(one.reason for one in report.results), *(one.reason for one in report.outcomes)])
    if fixture.name in REAL:
        assert "passed" not in verdicts
        assert REAL[fixture.name] in reasons
    elif fixture.name in PLAINLY:
        assert not report.ok
        assert report.findings
    elif fixture.check in MEASURING and fixture.check not in report.violated():
        assert verdicts == {"not simulated"}
        assert "a real process" in reasons
    else:
        assert fixture.check in report.violated(), described(report) + reasons


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fixture", good_ones()[::6], ids=str)
def test_a_good_handler_is_clean(fixture: Fixture) -> None:
    report = simulated(fixture, two_kinds(fixture))
    assert report.ok, described(report)
    assert sum(result.verdict == "passed" for result in report.results) > 10


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fixture", [one for n, one in enumerate(good_ones()) if n % 6], ids=str)
def test_each_other_good_handler_is_clean(fixture: Fixture) -> None:
    report = simulated(fixture, two_kinds(fixture))
    assert report.ok, described(report)
