from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trustme

from servertest._support import Address, Family, SocketDirectory, bound_socket, have_ipv6
from servertest.clients import StreamClient

from ._twins import PATIENCE, Asyncio, Background, Threads, Twin


@pytest.fixture(params=[Threads, Asyncio], ids=["threads", "asyncio"])
def twin(request: pytest.FixtureRequest) -> Iterator[Twin]:
    twin: Twin = request.param()
    yield twin
    twin.close()


@pytest.fixture
def background() -> Iterator[Callable[..., Background]]:
    """Runs peers in threads; all must be over when the test is."""
    running: list[Background] = []

    def start(function: Callable[..., Any], *args: Any) -> Background:
        running.append(Background(function, *args))
        return running[-1]

    yield start
    for each in running:
        each.join()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "::1", "localhost", "unix.test").configure_cert(context)
    return context


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Closes what a test opened."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def directory(stack: contextlib.ExitStack) -> SocketDirectory:
    return stack.enter_context(SocketDirectory())


@pytest.fixture
def listen(stack: contextlib.ExitStack, directory: SocketDirectory) -> Callable[..., socket.socket]:
    """Makes a listening socket of some family."""

    def make(family: Family = "inet", **options: Any) -> socket.socket:
        if family in ("inet6", "dual") and not have_ipv6():
            pytest.skip("no ::1 on this machine")
        listener = stack.enter_context(bound_socket("stream", family, directory=directory, **options))
        listener.settimeout(PATIENCE)
        return listener

    return make


@dataclass
class Link:
    """A client, and the raw socket at the other end."""

    client: StreamClient
    peer: socket.socket
    address: Address
    is_tls: bool
    is_inet: bool


LINKS = ["inet", "inet6", "unix", "abstract", "inet+tls", "unix+tls"]


@pytest.fixture(params=LINKS)
def link(request: pytest.FixtureRequest, make_link: Callable[..., Link]) -> Link:
    """A connection of each kind; the peer is an ordinary socket, an SSLSocket with TLS."""
    return make_link(request.param)


@pytest.fixture
def tcp(make_link: Callable[..., Link]) -> Link:
    """A TCP connection, for what does not depend on the kind."""
    return make_link("inet")


@pytest.fixture
def make_link(
    twin: Twin,
    listen: Callable[..., socket.socket],
    stack: contextlib.ExitStack,
    background: Callable[..., Background],
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> Callable[..., Link]:
    def make(kind: str, **options: Any) -> Link:
        family, _, tls = kind.partition("+")
        listener = listen(family)
        if tls:
            options = {"tls": client_context, "server_hostname": "unix.test", **options}
        accepted = background(accept, listener, server_context if tls else None)
        client = stack.enter_context(twin.connect(listener.getsockname(), **options))
        peer = stack.enter_context(accepted.result())
        return Link(client, peer, listener.getsockname(), bool(tls), family.startswith("inet"))

    return make


def accept(listener: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    peer, _ = listener.accept()
    peer.settimeout(PATIENCE)
    if peer.family != socket.AF_UNIX:
        # Without this, what it sends after its session tickets may come 40 ms late (see StreamCore._acknowledge).
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        return context.wrap_socket(peer, server_side=True)
    return peer
