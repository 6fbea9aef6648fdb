"""Framings: where a message ends, however the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from servertest._support import UsageError
from servertest.transcript import (
    BadFrame,
    ByFunction,
    Cut,
    Cutter,
    Datagrams,
    Delimited,
    FixedSize,
    Framing,
    LengthPrefixed,
    WholeStream,
)


def by_first_byte(data: bytes) -> int | None:
    """A message that begins with its own size."""
    return data[0] if data else None


def spoken(framing: Framing, message: bytes) -> bytes:
    """A message that can be said in this framing, made of any."""
    if isinstance(framing, Delimited):
        return message.replace(framing.delimiter[:1], b"")
    if isinstance(framing, FixedSize):
        return message.ljust(framing.size, b".")[: framing.size]
    if isinstance(framing, ByFunction):
        return bytes([len(message) % 200 + 1]) + message[: len(message) % 200].ljust(len(message) % 200, b".")
    return message


FRAMINGS = [
    Delimited(),
    Delimited(b"\r\n"),
    FixedSize(3),
    *(
        LengthPrefixed(width, order, itself)
        for width in (1, 2, 3, 8)
        for order in ("big", "little")
        for itself in (False, True)
    ),
    ByFunction(by_first_byte),
]


@settings(deadline=None)
@given(
    message=st.text("ab", max_size=6).map(str.encode),
    delimiter=st.text("ab", min_size=1, max_size=4).map(str.encode),
)
def test_what_a_delimiter_would_end_too_early_is_refused(message: bytes, delimiter: bytes) -> None:
    framing = Delimited(delimiter)
    if (message + delimiter).find(delimiter) < len(message):
        with pytest.raises(UsageError, match="cannot hold the delimiter"):
            framing.wrap(message)
    else:
        assert framing.cut(framing.wrap(message)) == Cut(message, len(message) + len(delimiter))


@pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: str(framing).partition(" at 0x")[0])
@settings(deadline=None)
@given(messages=st.lists(st.binary(max_size=40), max_size=6), cuts=st.lists(st.integers(1, 9), max_size=20))
def test_messages_come_back_however_the_stream_is_cut(
    framing: Framing, messages: list[bytes], cuts: list[int]
) -> None:
    messages = [spoken(framing, message) for message in messages]
    stream = b"".join(map(framing.wrap, messages))
    cutter = Cutter(framing)
    found: list[bytes] = []
    for size in [*cuts, len(stream)]:
        found += cutter.feed(stream[:size])
        stream = stream[size:]
    found += cutter.end()

    assert found == messages


@settings(deadline=None)
@given(pieces=st.lists(st.binary(), max_size=5))
def test_the_whole_stream_is_one_message_once_it_ends(pieces: list[bytes]) -> None:
    cutter = Cutter(WholeStream())
    assert not [message for piece in pieces for message in cutter.feed(piece)]

    whole = b"".join(pieces)
    assert list(cutter.end()) == ([whole] if whole else [])


def test_a_datagram_is_a_message_even_if_it_is_empty() -> None:
    assert Datagrams().cut(b"") == Cut(b"", 0)
    assert Datagrams().wrap(b"x") == b"x"


def test_a_length_that_counts_itself() -> None:
    framing = LengthPrefixed(2, counts_itself=True)
    assert framing.wrap(b"abc") == b"\x00\x05abc"
    with pytest.raises(BadFrame, match="no length of a message"):
        framing.cut(b"\x00\x01")


@pytest.mark.parametrize(
    ("framing", "data"),
    [
        (Delimited(max_size=3), b"abcd"),
        (Delimited(b"\r\n", max_size=3), b"abcd\r\n"),
        (LengthPrefixed(4, max_size=100), b"HTTP"),
    ],
    ids=str,
)
def test_what_will_never_be_a_message_is_refused_early(framing: Framing, data: bytes) -> None:
    with pytest.raises(BadFrame):
        framing.cut(data)


def test_a_message_of_the_greatest_size_is_one() -> None:
    assert Delimited(b"\r\n", max_size=3).cut(b"abc\r") is None
    assert Delimited(b"\r\n", max_size=3).cut(b"abc\r\n") == Cut(b"abc", 5)


def test_a_stream_that_ends_in_the_midst_of_a_message_is_told() -> None:
    cutter = Cutter(Delimited())
    assert list(cutter.feed(b"one\ntw")) == [b"one"]
    with pytest.raises(BadFrame, match=r"midst of a message: b'tw'"):
        list(cutter.end())


@pytest.mark.parametrize(
    ("framing", "message"),
    [
        (Delimited(), b"a\nb"),
        (FixedSize(3), b"ab"),
        (LengthPrefixed(1), b"x" * 256),
        (LengthPrefixed(1, counts_itself=True), b"x" * 255),
    ],
    ids=str,
)
def test_what_cannot_be_said_in_a_framing_is_refused(framing: Framing, message: bytes) -> None:
    with pytest.raises(UsageError):
        framing.wrap(message)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Delimited(b""),
        lambda: Delimited("\n"),  # type: ignore[arg-type]
        lambda: FixedSize(0),
        lambda: LengthPrefixed(0),
        lambda: LengthPrefixed(2, "middle"),  # type: ignore[arg-type]
        lambda: ByFunction(3),  # type: ignore[arg-type]
    ],
)
def test_nonsense_is_refused_where_it_is_said(make: object) -> None:
    assert callable(make)
    with pytest.raises(UsageError):
        make()


def test_a_function_that_says_nonsense() -> None:
    with pytest.raises(UsageError, match="at least one byte"):
        ByFunction(lambda data: 0).cut(b"x")
