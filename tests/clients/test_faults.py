"""Clients with a bad network of their own: both twins, streams and datagrams."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from servertest import launch, servers
from servertest._support import DeadlineExceeded, PeerRefused, PeerReset, UsageError
from servertest.faults import (
    AcceptError,
    Corrupt,
    FailCall,
    HalfClose,
    Latency,
    Loss,
    Plan,
    Refuse,
    ResetPeer,
    ShortReads,
    ShortWrites,
    Slicer,
    Stall,
    downstream,
    upstream,
)
from servertest.wire._faulty_keeper import keeper
from tests.clients._twins import Background, Twin
from tests.launch._handlers import DatagramUpper, Upper


def exchange(client: Any) -> float:
    """Seconds that it takes."""
    began = time.monotonic()
    if hasattr(client, "readline"):
        client.send_all(b"hi\n")
        assert client.readline() == b"HI\n"
    else:
        client.send(b"hi")
        assert client.receive() == b"HI"
    return time.monotonic() - began


@pytest.mark.parametrize(
    "kind",
    ["ThreadingTCPServer", "ThreadingUnixStreamServer", "ThreadingUDPServer", "ThreadingUnixDatagramServer"],
)
def test_faults_around_a_client(twin: Twin, kind: str) -> None:
    datagrams = "UDP" in kind or "Datagram" in kind
    connect = twin.connect_datagram if datagrams else twin.connect
    with launch(DatagramUpper if datagrams else Upper, kind=kind) as running:
        with connect(running.address, faults=Latency(0.3)) as client, connect(running.address) as other:
            assert exchange(client) >= 0.6
            assert {decision.direction for decision in client.hits} == {"upstream", "downstream"}
            assert exchange(other) < 0.6, "the others are spared"
            client.faults = None
            assert exchange(client) < 0.3
            client.faults = upstream(Latency(0.3))
            assert client.faults == upstream(Latency(0.3))
            assert 0.3 <= exchange(client) < 0.6


def test_a_connected_socket_of_one_s_own(twin: Twin) -> None:
    with launch(Upper) as running:
        sock = socket.create_connection((running.host, running.port))
        name = sock.getsockname()
        with twin.stream(sock, faults=Slicer(average_size=1), seed=3) as client:
            assert client.local_address == name
            assert client.address == running.address
            exchange(client)
            assert client.hits.counts == {"slicer": 2}


def test_a_running_server_numbers_its_faulty_clients() -> None:
    with launch(Upper) as running:
        faults = Slicer(average_size=1).on(connection=2)
        for number in (1, 2, 3):
            with running.connect() as spared, running.connect(faults=faults) as client:
                exchange(spared)
                exchange(client)
                assert len(client.hits) == (2 if number == 2 else 0)


def test_the_server_s_seed_is_the_client_s() -> None:
    def decided(**options: Any) -> list[str]:
        with launch(Upper, seed=options.pop("server_seed", 0)) as running:
            with running.connect(
                faults=downstream(Slicer(average_size=9, size_variation=8)), **options
            ) as client:
                client.send_all(b"x" * 200 + b"\n")
                pieces: list[bytes] = []
                while not pieces or not pieces[-1].endswith(b"\n"):
                    pieces.append(client.read_some())
                return [str(decision).partition(" ")[2] for decision in client.hits]

    assert decided(server_seed=5) == decided(seed=5)


def test_through_tls(twin: Twin) -> None:
    with launch(Upper, tls=True) as running:
        context = running.client_context()
        with twin.connect(running.address, tls=context, faults=Latency(0.05)) as client:
            assert client.tls is not None
            assert exchange(client) >= 0.1


def test_a_reset_in_the_middle_of_a_reply(twin: Twin) -> None:
    for kind in ("ThreadingTCPServer", "ThreadingUnixStreamServer"):
        with launch(Upper, kind=kind) as running:
            with twin.connect(running.address, faults=downstream(ResetPeer(after_bytes=3))) as client:
                client.send_all(b"abcdef\n")
                with pytest.raises(PeerReset) as caught:
                    client.read_exactly(7)
                assert b"ABC" in str(caught.value).encode()
            if kind == "ThreadingTCPServer":
                running.errors.pop()


def test_what_was_sent_before_the_close_arrives(twin: Twin, background: Callable[..., Background]) -> None:
    data = os.urandom(100_000)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> bytes:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as file:
                return file.read()

        peer = background(take)
        with twin.connect(listener.getsockname(), faults=upstream(Latency(0.1))) as client:
            client.send_all(data)
        assert peer.result() == data


def test_a_half_close_and_a_deadline(twin: Twin) -> None:
    with launch(Upper) as running, twin.connect(running.address, faults=Latency(0.02)) as client:
        client.send_all(b"hi\n")
        client.half_close()
        assert client.read_eof() == b"HI\n"
    with launch(Upper) as running, twin.connect(running.address, faults=upstream(Stall())) as client:
        client.send_all(b"hi\n")
        with pytest.raises(DeadlineExceeded):
            client.readline(timeout=0.05)


def test_a_fault_may_half_close(twin: Twin) -> None:
    with launch(Upper) as running:
        with twin.connect(running.address, faults=upstream(HalfClose(after_bytes=0))) as client:
            client.send_all(b"never")
            assert client.read_eof() == b""


def test_short_reads_and_writes_are_what_a_client_has_to_bear(twin: Twin) -> None:
    with launch(Upper) as running:
        with twin.connect(running.address, faults=ShortReads() | ShortWrites(2)) as client:
            exchange(client)
            assert client.hits.counts == {"short_reads": 1, "short_writes": 1}


def test_connect_fails(twin: Twin) -> None:
    with launch(Upper) as running:
        with pytest.raises(PeerRefused, match="refused"):
            twin.connect(running.address, faults=FailCall("connect", "ECONNREFUSED"))
        with pytest.raises(TimeoutError):
            twin.connect(running.address, faults=FailCall("connect", "ETIMEDOUT"))


def test_a_client_is_refused(twin: Twin) -> None:
    with launch(Upper) as running:
        with pytest.raises(PeerRefused, match="refused"):
            twin.connect(running.address, faults=Refuse())
        second = Refuse().on(connection=2)
        with twin.connect(running.address, faults=second) as client:
            exchange(client)
        with pytest.raises(PeerRefused):
            twin.connect(running.address, faults=second, connection=2)


def test_what_cannot_be_is_refused_with_the_reason(twin: Twin) -> None:
    with launch(Upper) as running:
        with pytest.raises(UsageError, match="TCP would have sent it again"):
            twin.connect(running.address, faults=Loss(0.1))
        with pytest.raises(UsageError, match="give it to the server"):
            twin.connect(running.address, faults=AcceptError())
        with twin.connect(running.address) as client:
            with pytest.raises(UsageError, match="without faults="):
                client.faults = Latency(1)
            with pytest.raises(UsageError, match="without faults="):
                client.faults  # noqa: B018
            with pytest.raises(UsageError, match="without faults="):
                client.hits  # noqa: B018
        with twin.connect(running.address, faults=Plan()) as client:
            with pytest.raises(UsageError, match="TCP would have sent it again"):
                client.faults = Loss(1.0)
            exchange(client)
    with launch(DatagramUpper) as running, pytest.raises(UsageError, match="datagram"):
        twin.connect_datagram(running.address, faults=Slicer())


def test_loss_and_an_unconnected_client(twin: Twin) -> None:
    with launch(DatagramUpper) as running:
        with twin.connect_datagram(running.address, connected=False, faults=downstream(Loss(1.0))) as client:
            client.send(b"hi")
            with pytest.raises(DeadlineExceeded):
                client.receive(timeout=0.1)
            client.faults = None
            client.send_to(b"hi", running.address)
            assert client.receive_from() == (b"HI", running.address)


def test_nobody_there_is_told_of(twin: Twin) -> None:
    with launch(DatagramUpper) as running:
        address = running.address
    with twin.connect_datagram(address, faults=Latency(0.01)) as client:
        client.send(b"hi")
        with pytest.raises(PeerRefused):
            client.receive()


def test_both_ends_may_have_faults() -> None:
    class Last(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper())

    with launch(Last, faults=Latency(0.05)) as running:
        with running.connect(faults=Latency(0.05)) as client:
            assert exchange(client) >= 0.2


@pytest.fixture(autouse=True)
def _no_relay_is_left() -> Any:
    yield
    for thread in threading.enumerate():
        if "faulty" in thread.name:
            thread.join(5)
            assert not thread.is_alive(), vars(keeper)


def test_equal_faults_inside_a_server_and_around_its_client_draw_apart() -> None:
    corrupt = upstream(Corrupt(0.5))
    with launch(Upper, faults=corrupt, seed=5) as server, server.connect(faults=corrupt) as client:
        client.send_all(b"x" * 100)
        client.half_close()
        client.read_eof()
        assert [one.what for one in client.hits] != [one.what for one in server.hits]
        assert client.hits
        assert server.hits
