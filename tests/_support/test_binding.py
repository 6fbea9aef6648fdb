from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from servertest._support import (
    Address,
    AddressError,
    AddressInUse,
    Family,
    SocketDirectory,
    Transport,
    UsageError,
    _binding,
    bound_socket,
    family_of,
    hard_reset,
    have_ipv6,
    refused_address,
)

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="abstract names exist on Linux only")
ipv6 = pytest.mark.skipif(not have_ipv6(), reason="no ::1 on this machine")
FAMILIES = [
    "inet",
    pytest.param("inet6", marks=ipv6),
    pytest.param("dual", marks=ipv6),
    "unix",
    pytest.param("abstract", marks=linux),
]


@pytest.fixture
def directory() -> Iterator[SocketDirectory]:
    with SocketDirectory() as directory:
        yield directory


def kind(transport: Transport) -> socket.SocketKind:
    return socket.SOCK_STREAM if transport == "stream" else socket.SOCK_DGRAM


def connected(transport: Transport, address: Address) -> socket.socket:
    client = socket.socket(family_of(address), kind(transport))
    client.settimeout(5)
    try:
        client.connect(address)
    except BaseException:
        client.close()
        raise
    return client


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_is_bound_and_listens(family: Family, directory: SocketDirectory) -> None:
    server = bound_socket("stream", family, directory=directory)
    with server, connected("stream", server.getsockname()) as client, server.accept()[0] as peer:
        client.sendall(b"hi")
        assert peer.recv(10) == b"hi"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_datagram_socket_is_bound(family: Family, directory: SocketDirectory) -> None:
    server = bound_socket("datagram", family, directory=directory)
    with server, connected("datagram", server.getsockname()) as client:
        client.send(b"hi")
        assert server.recv(10) == b"hi"


@ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_dual_stack_socket_takes_both(host: str) -> None:
    with bound_socket("stream", "dual") as server, connected("stream", (host, server.getsockname()[1])):
        server.settimeout(5)
        server.accept()[0].close()


@ipv6
def test_an_ipv6_socket_takes_ipv6_only() -> None:
    with bound_socket("stream", "inet6") as server, pytest.raises(ConnectionRefusedError):
        connected("stream", ("127.0.0.1", server.getsockname()[1]))
    # On ::1 that goes without saying, on :: it does not.
    with bound_socket("datagram", "inet6", address=("::", 0)) as server:
        assert server.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


@ipv6
@pytest.mark.skipif(not hasattr(socket, "SO_BINDTODEVICE"), reason="only Linux ties sockets to an interface")
def test_a_dual_stack_socket_stays_on_the_loopback_interface() -> None:
    with bound_socket("stream", "dual") as server:
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_a_taken_address_is_refused_at_once(
    transport: Transport, family: Family, directory: SocketDirectory
) -> None:
    with bound_socket(transport, family, directory=directory) as server:
        with pytest.raises(AddressInUse, match=f"the {transport} address .* is in use") as caught:
            bound_socket(transport, family, address=server.getsockname())
        assert caught.value.errno == errno.EADDRINUSE


def test_a_stream_port_is_free_again_at_once() -> None:
    with bound_socket("stream", "inet") as server:
        address = server.getsockname()
        with connected("stream", address):
            server.accept()[0].close()  # the server closes first: its end goes to TIME_WAIT
    bound_socket("stream", "inet", address=address).close()


def test_a_port_that_somebody_holds_without_listening_is_in_use() -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(AddressInUse):
            bound_socket("stream", "inet", address=holder.getsockname())


def test_a_port_that_somebody_begins_to_listen_on_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    original = _binding._bind
    with socket.socket() as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        rival.bind(("127.0.0.1", 0))

        def and_then_the_rival_listens(*args: Any) -> None:
            original(*args)
            rival.listen()

        monkeypatch.setattr(_binding, "_bind", and_then_the_rival_listens)
        with pytest.raises(AddressInUse, match="is in use"):
            bound_socket("stream", "inet", address=rival.getsockname())


@pytest.mark.parametrize(
    ("family", "address", "reason"),
    [
        ("inet", "/tmp/s", "is a .host, port. pair"),
        ("inet", ("192.0.2.1", 0), "192.0.2.1:0 is no address of this machine"),
        ("unix", ("127.0.0.1", 0), "a path or a name"),
        ("unix", "/tmp/" + "x" * 200, "the limit here is"),
        pytest.param("unix", b"\0name", "take family='abstract'", marks=linux),
        pytest.param("abstract", "/tmp/s", "begins with a NUL", marks=linux),
        pytest.param("abstract", b"\0" + b"x" * 200, "the limit here is", marks=linux),
        ("unix", None, "or a SocketDirectory to make one in"),
        ("ipv4", None, "a family is one of inet, "),
    ],
)
def test_bad_input_gets_a_clear_error(family: Any, address: Address, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        bound_socket("stream", family, address=address)


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(UsageError, match="'stream' or 'datagram', not 'tcp'"):
        bound_socket("tcp", "inet")  # type: ignore[arg-type] # that is the point


def test_a_host_that_cannot_be_resolved_is_an_address_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AddressError, match="cannot be resolved"):
        bound_socket("stream", "inet", address=("no host name at all", 0))


