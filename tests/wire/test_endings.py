"""Who ended a connection, and how: what is recorded is what the peer met."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

import pytest

from servertest._support import hard_reset
from servertest.transcript import Transcript
from servertest.wire import observe
from servertest.wire._ending import Ending, look
from servertest.wire._observation import Observation

from .conftest import LIMIT, Pair


def wait_readable(sock: socket.socket) -> None:
    """Until the peer's last act has arrived: bytes, FIN or RST."""
    assert select.select([sock], [], [], LIMIT)[0]


def linger_zero(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_the_server_closes(pair: Pair) -> None:
    pair.server.close()
    assert pair.story() == ["Close server fin"]
    assert pair.client.recv(1) == b""
    assert pair.seen.closed_by == "server"


def test_the_server_finishes_and_closes_as_socketserver_does(pair: Pair) -> None:
    pair.server.shutdown(socket.SHUT_WR)
    pair.server.close()
    assert pair.story() == ["HalfClose server", "Close server fin"]
    assert pair.seen.closed_by == "server"


def test_the_client_closes_and_the_server_reads_that(pair: Pair) -> None:
    pair.client.close()
    assert pair.server.recv(1) == b""
    pair.server.close()
    assert pair.story() == ["HalfClose client", "Close server fin"]
    assert (pair.seen.closed_by, pair.seen.close_kind) == ("client", "fin")


@pytest.mark.parametrize("shut", [False, True], ids=["close", "shutdown and close"])
def test_the_client_closes_and_the_server_never_looks(pair: Pair, shut: bool) -> None:
    pair.client.close()
    wait_readable(pair.server)
    if shut:
        pair.server.shutdown(socket.SHUT_WR)
    pair.server.close()
    assert pair.story() == ["HalfClose client", *["HalfClose server"] * shut, "Close server fin"]
    assert pair.seen.closed_by == "client"


def test_the_client_half_closes_and_gets_its_answer(pair: Pair) -> None:
    pair.client.sendall(b"question")
    pair.client.shutdown(socket.SHUT_WR)
    assert pair.server.recv(100) == b"question"
    assert pair.server.recv(100) == b""
    pair.server.sendall(b"answer")
    pair.server.close()
    assert pair.client.recv(100) == b"answer"
    assert pair.story() == [
        "Data upstream b'question'",
        "HalfClose client",
        "Data downstream b'answer'",
        "Close server fin",
    ]


def test_the_client_resets_and_the_server_meets_it_reading(tcp: Pair) -> None:
    hard_reset(tcp.client)
    with pytest.raises(ConnectionResetError):
        tcp.server.recv(1)
    assert tcp.story() == ["Close client rst"]
    tcp.server.close()
    assert tcp.story() == ["Close client rst"]
    assert (tcp.seen.closed_by, tcp.seen.close_kind, tcp.seen.reset_by) == ("client", "rst", "client")


@pytest.mark.parametrize("shut", [False, True], ids=["close", "shutdown and close"])
def test_the_client_resets_and_the_server_never_looks(tcp: Pair, shut: bool) -> None:
    hard_reset(tcp.client)
    wait_readable(tcp.server)
    if shut:
        with contextlib.suppress(OSError):
            tcp.server.shutdown(socket.SHUT_WR)
    tcp.server.close()
    assert tcp.story() == ["Close client rst"]


def test_looking_does_not_take_the_error_away(tcp: Pair) -> None:
    hard_reset(tcp.client)
    wait_readable(tcp.server)
    assert look(tcp.server) == Ending(reset=True)
    with pytest.raises(ConnectionResetError):
        tcp.server.recv(1)


def test_the_client_went_away_and_the_server_meets_it_writing(pair: Pair) -> None:
    pair.server.settimeout(None)
    pair.client.close()
    wait_readable(pair.server)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:  # TCP learns of it by the answer to the first write
            pair.server.send(b"x")
    pair.server.close()
    assert pair.story()[-1] == "Close client rst"
    assert pair.seen.reset_by == "client"


def test_the_client_leaves_bytes_unread(pair: Pair) -> None:
    pair.server.sendall(b"x")
    wait_readable(pair.client)
    pair.client.close()
    with pytest.raises(ConnectionResetError):
        pair.server.recv(1)
    pair.server.close()
    assert pair.story() == ["Data downstream b'x'", "Close client rst"]


@pytest.mark.parametrize("shut", [False, True], ids=["close", "shutdown and close"])
def test_the_server_leaves_bytes_unread(pair: Pair, shut: bool) -> None:
    pair.client.sendall(b"xy")
    wait_readable(pair.server)
    pair.server.recv(1)
    if shut:
        pair.server.shutdown(socket.SHUT_WR)
    pair.server.close()
    assert pair.story() == ["Data upstream b'x'", *["HalfClose server"] * shut, "Close server rst"]
    assert pair.seen.reset_by == "server"
    if not shut:
        with pytest.raises(ConnectionResetError):
            pair.client.recv(1)


def test_the_server_leaves_unread_what_the_client_sent_before_it_finished(pair: Pair) -> None:
    pair.client.sendall(b"x")
    pair.client.shutdown(socket.SHUT_WR)
    wait_readable(pair.server)
    pair.server.close()
    assert pair.story() == ["HalfClose client", "Close server rst"]


def test_the_end_of_the_client_is_not_told_before_its_bytes(pair: Pair) -> None:
    pair.client.sendall(b"x")
    pair.client.shutdown(socket.SHUT_WR)
    wait_readable(pair.server)
    pair.server.shutdown(socket.SHUT_WR)
    assert pair.server.recv(10) == b"x"
    assert pair.server.recv(10) == b""
    pair.server.close()
    assert pair.story() == [
        "HalfClose server",
        "Data upstream b'x'",
        "HalfClose client",
        "Close server fin",
    ]


def test_a_linger_time_of_zero_resets(tcp: Pair) -> None:
    linger_zero(tcp.server)
    tcp.server.close()
    assert tcp.story() == ["Close server rst"]
    with pytest.raises(ConnectionResetError):
        tcp.client.recv(1)


def test_a_linger_time_of_zero_means_nothing_once_both_have_finished(tcp: Pair) -> None:
    linger_zero(tcp.server)
    tcp.client.shutdown(socket.SHUT_WR)
    assert tcp.server.recv(1) == b""
    tcp.server.shutdown(socket.SHUT_WR)
    assert tcp.client.recv(1) == b""
    tcp.server.close()
    assert tcp.story() == ["HalfClose client", "HalfClose server", "Close server fin"]


def test_to_stop_reading_is_no_end_of_the_client(pair: Pair) -> None:
    pair.server.shutdown(socket.SHUT_RD)
    assert pair.server.recv(1) == b""
    assert pair.story() == []
    pair.server.sendall(b"x")
    pair.server.close()
    assert pair.story() == ["Data downstream b'x'", "Close server fin"]


def test_a_write_after_the_own_end_says_nothing_about_the_client(pair: Pair) -> None:
    pair.server.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        pair.server.send(b"x")
    assert pair.story() == ["HalfClose server"]


def test_shutting_down_what_is_closed_is_the_error_it_was(pair: Pair) -> None:
    pair.server.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        pair.server.shutdown(socket.SHUT_WR)
    assert pair.story() == ["Close server fin"]


def test_the_system_gives_up() -> None:
    transcript = Transcript()
    observation = Observation(transcript, transcript.connect("a", "b"), "server")
    observation.failed(OSError(errno.ETIMEDOUT, "Connection timed out"), doing="a read", timeout=None)
    observation.closed(Ending())
    (seen,) = transcript.connections
    assert (seen.close_kind, seen.closed_by) == ("timeout", None)


def test_seen_from_the_client_the_sides_are_the_same(tcp: Pair) -> None:
    transcript = Transcript()
    number = transcript.connect(tcp.client.getsockname(), tcp.client.getpeername())
    with observe(tcp.client, transcript, number, side="client") as client:
        client.sendall(b"question")
        assert tcp.server.recv(100) == b"question"
        tcp.server.sendall(b"answer")
        assert client.recv(100) == b"answer"
        client.shutdown(socket.SHUT_WR)
        assert tcp.server.recv(1) == b""
        tcp.server.close()
        assert client.recv(1) == b""
    (seen,) = transcript.connections
    assert (seen.upstream, seen.downstream) == (b"question", b"answer")
    assert [type(e).__name__ + str(getattr(e, "by", "")) for e in seen.events] == [
        "Connect",
        "Data",
        "Data",
        "HalfCloseclient",
        "HalfCloseserver",
        "Closeclient",
    ]
    assert tcp.seen.events[1].time >= 0
    assert (tcp.seen.closed_by, seen.closed_by) == ("client", "client")


def test_where_the_system_cannot_be_asked_nothing_is_known(
    tcp: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servertest.wire._ending._CAN_ASK", False)
    tcp.client.sendall(b"x")
    wait_readable(tcp.server)
    assert look(tcp.server) == Ending()


FORK = """
import os, socket, sys
from servertest.transcript import RemoteRecorder
from servertest.wire import observe

def fork_and_close():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    sock.close()

story = []
recorder = RemoteRecorder(lambda event: story.append(type(event).__name__ + str(getattr(event, "by", ""))))
ours, theirs = socket.socketpair()
sock = observe(ours, recorder, recorder.connect("", ""))
child = os.fork()
if not child:
    sock.sendall(b"x")
    {child}
    os.write(1, repr(story[1:]).encode())
    os._exit(0)
os.waitpid(child, 0)
{parent}
os.write(1, b" " + repr(story[1:]).encode())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.parametrize(
    ("child", "parent", "told"),
    [
        ("sock.close()", "sock.close()", "['Data', 'Closeserver'] []"),
        (
            "sock.shutdown(1); sock.close()",
            "sock.close()",
            "['Data', 'HalfCloseserver', 'Closeserver'] []",
        ),
        ("pass", "sock.shutdown(1); sock.close()", "['Data'] ['HalfCloseserver', 'Closeserver']"),
        (
            "pass",
            "import threading; t = threading.Thread(target=sock.close); t.start(); t.join()",
            "['Data'] ['Closeserver']",
        ),
        (
            "pass",
            "import threading; t = threading.Thread(target=fork_and_close); t.start(); t.join()",
            "['Data'] ['Closeserver']",
        ),
    ],
    ids=[
        "forking server",
        "forking server, orderly",
        "the parent ends it",
        "another thread ends it",
        "another thread that has forked ends it",
    ],
)
def test_a_connection_goes_on_in_the_child(child: str, parent: str, told: str) -> None:
    script = FORK.format(child=child, parent=parent)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=30, check=True, text=True
    )
    assert done.stdout == told


@pytest.mark.parametrize(
    "break_it",
    [lambda sock: sock.shutdown(socket.SHUT_RDWR), lambda sock: None],
    ids=["shut down", "left alone"],
)
def test_closing_twice_is_told_once(pair: Pair, break_it: Callable[[socket.socket], None]) -> None:
    break_it(pair.server)
    pair.server.close()
    pair.server.close()
    assert [event for event in pair.story() if event.startswith("Close")] == ["Close server fin"]
