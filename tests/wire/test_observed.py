"""An observed socket does what it did before, and what passes is written down."""

from __future__ import annotations

import asyncio
import io
import os
import select
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from servertest._support import UsageError, bound_socket
from servertest.transcript import Connect, Data, Note, Transcript
from servertest.wire import ObservedSocket, observe, observe_listener, observed_number

from .conftest import LIMIT, Pair


def test_it_is_a_real_socket_on_the_same_descriptor() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(1.5)
        before = (one.fileno(), one.family, one.type, one.proto, one.gettimeout(), one.getsockname())
        with observe(one, Transcript(), 1) as observed:
            after = (
                observed.fileno(), observed.family, observed.type, observed.proto, observed.gettimeout(),
                observed.getsockname(),
            )  # fmt: skip
            assert isinstance(observed, socket.socket)
            assert after == before
            assert one.fileno() == -1
            other.send(b"x")
            assert select.select([observed], [], [], LIMIT)[0] == [observed]
            assert not hasattr(observed, "__dict__")
            assert observed_number(observed) == 1
            assert observed_number(other) is None


def _recvmsg_into(sock: socket.socket) -> bytes:
    first, second = bytearray(2), bytearray(10)
    count = sock.recvmsg_into([first, second])[0]
    return bytes(first + second)[:count]


def _into(call: Callable[[bytearray], Any]) -> bytes:
    buffer = bytearray(10)
    count = call(buffer)
    return bytes(buffer[: count[0] if isinstance(count, tuple) else count])


RECEIVE: dict[str, Callable[[socket.socket], bytes]] = {
    "recv": lambda sock: sock.recv(10),
    "recv_into": lambda sock: _into(sock.recv_into),
    "recv_into with a size": lambda sock: _into(lambda buffer: sock.recv_into(buffer, 5)),
    "recvfrom": lambda sock: sock.recvfrom(10)[0],
    "recvfrom_into": lambda sock: _into(sock.recvfrom_into),
    "recvmsg": lambda sock: sock.recvmsg(10)[0],
    "recvmsg_into": _recvmsg_into,
    "makefile": lambda sock: sock.makefile("rb").readline(),
    "unbuffered makefile": lambda sock: sock.makefile("rb", 0).readline(),
}

SEND: dict[str, Callable[[socket.socket, bytes], Any]] = {
    "send": lambda sock, data: sock.send(data),
    "send of a view": lambda sock, data: sock.send(memoryview(data)),
    "sendall": lambda sock, data: sock.sendall(data),
    "sendall of a bytearray": lambda sock, data: sock.sendall(bytearray(data)),
    "sendto": lambda sock, data: sock.sendto(data, 0, sock.getpeername()),
    "sendmsg": lambda sock, data: sock.sendmsg(bytes([byte]) for byte in data),
    "makefile": lambda sock, data: _write(sock.makefile("wb"), data),
    "unbuffered makefile": lambda sock, data: _write(sock.makefile("wb", 0), data),
    "sendfile": lambda sock, data: sock.sendfile(io.BytesIO(data)),
}


def _write(file: Any, data: bytes) -> None:
    with file:
        file.write(data)


@pytest.mark.parametrize("receive", RECEIVE.values(), ids=list(RECEIVE))
def test_received_bytes_are_recorded_once(tcp: Pair, receive: Callable[[socket.socket], bytes]) -> None:
    tcp.client.sendall(b"hey!\n")
    assert receive(tcp.server) == b"hey!\n"
    assert tcp.seen.upstream == b"hey!\n"
    tcp.client.shutdown(socket.SHUT_WR)
    assert receive(tcp.server) == b""
    assert receive(tcp.server) == b""
    assert tcp.story()[-1:] == ["HalfClose client"]


@pytest.mark.parametrize("send", SEND.values(), ids=list(SEND))
def test_sent_bytes_are_recorded_once(tcp: Pair, send: Callable[[socket.socket, bytes], Any]) -> None:
    send(tcp.server, b"hey!\n")
    assert tcp.client.recv(10) == b"hey!\n"
    assert tcp.story() == ["Data downstream b'hey!\\n'"]


