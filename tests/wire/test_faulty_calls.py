"""What goes wrong in the calls that a program makes on its own socket."""

from __future__ import annotations

import errno
import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servertest import change_faults, faulty
from servertest._support import UsageError
from servertest.faults import (
    AcceptError,
    FailCall,
    Faults,
    FullBacklog,
    Interrupt,
    Latency,
    Refuse,
    ShortReads,
    ShortWrites,
    SlowAccept,
    SpuriousReadiness,
    Trace,
    downstream,
    registry,
    upstream,
)
from servertest.wire import _faulty_driver
from tests._threads import new_threads
from tests.wire._relays import LIMIT, connected, read_all

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Ends]]:
    """A client and a faulty server's socket."""
    made: list[socket.socket] = []

    def put_behind(faults: Faults, **options: Any) -> Ends:
        client, server = connected(options.pop("family", "inet"))
        made.append(client)
        made.append(faulty(server, faults, **options))
        return client, made[-1]

    yield put_behind
    for sock in made:
        sock.close()


def test_calls_need_no_relay_and_keep_the_descriptor() -> None:
    client, server = connected()
    number = server.fileno()
    threads = threading.enumerate()
    with client, faulty(server, ShortReads()) as sock:
        assert sock.fileno() == number
        assert not new_threads(threads)


def test_short_reads(make: Callable[..., Ends]) -> None:
    client, server = make(ShortReads(2))
    client.sendall(b"abcdef")
    client.shutdown(socket.SHUT_WR)
    assert server.recv(100) == b"ab"
    buffer = bytearray(10)
    assert server.recv_into(buffer) == 2
    with server.makefile("rb") as file:
        assert file.read() == b"ef"


def test_short_writes_are_seen_by_send_and_mended_by_sendall(make: Callable[..., Ends]) -> None:
    client, server = make(ShortWrites(3))
    assert server.send(b"abcdef") == 3
    assert server.sendmsg([b"xy", b"zzz"]) == 3
    server.sendall(b"the whole of it")
    assert read_all(client, 21)[0] == b"abcxyzthe whole of it"


def test_sendfile_goes_through_the_faults_of_send(make: Callable[..., Ends]) -> None:
    trace = Trace()
    client, server = make(ShortWrites(100), trace=trace)
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 1000)
        file.seek(0)
        assert server.sendfile(file) == 1000
    assert read_all(client, 1000)[0] == b"x" * 1000
    assert len(trace) == 1


@pytest.mark.parametrize("error", ["ECONNRESET", "EPIPE", "ETIMEDOUT", "EIO"])
@pytest.mark.parametrize("call", ["recv", "send"])
def test_the_nth_call_fails(make: Callable[..., Ends], call: str, error: str) -> None:
    trace = Trace()
    client, server = make(FailCall(call, error, nth=2), trace=trace)
    client.sendall(b"abc")

    def do() -> object:
        return server.recv(1) if call == "recv" else server.send(b"x")

    do()
    with pytest.raises(OSError) as caught:
        do()
    assert caught.value.errno == getattr(errno, error)
    assert type(caught.value) is type(OSError(caught.value.errno, ""))
    do()
    assert [decision.what for decision in trace] == [f"fails {call} 2 with {error}"]


def test_shutdown_and_connect_can_fail() -> None:
    client, server = connected()
    with client, faulty(server, FailCall("shutdown", "ENOTCONN")) as sock, pytest.raises(OSError):
        sock.shutdown(socket.SHUT_WR)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with faulty(socket.socket(), FailCall("connect", "ECONNREFUSED"), side="client") as sock:
            with pytest.raises(ConnectionRefusedError):
                sock.connect(address)
            sock.connect(address)
        with faulty(socket.socket(), FailCall("connect", "EHOSTUNREACH"), side="client") as sock:
            assert sock.connect_ex(address) == errno.EHOSTUNREACH


def test_an_interrupted_call_goes_on_as_pep_475_wants_it(make: Callable[..., Ends]) -> None:
    trace = Trace()
    client, server = make(Interrupt("recv", times=None), trace=trace)
    client.sendall(b"abc")
    assert server.recv(10) == b"abc"
    assert [decision.what for decision in trace] == ["fails recv 1 with EINTR"]


def test_spurious_readiness_is_seen_by_who_does_not_block(make: Callable[..., Ends]) -> None:
    client, server = make(SpuriousReadiness("recv", nth=1, times=2))
    client.sendall(b"abc")
    server.setblocking(False)
    for _ in range(2):
        assert select.select([server], [], [], LIMIT)[0]
        with pytest.raises(BlockingIOError):
            server.recv(10)
    assert server.recv(10) == b"abc"


