"""Latency, bandwidth, slices, coalescing, stalls: everything arrives, but when?"""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

import pytest

from servertest.faults import Bandwidth, Coalesce, Faults, Latency, Slicer, SlowClose, Stall
from servertest.wire._line import ABORTED, FINISHED
from tests.faults._driving import FOREVER, Driver, carry


def delays(faults: Faults, count: int = 4000, **site: Any) -> list[float]:
    """What each of many datagrams has to wait, one second apart."""
    driver = Driver(faults, "datagram", **site)
    waits = []
    for number in range(count):
        driver.until(number * 1000.0)
        driver.put(b"%d" % number)
        driver.until(number * 1000.0 + 999)
        waits.append(driver.carried.outputs[-1][0] - number * 1000.0)
    return waits


def test_latency_delays_but_does_not_slow_down() -> None:
    driver = Driver(Latency(0.5))
    for chunk in (b"a", b"b", b"c"):
        driver.put(chunk)
        driver.until(driver.now + 0.1)
    driver.finish()
    driver.until(FOREVER)

    assert driver.carried.times == [0.5, 0.6, 0.7, 0.8]


def test_latency_delays_a_reset_too() -> None:
    driver = Driver(Latency(0.5))
    driver.put(b"a")
    driver.abort()
    driver.until(FOREVER)

    assert driver.carried.outputs == [(0.5, b"a"), (0.5, ABORTED)]


def test_a_late_driver_does_not_make_times_drift() -> None:
    driver = Driver(Latency(0.5) | Latency(0.25))
    driver.put(b"a")
    driver.line.take(0.6)  # 0.1 s late for the first stage

    assert driver.line.due == 0.75


@pytest.mark.parametrize("distribution", ["uniform", "normal", "lognormal", "pareto"])
def test_distributions_have_the_mean_and_the_spread_that_was_asked_for(distribution: str) -> None:
    waits = delays(Latency(1, jitter=0.1, distribution=distribution))

    assert fmean(waits) == pytest.approx(1, abs=0.01)
    spread = 0.1 / 3**0.5 if distribution == "uniform" else 0.1
    assert pstdev(waits) == pytest.approx(spread, rel=0.3)
    if distribution == "uniform":
        assert 0.9 <= min(waits) <= max(waits) <= 1.1
    if distribution in ("lognormal", "pareto"):
        assert max(waits) - 1 > 3 * (1 - min(waits)), "no long tail"


@pytest.mark.parametrize("distribution", ["uniform", "normal", "lognormal", "pareto"])
def test_correlation_makes_neighbours_alike_and_leaves_the_spread(distribution: str) -> None:
    apart, alike = (delays(Latency(1, 0.1, distribution, correlation)) for correlation in (0.0, 0.9))

    def change(waits: list[float]) -> float:
        return fmean(abs(one - other) for one, other in pairwise(waits))

    assert change(alike) < change(apart) / 2
    assert pstdev(alike) == pytest.approx(pstdev(apart), rel=0.5)


def test_full_correlation_never_changes() -> None:
    assert len(set(map(round_up, delays(Latency(1, 0.1, correlation=1), 20)))) == 1


def full(driver: Driver) -> bool:
    return driver.line.full


def round_up(time: float) -> float:
    return round(time, 6)


def test_no_delay_is_below_zero() -> None:
    assert min(delays(Latency(0, jitter=1, distribution="normal"), 100)) == 0


def test_datagrams_overtake_each_other_and_streams_do_not() -> None:
    pieces = [bytes([number]) * 2000 for number in range(40)]
    wild = Latency(1, jitter=1)

    assert carry(wild, pieces).data == b"".join(pieces)
    datagrams = carry(wild, pieces, "datagram").datagrams
    assert sorted(datagrams) == pieces
    assert datagrams != pieces


@pytest.mark.parametrize("rate", [100, 1000, 123_456, 1_000_000])
def test_bandwidth_is_exact_and_even(rate: float) -> None:
    data = bytes(2 * int(rate))
    carried = carry(Bandwidth(rate), data)
    arrived = 0
    for time, output in carried.outputs[:-1]:
        assert isinstance(output, bytes)
        arrived += len(output)
        assert time == pytest.approx(arrived / rate)
        assert len(output) <= max(1, rate * 0.01)
    assert carried.times[-1] == pytest.approx(2)
    assert carried.ended is FINISHED