def test_what_is_merely_looked_at_is_not_recorded(pair: Pair) -> None:
    pair.client.sendall(b"hey")
    assert pair.server.recv(10, socket.MSG_PEEK) == b"hey"
    assert pair.server.recvfrom(10, socket.MSG_PEEK)[0] == b"hey"
    assert pair.server.recvmsg(10, 0, socket.MSG_PEEK)[0] == b"hey"
    assert pair.server.recv_into(bytearray(10), 0, socket.MSG_PEEK) == 3
    assert pair.server.recvfrom_into(bytearray(10), 0, socket.MSG_PEEK)[0] == 3
    assert pair.server.recvmsg_into([bytearray(10)], 0, socket.MSG_PEEK)[0] == 3
    assert pair.story() == []
    assert pair.server.recv(10) == b"hey"
    assert pair.story() == ["Data upstream b'hey'"]


def test_urgent_bytes_are_no_part_of_the_stream(tcp: Pair) -> None:
    tcp.server.send(b"!", socket.MSG_OOB)
    tcp.client.send(b"?", socket.MSG_OOB)
    assert select.select([], [], [tcp.server], LIMIT)[2]
    tcp.server.settimeout(None)
    assert tcp.server.recv(1, socket.MSG_OOB) == b"?"
    assert tcp.story() == []


def test_reading_into_no_room_is_no_end_of_file(pair: Pair) -> None:
    pair.client.sendall(b"x")
    assert pair.server.recv(0) == b""
    assert pair.server.recvfrom(0)[0] == b""
    assert pair.server.recvmsg(0)[0] == b""
    assert pair.server.recv_into(bytearray()) == 0
    assert pair.story() == []


def test_a_read_that_times_out_is_the_same_error_as_before(pair: Pair) -> None:
    pair.server.settimeout(0.001)
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        pair.server.recv(1)
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        pair.server.recvmsg(1)
    pair.server.setblocking(False)
    with pytest.raises(BlockingIOError):
        pair.server.recv(1)
    assert pair.story() == []
    pair.server.close()
    (note,) = [event for event in pair.transcript.events if isinstance(event, Note)]
    assert note.text == "the server closed after a read had timed out (0.001 s)"


def test_a_time_out_that_was_overcome_is_not_held_against_the_end(pair: Pair) -> None:
    pair.server.settimeout(0.001)
    with pytest.raises(TimeoutError):
        pair.server.recv(1)
    pair.server.send(b"x")
    pair.server.close()
    assert pair.story() == ["Data downstream b'x'", "Close server fin"]


def test_sendall_records_how_far_it_got_while_the_reader_is_slow(pair: Pair) -> None:
    size = 32_000_000  # more than the system keeps for a reader that does not read
    with ThreadPoolExecutor(1) as pool:
        pair.server.settimeout(None)
        sender = pool.submit(pair.server.sendall, memoryview(bytes(size)))
        pair.transcript.wait_for(until=lambda t: t.connections[0].downstream_total > 0)
        assert pair.seen.downstream_total < size
        left = size
        while left:
            left -= len(pair.client.recv(1 << 20))
        sender.result(timeout=LIMIT)
    assert pair.seen.downstream_total == size


def test_the_timeout_of_sendall_limits_the_whole_of_it(pair: Pair) -> None:
    pair.server.settimeout(0.05)
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        pair.server.sendall(bytes(50_000_000))
    sent = pair.seen.downstream_total
    pair.server.close()
    got = 0
    while data := pair.client.recv(1 << 20):
        got += len(data)
    assert got == sent > 0
    assert "a write had timed out" in str(pair.transcript.events[-2])


