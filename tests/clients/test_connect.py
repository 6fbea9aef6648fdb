"""Getting a connection, or a clear error and nothing left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from servertest._support import (
    AddressError,
    DeadlineExceeded,
    Family,
    PeerRefused,
    PeerReset,
    SocketDirectory,
    UsageError,
    have_ipv6,
    refused_address,
)
from servertest.clients import (
    AsyncDatagramClient,
    AsyncStreamClient,
    DatagramClient,
    StreamClient,
    connect,
    connect_async,
)
from servertest.clients._dial import fail_with
from tests._descriptors import new_descriptors, open_descriptors

from ._twins import PATIENCE, Background, Twin

Listen = Callable[..., socket.socket]

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors in /proc")


@pytest.fixture
def no_descriptors_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert not new_descriptors(before)


@linux
@pytest.mark.usefixtures("no_descriptors_left")
@pytest.mark.parametrize("family", ["inet", "inet6", "unix", "abstract"])
def test_nobody_listens(family: Family) -> None:
    if family == "inet6" and not have_ipv6():
        pytest.skip("no ::1 on this machine")
    with refused_address("stream", family) as address:
        with pytest.raises(PeerRefused, match=r"nobody listens at .*: the connection was refused") as caught:
            StreamClient.connect(address)
        assert caught.value.errno == errno.ECONNREFUSED
        with pytest.raises(PeerRefused, match="nobody listens"):
            asyncio.run(AsyncStreamClient.connect(address))


def test_a_path_that_is_not_there(twin: Twin, directory: SocketDirectory) -> None:
    path = directory.path()
    with pytest.raises(FileNotFoundError, match=re.escape(repr(path))) as caught:
        twin.connect(path)
    assert caught.value.__notes__ == [f"the peer's address was {path}"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/tmp/" + "x" * 200, "the limit here is"),
        ("", "must not be empty"),
        (80, "80 is no address"),
        (("localhost",), "is no address"),
        (("no host name at all", 80), "cannot be resolved"),
    ],
)
def test_what_is_no_address(twin: Twin, address: Any, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        twin.connect(address)
    with pytest.raises(AddressError, match=reason):
        twin.connect_datagram(address)


def test_a_name_leads_to_whichever_address_answers(twin: Twin, listen: Listen, monkeypatch: Any) -> None:
    server = listen().getsockname()
    with refused_address() as refused:

        def both(*_: object, **__: object) -> list[tuple[Any, ...]]:
            return [(socket.AF_INET, 0, 0, "", address) for address in (refused, server)]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        with twin.connect(("twice.test", 80)) as client:
            assert client.socket.getpeername() == server
            assert client.address == ("twice.test", 80)


def test_if_no_address_answers_the_last_error_is_told(twin: Twin, monkeypatch: Any) -> None:
    with refused_address() as refused:
        found = [(socket.AF_INET, 0, 0, "", refused)] * 2
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(PeerRefused, match=r"nobody listens at twice\.test:80"):
            twin.connect(("twice.test", 80))


def test_a_full_ipv6_address_is_used_as_it_is(twin: Twin, listen: Listen) -> None:
    address = listen("inet6").getsockname()
    assert len(address) == 4
    with twin.connect(address) as client:
        assert client.socket.getpeername() == address


# Servers that accept nothing more


def fill(listener: socket.socket, stack: Any) -> None:
    """Connect until the kernel takes no more connections for this listener."""
    while True:
        sock = stack.enter_context(socket.socket(listener.family))
        sock.settimeout(0.05)
        try:
            sock.connect(listener.getsockname())
        except (TimeoutError, BlockingIOError):
            return


@linux
@pytest.mark.parametrize("family", ["inet", "unix", "abstract"])
def test_a_server_with_a_full_backlog(twin: Twin, listen: Listen, stack: Any, family: str) -> None:
    listener = listen(family, backlog=0)
    fill(listener, stack)
    with pytest.raises(DeadlineExceeded, match=r"^waited 0\.02 s for a connection to "):
        twin.connect(listener.getsockname(), timeout=0.02)


def test_a_refusal_that_comes_later(twin: Twin, listen: Listen, monkeypatch: Any) -> None:
    """On the loopback interface connect(2) knows at once; elsewhere the answer has to be waited for."""

    class Far(socket.socket):
        def connect(self, address: Any) -> None:
            super().connect(address)
            raise BlockingIOError

        def getsockopt(self, level: int, option: int, *size: int) -> Any:
            assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
            return errno.ECONNREFUSED

    address = listen().getsockname()
    monkeypatch.setattr(socket, "socket", Far)
    with pytest.raises(PeerRefused, match="nobody listens"):
        twin.connect(address)


def test_a_system_without_a_way_to_wait_for_a_unix_server(
    twin: Twin, listen: Listen, monkeypatch: Any
) -> None:
    class Full(socket.socket):
        def connect(self, address: Any) -> None:
            raise BlockingIOError

    address = listen("unix").getsockname()
    monkeypatch.setattr(socket, "socket", Full)
    monkeypatch.setattr("servertest.clients._dial.sys.platform", "darwin")
    with pytest.raises(UsageError, match="does not tell when a Unix peer has room again"):
        twin.connect(address)


@linux
@pytest.mark.parametrize("family", ["unix", "abstract"])
def test_a_full_backlog_of_a_server_that_goes_away(
    twin: Twin,
    listen: Listen,
    stack: Any,
    family: str,
    background: Callable[..., Background],
    monkeypatch: Any,
) -> None:
    listener = listen(family, backlog=0)
    address = listener.getsockname()
    fill(listener, stack)
    closing: list[Background] = []

    class Noticed(socket.socket):
        def connect(self, address: Any) -> None:
            try:
                super().connect(address)
            except BlockingIOError:
                closing.append(background(listener.close))
                raise

    monkeypatch.setattr(socket, "socket", Noticed)
    with pytest.raises(PeerRefused):
        twin.connect(address)
    closing[0].result()


@linux
@pytest.mark.parametrize("family", ["unix", "abstract"])
def test_a_full_backlog_that_gets_room(
    twin: Twin,
    listen: Listen,
    stack: Any,
    family: str,
    background: Callable[..., Background],
    monkeypatch: Any,
) -> None:
    listener = listen(family, backlog=0)
    fill(listener, stack)
    full: list[Background] = []

    class Noticed(socket.socket):
        def connect(self, address: Any) -> None:
            try:
                super().connect(address)
            except BlockingIOError:
                full.append(background(make_room, listener))  # found full: only now is room made
                raise

    monkeypatch.setattr(socket, "socket", Noticed)
    with twin.connect(listener.getsockname(), timeout=PATIENCE) as client:
        assert full
        assert client.socket.getpeername() == listener.getsockname()
        assert client.socket.gettimeout() == 0
    full[0].result()


def make_room(listener: socket.socket) -> None:
    listener.accept()[0].close()


# The client's own address


def test_source_is_the_clients_own_address(twin: Twin, listen: Listen) -> None:
    listener = listen()
    with twin.connect(listener.getsockname(), source=("127.0.0.2", 0)) as client:
        peer, address = listener.accept()
        peer.close()
        assert address == client.local_address
        assert address[0] == "127.0.0.2"


def test_a_unix_source_is_seen_by_the_server_and_leaves_no_path(
    twin: Twin, listen: Listen, directory: SocketDirectory
) -> None:
    listener, source = listen("unix"), directory.path("me")
    with twin.connect(listener.getsockname(), source=source):
        peer, address = listener.accept()
        peer.close()
        assert address == source
        assert not os.path.exists(source)


def test_a_source_that_cannot_be(twin: Twin, listen: Listen, directory: SocketDirectory) -> None:
    with pytest.raises(OSError, match="annot assign") as caught:
        twin.connect(listen().getsockname(), source=("192.0.2.1", 0))
    assert "the client's own address (source=) was to be 192.0.2.1:0" in caught.value.__notes__
    with pytest.raises(AddressError, match="the limit here is"):
        twin.connect(listen("unix").getsockname(), source="/" + "x" * 200)
    taken = Path(directory.path())
    taken.write_text("mine")
    with pytest.raises(OSError, match="in use"):
        twin.connect(listen("unix").getsockname(), source=str(taken))
    assert taken.read_text() == "mine"


# connect() and connect_async()


def test_connect_picks_by_transport(listen: Listen) -> None:
    address = listen().getsockname()
    with connect(address, timeout=1) as stream:
        assert type(stream) is StreamClient
        assert stream.timeout == 1
    with connect(address, transport="datagram", timeout=1) as datagram:
        assert type(datagram) is DatagramClient
    with pytest.raises(UsageError, match="'stream' or 'datagram', not 'tcp'"):
        connect(address, transport="tcp")  # type: ignore[call-overload] # that is the point


def test_connect_async_picks_by_transport(listen: Listen) -> None:
    address = listen().getsockname()

    async def main() -> None:
        async with await connect_async(address, timeout=1) as stream:
            assert type(stream) is AsyncStreamClient
        async with await connect_async(address, transport="datagram", timeout=1) as datagram:
            assert type(datagram) is AsyncDatagramClient
        with pytest.raises(UsageError, match="'stream' or 'datagram'"):
            await connect_async(address, transport="tcp")  # type: ignore[call-overload] # that is the point

    asyncio.run(main())


def test_an_error_after_connecting_closes_the_socket(twin: Twin, listen: Listen, monkeypatch: Any) -> None:
    made: list[socket.socket] = []

    class Failing(socket.socket):
        def connect(self, address: Any) -> None:
            made.append(self)
            super().connect(address)

        def getsockname(self) -> Any:
            raise OSError(errno.ENOBUFS, "no room")

    address = listen().getsockname()
    monkeypatch.setattr(socket, "socket", Failing)
    with pytest.raises(OSError, match="no room"):
        twin.connect(address)
    with pytest.raises(OSError, match="no room"):
        twin.connect_datagram(address)
    assert [sock.fileno() for sock in made] == [-1, -1]


def test_a_reset_while_connecting_is_told_like_any_other() -> None:
    with pytest.raises(
        PeerReset, match=r"127\.0\.0\.1:5 reset the connection as soon as it was made"
    ) as caught:
        fail_with(ConnectionResetError(errno.ECONNRESET, "reset"), ("127.0.0.1", 5))
    assert caught.value.errno == errno.ECONNRESET