@pytest.mark.parametrize("timeout", [None, LIMIT])
def test_spurious_readiness_is_waited_out_by_who_blocks(
    make: Callable[..., Ends], timeout: float | None
) -> None:
    client, server = make(SpuriousReadiness("recv"))
    server.settimeout(timeout)
    client.sendall(b"abc")
    assert server.recv(10) == b"abc"


def test_an_aim_is_a_call_s_direction(make: Callable[..., Ends]) -> None:
    _client, server = make(upstream(FailCall("send")) | downstream(FailCall("send", "EPIPE")))
    with pytest.raises(BrokenPipeError):
        server.send(b"x")


def test_a_trigger_says_on_which_connection(make: Callable[..., Ends]) -> None:
    for number in (1, 2, 3):
        client, server = make(ShortReads().on(connection=2), connection=number)
        client.sendall(b"abc")
        assert server.recv(10) == (b"a" if number == 2 else b"abc")


def test_peeking_is_not_reading(make: Callable[..., Ends]) -> None:
    client, server = make(FailCall("recv"))
    client.sendall(b"abc")
    assert server.recv(10, socket.MSG_PEEK) == b"abc"


def test_calls_and_what_passes_go_together(make: Callable[..., Ends]) -> None:
    trace = Trace()
    client, server = make(Latency(0.05) | ShortReads(1), trace=trace, family="unix")
    began = time.monotonic()
    client.sendall(b"abc")
    assert server.recv(10) == b"a"
    assert time.monotonic() - began >= 0.05
    assert {decision.fault for decision in trace} == {"latency", "short_reads"}


def test_faults_of_calls_come_and_go(make: Callable[..., Ends]) -> None:
    client, server = make(ShortReads())
    client.sendall(b"abcdef")
    assert server.recv(10) == b"a"
    change_faults(server, ShortReads(2))
    assert server.recv(10) == b"bc"
    change_faults(server, None)
    assert server.recv(10) == b"def"


def test_accept_that_is_interrupted_or_not_ready() -> None:
    faults = Interrupt("accept") | SpuriousReadiness("accept", nth=2)
    with faulty(socket.create_server(("127.0.0.1", 0)), faults) as listener:
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
        clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.accept()[0].close()
        for client in clients:
            client.close()


def test_connect_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with faulty(socket.socket(), Refuse(), side="client") as client:
            with pytest.raises(ConnectionRefusedError):
                client.connect(server.getsockname())
            assert client.connect_ex(server.getsockname()) == errno.ECONNREFUSED
            change_faults(client, None)
            client.connect(server.getsockname())


def test_a_listener_refuses_single_clients() -> None:
    with faulty(socket.create_server(("127.0.0.1", 0)), Refuse().on(first=1)) as listener:
        with socket.create_connection(listener.getsockname(), 5) as client:
            with pytest.raises(ConnectionAbortedError):
                listener.accept()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with socket.create_connection(listener.getsockname(), 5):
            listener.accept()[0].close()


def test_who_was_slower_than_another_process_does_not_wait() -> None:
    with faulty(socket.create_server(("127.0.0.1", 0)), AcceptError("EMFILE")) as listener:
        os.set_blocking(listener.fileno(), False)  # as servers do that share a listener
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_full_backlog_lets_hardly_anybody_in() -> None:
    with faulty(socket.create_server(("127.0.0.1", 0), backlog=50), FullBacklog()) as listener:
        clients: list[socket.socket] = []
        try:
            with pytest.raises(TimeoutError):
                while len(clients) < 10:
                    clients += [socket.create_connection(listener.getsockname(), timeout=0.2)]
            assert 1 <= len(clients) <= 3
            change_faults(listener, None)
            for _ in clients:
                listener.settimeout(LIMIT)
                listener.accept()[0].close()
            clients.append(socket.create_connection(listener.getsockname(), timeout=LIMIT))
        finally:
            for client in clients:
                client.close()


def test_a_slow_accept_goes_on_when_the_fault_is_taken_away() -> None:
    with faulty(socket.create_server(("127.0.0.1", 0)), SlowAccept(1000)) as listener:
        listener.settimeout(LIMIT)
        accepted: list[socket.socket] = []
        waits = threading.Thread(target=lambda: accepted.append(listener.accept()[0]))
        waits.start()
        with socket.create_connection(listener.getsockname()):
            change_faults(listener, None)
            waits.join(LIMIT)
        assert accepted
        accepted[0].close()


