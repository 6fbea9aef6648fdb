from __future__ import annotations

import math

import pytest

from servertest._support import Deadline, DeadlineExceeded, UsageError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("servertest._support._deadline.time", clock)
    return clock


def test_it_counts_down_from_when_it_was_made(clock: Clock) -> None:
    deadline = Deadline(5, "a line")
    clock.now += 2
    assert deadline.remaining() == 3
    assert not deadline.expired
    deadline.check()


def test_it_passes(clock: Clock) -> None:
    deadline = Deadline(5, "a line")
    clock.now += 5
    assert deadline.expired
    clock.now += 5
    assert deadline.remaining() == 0
    with pytest.raises(
        DeadlineExceeded, match=r"waited 5 s for a line; 2 bytes came: b'ab'\nasleep"
    ) as caught:
        deadline.check(b"ab", "asleep")
    assert (caught.value.what, caught.value.seconds, caught.value.so_far) == ("a line", 5, b"ab")


def test_nought_seconds_have_passed_at_once(clock: Clock) -> None:
    assert Deadline(0, "a line").expired


def test_without_a_limit_it_never_passes(clock: Clock) -> None:
    deadline = Deadline(None, "a line")
    clock.now += 1e9
    assert deadline.remaining() is None
    assert not deadline.expired
    deadline.check()


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_what_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="waiting for a line"):
        Deadline(seconds, "a line")


def test_repr_tells_what_is_left(clock: Clock) -> None:
    assert repr(Deadline(5, "a line")) == "Deadline(5, 'a line', remaining=5.0)"
