"""Which connections a script is for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from servertest._support import UsageError
from servertest.mocks import MockServer
from servertest.mocks._numbers import Numbers

RANGES = st.builds(range, st.integers(1, 30), st.integers(1, 60), st.integers(1, 7)).filter(len)
SETS = st.frozensets(st.integers(1, 60), min_size=1, max_size=5)


@settings(deadline=None)
@given(RANGES | SETS | st.integers(1, 60), RANGES | SETS)
def test_whether_they_meet(one: Any, other: Any) -> None:
    numbers = {one} if isinstance(one, int) else set(one)
    assert Numbers.of(one).meets(Numbers.of(other)) == bool(numbers & set(other))
    assert set(Numbers.of(one).chosen) == numbers


@pytest.mark.parametrize(
    ("first", "second", "meet"), [(1, 2, False), (1, 4, True), (2, 3, False), (3, 9, True)]
)
def test_endless_ones(first: int, second: int, meet: bool) -> None:
    one, other = (Numbers.of(range(start, 1 << 40, 3)) for start in (first, second))
    assert one.meets(other) is meet
    assert other.meets(one) is meet


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (3, "connection 3"),
        ([3], "connection 3"),
        ({5, 1}, "connections 1, 5"),
        (range(2, 5), "connections 2 to 4"),
        (range(4, 1, -1), "connections 2 to 4"),
        (range(1, 1 << 40, 3), "connections 1, 4, 7, 10, 13 ..."),
    ],
)
def test_what_they_are_called(said: Any, text: str) -> None:
    assert str(Numbers.of(said)) == text


def test_the_same_ones_have_the_same_script() -> None:
    with MockServer() as mock:
        mock.on(1).expect(b"A").reply(b"a")
        mock.on(connection=[1]).expect(b"B").reply(b"b").close()
        with mock.connect() as client:
            client.send_all(b"AB")
            assert client.read_eof() == b"ab"


def test_scripts_that_overlap_are_refused() -> None:
    with MockServer() as mock:
        mock.on(range(1, 4))
        with pytest.raises(UsageError, match=r"connection 2 cannot have .* beside connections 1 to 3"):
            mock.on(2)
        mock.on(4)
        mock.forgive()
