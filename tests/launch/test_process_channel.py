"""Messages keep their boundaries, whoever writes them and however long they are."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest

from servertest._support import Deadline, DeadlineExceeded
from servertest.launch._process_channel import PACKET, Channel, channel_pair

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far_socket = channel_pair()
    far = Channel(far_socket)
    yield near, far
    near.close()
    far.close()


def test_a_message_arrives_as_it_was(pair: Pair) -> None:
    near, far = pair
    message = ("event", 1, b"data", None, ("127.0.0.1", 80))
    far.send(message)

    assert near.receive() == message


def test_a_long_message_arrives_in_one_piece(pair: Pair) -> None:
    near, far = pair
    message = ("event", bytes(range(256)) * 1024)
    far.send(message)

    assert list(near.waiting()) == [message]


@pytest.mark.parametrize("size", [PACKET - 60, PACKET - 9, PACKET, 2 * PACKET])
def test_no_length_is_special(pair: Pair, size: int) -> None:
    near, far = pair
    far.send(("x", b"a" * size))
    far.send(("y",))

    assert [message and message[0] for message in near.waiting()] == ["x", "y"]


def test_pieces_of_several_writers_may_mingle(pair: Pair) -> None:
    near, far = pair
    packets: dict[int, list[bytes]] = {}
    for number in (1, 2):
        tap_near, tap_far = channel_pair()
        with tap_near.socket, tap_far:
            writer = Channel(tap_far)
            writer._numbers = itertools.count(number)  # as another process would count
            writer.send((f"message {number}", b"x" * 100_000))
            packets[number] = [tap_near.socket.recv(PACKET) for _ in range(4)]
    for one, two in zip(packets[1], packets[2], strict=True):
        far.socket.send(one)
        far.socket.send(two)

    assert [message[0] for message in near.waiting() if message] == ["message 1", "message 2"]


def test_nothing_there_is_not_the_end(pair: Pair) -> None:
    near, _ = pair

    assert list(near.waiting()) == []
    with pytest.raises(BlockingIOError):
        near.receive()


def test_the_end_comes_after_everything_else(pair: Pair) -> None:
    near, far = pair
    far.send(("last",))
    far.close()

    assert list(near.waiting()) == [("last",), None]


def test_the_end_is_seen_as_well_when_something_was_not_read(pair: Pair) -> None:
    near, far = pair
    near.send(("never read",))
    far.close()

    assert list(near.waiting()) == [None]


def test_a_reader_that_blocks_can_look(pair: Pair) -> None:
    near, far = pair

    assert far.receive_now() is None
    near.send(("stop", 1.0))
    assert far.receive_now() == ("stop", 1.0)
    assert far.socket.getblocking()


def test_where_there_are_no_packets_datagrams_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(socket, "SOCK_SEQPACKET", -1)
    near, far_socket = channel_pair()
    far = Channel(far_socket)
    try:
        far.send(("x", b"a" * 100_000))
        assert list(near.waiting()) == [("x", b"a" * 100_000)]
        assert not near.tells_end
    finally:
        near.close()
        far.close()


def test_waiting_for_room_has_a_deadline(pair: Pair) -> None:
    near, _ = pair
    with pytest.raises(DeadlineExceeded, match="the child to read"):
        near.send(("plan", b"x" * 50_000_000), Deadline(0.02, "the child to read"))


def test_room_is_waited_for(pair: Pair) -> None:
    near, far = pair
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(far.receive()))
    reader.start()
    message = ("plan", b"x" * 5_000_000)
    near.send(message, Deadline(10, "the child to read"))
    reader.join(10)

    assert got == [message]
