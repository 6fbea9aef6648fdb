"""Memory is bounded, and what is kept is where it was."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, strategies as st

from servertest.transcript import Data, Gap, Note, Transcript
from servertest.transcript._kept import Kept

from .strategies import examples


@examples
@given(
    st.integers(0, 60),
    st.lists(
        st.binary(max_size=40) | st.integers(600, 900).map(lambda size: b"ab" * (size // 2)), max_size=20
    ),
)
def test_the_beginning_and_the_end_are_kept(limit: int, pieces: list[bytes]) -> None:
    kept = Kept(limit)
    grown = sum(kept.append(piece) for piece in pieces)
    whole = b"".join(pieces)
    head, tail = whole[: limit - limit // 2], whole[max(0, len(whole) - limit // 2) :]
    assert kept.total == len(whole)
    assert grown == kept.held
    if len(whole) <= limit:
        assert (bytes(kept), kept.missing) == (whole, 0)
    else:
        assert bytes(kept) == head + (tail if limit // 2 else b"")
        assert kept.missing == len(whole) - limit
        assert kept.gap == (len(head), len(whole) - limit // 2)


@examples
@given(
    st.integers(0, 60),
    st.lists(st.binary(max_size=20), max_size=20),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_a_slice_is_that_of_the_whole_without_the_gap(
    limit: int, pieces: list[bytes], one: int, other: int
) -> None:
    kept = Kept(limit)
    for piece in pieces:
        kept.append(piece)
    whole = b"".join(pieces)
    start, stop = sorted((min(one, len(whole)), min(other, len(whole))))
    gap_start, gap_end = kept.gap
    there = [i for i in range(start, stop) if not gap_start <= i < gap_end]
    assert kept.slice(start, stop) == bytes(whole[i] for i in there)


def test_a_stream_of_single_bytes_costs_little_more_than_its_size() -> None:
    kept = Kept(40_000)
    for index in range(60_000):
        kept.append(b"%c" % (index % 256))
    blocks = kept._tail
    assert sum(map(sys.getsizeof, blocks)) < 2 * 20_000 + 4096 * 2
    assert bytes(kept)[-1:] == b"%c" % (59_999 % 256)


def test_a_huge_piece_is_not_held_for_the_sake_of_its_end() -> None:
    kept = Kept(1000)
    kept.append(bytes(10_000_000))
    assert kept.held == 1000


def test_what_was_skipped_is_the_only_gap() -> None:
    kept = Kept(100)
    kept.append(b"abc")
    assert kept.skip(10) == 0
    kept.append(b"lost")
    assert kept.skip(5) == -4
    kept.append(b"xyz")
    assert (bytes(kept), kept.total, kept.missing, kept.gap) == (b"abcxyz", 25, 19, (3, 22))


def test_a_tightened_one_keeps_little_more() -> None:
    kept = Kept(1 << 20)
    kept.append(b"a" * 100)
    assert kept.tighten() == 0
    for _ in range(100):
        kept.append(b"b" * 1000)
    assert kept.held <= 2048 + 2048 + 1000
    assert bytes(kept) == b"a" * 100 + b"b" * (2048 - 100) + b"b" * 2048


def test_events_are_kept_at_both_ends_and_counted() -> None:
    transcript = Transcript(max_events=10)
    for index in range(100):
        transcript.note(0, str(index))
    texts = [event.text for event in transcript.events if isinstance(event, Note)]
    assert texts == ["0", "1", "2", "3", "4", "90 events were not kept here", "95", "96", "97", "98", "99"]
    assert len(transcript) == 100


@pytest.mark.parametrize("limit", [0, 1])
def test_so_few_events_are_still_counted(limit: int) -> None:
    transcript = Transcript(max_events=limit)
    for _ in range(3):
        transcript.note(0, "x")
    assert len(transcript) == 3
    assert f"{3 - limit} events" in str(transcript.events[-1])


def test_bytes_of_events_that_were_not_kept_are_not_lost() -> None:
    transcript = Transcript(max_events=4)
    number = transcript.connect(None, None)
    for index in range(10):
        transcript.data(number, "upstream", b"%d" % index)
    assert [e.data for e in transcript.events if isinstance(e, Data)] == [b"0", b"1234567", b"8", b"9"]
    assert transcript.connections[0].upstream == b"0123456789"


def test_a_gap_is_an_event_where_it_begins() -> None:
    transcript = Transcript(max_bytes=8)
    number = transcript.connect(None, None)
    for data in (b"abc", b"defg", b"hij", b"klmnop", b"q"):
        transcript.data(number, "upstream", data)
    told = [
        (e.data if isinstance(e, Data) else e.size) for e in transcript.events if isinstance(e, (Data, Gap))
    ]
    assert told == [b"abc", b"d", 9, b"nop", b"q"]
    (conversation,) = transcript.connections
    assert (conversation.upstream, conversation.upstream_total) == (b"abcdnopq", 17)


def test_ended_connections_are_forgotten_when_there_are_too_many() -> None:
    transcript = Transcript(max_connections=4)
    open_one = 3
    for number in range(1, 11):
        transcript.connect(("127.0.0.1", number), None)
        transcript.data(number, "upstream", b"x")
        if number != open_one:
            transcript.close(number, "client", "fin")
    assert [c.number for c in transcript.connections] == [1, 2, 3, 10]
    assert {e.connection for e in transcript.events} == {1, 2, 3, 10}
    transcript.wait_for(connections=10, closed=9, timeout=0)
    assert transcript.connections[-1].upstream == b"x"


def test_datagram_peers_are_forgotten_when_there_are_too_many() -> None:
    transcript = Transcript(max_connections=2)
    for port in range(5):
        transcript.datagram("upstream", b"x", port)
    assert [c.client for c in transcript.connections] == [0, 4]
    assert transcript.datagram("upstream", b"y", 0) == 1
    assert transcript.datagram("upstream", b"y", 3) == 6


def test_all_bytes_together_are_bounded() -> None:
    transcript = Transcript(max_bytes=100_000, max_total_bytes=150_000)
    for _ in range(10):
        number = transcript.connect(None, None)
        for _ in range(50):
            transcript.data(number, "upstream", b"x" * 2000)
    held = sum(len(c.upstream) for c in transcript.connections)
    assert held < 150_000 + 10 * 3 * 2048
    assert [c.upstream_total for c in transcript.connections] == [100_000] * 10
    assert len(transcript.connections[0].upstream) == 100_000
