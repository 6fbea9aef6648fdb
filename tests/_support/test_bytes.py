from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from servertest._support import byte_diff, first_difference, preview, what_came


@pytest.mark.parametrize(
    ("one", "other", "position"),
    [
        (b"", b"", None),
        (b"same", b"same", None),
        (b"", b"x", 0),
        (b"abc", b"xbc", 0),
        (b"abc", b"abx", 2),
        (b"abc", b"ab", 2),
        (b"ab", b"abc", 2),
    ],
)
def test_first_difference(one: bytes, other: bytes, position: int | None) -> None:
    assert first_difference(one, other) == position


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_first_difference_is_where_a_slow_look_finds_it(start: bytes, one: bytes, other: bytes) -> None:
    one, other = start + one, start + other
    slow = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    assert first_difference(one, other) == (None if one == other else slow)


def test_preview_shows_short_bytes_whole() -> None:
    assert preview(b"GET / HTTP/1.0\r\n") == r"b'GET / HTTP/1.0\r\n'"


def test_preview_cuts_the_middle_out_of_long_bytes() -> None:
    shown = preview(b"head" + b"." * 1000 + b"tail", limit=40)
    assert shown.startswith("b'head...")
    assert shown.endswith("...tail' (1008 bytes)")
    assert len(shown) < 80


def test_diff_marks_the_first_wrong_byte_under_its_hex() -> None:
    *_, received, mark = byte_diff(b"HELLO\n", b"HELXO\n").splitlines()
    column = mark.index("^^")
    assert received[column : column + 2] == b"X".hex()
    assert mark.endswith("byte 3")


def test_diff_of_long_texts_shows_the_place_and_not_all() -> None:
    expected = b"a" * 5000 + b"RIGHT" + b"z" * 5000
    received = b"a" * 5000 + b"WRONG" + b"z" * 5000
    text = byte_diff(expected, received)
    assert "RIGHT" in text
    assert "WRONG" in text
    assert "byte 5000" in text
    assert max(len(line) for line in text.splitlines()) < 110
    *_, line, mark = text.splitlines()
    assert line[mark.index("^^") :].startswith(b"W".hex())


def test_diff_says_what_is_missing_or_too_much() -> None:
    assert "nothing came after that; 3 bytes missing" in byte_diff(b"HELLO\n", b"HEL")
    assert "3 bytes too many" in byte_diff(b"HEL", b"HELLO\n")


def test_diff_of_equal_bytes_says_so() -> None:
    assert byte_diff(b"x", b"x") == "  both are b'x'"


@pytest.mark.parametrize(
    ("data", "text"), [(b"", "nothing came"), (b"a", "1 byte came: b'a'"), (b"ab", "2 bytes came: b'ab'")]
)
def test_what_came(data: bytes, text: str) -> None:
    assert what_came(data) == text