def test_the_timeout_of_sendall_is_over_even_if_there_is_room(
    tcp: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the standard module: a reader that always takes a little cannot draw it out."""
    clock = iter([0.0, 1.0, 6.0])
    monkeypatch.setattr("servertest.wire._observing.monotonic", lambda: next(clock))
    tcp.server.settimeout(5.0)
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        tcp.server.sendall(bytes(300_000))
    assert 0 < tcp.seen.downstream_total <= 2 * 65536


def test_sendall_on_a_non_blocking_socket_records_what_was_taken(pair: Pair) -> None:
    pair.server.setblocking(False)
    with pytest.raises(BlockingIOError):
        pair.server.sendall(bytes(50_000_000))
    sent = pair.seen.downstream_total
    pair.server.close()
    got = 0
    while data := pair.client.recv(1 << 20):
        got += len(data)
    assert got == sent > 0


def test_sendall_takes_what_the_standard_one_takes(tcp: Pair) -> None:
    from array import array

    tcp.server.sendall(array("H", [0x4141, 0x4242]))
    tcp.server.sendall(b"")
    assert tcp.client.recv(10) == b"AABB"
    assert tcp.seen.downstream == b"AABB"
    with pytest.raises(TypeError):
        tcp.server.sendall("text")  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "sendfile"), reason="the platform has no sendfile")
class TestSendfile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "file"
        path.write_bytes(bytes(range(256)) * 8)
        return path

    def test_it_still_goes_through_the_system_call(
        self, pair: Pair, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []
        real = os.sendfile

        def spy(*args: Any) -> int:
            calls.append(args)
            return real(*args)

        monkeypatch.setattr(os, "sendfile", spy)
        with file.open("rb") as opened:
            opened.seek(7)
            assert pair.server.sendfile(opened, 16, 100) == 100
            assert opened.tell() == 116
        assert calls
        assert pair.client.recv(1000) == bytes(range(16, 116))
        assert pair.seen.downstream == bytes(range(16, 116))

    def test_the_whole_file_is_recorded(self, pair: Pair, file: Path) -> None:
        with file.open("rb") as opened:
            assert pair.server.sendfile(opened) == 2048
        assert pair.seen.downstream == file.read_bytes()

    def test_an_empty_file_is_nothing(self, pair: Pair, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        with (tmp_path / "empty").open("rb") as opened:
            assert pair.server.sendfile(opened) == 0
        assert pair.story() == []

    def test_what_was_sent_before_an_error_is_recorded(self, tcp: Pair, tmp_path: Path) -> None:
        path = tmp_path / "large"
        path.write_bytes(b"x" * 20_000_000)
        tcp.server.settimeout(0.05)
        with path.open("rb") as opened:
            with pytest.raises(TimeoutError):
                tcp.server.sendfile(opened)
            assert tcp.seen.downstream_total == opened.tell() > 0

    def test_a_file_that_shrinks_is_noted(
        self, tcp: Pair, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.sendfile

        def then_truncate(*args: Any) -> int:
            sent = real(*args)
            os.truncate(file, 100)
            return sent

        monkeypatch.setattr(os, "sendfile", then_truncate)
        with file.open("rb") as opened:
            assert tcp.server.sendfile(opened) == 2048
        assert tcp.seen.downstream_total == 100
        assert "1948 bytes of a file were sent" in str(tcp.transcript.events[-1])


def test_a_duplicate_belongs_to_the_same_connection(pair: Pair) -> None:
    double = pair.server.dup()
    assert isinstance(double, ObservedSocket)
    assert double.gettimeout() == pair.server.gettimeout()
    double.sendall(b"one")
    pair.server.close()
    assert pair.seen.is_open
    double.sendall(b"two")
    double.close()
    assert pair.seen.downstream == b"onetwo"
    assert pair.story()[-1] == "Close server fin"


def test_a_detached_descriptor_is_gone_from_sight(pair: Pair) -> None:
    descriptor = pair.server.detach()
    assert pair.server.fileno() == -1
    assert "not recorded" in str(pair.transcript.events[-1])
    assert pair.seen.is_open
    with socket.socket(fileno=descriptor) as other:
        other.sendall(b"unseen")
    pair.server.close()
    pair.server.close()
    assert pair.client.recv(10) == b"unseen"
    assert pair.story()[-1] == "Close server fin"


def test_files_keep_the_socket_open(pair: Pair) -> None:
    file = pair.server.makefile("rb")
    pair.server.close()
    assert pair.seen.is_open
    file.close()
    assert pair.story() == ["Close server fin"]


def test_a_forgotten_socket_is_closed_with_the_usual_warning() -> None:
    one, other = socket.socketpair()
    transcript = Transcript()
    observed = observe(one, transcript, 1)
    with pytest.warns(ResourceWarning, match="unclosed .*ObservedSocket"):
        del observed
    assert not transcript.connections[0].is_open
    assert other.recv(1) == b""
    other.close()


def test_closing_what_somebody_else_has_closed(tcp: Pair) -> None:
    os.close(tcp.server.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        tcp.server.close()
    assert not tcp.seen.is_open


def test_a_second_observation_is_refused(pair: Pair) -> None:
    with pytest.raises(UsageError, match="observed already, as connection 1"):
        observe(pair.server, pair.transcript, 2)


def test_only_stream_sockets_can_be_observed_so() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(UsageError, match="observe_datagrams"):
        observe(sock, Transcript(), 1)
    with pytest.raises(UsageError, match="only real sockets"):
        observe(object(), Transcript(), 1)  # type: ignore[arg-type]


def test_a_socket_made_by_its_class_is_not_observed(pair: Pair) -> None:
    with type(pair.server)(socket.AF_INET) as fresh:
        assert observed_number(fresh) is None
        fresh.close()
    assert pair.story() == []


class TestSubclasses:
    class Marked(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.mark = "mine"

    class Counting(socket.socket):
        """Sends in its own way: byte by byte, through send()."""

        def sendall(self, data: Any, flags: int = 0, /) -> None:
            for byte in bytes(data):
                self.send(bytes([byte]))

    class Delegating(socket.socket):
        """Sends in its own way: past send()."""

        def sendall(self, data: Any, flags: int = 0, /) -> None:
            super().sendall(bytes(data).upper(), flags)

    class Slotted(socket.socket):
        __slots__ = ()

    @pytest.mark.parametrize("kind", [Marked, Counting, Delegating], ids=lambda kind: kind.__name__)
    def test_they_keep_their_identity_and_their_ways(self, kind: type[socket.socket]) -> None:
        one, other = socket.socketpair()
        sock = kind(fileno=one.detach())
        transcript = Transcript()
        observed = observe(sock, transcript, 1)
        assert observed is sock
        assert isinstance(observed, kind)
        observed.sendall(b"HEY")
        assert other.recv(3, socket.MSG_WAITALL) == b"HEY"
        assert transcript.connections[0].downstream == b"HEY"
        observed.close()
        other.close()
        assert getattr(observed, "mark", "mine") == "mine"
        assert transcript.connections[0].closed_by == "server"

    def test_one_without_room_is_refused(self) -> None:
        one, other = socket.socketpair()
        with (
            one, other, self.Slotted(fileno=one.detach()) as sock,
            pytest.raises(UsageError, match="Slotted has __slots__ only"),
        ):  # fmt: skip
            observe(sock, Transcript(), 1)


class TestListener:
    def test_what_it_accepts_is_observed(self) -> None:
        transcript = Transcript()
        with observe_listener(bound_socket("stream", "inet"), transcript) as listener:
            listener.settimeout(LIMIT)
            with socket.create_connection(listener.getsockname(), LIMIT) as client:
                accepted, address = listener.accept()
                with accepted:
                    assert address == client.getsockname()
                    assert accepted.gettimeout() is None
                    client.sendall(b"x")
                    assert accepted.recv(1) == b"x"
        connect, data = transcript.events[:2]
        assert isinstance(connect, Connect)
        assert (connect.client, connect.server) == (address, listener_address(transcript))
        assert data == Data(data.time, 1, "upstream", b"x")

    def test_one_of_a_subclass_stays_itself(self) -> None:
        with bound_socket("stream", "inet") as bound, TestSubclasses.Marked(fileno=bound.detach()) as marked:
            listener = observe_listener(marked, Transcript())
            assert listener is marked
            with socket.create_connection(listener.getsockname(), LIMIT), listener.accept()[0] as accepted:
                assert observed_number(accepted) == 1

    def test_asyncio_serves_on_it(self) -> None:
        transcript = Transcript()

        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def talk() -> bytes:
            listener = observe_listener(bound_socket("stream", "inet"), transcript)
            server = await asyncio.start_server(shout, sock=listener)
            async with server:
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                writer.write(b"hey\n")
                answer = await reader.read()
                writer.close()
                await writer.wait_closed()
            return answer

        assert asyncio.run(talk()) == b"HEY\n"
        transcript.wait_idle()
        (seen,) = transcript.connections
        assert (seen.upstream, seen.downstream, seen.closed_by) == (b"hey\n", b"HEY\n", "server")


def listener_address(transcript: Transcript) -> Any:
    return transcript.connections[0].server


def test_many_threads_on_one_socket_lose_nothing(tcp: Pair) -> None:
    def talk() -> None:
        for _ in range(100):
            tcp.server.sendall(b"x" * 10)

    threads = [threading.Thread(target=talk) for _ in range(3)]
    for thread in threads:
        thread.start()
    got = 0
    while got < 3000:
        got += len(tcp.client.recv(1 << 16))
    for thread in threads:
        thread.join(LIMIT)
    assert tcp.seen.downstream_total == 3000