@pytest.mark.parametrize(
    "kind", [kind for kind in registry.values() if kind.place == "calls"], ids=lambda kind: kind.name
)
def test_every_fault_of_calls_can_be_put_on_a_socket_and_taken_away(kind: Any) -> None:
    transports = sorted(kind.carried_by)
    for transport in transports:
        sort = socket.SOCK_STREAM if transport == "stream" else socket.SOCK_DGRAM
        with faulty(socket.socket(socket.AF_INET, sort), kind.example(), side="client") as sock:
            change_faults(sock, None)
            assert sock.fileno() >= 0
    for transport in {"stream", "datagram"}.difference(transports):
        sort = socket.SOCK_STREAM if transport == "stream" else socket.SOCK_DGRAM
        with socket.socket(socket.AF_INET, sort) as plain, pytest.raises(UsageError):
            faulty(plain, kind.example())


def test_a_patient_delay_of_a_call_is_no_lock(make: Callable[..., Ends]) -> None:
    """Two threads may wait in two calls of one socket."""
    client, server = make(ShortReads(1) | ShortWrites(1))
    data = os.urandom(2000)
    writer = threading.Thread(target=server.sendall, args=(data,))
    writer.start()
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    assert read_all(server)[0] == data
    assert read_all(client, len(data))[0] == data
    writer.join(LIMIT)


# -- triggers that wait for what passes


@pytest.mark.parametrize("family", ["inet", "unix"])
def test_a_call_fails_after_so_many_bytes(make: Callable[..., Ends], family: str) -> None:
    client, server = make(FailCall("recv").on(after_bytes=5), family=family)
    client.sendall(b"0123456789")
    assert server.recv(100) == b"01234"
    with pytest.raises(ConnectionResetError):
        server.recv(100)
    assert server.recv(100) == b"56789"


RECEIVING: list[Callable[[socket.socket], object]] = [
    lambda sock: sock.recv(4),
    lambda sock: sock.recv_into(bytearray(4)),
    lambda sock: sock.recvfrom(4),
    lambda sock: sock.recvfrom_into(bytearray(4)),
    lambda sock: sock.recvmsg(4),
]
SENDING: list[Callable[[socket.socket], object]] = [
    lambda sock: sock.send(b"QUIT"),
    lambda sock: sock.sendall(b"QUIT"),
    lambda sock: sock.sendmsg([b"QU", b"IT"]),
]


@pytest.mark.parametrize("number", range(len(RECEIVING)))
def test_every_way_to_receive_is_looked_at(make: Callable[..., Ends], number: int) -> None:
    client, server = make(FailCall("recv").on(pattern=b"QUIT"))
    client.sendall(b"QUITmore")
    assert server.recv(4, socket.MSG_PEEK) == b"QUIT"
    assert server.recv(4, socket.MSG_PEEK) == b"QUIT"
    RECEIVING[number](server)
    with pytest.raises(ConnectionResetError):
        server.recv(100)


@pytest.mark.parametrize("number", range(len(SENDING)))
def test_every_way_to_send_is_looked_at(make: Callable[..., Ends], number: int) -> None:
    client, server = make(FailCall("send", "EPIPE").on(pattern=b"QUIT"))
    SENDING[number](server)
    with pytest.raises(BrokenPipeError):
        server.send(b"more")
    assert client.recv(100) == b"QUIT"


@pytest.mark.parametrize("faults", ["fail_call", "latency:0|fail_call"], ids=["calls alone", "with a line"])
def test_the_nth_datagram(faults: str) -> None:
    server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with server, client:
        server.bind(("127.0.0.1", 0))
        client.settimeout(LIMIT)
        address = server.getsockname()
        with faulty(server, f"({faults})@datagram:2") as sock:
            sock.settimeout(LIMIT)
            for data in (b"one", b"two", b"three"):
                client.sendto(data, address)
            assert sock.recvfrom(100)[0] == b"one"
            with pytest.raises(ConnectionResetError):
                sock.recvfrom(100)
            got, peer = sock.recvfrom(100)
            assert got == b"two"
            sock.sendto(b"reply", peer)
            assert client.recv(100) == b"reply"


@pytest.mark.parametrize(("timeout", "error"), [(0, BlockingIOError), (0.01, TimeoutError)])
def test_nobody_slips_in_past_the_faults_of_a_listener(
    timeout: float, error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several processes are told of one client: those who come too late must not get the next one unseen."""
    with socket.create_server(("127.0.0.1", 0)) as real, faulty(real, AcceptError(nth=1)) as listener:
        listener.settimeout(timeout)
        with socket.create_connection(listener.getsockname(), LIMIT):
            with monkeypatch.context() as patch:
                patch.setattr(_faulty_driver, "_somebody_has_come", lambda *_: False)
                with pytest.raises(error):
                    listener.accept()
            listener.settimeout(LIMIT)
            with pytest.raises(ConnectionAbortedError):
                listener.accept()