def test_bandwidth_saves_nothing_up() -> None:
    carried = carry(Bandwidth(10), [(0.0, b"a"), (100.0, b"bc")])

    assert carried.times == [0.1, 100.1, 100.2, 100.2]


def test_bandwidth_sends_datagrams_whole() -> None:
    carried = carry(Bandwidth(10), [b"12345", b"123"], "datagram")

    assert carried.outputs[:2] == [(0.5, b"12345"), (0.8, b"123")]


def test_bandwidth_of_zero_lets_nothing_pass() -> None:
    driver = Driver(Bandwidth(0))
    driver.put(b"a" * 100_000)
    driver.finish()
    driver.until(FOREVER)

    assert driver.carried.data == b""
    assert full(driver)
    driver.set(None)
    assert driver.carried.data == b"a" * 100_000
    assert driver.carried.ended is FINISHED


def test_a_slow_line_holds_the_sender_up() -> None:
    driver = Driver(Bandwidth(1_000_000))
    driver.put(bytes(250_000))
    assert not full(driver)
    driver.put(bytes(1))
    assert full(driver)
    driver.until(0.01)
    assert not full(driver)


def test_latency_and_bandwidth_add_up() -> None:
    for both in (Latency(0.05) | Bandwidth(1000), Bandwidth(1000) | Latency(0.05)):
        assert carry(both, bytes(1000)).times[-1] == pytest.approx(1.05)


def test_slices_are_of_the_size_that_was_asked_for() -> None:
    assert carry(Slicer(3), b"01234567").datagrams == [b"012", b"345", b"67"]
    assert carry(Slicer(3), [b"01", b"234567"]).datagrams == [b"01", b"2", b"345", b"67"]


def test_slices_vary() -> None:
    sizes = [len(piece) for piece in carry(Slicer(10, 5), bytes(2000)).datagrams[:-1]]

    assert set(sizes) == set(range(5, 16))


def test_slices_keep_their_distance() -> None:
    assert carry(Slicer(3, delay=0.5), b"01234567").times == [0.5, 1.0, 1.5, 1.5]


def test_coalescing_waits_for_enough() -> None:
    carried = carry(Coalesce(4, 10), [(0.0, b"01"), (1.0, b"234"), (2.0, b"567"), (3.0, b"8")])

    assert carried.outputs == [(1, b"0123"), (2, b"4567"), (3, b"8"), (3, FINISHED)]


def test_coalescing_waits_no_longer_than_that() -> None:
    driver = Driver(Coalesce(100, 0.5))
    driver.put(b"a")
    driver.until(0.3)
    driver.put(b"b")
    driver.until(1)
    driver.put(b"c")
    driver.until(FOREVER)

    assert driver.carried.outputs == [(0.5, b"ab"), (1.5, b"c")]


def test_coalescing_loses_nothing_before_a_reset() -> None:
    driver = Driver(Coalesce())
    driver.put(b"a")
    driver.abort()

    assert driver.carried.outputs == [(0, b"a"), (0, ABORTED)]


def test_a_stall_at_a_byte() -> None:
    carried = carry(Stall(2, after_bytes=3), [(0.0, b"ab"), (1.0, b"cde"), (2.0, b"f")])

    assert carried.outputs == [(0, b"ab"), (1, b"c"), (3, b"de"), (3, b"f"), (3, FINISHED)]
    assert carried.decided == ["stalls", "goes on"]


def test_a_stall_at_a_time() -> None:
    carried = carry(Stall(2, after=1), [(0.5, b"a"), (1.0, b"b"), (2.9, b"c"), (3.0, b"d")])

    assert carried.outputs == [(0.5, b"a"), (3, b"b"), (3, b"c"), (3, b"d"), (3, FINISHED)]


def test_a_stall_for_ever_holds_the_sender_up_until_it_is_taken_away() -> None:
    driver = Driver(Stall(None))
    driver.until(0)
    driver.put(bytes(1 << 16))
    assert not full(driver)
    driver.put(b"x")
    assert full(driver)
    driver.finish()
    driver.until(FOREVER)
    assert driver.carried.data == b""
    driver.set(None)
    assert len(driver.carried.data) == (1 << 16) + 1
    assert driver.carried.ended is FINISHED


def test_a_slow_close() -> None:
    carried = carry(SlowClose(2), [(1.0, b"a")])

    assert carried.outputs == [(1, b"a"), (3, FINISHED)]
    assert carried.decided == ["holds the end back"]