def test_a_path_in_a_directory_that_is_missing_says_what_to_do(directory: SocketDirectory) -> None:
    with pytest.raises(AddressError, match=r"cannot be made.*make its directory first") as caught:
        bound_socket("stream", "unix", address=directory.path() + "/missing/s")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("port", [-1, 65536, 10**10, "80", None])
def test_a_port_that_is_none(port: Any) -> None:
    with pytest.raises(AddressError, match="the port is a number from 0 to 65535"):
        bound_socket("stream", "inet", address=("127.0.0.1", port))


def test_a_host_that_is_none() -> None:
    with pytest.raises(AddressError, match="pair"):
        bound_socket("stream", "inet", address=(5, 80))


def test_missing_families_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_binding, "have_ipv6", lambda: False)
    with pytest.raises(AddressError, match="no IPv6 on this machine"):
        bound_socket("stream", "inet6")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(AddressError, match="Linux only"):
        bound_socket("stream", "abstract")
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(AddressError, match="no Unix sockets"):
        bound_socket("stream", "unix")


def test_ipv6_is_not_there_without_a_stack_or_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = have_ipv6.__wrapped__
    with monkeypatch.context() as patch:
        patch.setattr(socket, "has_ipv6", False)
        assert not fresh()

    def refuse(*_: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "no ::1")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "has_ipv6", True)
        patch.setattr(socket, "socket", refuse)
        assert not fresh()


@ipv6
def test_a_system_that_ties_no_socket_to_an_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_BINDTODEVICE", raising=False)
    with (
        bound_socket("stream", "dual") as server,
        connected("stream", ("127.0.0.1", server.getsockname()[1])),
    ):
        server.accept()[0].close()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENODEV, errno.EINVAL])
def test_an_interface_that_cannot_be_chosen_is_no_error(number: int) -> None:
    class Reluctant:
        def setsockopt(self, level: int, *_: object) -> None:
            if level == socket.SOL_SOCKET:
                raise OSError(number, "no")

    if number == errno.EINVAL:
        with pytest.raises(OSError, match="no"):
            _binding._span_both(Reluctant())  # type: ignore[arg-type] # all that is needed of a socket
    else:
        _binding._span_both(Reluctant())  # type: ignore[arg-type] # as above


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_a_refused_address_refuses_and_cannot_be_taken(transport: Transport, family: Family) -> None:
    with refused_address(transport, family) as address:
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                refusal_from(transport, address)
        if (transport, family) != ("datagram", "abstract"):
            with pytest.raises(AddressInUse):
                bound_socket(transport, family, address=address)


@ipv6
def test_a_refused_dual_stack_address_refuses_ipv4_as_well_and_holds_it() -> None:
    with refused_address("stream", "dual") as address:
        with pytest.raises(ConnectionRefusedError):
            refusal_from("stream", ("127.0.0.1", address[1]))
        with pytest.raises(AddressInUse):
            bound_socket("stream", "inet", address=("127.0.0.1", address[1]))


def test_a_refused_path_may_be_in_a_directory_of_the_callers(directory: SocketDirectory) -> None:
    with refused_address("stream", "unix", directory=directory) as address:
        assert str(address).startswith(directory.directory)


def refusal_from(transport: Transport, address: Address) -> None:
    with connected(transport, address) as client:
        client.send(b"x")
        client.recv(1)


def test_hard_reset_sends_a_rst() -> None:
    with bound_socket("stream", "inet") as server, connected("stream", server.getsockname()) as client:
        peer, _ = server.accept()
        hard_reset(peer)
        assert peer.fileno() == -1
        with pytest.raises(ConnectionResetError):
            client.recv(1)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF])
def test_hard_reset_closes_what_can_no_longer_be_reset(number: int) -> None:
    assert Stubborn(number).was_closed_by_hard_reset()


def test_hard_reset_closes_whatever_happens() -> None:
    sock = Stubborn(errno.ENOMEM)
    with pytest.raises(OSError, match="no"):
        hard_reset(sock)
    assert sock.fileno() == -1


class Stubborn(socket.socket):
    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def setsockopt(self, *_: object) -> None:
        raise OSError(self._number, "no")

    def was_closed_by_hard_reset(self) -> bool:
        hard_reset(self)
        return self.fileno() == -1
