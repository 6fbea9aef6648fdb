"""Faults that end connections, or do not let them end."""

from __future__ import annotations

import pytest

from servertest.faults import (
    Bandwidth,
    Blackhole,
    EmptyReply,
    Fault,
    HalfClose,
    Latency,
    LimitData,
    MissingClose,
    RandomDataThenClose,
    ResetPeer,
    Stall,
    Timeout,
    Truncate,
)
from servertest.wire._line import ABORTED, CLOSED, FINISHED, Ended
from tests.faults._driving import FOREVER, Driver, carry, cut


def test_a_timeout_swallows_and_closes() -> None:
    carried = carry(Timeout(2), [(0.0, b"a"), (1.0, b"b")])

    assert carried.outputs == [(2, CLOSED)]


def test_a_black_hole_swallows_the_end_too() -> None:
    driver = Driver(Blackhole())
    driver.put(b"a")
    driver.finish()
    driver.until(FOREVER)
    assert driver.carried.outputs == []
    driver.set(None)
    assert driver.carried.outputs == [(FOREVER, FINISHED)]


@pytest.mark.parametrize("reset", [True, False])
def test_a_missing_close_lets_bytes_pass_and_neither_end(reset: bool) -> None:
    driver = Driver(MissingClose())
    driver.put(b"a")
    driver.abort() if reset else driver.finish()
    driver.until(FOREVER)
    assert driver.carried.outputs == [(0, b"a")]
    assert driver.carried.decided == ["conceals the end"]
    driver.set(None)
    assert driver.carried.ended is (ABORTED if reset else FINISHED)


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        (HalfClose(4), FINISHED),
        (LimitData(4), CLOSED),
        (ResetPeer(after_bytes=4), ABORTED),
        (Truncate(4), FINISHED),
    ],
)
def test_the_rest_is_lost_from_the_very_byte(fault: Fault, ending: Ended) -> None:
    for places in ((), (4,), (3, 5), (1, 2, 3, 4, 5, 6)):
        carried = carry(fault, cut(b"0123456789", *places))
        assert carried.data == b"0123"
        assert carried.ended is ending
        assert len(carried.decided) == 1


@pytest.mark.parametrize("fault", [HalfClose(4), LimitData(4), ResetPeer(after_bytes=4)])
def test_a_limit_that_is_reached_ends_at_once(fault: Fault) -> None:
    driver = Driver(fault)
    driver.put(b"0123")

    assert driver.carried.ended is not None


@pytest.mark.parametrize("fault", [HalfClose(4), LimitData(4), ResetPeer(after_bytes=4), Truncate(4)])
def test_a_limit_that_is_not_reached_does_nothing(fault: Fault) -> None:
    carried = carry(fault, b"012")

    assert carried.outputs == [(0, b"012"), (0, FINISHED)]
    assert carried.decided == []


@pytest.mark.parametrize("fault", [HalfClose(0), LimitData(0), ResetPeer(after_bytes=0)])
def test_a_limit_of_nothing_lets_nothing_pass(fault: Fault) -> None:
    carried = carry(fault, b"012")

    assert carried.data == b""
    assert carried.ended is not None


def test_a_reset_at_once_and_after_a_time() -> None:
    assert carry(ResetPeer(), [(1.0, b"a")]).outputs == [(0, ABORTED)]
    assert carry(ResetPeer(2), [(1.0, b"a"), (3.0, b"b")]).outputs == [(1, b"a"), (2, ABORTED)]
    assert carry(ResetPeer(2, 1), [(1.0, b"a"), (2.0, b"b")]).outputs == [(1, b"a"), (3, ABORTED)]


def test_a_reset_of_a_connection_that_exists_already() -> None:
    """Toxiproxy gives those an ordinary end."""
    driver = Driver(None)
    driver.put(b"a")
    driver.until(5)
    driver.set(ResetPeer())

    assert driver.carried.outputs == [(0, b"a"), (5, ABORTED)]


def test_a_reset_of_a_connection_that_is_closed_half() -> None:
    driver = Driver(None)
    driver.finish()
    driver.until(5)
    driver.set(ResetPeer(1))
    driver.until(FOREVER)

    assert driver.carried.outputs == [(0, FINISHED), (6, ABORTED)]


def test_an_empty_reply_closes_instead_of_the_first_byte() -> None:
    carried = carry(EmptyReply(), [(1.0, b"HTTP/1.1"), (2.0, b" 200")])

    assert carried.outputs == [(1, CLOSED)]
    assert carry(EmptyReply()).outputs == [(0, FINISHED)]


def test_random_data_then_close() -> None:
    one, other = (carry(RandomDataThenClose(40), b"HTTP/1.1", seed=seed) for seed in (1, 2))

    assert len(one.data) == len(other.data) == 40
    assert one.data != other.data
    assert one.ended is CLOSED
    assert one.decided == ["sends 40 random bytes and closes"]


def test_nothing_of_the_reply_follows_what_came_instead() -> None:
    assert carry(RandomDataThenClose(4), [b"a", b"b"]).ended is CLOSED
    late = Driver(RandomDataThenClose(4) | Latency(1))
    late.put(b"a", b"b")
    late.finish()
    late.until(FOREVER)

    assert len(late.carried.data) == 4
    assert late.carried.times == [1, 1]


@pytest.mark.parametrize("holding", [Stall(None), Blackhole(), Bandwidth(0), MissingClose()])
@pytest.mark.parametrize("before", [True, False])
def test_no_fault_holds_a_reset_of_another_up(holding: Fault, before: bool) -> None:
    whole = holding | ResetPeer(2) if before else ResetPeer(2) | holding

    assert carry(whole, b"a").outputs[-1] == (2, ABORTED)
