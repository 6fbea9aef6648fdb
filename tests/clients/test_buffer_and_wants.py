"""The part without sockets: rules over bytes that come in any pieces."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from servertest._support import Mismatch, UsageError
from servertest.clients import ReceiveBuffer
from servertest.clients._wants import (
    Everything,
    Exactly,
    Line,
    Literally,
    Matching,
    Some,
    Until,
    Want,
    wanted,
)


def feed(want: Want[Any], pieces: list[bytes]) -> tuple[Any, bytes]:
    """What the want takes out of the pieces, asked after each, and what is left when all have come."""
    buffer = ReceiveBuffer()
    result = want.take(buffer)
    for piece in pieces:
        buffer.feed(piece)
        if result is None:
            result = want.take(buffer)
    if result is None:
        buffer.feed_eof()
        result = want.at_end(buffer)
    return result, bytes(buffer.data)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def test_the_buffer_counts_and_keeps_order() -> None:
    buffer = ReceiveBuffer("somebody")
    buffer.feed(b"abc")
    buffer.feed(b"def")
    assert buffer.take(4) == b"abcd"
    assert buffer.take(4) == b"ef"
    assert (len(buffer), buffer.total) == (0, 6)
    buffer.feed_eof()
    assert repr(buffer) == "<ReceiveBuffer 0 of 6 bytes from somebody eof>"


WANTS: list[tuple[str, Any, bytes, bytes]] = [
    ("exactly", lambda: Exactly(5), b"12345678", b"12345"),
    ("exactly none", lambda: Exactly(0), b"12345678", b""),
    ("until", lambda: Until(b"\r\n", 100), b"a\rb\nc\r\nd\r\n", b"a\rb\nc\r\n"),
    ("line", lambda: Line(100), b"one\ntwo\n", b"one\n"),
    ("last line", lambda: Line(100), b"one", b"one"),
    ("no line", lambda: Line(100), b"", b""),
    ("everything", Everything, b"one\ntwo", b"one\ntwo"),
    ("literally", lambda: Literally(b"HELLO"), b"HELLO world", b"HELLO"),
    ("matching", lambda: Matching(re.compile(rb"\d+\r\n")), b"200\r\n404\r\n", b"200\r\n"),
    ("matching greedily", lambda: Matching(re.compile(rb"(?s).*\n")), b"one\ntwo\n", b"one\n"),
    ("matching ahead", lambda: Matching(re.compile(rb"\w+(?= )")), b"one two three", b"one"),
    ("matching nothing", lambda: Matching(re.compile(rb"x*")), b"yxx", b""),
]


@pytest.mark.parametrize(
    ("make", "stream", "taken"), [row[1:] for row in WANTS], ids=[row[0] for row in WANTS]
)
@settings(max_examples=40)
@given(places=st.lists(st.integers(0, 20), max_size=6))
def test_how_the_stream_is_cut_changes_nothing(
    make: Any, stream: bytes, taken: bytes, places: list[int]
) -> None:
    result, rest = feed(make(), cut(stream, places))
    if isinstance(result, re.Match):
        result = result.group()
    assert result == taken
    assert rest == stream[len(taken) :]


def test_some_takes_what_is_there_up_to_its_size() -> None:
    assert feed(Some(3), [b"ab", b"cd"]) == (b"ab", b"cd")
    assert feed(Some(3), [b"abcd"]) == (b"abc", b"d")
    assert feed(Some(3), []) == (b"", b"")


@pytest.mark.parametrize(
    "want", [Exactly(3), Until(b"\n", 10), Literally(b"abc"), Matching(re.compile(b"abc"))]
)
def test_an_early_end_gives_nothing_and_takes_nothing(want: Want[Any]) -> None:
    assert feed(want, [b"a", b"b"]) == (None, b"ab")


@pytest.mark.parametrize("stream", [b"x" * 11, b"x" * 10, b"x" * 10 + b"\n", b"x" * 9 + b"\r\n"])
def test_a_separator_that_is_too_far_away_is_a_mismatch(stream: bytes) -> None:
    want = Until(b"\r\n" if b"\r" in stream else b"\n", 10)
    buffer = ReceiveBuffer("somebody")
    buffer.feed(stream)
    with pytest.raises(Mismatch, match=r"somebody sent \d+ bytes and no b'.*' within the first 10"):
        want.take(buffer)
    assert bytes(buffer.data) == stream


def test_a_separator_right_at_the_limit_is_taken() -> None:
    assert feed(Until(b"\r\n", 10), [b"x" * 8 + b"\r", b"\n"]) == (b"x" * 8 + b"\r\n", b"")


@given(places=st.lists(st.integers(0, 20), max_size=6))
def test_the_first_wrong_byte_is_found_wherever_the_cuts_are(places: list[int]) -> None:
    want, buffer = Literally(b"HELLO world"), ReceiveBuffer("somebody")
    with pytest.raises(Mismatch, match=r"(?s)^somebody sent something else.*b'HELLO w.*byte 6"):
        for piece in cut(b"HELLO World", places):
            buffer.feed(piece)
            want.take(buffer)
    assert b"HELLO World".startswith(buffer.data)


def test_a_right_beginning_is_no_mismatch() -> None:
    want, buffer = Literally(b"HELLO"), ReceiveBuffer()
    buffer.feed(b"HELL")
    assert want.take(buffer) is None


def test_a_match_keeps_its_groups_when_more_comes() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"len=5 hello")
    match = Matching(re.compile(rb"len=(\d+) ")).take(buffer)
    buffer.feed(b"!" * 100)
    buffer.take(50)
    assert match is not None
    assert match.group(1) == b"5"


def test_sized_wants_ask_the_system_for_no_more_than_they_need() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"ab")
    assert Exactly(5).hint(buffer) == 3
    assert Some(7).hint(buffer) == 7
    assert Exactly(10**9).hint(buffer) == Everything().hint(buffer) == 65536


@pytest.mark.parametrize(
    "make", [lambda: Exactly(-1), lambda: Some(0), lambda: Until(b"x", 0), lambda: Until(b"", 9)]
)
def test_senseless_sizes_are_refused(make: Any) -> None:
    with pytest.raises(UsageError, match="at least"):
        make()


@pytest.mark.parametrize("expected", ["text", 17, None, re.compile("text")])
def test_expectations_are_bytes(expected: Any) -> None:
    with pytest.raises(UsageError, match=r"expect\(\) takes bytes or a compiled pattern over bytes, not"):
        wanted(expected)


@pytest.mark.parametrize("expected", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_all_sorts_of_bytes_are_taken(expected: Any) -> None:
    assert feed(wanted(expected), [b"xy"]) == (b"x", b"y")


@pytest.mark.parametrize(
    ("want", "text"),
    [
        (Some(1), "any bytes"),
        (Exactly(3), "3 bytes"),
        (Until(b"\r\n", 9), r"bytes up to b'\r\n'"),
        (Line(9), "a line"),
        (Everything(), "the end of the stream"),
        (Literally(b"OK"), "b'OK'"),
        (Matching(re.compile(rb"O+")), "bytes that match rb'O+'"),
        (Matching(re.compile(rb"\d+\r\n")), r"bytes that match rb'\d+\r\n'"),
        (Matching(re.compile(b"a\nb")), r"bytes that match b'a\nb'"),
        (Exactly(1), "1 byte"),
    ],
)
def test_wants_say_what_they_wait_for(want: Want[Any], text: str) -> None:
    assert str(want) == text


def test_a_want_is_no_want_by_itself() -> None:
    with pytest.raises(NotImplementedError):
        Want[bytes]().take(ReceiveBuffer())
