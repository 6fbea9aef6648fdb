"""When faults work: on which connections, from which byte, at which time."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from servertest.faults import (
    Blackhole,
    Faults,
    Garbage,
    Latency,
    LimitData,
    Loss,
    MissingClose,
    Plan,
    ResetPeer,
    Site,
    Slicer,
    Stall,
    Timeout,
    Trigger,
    Truncate,
    plan,
    start,
    start_calls,
)
from servertest.wire._line import ABORTED, FINISHED
from tests.faults._driving import FOREVER, Driver, carry, cut

examples = settings(max_examples=100, derandomize=True, database=None, deadline=None)
CUT = Truncate(0)  # what works on a stream from its first byte on


def hit(whole: Plan, upto: int = 12, **site: Any) -> list[int]:
    """On which connections a plan works."""
    return [number for number in range(1, upto + 1) if start(whole, connection=number, **site)]


@pytest.mark.parametrize(
    ("conditions", "numbers"),
    [
        ({"connection": 3}, [3]),
        ({"connection": (1, 3)}, [1, 3]),
        ({"connection": [3, 1, 3]}, [1, 3]),
        pytest.param({"connection": iter([5])}, [5], id="iterator"),
        ({"connection": range(2, 5)}, [2, 3, 4]),
        ({"connection": range(9, 2, -3)}, [3, 6, 9]),
        ({"every": 5}, [5, 10]),
        ({"first": 2}, [1, 2]),
        ({"every": 3, "first": 2}, [3, 6]),
        ({"probability": 0}, []),
        ({"probability": 1, "first": 3}, [1, 2, 3]),
        pytest.param({"when": lambda site: site.connection > 10}, [11, 12], id="when"),
    ],
    ids=str,
)
def test_connections(conditions: dict[str, Any], numbers: list[int]) -> None:
    assert hit(Latency().on(**conditions)) == numbers


def test_a_probability_is_drawn_once_for_both_directions_and_for_good() -> None:
    whole = Latency().on(probability=0.5)
    numbers = hit(whole, 200, seed=42)

    assert 70 < len(numbers) < 130
    assert hit(whole, 200, seed=42, direction="upstream") == numbers
    assert hit(whole, 200, seed=43) != numbers


def test_adding_faults_does_not_draw_again() -> None:
    """Toxiproxy draws again whenever another toxic is added."""
    whole = Latency().on(probability=0.5)

    def works(more: Plan) -> list[int]:
        return [n for n in range(1, 50) if any("Latency()" in key for key, _ in start(more, connection=n))]

    alone = works(whole)
    assert works(whole | Latency(0.3)) == alone
    assert works(Latency(0.3) | whole) == alone
    assert works(Slicer(3) | whole | ResetPeer()) == alone


def test_a_higher_probability_hits_the_same_and_more() -> None:
    some, more = (set(hit(Latency().on(probability=p), 100)) for p in (0.3, 0.6))

    assert some < more


def test_conditions_add_up() -> None:
    whole = Latency().on(connection=range(1, 6)).on(when=lambda site: site.connection != 3)

    assert hit(whole) == [1, 2, 4, 5]
    assert hit((Latency() | Slicer(3)).on(first=1)) == [1]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "give at least one condition"),
        ({"connection": 0}, "connection is a number from 1 on, several, or a range of them, not 0"),
        ({"connection": ()}, "connection is a number from 1 on"),
        ({"connection": range(3, 3)}, "connection is a number from 1 on"),
        ({"connection": range(3)}, "connection is a number from 1 on"),
        ({"connection": "3"}, "connection is a number from 1 on"),
        ({"connection": (1, 2.5)}, "connection is a number from 1 on"),
        ({"connection": (5, 1, -1)}, "connection is a number from 1 on"),
        ({"connection": True}, "connection is a number from 1 on"),
        ({"datagram": 0}, "datagram is a number from 1 on"),
        ({"every": 0}, "every is a whole number, at least 1, not 0"),
        ({"first": 1.5}, "first is a whole number, at least 1, not 1.5"),
        ({"after_bytes": -1}, "after_bytes is a whole number, at least 0, not -1"),
        ({"probability": 1.1}, "probability is a number from 0 to 1, not 1.1"),
        ({"probability": True}, "probability is a number from 0 to 1, not True"),
        ({"pattern": "x"}, "pattern is bytes, at least one, or an expression compiled from bytes, not 'x'"),
        ({"pattern": b""}, "pattern is bytes, at least one"),
        ({"pattern": re.compile("x")}, "compiled from bytes"),
        ({"between": (3, 1)}, "the first before the second, not (3, 1)"),
        ({"between": (1, 1)}, "the first before the second"),
        ({"between": (-1, 1)}, "between is two times in seconds, from 0 on"),
        ({"between": 3}, "between is two times"),
        ({"between": (1, 2, 3)}, "between is two times"),
        ({"when": 3}, "when is something to call with the site, not 3"),
        ({"connection": 1, "every": 2}, "connection says which ones already; every contradicts it"),
        ({"connection": 1, "first": 2}, "connection says which ones already; first contradicts it"),
    ],
    ids=str,
)
def test_contradictions_and_bad_values_are_refused(conditions: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Latency().on(**conditions)


def test_the_same_condition_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="on: first is given twice: 1 and 2"):
        Latency().on(first=1).on(first=2)
    with pytest.raises(ValueError, match="every contradicts it"):
        Latency().on(connection=1).on(every=2)


def test_datagrams_are_not_counted_on_streams() -> None:
    with pytest.raises(ValueError, match="datagram is for datagrams"):
        start(Latency().on(datagram=1))
    with pytest.raises(ValueError, match="datagram is for datagrams"):
        start_calls(plan("fail_call@datagram:1"))


@pytest.mark.parametrize(
    ("text", "transport", "message"),
    [
        (
            "slow_accept@after_bytes:3",
            "stream",
            "after_bytes is for what passes; SlowAccept works on listener",
        ),
        (
            'fail_call:connect@pattern:"x"',
            "stream",
            "pattern is for what passes, and nothing passes before connect",
        ),
        (
            "interrupt:accept@after_bytes:1",
            "stream",
            "after_bytes is for what passes, and nothing passes before accept",
        ),
        ('fail_call@pattern:"x"', "datagram", "a call is made before it is there: use datagram"),
    ],
)
def test_what_passes_is_not_counted_where_nothing_does(text: str, transport: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        start_calls(plan(text), transport=transport)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("conditions", "passed"),
    [
        ({"after_bytes": 0}, b""),
        ({"after_bytes": 5}, b"hello"),
        ({"pattern": b"lo w"}, b"hello w"),
        ({"pattern": b"h"}, b"h"),
        ({"pattern": b"nothing"}, b"hello world, hello again"),
        ({"pattern": re.compile(rb"w\w*d")}, b"hello world"),
        ({"pattern": re.compile(rb"l+")}, b"hel"),
        ({"pattern": b"hello", "after_bytes": 8}, b"hello wo"),
        ({"pattern": b"world", "after_bytes": 8}, b"hello world"),
    ],
    ids=str,
)
def test_a_fault_begins_at_the_very_byte(conditions: dict[str, Any], passed: bytes, size: int) -> None:
    data = b"hello world, hello again"
    chunks = [data[start : start + size] for start in range(0, len(data), size)]

    for each in (chunks, [data]):
        carried = carry(CUT.on(**conditions), each)
        assert carried.data == passed
        assert carried.ended is FINISHED


def test_it_says_where_it_began() -> None:
    assert carry(CUT.on(after_bytes=5), b"hello world").decided == [
        "begins after 5 bytes",
        "truncates after 0 bytes",
    ]
    assert carry(CUT.on(pattern=b"nothing"), b"hello").decided == []


@examples
@given(st.binary(max_size=60), st.binary(min_size=1, max_size=3), st.lists(st.integers(0, 60)))
def test_a_pattern_is_found_across_chunks(data: bytes, pattern: bytes, places: list[int]) -> None:
    at = data.find(pattern)
    expected = data if at < 0 else data[: at + len(pattern)]

    assert carry(CUT.on(pattern=pattern), cut(data, *places)).data == expected
    assert carry(CUT.on(pattern=re.compile(re.escape(pattern))), cut(data, *places)).data == expected


def test_a_window_of_time_opens_and_closes() -> None:
    driver = Driver(CUT.on(between=(1, 3)))
    for _ in range(4):
        driver.put(b"%d" % driver.now)
        driver.until(driver.now + 1)

    assert driver.carried.data == b"03"
    assert driver.carried.decided == ["begins", "truncates after 0 bytes", "ends"]


def test_a_window_counts_from_the_connections_start() -> None:
    driver = Driver(None)
    driver.until(10)
    driver.site["opened"] = 9.5
    driver.set(CUT.on(between=(1, 3)))
    driver.put(b"a")
    driver.until(10.5)
    driver.put(b"b")
    driver.until(12.5)
    driver.put(b"c")

    assert driver.carried.data == b"ac"


def test_what_a_fault_holds_comes_when_its_window_closes() -> None:
    driver = Driver(Stall(None).on(between=(1, 3)))
    driver.put(b"a")
    driver.until(1)
    driver.put(b"b")
    driver.finish()
    driver.until(FOREVER)

    assert driver.carried.outputs == [(0, b"a"), (3, b"b"), (3, FINISHED)]


def test_what_is_late_still_comes_in_order_when_the_window_closes() -> None:
    driver = Driver(Latency(5).on(between=(0, 1)))
    driver.put(b"a")
    driver.until(1)
    driver.put(b"b")
    driver.until(FOREVER)

    assert driver.carried.outputs == [(5, b"a"), (5, b"b")]


def test_times_of_a_fault_count_from_when_it_begins() -> None:
    carried = carry(ResetPeer(after=2).on(after_bytes=3), [(0.0, b"ab"), (5.0, b"cd"), (6.0, b"ef")])

    assert carried.data == b"abcdef"
    # The end has come at once; the connection is cut off all the same.
    assert carried.outputs[-1] == (7.0, ABORTED)


def test_a_window_opens_without_bytes_too() -> None:
    driver = Driver(ResetPeer().on(between=(2, 3)))
    driver.until(FOREVER)

    assert driver.carried.outputs == [(2, ABORTED)]


@pytest.mark.parametrize("fault", [Blackhole(), Timeout(100), Stall(None)])
def test_the_end_passes_before_a_fault_begins(fault: Faults) -> None:
    whole = plan(fault).on(after_bytes=100)

    assert carry(whole, b"few").ended is FINISHED


@pytest.mark.parametrize(
    ("conditions", "arrived"),
    [
        ({"datagram": 1}, [b"two", b"three", b"four"]),
        ({"datagram": range(2, 4)}, [b"one", b"four"]),
        ({"datagram": (1, 4)}, [b"two", b"three"]),
        ({"pattern": b"o"}, [b"three"]),
        ({"pattern": re.compile(b"^t")}, [b"one", b"four"]),
        ({"pattern": b"t", "datagram": 3}, [b"one", b"two", b"four"]),
        ({"after_bytes": 6}, [b"one", b"two"]),
        ({"after_bytes": 5}, [b"one", b"two"]),
    ],
    ids=str,
)
def test_datagrams_are_hit_one_by_one(conditions: dict[str, Any], arrived: list[bytes]) -> None:
    datagrams = [b"one", b"two", b"three", b"four"]

    assert carry(Loss(1).on(**conditions), datagrams, "datagram").datagrams == arrived


def test_whoever_is_asked_is_given_the_site() -> None:
    asked: list[Site] = []

    def ask(site: Site) -> bool:
        asked.append(site)
        return True

    start(Latency().on(when=ask), connection=7, direction="upstream", seed=3)

    assert [(site.connection, site.direction, site.seed) for site in asked] == [(7, "upstream", 3)]


def test_a_trigger_without_conditions_is_false() -> None:
    assert not Trigger()
    assert Trigger(first=1)
    assert repr(Trigger(first=1)) == "Trigger(first=1)"


def test_a_limit_behind_a_gate_counts_from_the_gate() -> None:
    assert carry(LimitData(3).on(after_bytes=4), b"0123456789").data == b"0123456"


def test_garbage_behind_a_gate_is_the_same_in_any_chunks() -> None:
    whole = Garbage().on(pattern=b"4")

    assert carry(whole, b"0123456789").data == carry(whole, [b"0", b"123", b"45", b"6789"]).data


@pytest.mark.parametrize("begins", [0, 100])
def test_a_source_that_is_cut_off_meets_the_fault_if_that_has_begun(begins: int) -> None:
    driver = Driver(MissingClose().on(after_bytes=begins))
    driver.put(b"hello")
    driver.abort()
    driver.until(FOREVER)

    assert driver.carried.ended is (None if begins == 0 else ABORTED)


@pytest.mark.parametrize("begins", [0, 3, 100])
def test_a_fault_behind_a_gate_is_taken_away_without_a_loss(begins: int) -> None:
    driver = Driver(Stall(None).on(after_bytes=begins))
    driver.put(b"hello")
    driver.finish()
    assert driver.carried.data == b"hello"[:begins]
    driver.set(None)

    assert driver.carried.data == b"hello"
    assert driver.carried.ended is FINISHED


def test_a_gate_wakes_the_stage_behind_it() -> None:
    carried = carry(Stall(2).on(after_bytes=2), [(0.0, b"abc"), (1.0, b"d"), (5.0, b"e")])

    assert carried.outputs == [(0, b"ab"), (2, b"c"), (2, b"d"), (5, b"e"), (5, FINISHED)]


def test_a_reset_behind_a_gate_comes_at_the_very_byte() -> None:
    for chunks in ([b"hello"], [b"hel", b"lo"], [b"h", b"ell", b"o"]):
        carried = carry(ResetPeer().on(after_bytes=3), chunks)
        assert (carried.data, carried.ended) == (b"hel", ABORTED)
