"""Faults of datagrams alone."""

from __future__ import annotations

from itertools import groupby

import pytest

from servertest.faults import (
    Duplicate,
    Faults,
    GilbertElliott,
    Loss,
    Partition,
    Reorder,
    TruncateDatagram,
    downstream,
)
from servertest.wire._line import ABORTED, FINISHED
from tests.faults._driving import FOREVER, Driver, carry

MANY = [b"%d" % number for number in range(5000)]


def lost(faults: Faults) -> list[bool]:
    """Of each datagram, whether it was lost."""
    carried = carry(faults, MANY, "datagram")
    arrived = set(carried.datagrams)
    fates = [each not in arrived for each in MANY]
    assert sum(carried.trace.counts.values()) == sum(fates)
    return fates


def bursts(fates: list[bool]) -> float:
    """The mean number of datagrams lost in a row."""
    lengths = [len([*group]) for is_lost, group in groupby(fates) if is_lost]
    return sum(lengths) / len(lengths)


@pytest.mark.parametrize("correlation", [0, 0.5, 0.9])
def test_the_share_that_was_asked_for_is_lost(correlation: float) -> None:
    assert sum(lost(Loss(0.2, correlation))) == pytest.approx(1000, rel=0.2)


def test_correlated_losses_come_together() -> None:
    assert bursts(lost(Loss(0.2))) == pytest.approx(1.25, rel=0.1)
    assert bursts(lost(Loss(0.2, 0.9))) > 2.5


@pytest.mark.parametrize(("probability", "count"), [(0, 0), (1, 5000)])
def test_none_and_all(probability: float, count: int) -> None:
    assert sum(lost(Loss(probability))) == count


def test_gilbert_elliott_has_the_share_and_the_bursts_of_its_model() -> None:
    fates = lost(GilbertElliott(p=0.05, r=0.25))

    assert sum(fates) == pytest.approx(5000 * 0.05 / 0.30, rel=0.2)
    assert bursts(fates) == pytest.approx(1 / 0.25, rel=0.2)


def test_gilbert_elliott_loses_in_the_good_state_if_asked_to() -> None:
    assert sum(lost(GilbertElliott(p=0, good_loss=0.1))) == pytest.approx(500, rel=0.2)


def test_a_partition_lasts_as_long_as_it_was_asked_to() -> None:
    sent = [(float(number), b"%d" % number) for number in range(6)]

    assert carry(Partition(2, after=2), sent, "datagram").datagrams == [b"0", b"1", b"4", b"5"]
    assert carry(Partition(2), sent, "datagram").datagrams == [b"2", b"3", b"4", b"5"]
    assert carry(Partition(), sent, "datagram").datagrams == []


def test_a_partition_one_way() -> None:
    whole = downstream(Partition())

    assert carry(whole, [b"a"], "datagram", direction="upstream").datagrams == [b"a"]
    assert carry(whole, [b"a"], "datagram", direction="downstream").datagrams == []


def test_duplicates() -> None:
    carried = carry(Duplicate(1, copies=2, delay=0.5), [b"a"], "datagram")

    assert carried.outputs == [(0, b"a"), (0.5, b"a"), (1, b"a"), (1, FINISHED)]


def test_some_are_duplicated() -> None:
    carried = carry(Duplicate(0.1), MANY, "datagram")

    assert len(carried.datagrams) == pytest.approx(5500, rel=0.05)
    assert carried.trace.counts["duplicate"] == len(carried.datagrams) - 5000


@pytest.mark.parametrize("gap", [1, 3])
def test_as_many_overtake_as_were_asked_to(gap: int) -> None:
    carried = carry(Reorder(0.02, gap=gap, delay=100), MANY, "datagram")

    assert sorted(carried.datagrams) == sorted(MANY)
    held = [int(what.split()[2]) for what in carried.decided]
    assert len(held) == pytest.approx(100, rel=0.4)
    first = held[0] - 1
    assert carried.datagrams.index(MANY[first]) == first + gap


def test_what_nobody_overtakes_arrives_in_the_end() -> None:
    driver = Driver(Reorder(1, delay=0.5), "datagram")
    driver.put(b"a")
    driver.until(0.2)
    driver.put(b"b")
    driver.until(FOREVER)

    assert driver.carried.outputs == [(0.5, b"a"), (0.7, b"b")]


def test_cut_datagrams() -> None:
    assert carry(TruncateDatagram(2), [b"0123", b"01", b""], "datagram").datagrams == [b"01", b"01", b""]
    assert carry(TruncateDatagram(0), [b"0123"], "datagram").datagrams == [b""]
    some = carry(TruncateDatagram(0, 0.1), MANY, "datagram").datagrams
    assert some.count(b"") == pytest.approx(500, rel=0.2)


@pytest.mark.parametrize("reset", [True, False])
def test_what_was_held_back_arrives_before_the_end(reset: bool) -> None:
    driver = Driver(Reorder(1), "datagram")
    driver.put(b"a")
    driver.abort() if reset else driver.finish()

    assert driver.carried.datagrams == [b"a"]
    assert driver.carried.ended is (ABORTED if reset else FINISHED)


def test_those_that_pass_beside_a_trigger_overtake_as_well() -> None:
    carried = carry(Reorder(1, gap=2, delay=100).on(datagram=1), [b"a", b"b", b"c", b"d"], "datagram")
    assert carried.datagrams == [b"b", b"c", b"a", b"d"]

    carried = carry(Reorder(1, gap=1, delay=100).on(pattern=b"late"), [b"late", b"b", b"c"], "datagram")
    assert carried.datagrams == [b"b", b"late", b"c"]
