"""A program's line is found as it comes; ports are chosen so that nobody else chooses them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from servertest._support import AddressInUse, SocketDirectory, UsageError, bound_socket
from servertest.launch import _command_port
from servertest.launch._command_port import reserve_port
from servertest.launch._command_ready import LineSearch, Ready, is_bound, takes_connection

# -- lines


@pytest.mark.parametrize(
    "ready",
    ["is ready", b"is ready", re.compile("is (ready)"), re.compile(rb"(?i)IS READY$"), re.compile("^it")],
)
def test_a_line_is_found_however_it_is_named(ready: Ready) -> None:
    search = LineSearch(ready)
    search.feed(b"starting\nnot yet\n")
    assert search.match is None
    search.feed(b"it is ready\n")

    assert search.match is not None


def test_a_line_is_found_in_pieces_and_before_its_end() -> None:
    search = LineSearch("ready>")
    for piece in (b"rea", b"d", b"y", b"> "):
        assert search.match is None
        search.feed(piece)

    assert search.match is not None


def test_a_number_is_only_read_when_its_line_is_complete() -> None:
    search = LineSearch(re.compile(r"port (\d+)"))
    assert search.has_group
    search.feed(b"on port 12")
    assert search.match is None
    search.feed(b"34\r\n")

    assert search.port == 1234


def test_lines_do_not_run_into_each_other() -> None:
    search = LineSearch("two words")
    search.feed(b"two\nwords\n")

    assert search.match is None


@pytest.mark.parametrize("found", [b"port x\n", b"port 0\n", b"port 70000\n"])
def test_a_group_that_is_no_port_is_a_clear_error(found: bytes) -> None:
    search = LineSearch(re.compile(rb"port (\w+)"))
    search.feed(found)

    with pytest.raises(UsageError, match="the first group of ready= is to be the port"):
        assert search.port


def test_a_line_without_end_does_not_fill_memory() -> None:
    search = LineSearch("never")
    for _ in range(100):
        search.feed(b"x" * 10_000)

    assert len(search._line) <= 65_536


# -- connections


def test_what_takes_connections_is_known() -> None:
    with bound_socket("stream", "inet") as listener:
        assert takes_connection(listener.getsockname(), socket.AF_INET, socket.SOCK_STREAM)
        address = listener.getsockname()

    assert not takes_connection(address, socket.AF_INET, socket.SOCK_STREAM)


def test_a_unix_datagram_socket_is_known_by_its_path() -> None:
    with SocketDirectory() as directory:
        path = directory.path()
        assert not takes_connection(path, socket.AF_UNIX, socket.SOCK_DGRAM)
        with bound_socket("datagram", "unix", address=path):
            assert takes_connection(path, socket.AF_UNIX, socket.SOCK_DGRAM)


def test_a_udp_port_is_known_by_the_systems_table() -> None:
    with bound_socket("datagram", "inet") as sock:
        port = sock.getsockname()[1]
        assert is_bound(port)

    assert not is_bound(port)


# -- ports


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_reserved_port_can_be_bound_and_is_none_of_the_kernels(stack: ExitStack) -> None:
    low, high = map(int, Path(_command_port._RANGE_FILE).read_text().split())
    reservation = reserve_port("127.0.0.1", socket.AF_INET, socket.SOCK_STREAM)
    stack.callback(reservation.release)
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", reservation.port))

    assert not low <= reservation.port <= high


def test_no_port_is_reserved_twice(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_command_port, "_candidates", lambda: [10_123, 10_124])
    first = reserve_port("127.0.0.1", socket.AF_INET, socket.SOCK_DGRAM)
    second = reserve_port("127.0.0.1", socket.AF_INET, socket.SOCK_DGRAM)
    stack.callback(second.release)
    with pytest.raises(AddressInUse, match=r"ports of 127\.0\.0\.1"):
        reserve_port("127.0.0.1", socket.AF_INET, socket.SOCK_DGRAM)
    first.release()
    third = reserve_port("127.0.0.1", socket.AF_INET, socket.SOCK_DGRAM)
    stack.callback(third.release)

    assert {first.port, second.port} == {10_123, 10_124}
    assert third.port == first.port


def test_a_port_in_use_is_not_reserved(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = stack.enter_context(bound_socket("stream", "inet"))
    port = listener.getsockname()[1]
    monkeypatch.setattr(_command_port, "_candidates", lambda: [port])

    with pytest.raises(AddressInUse):
        reserve_port("127.0.0.1", socket.AF_INET, socket.SOCK_STREAM)


def test_where_the_kernels_range_is_unknown_the_kernel_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_command_port, "_RANGE_FILE", "/proc/no/such/file")
    reservation = reserve_port("127.0.0.1", socket.AF_INET, socket.SOCK_STREAM)
    reservation.release()

    assert 1024 <= reservation.port <= 65_535
