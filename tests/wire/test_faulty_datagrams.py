"""A datagram socket in the user's hands with faults: each peer has its own, and every datagram keeps its address."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servertest import change_faults, faulty
from servertest._support import SocketDirectory, UsageError
from servertest.faults import (
    Duplicate,
    FailCall,
    Latency,
    Loss,
    Partition,
    ResetPeer,
    Slicer,
    Trace,
    downstream,
    upstream,
)
from servertest.transcript import Transcript
from servertest.wire import observe_datagrams
from tests.wire._relays import LIMIT

Bound = Callable[[], socket.socket]


@pytest.fixture(params=["inet", "unix"])
def bound(request: pytest.FixtureRequest) -> Iterator[Bound]:
    """Makes datagram sockets that are bound, and closes them."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(SocketDirectory())

        def make() -> socket.socket:
            if request.param == "inet":
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(("127.0.0.1", 0))
            else:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                sock.bind(directory.path())
            sock.settimeout(LIMIT)
            return stack.enter_context(sock)

        yield make


def test_many_peers_keep_their_addresses(bound: Bound) -> None:
    server, peers = bound(), [bound() for _ in range(3)]
    name, family = server.getsockname(), server.family
    trace = Trace()
    with faulty(server, Latency(0.02), trace=trace) as sock:
        assert (sock.getsockname(), sock.family, sock.type) == (name, family, socket.SOCK_DGRAM)
        for number, peer in enumerate(peers):
            peer.sendto(b"%d" % number, name)
        for _ in peers:
            data, address = sock.recvfrom(100)
            sock.sendto(data * 2, address)
        assert [peer.recvfrom(100) for peer in peers] == [(b"00", name), (b"11", name), (b"22", name)]
    assert {decision.connection for decision in trace} == {1, 2, 3}


def test_each_way_to_receive_and_to_send(bound: Bound) -> None:
    peer = bound()
    with faulty(bound(), Latency(0.001)) as sock:
        name, theirs = sock.getsockname(), peer.getsockname()
        for data in (b"one", b"two", b"three", b"four", b"", b"six"):
            peer.sendto(data, name)
        buffer = bytearray(10)
        assert sock.recv(100) == b"one"
        assert sock.recv_into(buffer) == 3
        assert buffer[:3] == b"two"
        assert sock.recvfrom_into(buffer, 3) == (3, theirs)
        assert buffer[:3] == b"thr", "what is too long is cut"
        assert sock.recvmsg(2) == (b"fo", [], socket.MSG_TRUNC, theirs)
        assert sock.recvfrom(10) == (b"", theirs)
        assert select.select([sock], [], [], LIMIT)[0] == [sock]
        assert sock.recvfrom(10, socket.MSG_PEEK) == sock.recvfrom(10) == (b"six", theirs)
        sock.sendto(b"a", theirs)
        sock.sendto(b"b", 0, theirs)
        sock.sendmsg([b"c", b"d"], [], 0, theirs)
        assert [peer.recv(10) for _ in range(3)] == [b"a", b"b", b"cd"]


def test_a_connected_socket(bound: Bound) -> None:
    peer, client = bound(), bound()
    client.connect(peer.getsockname())
    with faulty(client, upstream(Duplicate(1.0)), side="client") as sock:
        assert sock.getpeername() == peer.getsockname()
        sock.send(b"twice")
        assert [peer.recv(10), peer.recv(10)] == [b"twice", b"twice"]
        sock.sendall(b"all")
        assert peer.recvfrom(10) == (b"all", sock.getsockname())
        peer.recv(10)
        peer.sendto(b"answer", sock.getsockname())
        assert sock.recv(10) == b"answer"


def test_it_can_be_connected_later(bound: Bound) -> None:
    peer = bound()
    with faulty(bound(), Latency(0.001), side="client") as sock:
        with pytest.raises(OSError) as caught:
            sock.send(b"to nobody")
        assert caught.value.errno == errno.EDESTADDRREQ
        with pytest.raises(OSError):
            sock.getpeername()
        sock.connect(peer.getsockname())
        sock.send(b"hello")
        assert peer.recv(10) == b"hello"


def test_an_unreachable_peer_is_told_of() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(gone.getsockname())
    client.settimeout(LIMIT)
    with faulty(client, Latency(0.001), side="client") as sock:
        sock.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(10)


def test_what_is_too_long_is_refused_at_once() -> None:
    with faulty(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), Latency(0)) as sock:
        with pytest.raises(OSError) as caught:
            sock.sendto(b"x" * 65_508, ("127.0.0.1", 9))
        assert caught.value.errno == errno.EMSGSIZE


def test_the_largest_passes(bound: Bound) -> None:
    peer = bound()
    with faulty(bound(), Latency(0.001)) as sock:
        peer.sendto(b"x" * 65_507, sock.getsockname())
        data, address = sock.recvfrom(70_000)
        sock.sendto(data, address)
        assert len(peer.recv(70_000)) == 65_507


def test_what_nobody_has_received_yet_waits(bound: Bound) -> None:
    peer = bound()
    peer.settimeout(LIMIT)
    with faulty(bound(), Latency(0)) as sock:
        sent = [b"%03d" % number for number in range(50)]
        for data in sent:
            peer.sendto(data, sock.getsockname())
        assert [sock.recv(10) for _ in sent] == sent


def test_what_was_sent_before_the_close_arrives(bound: Bound) -> None:
    peer = bound()
    with faulty(bound(), downstream(Latency(0.1))) as sock:
        sock.sendto(b"late", peer.getsockname())
    assert peer.recv(10) == b"late"


def test_faults_change_while_it_lives(bound: Bound) -> None:
    peer = bound()
    with faulty(bound(), Partition()) as sock:
        peer.sendto(b"lost", sock.getsockname())
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(10)
        change_faults(sock, None)
        sock.settimeout(LIMIT)
        peer.sendto(b"found", sock.getsockname())
        assert sock.recv(10) == b"found"
        change_faults(sock, Loss(1.0))
        peer.sendto(b"lost", sock.getsockname())
        bystander = bound()
        bystander.sendto(b"lost, too", sock.getsockname())
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(10)


def test_a_duplicate_shares_it(bound: Bound) -> None:
    peer = bound()
    with faulty(bound(), Latency(0.001)) as sock, sock.dup() as double:
        sock.close()
        peer.sendto(b"still here", double.getsockname())
        assert double.recvfrom(20) == (b"still here", peer.getsockname())


def test_it_can_be_observed(bound: Bound) -> None:
    peer = bound()
    transcript = Transcript()
    with observe_datagrams(faulty(bound(), upstream(Loss(1.0))), transcript) as sock:
        peer.sendto(b"never seen", sock.getsockname())
        sock.sendto(b"seen", peer.getsockname())
        assert peer.recv(10) == b"seen"
    assert [getattr(event, "data", None) for event in transcript.events] == [b"seen"]


def test_calls_fail_on_the_descriptor_itself(bound: Bound) -> None:
    peer, server = bound(), bound()
    number = server.fileno()
    with faulty(server, FailCall("recv", "EIO")) as sock:
        assert sock.fileno() == number
        peer.sendto(b"x", sock.getsockname())
        with pytest.raises(OSError):
            sock.recvfrom(10)
        assert sock.recvfrom(10) == (b"x", peer.getsockname())


@pytest.mark.parametrize("fault", [Slicer(), ResetPeer()])
def test_what_is_for_streams_is_refused(bound: Bound, fault: Any) -> None:
    with pytest.raises(UsageError, match="datagram"):
        faulty(bound(), fault)
