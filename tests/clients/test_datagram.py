"""Both twins, over every kind of datagram socket."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from servertest._support import (
    Address,
    AddressError,
    DeadlineExceeded,
    Family,
    Mismatch,
    PeerRefused,
    SocketDirectory,
    UsageError,
    bound_socket,
    format_address,
    have_ipv6,
    refused_address,
)
from servertest.clients import DatagramClient
from servertest.clients._datagram_core import DatagramCore
from servertest.clients._own_name import OwnName

from ._twins import PATIENCE, Background, Threads, Twin

SOON = 0.01  # a deadline that is meant to pass


@dataclass
class Pair:
    """A client, and the raw server socket."""

    client: DatagramClient
    server: socket.socket
    address: Address

    def answer(self, data: bytes) -> None:
        """Let the server answer what it receives next."""
        _, sender = self.server.recvfrom(65536)
        self.server.sendto(data, sender)


Make = Callable[..., Pair]


@pytest.fixture
def serve(stack: contextlib.ExitStack, directory: SocketDirectory) -> Callable[..., socket.socket]:
    """Makes a bound datagram socket."""

    def bind(family: Family) -> socket.socket:
        if family == "inet6" and not have_ipv6():
            pytest.skip("no ::1 on this machine")
        server = stack.enter_context(bound_socket("datagram", family, directory=directory))
        server.settimeout(PATIENCE)
        return server

    return bind


@pytest.fixture
def make_pair(twin: Twin, stack: contextlib.ExitStack, serve: Callable[..., socket.socket]) -> Make:
    def make(family: str, **options: Any) -> Pair:
        server = serve(family)
        client = stack.enter_context(twin.connect_datagram(server.getsockname(), **options))
        return Pair(client, server, server.getsockname())

    return make


@pytest.fixture(params=["inet", "inet6", "unix", "abstract"])
def pair(request: pytest.FixtureRequest, make_pair: Make) -> Pair:
    return make_pair(request.param)


@pytest.fixture(params=["inet", "inet6", "unix", "abstract"])
def loose(request: pytest.FixtureRequest, make_pair: Make) -> Pair:
    """With a client that anybody may answer."""
    return make_pair(request.param, connected=False)


@pytest.mark.parametrize("data", [b"ping", b"", bytes(range(256)) * 100])
def test_a_datagram_and_its_answer(pair: Pair, data: bytes) -> None:
    assert pair.client.send(data) == len(data)
    pair.answer(data)
    assert pair.client.receive() == data
    assert pair.client.sent == pair.client.received == len(data)


def test_boundaries_are_kept(pair: Pair) -> None:
    pair.client.send(b"ping")
    _, sender = pair.server.recvfrom(100)
    for data in (b"one", b"two", b""):
        pair.server.sendto(data, sender)
    assert [pair.client.receive() for _ in range(3)] == [b"one", b"two", b""]


def test_receive_from_tells_the_sender(pair: Pair) -> None:
    pair.client.send(b"ping")
    pair.answer(b"pong")
    assert pair.client.receive_from() == (b"pong", pair.address)


def test_anybody_may_answer_a_client_that_is_not_connected(
    loose: Pair, serve: Callable[..., socket.socket], request: Any
) -> None:
    family = request.node.callspec.params["loose"]
    other = serve(family)
    loose.client.send(b"to the server")
    _, sender = loose.server.recvfrom(100)
    other.sendto(b"from another", sender)
    assert loose.client.receive_from() == (b"from another", other.getsockname())
    loose.client.send_to(b"to another", other.getsockname())
    assert other.recv(100) == b"to another"


@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_a_connected_udp_client_hears_its_server_only(
    make_pair: Make, serve: Callable[..., socket.socket], family: str
) -> None:
    pair = make_pair(family)
    serve(family).sendto(b"from a stranger", pair.client.local_address)
    pair.client.send(b"ping")
    pair.answer(b"pong")
    assert pair.client.receive() == b"pong"


@pytest.mark.parametrize(("family", "host"), [("inet", "127.0.0.1"), ("inet6", "::1")])
def test_a_udp_client_is_on_the_loopback_interface(make_pair: Make, family: str, host: str) -> None:
    for connected in (True, False):
        assert make_pair(family, connected=connected).client.local_address[0] == host


def test_expect_compares_the_whole_datagram(pair: Pair) -> None:
    pair.client.send(b"ping")
    pair.answer(b"code=200\n")
    assert pair.client.expect(b"code=200\n") == b"code=200\n"
    pair.client.send(b"ping")
    pair.answer(b"code=200\n")
    assert pair.client.expect(re.compile(rb"code=(\d+)\n")).group(1) == b"200"


@pytest.mark.parametrize("expected", [b"code=404\n", b"code=200", b"code=200\n\n", re.compile(rb"code=\d+")])
def test_a_wrong_datagram_is_shown_and_stays(pair: Pair, expected: Any) -> None:
    pair.client.send(b"ping")
    pair.answer(b"code=200\n")
    with pytest.raises(Mismatch, match="sent something else than was expected\n") as caught:
        pair.client.expect(expected)
    assert r"b'code=200\n'" in str(caught.value)
    assert pair.client.receive() == b"code=200\n"


def test_the_difference_is_shown_where_it_is(pair: Pair) -> None:
    pair.client.send(b"ping")
    pair.answer(b"code=200")
    with pytest.raises(Mismatch, match=r"\^\^ byte 5"):
        pair.client.expect(b"code=404")


@pytest.mark.parametrize("expected", ["text", re.compile("text")])
def test_expectations_are_bytes(make_pair: Make, expected: Any) -> None:
    with pytest.raises(UsageError, match="bytes or a compiled pattern over bytes"):
        make_pair("inet").client.expect(expected)


def test_a_datagram_that_is_too_long_is_not_cut(pair: Pair) -> None:
    pair.client.send(b"ping")
    pair.answer(b"0123456789")
    with pytest.raises(Mismatch, match=r"a datagram of 10 bytes, more than max_bytes=9; .*: b'0123456789'"):
        pair.client.receive(9)
    assert pair.client.receive(10) == b"0123456789"
    with pytest.raises(UsageError, match="max_bytes is a number of bytes"):
        pair.client.receive(-1)


# Deadlines and refusals

WAITS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("receive", lambda client: client.receive(timeout=SOON), "a datagram from {}"),
    ("receive_from", lambda client: client.receive_from(timeout=SOON), "a datagram from {}"),
    ("expect", lambda client: client.expect(b"pong", timeout=SOON), "a datagram b'pong' from {}"),
    ("pattern", lambda c: c.expect(re.compile(rb"\d"), timeout=SOON), r"a datagram rb'\d' from {}"),
]


@pytest.mark.parametrize(("wait", "what"), [row[1:] for row in WAITS], ids=[row[0] for row in WAITS])
def test_a_deadline_says_what_was_awaited(pair: Pair, wait: Callable[[Any], Any], what: str) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        wait(pair.client)
    assert str(caught.value) == (
        f"waited {SOON:g} s for {what.format(format_address(pair.address))}; nothing came"
    )


def test_a_client_that_is_not_connected_waits_for_anybody(loose: Pair) -> None:
    with pytest.raises(DeadlineExceeded, match="a datagram from anybody"):
        loose.client.receive(timeout=0)


def test_a_deadline_asks_for_more_to_say(make_pair: Make) -> None:
    pair = make_pair("inet", on_deadline=lambda: "the server: asleep", timeout=SOON)
    with pytest.raises(DeadlineExceeded, match="nothing came\nthe server: asleep"):
        pair.client.receive()


@pytest.mark.parametrize("family", ["unix", "abstract"])
@pytest.mark.parametrize("connected", [True, False])
def test_a_unix_server_that_does_not_read(make_pair: Make, family: str, connected: bool) -> None:
    client = make_pair(family, connected=connected).client
    with pytest.raises(DeadlineExceeded, match=r"to take a datagram of 1 byte$"):
        for _ in range(10_000):
            client.send(b"x", timeout=SOON)
    assert client.sent > 0


@pytest.mark.parametrize("connected", [True, False])
def test_a_unix_server_that_reads_again(
    make_pair: Make, background: Callable[..., Background], connected: bool
) -> None:
    pair = make_pair("unix", connected=connected)
    with pytest.raises(DeadlineExceeded):
        for _ in range(10_000):
            pair.client.send(b"x", timeout=0.01)
    reading = background(pair.server.recv, 1)
    assert pair.client.send(b"y") == 1
    assert reading.result() == b"x"
    assert pair.client.socket.gettimeout() == 0


@pytest.mark.parametrize("connected", [True, False])
def test_a_unix_server_that_goes_away_instead(
    make_pair: Make, background: Callable[..., Background], connected: bool
) -> None:
    pair = make_pair("unix", connected=connected)
    with pytest.raises(DeadlineExceeded):
        for _ in range(10_000):
            pair.client.send(b"x", timeout=0.01)
    closing = background(pair.server.close)
    with pytest.raises(PeerRefused, match="nobody listens"):
        pair.client.send(b"y")
    closing.result()


def test_false_alarms_do_no_harm(make_pair: Make) -> None:
    """Poll(2) may say ready, and the call then finds that it is not: a UDP checksum was wrong, for example."""

    class Reluctant(socket.socket):
        tries = 0

        def _once(self) -> None:
            self.tries += 1
            if self.tries % 2:
                raise BlockingIOError

        def recvfrom(self, *args: Any) -> Any:
            self._once()
            return super().recvfrom(*args)

        def send(self, *args: Any) -> int:
            self._once()
            return super().send(*args)

    pair = make_pair("inet")
    pair.client._core.sock = Reluctant(fileno=pair.client.socket.detach())
    pair.client.send(b"ping")
    pair.answer(b"pong")
    assert pair.client.receive() == b"pong"


@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_udp_finds_out_that_nobody_listens_after_sending(twin: Twin, family: Family) -> None:
    if family == "inet6" and not have_ipv6():
        pytest.skip("no ::1 on this machine")
    with refused_address("datagram", family) as address, twin.connect_datagram(address) as client:
        client.send(b"anybody?")
        with pytest.raises(PeerRefused, match=f"nobody listens at {re.escape(format_address(address))}"):
            client.receive()
        client.send(b"anybody?")
        with pytest.raises(PeerRefused):
            client.send(b"really?")


@pytest.mark.parametrize("family", ["unix", "abstract"])
def test_nobody_listens_at_a_unix_address(twin: Twin, family: Family) -> None:
    with refused_address("datagram", family) as address:
        with pytest.raises(PeerRefused, match="nobody listens"):
            twin.connect_datagram(address)
        with twin.connect_datagram(address, connected=False) as client, pytest.raises(PeerRefused):
            client.send(b"anybody?")


def test_a_datagram_that_no_network_can_carry(make_pair: Make) -> None:
    pair = make_pair("inet")
    with pytest.raises(OSError, match="too long") as caught:
        pair.client.send(b"x" * 65536)
    assert caught.value.errno == errno.EMSGSIZE
    assert caught.value.__notes__ == [f"the peer's address was {format_address(pair.address)}"]


# Names


def test_a_client_of_a_distant_server_is_named_by_its_first_send() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        OwnName(reachable=True).give(sock, ("192.0.2.1", 9))
        assert sock.getsockname() == ("0.0.0.0", 0)


def test_a_unix_client_has_a_short_path_of_its_own_and_removes_it(make_pair: Make) -> None:
    client = make_pair("unix").client
    path = client.local_address
    assert isinstance(path, str)
    assert len(path) < 40
    assert os.path.exists(path)
    client.close()
    assert not os.path.exists(os.path.dirname(path))
    assert client.local_address == path


def test_an_abstract_client_has_an_abstract_name(make_pair: Make) -> None:
    name = make_pair("abstract").client.local_address
    assert isinstance(name, bytes)
    assert name.startswith(b"\0")


@pytest.mark.parametrize("family", ["unix", "abstract"])
def test_a_client_may_stay_nameless(make_pair: Make, family: str) -> None:
    pair = make_pair(family, bind=False)
    pair.client.send(b"who am I?")
    data, sender = pair.server.recvfrom(100)
    assert data == b"who am I?"
    assert not sender
    assert not pair.client.local_address


def test_a_client_may_have_a_name_of_the_callers(
    make_pair: Make, directory: SocketDirectory, twin: Twin
) -> None:
    path = directory.path("me")
    pair = make_pair("unix", source=path)
    pair.client.send(b"hi")
    assert pair.server.recvfrom(100) == (b"hi", path)
    with pytest.raises(OSError, match="in use") as caught:
        twin.connect_datagram(pair.address, source=path)
    assert f"the client's own address (source=) was to be {path}" in caught.value.__notes__
    assert os.path.exists(path)
    os.unlink(path)  # somebody else may have removed it: closing does not mind
    pair.client.close()
    second = make_pair("unix", source=path)
    second.client.close()
    assert not os.path.exists(path)


def test_a_name_that_is_too_long(twin: Twin, serve: Callable[..., socket.socket]) -> None:
    with pytest.raises(AddressError, match="the limit here is"):
        twin.connect_datagram(serve("unix").getsockname(), source="/" + "x" * 200)


def test_a_udp_client_may_have_an_address_of_the_callers(make_pair: Make) -> None:
    assert make_pair("inet", source=("127.0.0.2", 0)).client.local_address[0] == "127.0.0.2"


@pytest.mark.parametrize("family", ["unix", "abstract"])
def test_nothing_is_left_of_a_client_that_could_not_be(
    twin: Twin, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SocketDirectory] = []

    class Noticed(SocketDirectory):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr("servertest.clients._own_name.SocketDirectory", Noticed)
    with refused_address("datagram", family) as address, pytest.raises(PeerRefused):
        twin.connect_datagram(address)
    assert all(directory.closed for directory in made)
    assert len(made) == (family == "unix")


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_client_without_a_sensible_timeout_is_none(twin: Twin, timeout: float) -> None:
    with pytest.raises(UsageError, match="a number of seconds"):
        twin.connect_datagram(("127.0.0.1", 9), timeout=timeout)


# States


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("send", (b"x",)),
        ("send_to", (b"x", ("127.0.0.1", 9))),
        ("receive", ()),
        ("receive_from", ()),
        ("expect", (b"x",)),
    ],
)
def test_a_closed_client_says_so(make_pair: Make, name: str, args: tuple[Any, ...]) -> None:
    client = make_pair("inet").client
    client.close()
    client.close()
    assert client.closed
    with pytest.raises(UsageError, match="is closed"):
        getattr(client, name)(*args)


@pytest.mark.parametrize("twin", [Threads], indirect=True)  # test_asyncio.py has the same for tasks
def test_closing_ends_a_wait_in_another_thread(pair: Pair, background: Callable[..., Background]) -> None:
    waiting = threading.Event()
    original = pair.client._core.shared.require_open

    def noticed() -> None:
        original()
        waiting.set()

    pair.client._core.shared.require_open = noticed  # type: ignore[method-assign] # tells when the wait begins
    receiving = background(pair.client.receive)
    assert waiting.wait(PATIENCE)
    pair.client.close()
    with pytest.raises(UsageError, match="is closed"):
        receiving.result()


@pytest.mark.parametrize("twin", [Threads], indirect=True)
def test_one_call_at_a_time_and_direction(pair: Pair) -> None:
    with pair.client._core.shared.alone("reads"):
        with pytest.raises(UsageError, match="another call already reads"):
            pair.client.receive()
        pair.client.send(b"but sending goes")


def test_a_stream_socket_will_not_do() -> None:
    with socket.socket() as sock, pytest.raises(UsageError, match="needs a datagram socket"):
        DatagramCore(sock, ("127.0.0.1", 9), ("127.0.0.1", 9), connected=False)


def test_a_client_tells_who_talks_to_whom(pair: Pair, twin: Twin) -> None:
    client = pair.client
    name = "DatagramClient" if twin.name == "threads" else "AsyncDatagramClient"
    local = format_address(client.local_address)
    assert repr(client) == f"<{name} of {format_address(pair.address)} from {local}>"
    assert client.address == pair.address
