"""Faults that change what arrives on streams."""

from __future__ import annotations

import pytest

from servertest.faults import Corrupt, DuplicateBytes, Garbage, InsertBytes, Truncate
from servertest.wire._line import FINISHED
from tests.faults._driving import carry, cut

DATA = bytes(100_000)


def flipped(data: bytes) -> list[int]:
    """How many bits differ in each byte that does."""
    return [byte.bit_count() for byte in data if byte]


def test_corruption_flips_the_share_of_bytes_that_was_asked_for() -> None:
    carried = carry(Corrupt(0.01), DATA)

    assert len(carried.data) == len(DATA)
    assert len(flipped(carried.data)) == pytest.approx(1000, rel=0.1)
    assert set(flipped(carried.data)) == {1}
    assert carried.trace.counts["corrupt"] == len(flipped(carried.data))


def test_corruption_says_which_byte() -> None:
    carried = carry(Corrupt(0.0001), DATA)

    hit = [place for place, byte in enumerate(carried.data) if byte]
    assert carried.decided == [f"corrupts byte {place}" for place in hit]


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_corruption_of_one_place(bits: int) -> None:
    carried = carry(Corrupt(at=70_000, bits=bits), cut(DATA, 69_999, 70_000, 70_001))

    assert [place for place, byte in enumerate(carried.data) if byte] == [70_000]
    assert flipped(carried.data) == [bits]


@pytest.mark.parametrize(("probability", "hit"), [(0, 0), (1, 5)])
def test_corruption_of_none_and_of_all(probability: float, hit: int) -> None:
    assert len(flipped(carry(Corrupt(probability), bytes(5)).data)) == hit


@pytest.mark.parametrize("at", [None, 2])
def test_corruption_hits_one_byte_of_each_datagram(at: int | None) -> None:
    datagrams = carry(Corrupt(1, at), [bytes(5)] * 20 + [b"", b"\0"], "datagram").datagrams

    assert [flipped(datagram) for datagram in datagrams[:20]] == [[1]] * 20
    assert datagrams[20] == b""
    assert len({datagram.index(max(datagram)) for datagram in datagrams[:20]}) == (1 if at else 5)
    assert datagrams[21] == b"\0" or at is None


def test_some_datagrams_are_corrupted() -> None:
    carried = carry(Corrupt(0.1), [bytes(5)] * 1000, "datagram")

    assert len([each for each in carried.datagrams if any(each)]) == pytest.approx(100, rel=0.3)
    assert carried.trace.counts["corrupt"] == len([each for each in carried.datagrams if any(each)])


def test_garbage_has_the_length_of_what_was_sent() -> None:
    carried = carry(Garbage(3), b"0123456789")

    assert len(carried.data) == 10
    assert carried.data[:3] == b"012"
    assert carried.data[3:] != b"3456789"
    assert carried.decided == ["sends garbage after 3 bytes"]


def test_garbage_in_each_datagram() -> None:
    one, two, short = carry(Garbage(3), [b"0123456789", b"0123456789", b"01"], "datagram").datagrams

    assert one[:3] == two[:3] == b"012"
    assert one != two
    assert short == b"01"


def test_insertion() -> None:
    assert carry(InsertBytes(b"xx", at=3), b"01234").data == b"012xx34"
    assert carry(InsertBytes(b"xx", at=3), [b"012", b"34"]).data == b"012xx34"
    assert carry(InsertBytes(b"xx"), b"0").data == b"xx0"


@pytest.mark.parametrize("data", [b"", b"0", b"01234"])
def test_insertion_at_the_end_of_a_short_stream(data: bytes) -> None:
    carried = carry(InsertBytes(b"xx", at=5), data)

    assert carried.data == data + b"xx"
    assert carried.ended is FINISHED


def test_duplication() -> None:
    assert carry(DuplicateBytes(2, at=1), b"01234").data == b"0121234"
    assert carry(DuplicateBytes(2, at=1), [b"01", b"23", b"4"]).data == b"0121234"
    assert carry(DuplicateBytes(9, at=1), b"01234").data == b"012341234"
    assert carry(DuplicateBytes(2, at=9), b"01234").data == b"01234"


def test_truncation_is_silent_until_the_end() -> None:
    carried = carry(Truncate(3), [(0.0, b"01234"), (5.0, b"56")])

    assert carried.outputs == [(0, b"012"), (5, FINISHED)]
