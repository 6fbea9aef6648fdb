"""Datagrams are recorded with the peer they came from or went to."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from servertest._support import Family, SocketDirectory, UsageError, bound_socket
from servertest.transcript import Datagram, Transcript
from servertest.wire import ObservedDatagramSocket, observe_datagrams, observed_number

from .conftest import LIMIT


@dataclass
class Pair:
    server: ObservedDatagramSocket
    client: socket.socket
    transcript: Transcript

    def story(self) -> list[tuple[str, bytes, Any]]:
        return [(e.direction, e.data, e.address) for e in self.transcript.events if isinstance(e, Datagram)]


@pytest.fixture
def pair(family: Family) -> Iterator[Pair]:
    transcript = Transcript()
    with (
        SocketDirectory() as directory,
        observe_datagrams(bound_socket("datagram", family, directory=directory), transcript) as server,
        bound_socket("datagram", family, directory=directory) as client,
    ):
        for sock in (server, client):
            sock.settimeout(LIMIT)
        client.connect(server.getsockname())
        yield Pair(server, client, transcript)


def _into(call: Callable[[bytearray], Any]) -> bytes:
    buffer = bytearray(10)
    count = call(buffer)
    return bytes(buffer[: count[0] if isinstance(count, tuple) else count])


def _connected(sock: socket.socket, peer: Any) -> socket.socket:
    sock.connect(peer)
    return sock


RECEIVE: dict[str, Callable[[socket.socket], bytes]] = {
    "recv": lambda sock: sock.recv(10),
    "recv_into": lambda sock: _into(sock.recv_into),
    "recvfrom": lambda sock: sock.recvfrom(10)[0],
    "recvfrom_into": lambda sock: _into(sock.recvfrom_into),
    "recvmsg": lambda sock: sock.recvmsg(10)[0],
    "recvmsg_into": lambda sock: _into(lambda buffer: sock.recvmsg_into([buffer])),
}

SEND: dict[str, Callable[[socket.socket, Any], Any]] = {
    "sendto": lambda sock, peer: sock.sendto(b"hey", peer),
    "sendto with flags": lambda sock, peer: sock.sendto(bytearray(b"hey"), 0, peer),
    "sendmsg": lambda sock, peer: sock.sendmsg((part for part in (b"h", b"ey")), (), 0, peer),
    "send": lambda sock, peer: _connected(sock, peer).send(b"hey"),
    "sendall": lambda sock, peer: _connected(sock, peer).sendall(b"hey"),
    "sendmsg to the connected": lambda sock, peer: _connected(sock, peer).sendmsg([b"hey"]),
}


@pytest.mark.parametrize("receive", RECEIVE.values(), ids=list(RECEIVE))
def test_received_datagrams_are_recorded_once(pair: Pair, receive: Callable[[socket.socket], bytes]) -> None:
    pair.client.send(b"hey")
    pair.client.send(b"")
    assert receive(pair.server) == b"hey"
    assert receive(pair.server) == b""
    here = pair.client.getsockname()
    assert pair.story() == [("upstream", b"hey", here), ("upstream", b"", here)]


@pytest.mark.parametrize("send", SEND.values(), ids=list(SEND))
def test_sent_datagrams_are_recorded_once(pair: Pair, send: Callable[[socket.socket, Any], Any]) -> None:
    there = pair.client.getsockname()
    send(pair.server, there)
    assert pair.client.recv(10) == b"hey"
    assert pair.story() == [("downstream", b"hey", there)]


def test_what_is_merely_looked_at_is_not_recorded(pair: Pair) -> None:
    pair.client.send(b"hey")
    assert pair.server.recvfrom(10, socket.MSG_PEEK)[0] == b"hey"
    assert pair.server.recvfrom_into(bytearray(10), 0, socket.MSG_PEEK)[0] == 3
    assert pair.server.recvmsg(10, 0, socket.MSG_PEEK)[0] == b"hey"
    assert pair.server.recvmsg_into([bytearray(10)], 0, socket.MSG_PEEK)[0] == 3
    assert pair.story() == []


def test_it_is_a_real_socket_on_the_same_descriptor() -> None:
    with bound_socket("datagram", "inet") as sock:
        sock.settimeout(1.5)
        before = (sock.fileno(), sock.family, sock.type, sock.gettimeout(), sock.getsockname())
        with observe_datagrams(sock, Transcript()) as observed:
            assert isinstance(observed, socket.socket)
            assert (observed.fileno(), observed.family, observed.type) == before[:3]
            assert (observed.gettimeout(), observed.getsockname()) == before[3:]


def test_a_peer_has_a_number(pair: Pair) -> None:
    here = pair.client.getsockname()
    assert observed_number(pair.server, here) is None
    pair.client.send(b"hey")
    pair.server.recvfrom(10)
    assert observed_number(pair.server, here) == 1


def test_a_duplicate_writes_to_the_same_record(pair: Pair) -> None:
    with pair.server.dup() as double:
        pair.client.send(b"hey")
        double.recvfrom(10)
    assert len(pair.story()) == 1


def test_one_made_by_its_class_is_not_observed(pair: Pair) -> None:
    here = pair.client.getsockname()
    with type(pair.server)(pair.client.family, socket.SOCK_DGRAM) as fresh:
        fresh.sendto(b"hey", here) if pair.client.family == socket.AF_INET else None
    assert pair.story() == []


def test_seen_from_the_client_what_comes_is_downstream() -> None:
    transcript = Transcript()
    with (
        bound_socket("datagram", "inet") as server,
        observe_datagrams(bound_socket("datagram", "inet"), transcript, side="client") as client,
    ):
        server.settimeout(LIMIT)
        client.settimeout(LIMIT)
        client.sendto(b"q", server.getsockname())
        server.sendto(b"a", server.recvfrom(10)[1])
        assert client.recv(10) == b"a"
    assert [e.direction for e in transcript.events if isinstance(e, Datagram)] == ["upstream", "downstream"]


def test_a_stream_socket_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(UsageError, match="for datagram sockets"):
        observe_datagrams(sock, Transcript())
