"""Every broken handler is caught by the check that is meant for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fixtures import Fixture, broken_ones
from fixtures.broken.announcer_keeps_the_socket import SOCKETS
from servertest._support import have_ipv6
from servertest.contract import Profile
from tests.contract._fixtures import contract_of, described, one_kind


@pytest.fixture(autouse=True)
def no_socket_is_kept() -> Iterator[None]:
    """One of them keeps sockets, which is its bug: they are not to outlive the test."""
    yield
    while SOCKETS:
        SOCKETS.popitem()[1].close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fixture", broken_ones(), ids=str)
def test_it_is_caught(fixture: Fixture) -> None:
    if fixture.check == "ipv6_addresses" and not have_ipv6():
        pytest.skip("no ::1 on this machine")
    profile: Profile = "full" if fixture.check == "any_course_of_events" else "quick"
    report = contract_of(fixture, one_kind(fixture), checks=[fixture.check], timeout=1.5, profile=profile)
    assert not report.broken, described(report)
    assert fixture.check in report.violated(), described(report) + "\n".join(
        f"{result.check}: {result.verdict} {result.reason}" for result in report.results
    )
    violation = report.violations[0]
    assert violation.explanation
    assert violation.check == fixture.check
