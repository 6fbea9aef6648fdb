"""Both twins, over every kind of connection."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from servertest._support import (
    DeadlineExceeded,
    Mismatch,
    PeerClosed,
    PeerReset,
    UsageError,
    format_address,
    hard_reset,
)

from ._twins import PATIENCE, Background, Twin
from .conftest import Link

SOON = 0.01  # a deadline that is meant to pass


def test_bytes_go_both_ways(link: Link) -> None:
    link.client.send_all(b"hello")
    assert link.peer.recv(100) == b"hello"
    link.peer.sendall(b"world")
    assert link.client.read_exactly(5) == b"world"
    assert (link.client.sent, link.client.received) == (5, 5)


def test_one_send_may_take_part_of_the_data_only(link: Link) -> None:
    count = link.client.send(b"x" * 10_000_000)
    assert 0 < count < 10_000_000
    assert link.client.sent == count
    got = 0
    while got < count:
        got += len(link.peer.recv(65536))
    assert got == count


def test_a_large_message_arrives_whole(link: Link, background: Callable[..., Background]) -> None:
    message = bytes(range(256)) * 8000
    reading = background(read_exactly, link.peer, len(message))
    link.client.send_all(memoryview(message))
    assert reading.result() == message
    sending = background(link.peer.sendall, message)
    assert link.client.read_exactly(len(message)) == message
    sending.result()


def test_sending_nothing_sends_nothing(link: Link) -> None:
    assert link.client.send(b"") == 0
    link.client.send_all(b"")
    assert link.client.sent == 0


def test_reads_take_what_they_need_and_leave_the_rest(link: Link) -> None:
    link.peer.sendall(b"12345one\ntwo\r\n--rest")
    client = link.client
    assert client.read_exactly(5) == b"12345"
    assert client.readline() == b"one\n"
    assert client.read_until(b"\r\n") == b"two\r\n"
    assert client.expect(b"--") == b"--"
    assert client.expect(re.compile(rb"r(e)s")).group(1) == b"e"
    assert client.read_some() == b"t"


def test_read_some_gives_what_there_is(link: Link) -> None:
    link.peer.sendall(b"abc")
    assert link.client.read_some(2) == b"ab"
    assert link.client.read_some(2) == b"c"
    link.peer.shutdown(socket.SHUT_WR) if not link.is_tls else link.peer.close()
    assert link.client.read_some() == b""
    assert link.client.read_some() == b""


def test_the_end_of_the_stream(link: Link) -> None:
    link.peer.sendall(b"all\nthere is")
    link.peer.close()
    assert link.client.readline() == b"all\n"
    assert link.client.readline() == b"there is"
    assert link.client.readline() == b""
    assert link.client.read_eof() == b""


def test_read_eof_takes_everything(link: Link, background: Callable[..., Background]) -> None:
    def send_and_close() -> None:
        link.peer.sendall(b"x" * 1_000_000)
        link.peer.close()

    sending = background(send_and_close)
    assert link.client.read_eof() == b"x" * 1_000_000
    sending.result()


def test_half_close_ends_one_direction_only(link: Link) -> None:
    link.client.send_all(b"request")
    link.client.half_close()
    assert read_to_end(link.peer) == b"request"
    link.peer.sendall(b"late answer")
    link.peer.close()
    assert link.client.read_eof() == b"late answer"


def test_half_close_twice_is_once_and_sending_after_it_is_refused(link: Link) -> None:
    link.client.half_close()
    link.client.half_close()
    with pytest.raises(UsageError, match=r"nothing can be sent to .* after half_close"):
        link.client.send(b"x")
    with pytest.raises(UsageError, match="after half_close"):
        link.client.send_all(b"x")
    assert read_to_end(link.peer) == b""


@pytest.mark.parametrize("kind", ["inet", "inet6", "unix", "abstract"])  # for TLS see test_tls.py
def test_the_peer_may_half_close_first(make_link: Callable[..., Link], kind: str) -> None:
    link = make_link(kind)
    link.peer.shutdown(socket.SHUT_WR)
    assert link.client.read_eof() == b""
    link.client.send_all(b"still talking")
    link.client.close()
    assert read_to_end(link.peer) == b"still talking"


# Failing


Read = Callable[..., Any]

READS: list[tuple[str, Read, str]] = [
    ("read_exactly", lambda client, **options: client.read_exactly(10, **options), "10 bytes"),
    ("read_until", lambda client, **options: client.read_until(b"\r\n", **options), r"bytes up to b'\r\n'"),
    ("expect", lambda client, **options: client.expect(b"half a line", **options), "b'half a line'"),
    (
        "pattern",
        lambda client, **options: client.expect(re.compile(rb".*\n"), **options),
        r"bytes that match rb'.*\n'",
    ),
]
incomplete = pytest.mark.parametrize(
    ("read", "what"), [row[1:] for row in READS], ids=[row[0] for row in READS]
)


@incomplete
def test_a_deadline_says_what_was_awaited_and_loses_nothing(link: Link, read: Read, what: str) -> None:
    link.peer.sendall(b"half a")
    with pytest.raises(DeadlineExceeded) as caught:
        read(link.client, timeout=SOON)
    assert str(caught.value) == (
        f"waited {SOON:g} s for {what} from {format_address(link.address)}; 6 bytes came: b'half a'"
    )
    assert caught.value.so_far == b"half a"
    link.peer.sendall(b" line\n")
    assert link.client.readline() == b"half a line\n"


@pytest.mark.parametrize("read", ["read_some", "readline", "read_eof"])
def test_other_reads_have_a_deadline_too(link: Link, read: str) -> None:
    with pytest.raises(DeadlineExceeded, match="nothing came"):
        getattr(link.client, read)(timeout=SOON)


@incomplete
def test_an_early_end_says_what_was_awaited_and_loses_nothing(link: Link, read: Read, what: str) -> None:
    link.peer.sendall(b"half a")
    link.peer.close()
    with pytest.raises(PeerClosed) as caught:
        read(link.client)
    peer = format_address(link.address)
    expected = f"{peer} closed the connection before {what} had come; 6 bytes came: b'half a'"
    assert str(caught.value) == expected
    assert caught.value.so_far == b"half a"
    assert link.client.read_eof() == b"half a"


def test_an_end_without_a_byte(tcp: Link) -> None:
    tcp.peer.close()
    with pytest.raises(PeerClosed, match="closed the connection before 3 bytes had come; nothing came"):
        tcp.client.read_exactly(3)


@incomplete
def test_a_reset_is_told_apart_from_an_end(make_link: Callable[..., Link], read: Read, what: str) -> None:
    link = make_link("inet")
    link.peer.sendall(b"half a")
    assert link.client.read_exactly(4) == b"half"
    with pytest.raises(DeadlineExceeded):
        link.client.expect(b" a...", timeout=SOON)
    hard_reset(link.peer)
    with pytest.raises(PeerReset, match=r"reset the connection; unread before that: b' a'") as caught:
        link.client.read_exactly(5)
    assert caught.value.so_far == b" a"
    assert link.client.read_exactly(2) == b" a"
    with pytest.raises(PeerReset):  # and not b"", as if this were the end
        link.client.read_eof()


@pytest.mark.parametrize("kind", ["inet", "inet+tls"])
def test_sending_to_a_peer_that_reset(make_link: Callable[..., Link], kind: str) -> None:
    link = make_link(kind)
    hard_reset(link.peer)
    with pytest.raises(PeerReset, match="reset the connection"):
        link.client.send_all(b"x" * 10_000_000)
    with pytest.raises(PeerReset):
        link.client.half_close()


@pytest.mark.parametrize("kind", ["unix", "abstract", "unix+tls"])
def test_sending_to_a_unix_peer_that_closed(make_link: Callable[..., Link], kind: str) -> None:
    link = make_link(kind)
    link.peer.close()
    with pytest.raises(PeerClosed, match="has closed the connection and takes nothing more"):
        link.client.send_all(b"x")


def test_an_error_that_is_not_ours_comes_through_with_the_peers_name(tcp: Link, monkeypatch: Any) -> None:
    class Failing(socket.socket):
        def recv(self, *_: object) -> bytes:
            raise OSError(113, "no route to host")

    tcp.client._core.sock = Failing(fileno=tcp.client.socket.detach())
    tcp.peer.sendall(b"x")
    with pytest.raises(OSError, match="no route to host") as caught:
        tcp.client.read_some()
    assert caught.value.__notes__ == [f"on the connection to {format_address(tcp.address)}"]
    tcp.client.close()


def test_the_first_wrong_byte_fails_at_once_and_everything_stays(link: Link) -> None:
    link.peer.sendall(b"500 broken\r\n")
    with pytest.raises(Mismatch, match=r"sent something else than was expected\n") as caught:
        link.client.expect(b"200 all is well, and more than ever came\r\n")
    assert "expected text: b'200 all is well, and more th' ..." in str(caught.value)
    assert "received text: b'500 broken\\r\\n'" in str(caught.value)
    assert "^^ byte 0" in str(caught.value)
    assert link.client.readline() == b"500 broken\r\n"


def test_a_line_that_is_too_long_is_the_peers_fault_and_stays(link: Link) -> None:
    link.peer.sendall(b"x" * 50 + b"\n")
    with pytest.raises(Mismatch, match=r"no b'\\n' within the first 20 \(max_bytes\)"):
        link.client.readline(max_bytes=20)
    assert link.client.readline() == b"x" * 50 + b"\n"


def test_a_deadline_is_for_the_whole_call_and_not_for_each_byte(
    link: Link, background: Callable[..., Background]
) -> None:
    done = threading.Event()

    def drip() -> None:
        while not done.wait(0.005):
            link.peer.sendall(b".")

    link.peer.sendall(b".")
    dripping = background(drip)
    with pytest.raises(DeadlineExceeded) as caught:
        link.client.read_exactly(1_000_000, timeout=0.06)
    done.set()
    dripping.result()
    assert caught.value.so_far


def test_a_peer_that_never_pauses_does_not_hold_a_read(
    link: Link, background: Callable[..., Background]
) -> None:
    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                link.peer.sendall(b"x" * 65536)

    flooding = background(flood)
    with pytest.raises(DeadlineExceeded):
        link.client.read_eof(timeout=0.05)
    link.client.close()
    flooding.result()


def test_no_time_at_all_still_reads_what_is_there(link: Link) -> None:
    link.peer.sendall(b"now")
    assert link.client.read_exactly(3) == b"now"
    link.peer.sendall(b"now")
    wait_readable(link.client.socket)
    assert link.client.read_exactly(3, timeout=0) == b"now"
    with pytest.raises(DeadlineExceeded, match=r"^waited 0 s for 1 byte from"):
        link.client.read_exactly(1, timeout=0)


def test_a_peer_that_does_not_read(link: Link) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        link.client.send_all(b"x" * 20_000_000, timeout=SOON)
    assert re.search(r"to take 20000000 bytes \([1-9]\d+ are on their way\)$", str(caught.value))
    assert caught.value.so_far is None


def test_what_was_sent_before_a_deadline_arrives_in_order(
    link: Link, background: Callable[..., Background]
) -> None:
    message = bytes(range(256)) * 40_000
    with pytest.raises(DeadlineExceeded):
        link.client.send_all(message, timeout=SOON)
    on_their_way = link.client.sent
    reading = background(read_to_end, link.peer)
    link.client.send_all(b"THE END")
    link.client.half_close()
    assert reading.result() == message[:on_their_way] + b"THE END"


@pytest.mark.parametrize("kind", ["inet+tls", "unix+tls"])
def test_as_long_as_a_record_waits_to_be_sent_no_other_is_begun(
    make_link: Callable[..., Link], kind: str
) -> None:
    client = make_link(kind).client
    assert client._core.tls is not None
    for _ in range(20):  # long after the peer's buffers are full
        with contextlib.suppress(DeadlineExceeded):
            client.send_all(b"x" * 1_000_000, timeout=SOON)
    assert 0 < len(client._core.tls.unsent) < 20_000


@pytest.mark.parametrize("kind", ["inet", "inet6"])
def test_small_pieces_are_not_held_back(make_link: Callable[..., Link], kind: str) -> None:
    sock = make_link(kind).client.socket
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_clients_own_timeout_holds_where_none_is_given(make_link: Callable[..., Link]) -> None:
    link = make_link("inet", timeout=SOON)
    with pytest.raises(DeadlineExceeded, match=f"waited {SOON:g} s"):
        link.client.readline()
    assert link.client.timeout == SOON


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan")])
def test_senseless_timeouts_are_refused(tcp: Link, twin: Twin, timeout: float) -> None:
    with pytest.raises(UsageError, match="a number of seconds from 0 up"):
        tcp.client.readline(timeout=timeout)
    with pytest.raises(UsageError, match="a number of seconds from 0 up"):
        twin.connect(tcp.address, timeout=timeout)


def test_there_is_no_wait_without_a_limit(tcp: Link) -> None:
    tcp.client.timeout = None  # type: ignore[assignment] # that is the point
    with pytest.raises(UsageError, match="never without a limit"):
        tcp.client.readline()


def test_a_deadline_asks_for_more_to_say(make_link: Callable[..., Link]) -> None:
    link = make_link("inet", on_deadline=lambda: "the server: asleep in handle()")
    with pytest.raises(DeadlineExceeded, match=r"nothing came\nthe server: asleep in handle\(\)$"):
        link.client.readline(timeout=SOON)


# Ending


@pytest.mark.parametrize("kind", ["inet", "inet6", "inet+tls"])
def test_reset_is_a_rst(make_link: Callable[..., Link], kind: str) -> None:
    link = make_link(kind)
    link.client.reset()
    link.client.reset()
    with pytest.raises(ConnectionResetError):
        # Not SSLSocket.recv: it takes a RST for the end of the stream.
        socket.socket.recv(link.peer, 1)


def test_reset_on_a_unix_socket_that_has_unread_bytes(make_link: Callable[..., Link]) -> None:
    link = make_link("unix")
    link.peer.sendall(b"never read")
    link.client.reset()
    with pytest.raises(ConnectionResetError):
        link.peer.recv(1)


def test_close_is_an_end_and_no_reset(link: Link) -> None:
    link.client.send_all(b"bye")
    link.client.close()
    link.client.close()
    assert read_to_end(link.peer) == b"bye"
    assert link.client.closed


def test_leaving_the_block_closes(link: Link) -> None:
    with link.client as client:
        assert client is link.client
    assert link.peer.recv(1) == b""


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("send", (b"x",)),
    ("send_all", (b"x",)),
    ("read_some", ()),
    ("read_exactly", (1,)),
    ("read_until", (b"x",)),
    ("readline", ()),
    ("read_eof", ()),
    ("expect", (b"x",)),
    ("half_close", ()),
]


@pytest.mark.parametrize(("name", "args"), CALLS, ids=[call[0] for call in CALLS])
def test_a_closed_client_says_so(tcp: Link, name: str, args: tuple[Any, ...]) -> None:
    tcp.client.close()
    with pytest.raises(UsageError, match="is closed"):
        getattr(tcp.client, name)(*args)


def test_a_client_tells_who_talks_to_whom(link: Link, twin: Twin) -> None:
    client = link.client
    assert client.address == link.address
    assert client.socket.fileno() >= 0
    if link.is_inet:
        assert client.local_address == link.peer.getpeername()
    name = "StreamClient" if twin.name == "threads" else "AsyncStreamClient"
    expected = f"<{name} of {format_address(link.address)} from {format_address(client.local_address)}>"
    assert repr(client) == expected
    client.close()
    assert repr(client) == f"<{name} of {format_address(link.address)} closed>"


def test_a_socket_that_is_given_a_timeout_still_works(link: Link) -> None:
    link.client.socket.settimeout(0.001)
    with pytest.raises(DeadlineExceeded, match=f"waited {SOON:g} s"):
        link.client.readline(timeout=SOON)
    link.peer.sendall(b"hi\n")
    assert link.client.readline() == b"hi\n"


# False alarms: poll(2) may say ready, and the call then finds that it is not (its BUGS section)


class Reluctant(socket.socket):
    """Is never ready at the first try."""

    tries = 0

    def _once(self) -> None:
        self.tries += 1
        if self.tries % 2:
            raise BlockingIOError

    def recv(self, *args: Any) -> bytes:
        self._once()
        return super().recv(*args)

    def send(self, *args: Any) -> int:
        self._once()
        return super().send(*args)


def test_false_alarms_do_no_harm(twin: Twin) -> None:
    ours, theirs = socket.socketpair()
    with theirs, twin.stream(Reluctant(fileno=ours.detach())) as client:
        client.send_all(b"ping")
        assert theirs.recv(10) == b"ping"
        theirs.sendall(b"pong")
        assert client.read_exactly(4) == b"pong"


def test_false_alarms_do_no_harm_to_tls(
    twin: Twin, background: Callable[..., Background], client_context: Any, server_context: Any
) -> None:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    wrapping = background(lambda: server_context.wrap_socket(theirs, server_side=True))
    with twin.stream(Reluctant(fileno=ours.detach())) as client:
        client.start_tls(client_context, "unix.test")
        with wrapping.result() as peer:
            client.send_all(b"ping")
            assert peer.recv(10) == b"ping"
            peer.sendall(b"pong")
            assert client.read_exactly(4) == b"pong"


def test_without_poll_select_does(tcp: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.delattr("select.poll")
    tcp.client.send_all(b"ping")
    assert tcp.peer.recv(10) == b"ping"
    tcp.peer.sendall(b"pong")
    assert tcp.client.read_exactly(4) == b"pong"
    with pytest.raises(DeadlineExceeded):
        tcp.client.read_exactly(1, timeout=0)


# An existing socket


def test_a_client_around_a_socket_of_ones_own(twin: Twin) -> None:
    ours, theirs = socket.socketpair()
    with theirs, twin.stream(ours) as client:
        client.send_all(b"hi")
        assert theirs.recv(10) == b"hi"
        assert client.address == ""
    assert ours.fileno() == -1


def test_a_socketpair_can_be_given_a_name_for_messages(twin: Twin) -> None:
    ours, theirs = socket.socketpair()
    with theirs, twin.stream(ours, address=("somewhere", 80)) as client:
        with pytest.raises(DeadlineExceeded) as caught:
            client.readline(timeout=0)
        assert caught.value.what == "a line from somewhere:80"


def test_sockets_that_will_not_do(twin: Twin) -> None:
    with socket.socket() as sock, pytest.raises(UsageError, match="needs a connected socket"):
        twin.stream(sock)
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sock,
        pytest.raises(UsageError, match="needs a stream socket"),
    ):
        twin.stream(sock)
    closed, other = socket.socketpair()
    closed.close()
    other.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        twin.stream(closed)


def test_a_client_without_a_sensible_timeout_is_none(twin: Twin) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(UsageError, match="a number of seconds"):
        twin.stream(ours, timeout=-1)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(65536)
        assert piece
        data += piece
    return bytes(data)


def read_to_end(sock: socket.socket) -> bytes:
    sock.settimeout(PATIENCE)
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
    return bytes(data)


def wait_readable(sock: socket.socket) -> None:
    import select

    assert select.select([sock], [], [], PATIENCE)[0]
