"""Messages on a stream: the clients read and send them by the framings that mock servers use."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from servertest._support import DeadlineExceeded, Mismatch, PeerClosed, UsageError
from servertest.mocks import MockServer
from servertest.transcript import (
    BadFrame,
    ByFunction,
    Datagrams,
    Delimited,
    FixedSize,
    Framing,
    LengthPrefixed,
    WholeStream,
)

from ._twins import Twin
from .conftest import Link

SOON = 0.01  # a deadline that is meant to pass


def by_first_byte(data: bytes) -> int | None:
    """A message that begins with its own size."""
    return data[0] if data else None


FRAMINGS = [
    (Delimited(b"\r\n"), [b"one", b"", b"a\nb"]),
    (FixedSize(3), [b"one", b"two"]),
    (LengthPrefixed(3, "little", counts_itself=True), [b"one", b"", b"x" * 5_000]),
    (ByFunction(by_first_byte), [b"\x03ab", b"\x01"]),
]
framings = pytest.mark.parametrize(
    ("framing", "messages"), FRAMINGS, ids=[type(framing).__name__ for framing, _ in FRAMINGS]
)


@framings
def test_messages_go_both_ways_whole(link: Link, framing: Framing, messages: list[bytes]) -> None:
    for message in messages:
        link.client.send_message(message, framing)
        assert read_exactly(link.peer, len(framing.wrap(message))) == framing.wrap(message)
    link.peer.sendall(b"".join(map(framing.wrap, messages)) + b"rest")
    assert [link.client.read_message(framing) for _ in messages] == messages
    assert link.client.read_exactly(4) == b"rest"


@framings
def test_how_the_network_cuts_them_does_not_matter(
    tcp: Link, framing: Framing, messages: list[bytes]
) -> None:
    data = framing.wrap(messages[0])
    tcp.peer.sendall(data[:1])
    with pytest.raises(DeadlineExceeded, match=rf"waited 0.01 s for a message \({type(framing).__name__}"):
        tcp.client.read_message(framing, timeout=SOON)
    tcp.peer.sendall(data[1:])
    assert tcp.client.read_message(framing) == messages[0]


def test_a_whole_stream_is_one_message(link: Link) -> None:
    link.client.send_message(b"all of it", WholeStream())
    assert read_exactly(link.peer, 9) == b"all of it"
    link.peer.sendall(b"all ")
    link.peer.sendall(b"there is")
    link.peer.close()
    assert link.client.read_message(WholeStream()) == b"all there is"
    with pytest.raises(PeerClosed, match="before a message"):
        link.client.read_message(WholeStream())


def test_a_stream_that_ends_in_the_midst_of_a_message(tcp: Link) -> None:
    tcp.peer.sendall(b"\x00\x05hel")
    tcp.peer.close()
    with pytest.raises(
        PeerClosed, match=r"before a message \(LengthPrefixed.* had come; 5 bytes came"
    ) as caught:
        tcp.client.read_message(LengthPrefixed(2))
    assert caught.value.so_far == b"\x00\x05hel"
    assert tcp.client.read_eof() == b"\x00\x05hel"


def test_what_cannot_become_a_message_is_refused_and_stays(tcp: Link) -> None:
    tcp.peer.sendall(b"HTTP")
    with pytest.raises(
        BadFrame, match=r"127.0.0.1:\d+ sent what is no message .* 48 54 54 50 is no length"
    ) as caught:
        tcp.client.read_message(LengthPrefixed(4))
    assert isinstance(caught.value, Mismatch)
    assert tcp.client.read_exactly(4) == b"HTTP"


@pytest.mark.parametrize("method", ["read", "send"])
def test_what_is_no_framing_for_streams_is_refused(tcp: Link, method: str) -> None:
    wrong: Any
    for wrong, why in ((Datagrams(), "packets of a stream are cut by chance"), (b"\n", "such as Delimited")):
        with pytest.raises(UsageError, match=why):
            if method == "read":
                tcp.client.read_message(wrong)
            else:
                tcp.client.send_message(b"hi", wrong)


def test_what_cannot_be_said_is_not_sent(tcp: Link) -> None:
    with pytest.raises(UsageError, match="3 bytes, not 2"):
        tcp.client.send_message(b"hi", FixedSize(3))
    assert tcp.client.sent == 0


@framings
def test_client_and_mock_server_share_a_framing(
    twin: Twin, stack: Any, framing: Framing, messages: list[bytes]
) -> None:
    with MockServer(framing=framing) as mock:
        for message in messages:
            mock.expect(message).reply(message)
        with twin.connect(mock.address) as client:
            for message in messages:
                client.send_message(message, framing)
                assert client.read_message(framing) == message
    assert [request.data for request in mock.requests] == messages


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece
        data += piece
    return data
