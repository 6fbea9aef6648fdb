"""A stream socket in the user's hands with faults on what passes: a real one in all but that."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from servertest import change_faults, faulty
from servertest._support import UsageError, have_ipv6
from servertest.faults import (
    AcceptError,
    FailFork,
    Latency,
    Loss,
    MissingClose,
    Refuse,
    ResetPeer,
    ShortReads,
    Slicer,
    Stall,
    Trace,
    downstream,
    upstream,
)
from tests._descriptors import new_descriptors, open_descriptors
from tests.wire._relays import LIMIT, connected, cut_off, read_all


@pytest.fixture(params=["inet", "inet6", "unix"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    if request.param == "inet6" and not have_ipv6():
        pytest.skip("no ::1 on this machine")
    client, server = connected(request.param)
    with client, server:
        yield client, server


@pytest.fixture
def tcp() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = connected()
    with client, server:
        yield client, server


def relays() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "faulty" in thread.name]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    for thread in relays():
        thread.join(LIMIT)
    assert relays() == []
    assert not new_descriptors(before)


def test_it_answers_as_the_real_one(ends: tuple[socket.socket, socket.socket]) -> None:
    _client, server = ends
    names = (server.getsockname(), server.getpeername(), server.family, server.type, server.proto)
    with faulty(server, Latency(0.001)) as sock:
        assert isinstance(sock, socket.socket)
        assert (sock.getsockname(), sock.getpeername(), sock.family, sock.type, sock.proto) == names
        assert sock.gettimeout() == LIMIT
        assert server.fileno() == -1


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell")
def test_it_tells_of_the_real_peer() -> None:
    client, server = connected("unix")
    told = server.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    with client, faulty(server, None) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12) == told


def test_faults_work_in_both_directions(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    trace = Trace()
    with faulty(server, Latency(0.05) | Slicer(average_size=2), seed=3, trace=trace) as sock:
        began = time.monotonic()
        client.sendall(b"question")
        assert read_all(sock, 8)[0] == b"question"
        assert time.monotonic() - began >= 0.05
        sock.sendall(b"answer")
        assert read_all(client, 6)[0] == b"answer"
        assert time.monotonic() - began >= 0.1
    assert {decision.direction for decision in trace} == {"upstream", "downstream"}


def test_a_client_s_socket_has_its_directions_the_other_way_round(
    tcp: tuple[socket.socket, socket.socket],
) -> None:
    client, server = tcp
    trace = Trace()
    with faulty(client, upstream(Slicer()), side="client", trace=trace) as sock:
        sock.sendall(b"question")
        assert read_all(server, 8)[0] == b"question"
    assert {decision.direction for decision in trace} == {"upstream"}


def test_half_close_is_kept_both_ways(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    with faulty(server, Latency(0.01)) as sock:
        client.sendall(b"all")
        client.shutdown(socket.SHUT_WR)
        assert read_all(sock) == (b"all", "fin")
        sock.sendall(b"the rest")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(client) == (b"the rest", "fin")


def test_what_was_sent_before_the_close_arrives(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    data = os.urandom(300_000)
    sock = faulty(server, downstream(Latency(0.1)))

    def send() -> None:
        with sock:
            sock.sendall(data)

    sender = threading.Thread(target=send)
    sender.start()
    assert read_all(client) == (data, "fin")
    sender.join()


def test_a_reset_by_the_peer_comes_through(tcp: tuple[socket.socket, socket.socket]) -> None:
    client, server = tcp
    with faulty(server, Latency(0.01)) as sock:
        client.sendall(b"some")
        assert sock.recv(10) == b"some"
        cut_off(client)
        assert read_all(sock) == (b"", "rst")


def test_a_reset_by_the_program_comes_through(tcp: tuple[socket.socket, socket.socket]) -> None:
    client, server = tcp
    sock = faulty(server, Latency(0.01))
    sock.sendall(b"some")
    assert client.recv(10) == b"some"
    cut_off(sock)
    assert read_all(client) == (b"", "rst")


def test_a_fault_s_reset_is_one_where_the_system_knows_none(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    client, server = ends
    with faulty(server, upstream(ResetPeer(after_bytes=3))) as sock:
        client.sendall(b"abcdef")
        assert read_all(sock) == (b"abc", "rst")
        assert sock.recv(1) == b"", "it is told once"


def test_writing_after_a_fault_s_reset_says_so() -> None:
    client, server = connected("unix")
    with client, faulty(server, upstream(ResetPeer(after_bytes=0))) as sock:
        ready = select.poll()
        ready.register(sock, 0)
        assert ready.poll(LIMIT * 1000), "nothing was cut off"
        with pytest.raises(ConnectionResetError):
            sock.sendall(b"y")


def test_select_makefile_dup_and_timeouts_work(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    with faulty(server, Latency(0.02)) as sock:
        sock.settimeout(0.001)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(LIMIT)
        client.sendall(b"a line\nand more")
        assert select.select([sock], [], [], LIMIT)[0] == [sock]
        with sock.makefile("rb") as file:
            assert file.readline() == b"a line\n"
        with sock.dup() as double:
            assert double.getpeername() == sock.getpeername()
            double.sendall(b"from the double")
        assert read_all(client, 15)[0] == b"from the double"
        sock.sendall(b"still")
        assert read_all(client, 5)[0] == b"still"


def test_sendfile_works(tcp: tuple[socket.socket, socket.socket]) -> None:
    client, server = tcp
    with faulty(server, Latency(0.01)) as sock, tempfile.TemporaryFile() as file:
        file.write(b"x" * 50_000)
        file.seek(0)
        assert sock.sendfile(file) == 50_000
        assert read_all(client, 50_000)[0] == b"x" * 50_000


def test_tls_goes_on_top(tcp: tuple[socket.socket, socket.socket]) -> None:
    client, server = tcp
    authority = trustme.CA()
    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(outer)
    inner = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(inner)
    results: list[bytes] = []

    def serve() -> None:
        with outer.wrap_socket(faulty(server, Slicer(average_size=5)), server_side=True) as secured:
            results.append(secured.recv(100))
            secured.sendall(b"answer")

    thread = threading.Thread(target=serve)
    thread.start()
    with inner.wrap_socket(client, server_hostname="localhost") as secured:
        secured.sendall(b"question")
        assert read_all(secured, 6)[0] == b"answer"
    thread.join()
    assert results == [b"question"]


def test_asyncio_takes_it(tcp: tuple[socket.socket, socket.socket]) -> None:
    client, server = tcp

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection(sock=faulty(server, Latency(0.01)))
        data = await reader.readexactly(8)
        writer.write(data.upper())
        writer.close()
        await writer.wait_closed()
        return data

    client.sendall(b"question")
    assert asyncio.run(talk()) == b"question"
    assert read_all(client) == (b"QUESTION", "fin")


def test_faults_change_while_it_lives_and_nothing_is_lost(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    with faulty(server, upstream(Stall())) as sock:
        client.sendall(b"held")
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(10)
        sock.settimeout(LIMIT)
        change_faults(sock, None)
        assert read_all(sock, 4)[0] == b"held"
        change_faults(sock, upstream(ResetPeer(after_bytes=1)))
        client.sendall(b"xyz")
        assert read_all(sock) == (b"x", "rst")


def test_a_connection_whose_close_is_never_seen_ends_with_its_peer(
    tcp: tuple[socket.socket, socket.socket],
) -> None:
    client, server = tcp
    faulty(server, downstream(MissingClose())).close()
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.close()


def test_a_socket_that_is_dropped_is_closed(tcp: tuple[socket.socket, socket.socket]) -> None:
    client, server = tcp
    sock = faulty(server, Latency(0.01))
    with pytest.warns(ResourceWarning):
        del sock
    assert read_all(client) == (b"", "fin")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_can_use_it_and_holds_nothing_else(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    client, server = ends
    sock = faulty(server, Latency(0.01))
    pid = os.fork()
    if pid == 0:
        try:
            sock.sendall(b"from the child")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert read_all(client, 14)[0] == b"from the child"
    sock.close()
    assert read_all(client) == (b"", "fin")


def test_a_listener_puts_behind_faults_what_it_accepts() -> None:
    trace = Trace()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        faults = AcceptError("ECONNABORTED") | Slicer(average_size=2).on(connection=3)
        assert faulty(listener, faults, trace=trace) is listener
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        assert read_all(clients[0]) == (b"", "rst")
        for client in clients[1:]:
            accepted, address = listener.accept()
            with client, accepted:
                assert address == client.getsockname() == accepted.getpeername()
                client.sendall(b"hello")
                assert read_all(accepted, 5)[0] == b"hello"
        clients[0].close()
    assert {(decision.fault, decision.connection) for decision in trace} == {
        ("accept_error", 1),
        ("slicer", 3),
    }


def test_what_cannot_be_is_refused_with_the_reason(tcp: tuple[socket.socket, socket.socket]) -> None:
    client, server = tcp

    def refused(match: str, sock: Any, *args: Any) -> None:
        with pytest.raises(UsageError, match=match):
            faulty(sock, *args)

    refused("TCP would have sent it again", server, Loss(0.5))
    refused("give it to the server", server, AcceptError())
    refused("only real sockets", object(), Latency(1))
    refused("malformed|no fault|unknown|nosuch", server, "nosuch:1")
    with socket.socket() as fresh:
        refused("connect it first", fresh, Latency(1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused("starts no threads or processes", listener, FailFork())
        refused("would find it broken", listener, Refuse())
        refused("connected already", client, Refuse())
    with faulty(server, ShortReads()) as sock, pytest.raises(UsageError, match="cannot be done here"):
        change_faults(sock, Latency(1))
    refused("closed", server, Latency(1))
    with pytest.raises(UsageError, match="no socket that faulty"):
        change_faults(client, None)
