"""TLS passes through untouched, or ends at the link: on the client's side, the server's side, or both."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from servertest.clients import StreamClient, connect
from servertest.faults import Latency, LimitData, ResetPeer, Slicer, Stall, downstream
from servertest.launch import Running, launch
from servertest.proxy import Link
from servertest.tls import Authority, shared_authority
from tests.proxy.conftest import LIMIT, Upper

Make = Callable[..., Link]
BIG = b"0123456789abcdef" * 4000 + b"\n"


@pytest.fixture
def upper_tls(stack: ExitStack) -> Running:
    return stack.enter_context(launch(Upper, tls=True))


def ask(client: Any, text: bytes = b"hi\n") -> bytes:
    client.send_all(text)
    return bytes(client.readline())


def seen(made: Link) -> tuple[bytes, bytes]:
    assert made.transcript is not None
    assert made.upstream_transcript is not None
    return made.transcript.connections[0].upstream, made.upstream_transcript.connections[0].upstream


def test_it_passes_through_untouched(make: Make, upper_tls: Running) -> None:
    made = make(upper_tls, Latency(0.001) | Slicer(7))
    with made.connect() as client:
        assert ask(client) == b"HI\n"
    assert b"hi" not in seen(made)[0]


def test_it_ends_on_the_clients_side(make: Make, upper: Running) -> None:
    made = make(upper, tls=True)
    with made.connect() as client:
        assert ask(client, BIG) == BIG.upper()
    assert seen(made) == (BIG, BIG)


def test_it_begins_on_the_servers_side(make: Make, upper_tls: Running) -> None:
    made = make(upper_tls, upstream_tls=True)
    with made.connect() as client:
        assert ask(client, BIG) == BIG.upper()
    assert seen(made) == (BIG, BIG)


@pytest.mark.parametrize("kind", ["ThreadingTCPServer+tls", "ThreadingUnixStreamServer+tls"])
def test_on_both_sides_faults_see_plain_text(make: Make, stack: ExitStack, kind: str) -> None:
    server = stack.enter_context(launch(Upper, kind=kind))
    made = make(server, downstream(LimitData(2)), tls=True, upstream_tls=True)
    with made.connect() as client:
        client.send(b"hi\n")
        assert client.read_eof() == b"HI"


def test_the_peers_see_the_resets_of_faults(make: Make, upper_tls: Running) -> None:
    made = make(upper_tls, ResetPeer(after_bytes=2), tls=True, upstream_tls=True)
    with made.connect() as client, pytest.raises(ConnectionResetError):
        ask(client)


def test_half_close_is_kept(make: Make, stack: ExitStack) -> None:
    from servertest import servers

    class Count(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"%d\n" % len(self.rfile.read()))

    server = stack.enter_context(launch(Count, tls=True))
    made = make(server, Latency(0.01), tls=True, upstream_tls=True)
    with made.connect() as client:
        client.send_all(BIG)
        client.half_close()
        assert client.read_eof() == b"%d\n" % len(BIG)


def test_much_in_both_directions_at_once(make: Make, upper_tls: Running) -> None:
    made = make(upper_tls, tls=True, upstream_tls=True)
    with made.connect() as client:
        text = BIG * 50
        writer = threading.Thread(target=client.send_all, args=(text,))
        writer.start()
        assert client.read_exactly(len(text)) == text.upper()
        writer.join(LIMIT)


def test_faults_change_below_a_connection_that_lives(make: Make, upper_tls: Running) -> None:
    made = make(upper_tls, tls=True, upstream_tls=True)
    with made.connect() as client:
        with made.faults(Stall(None)):
            client.send(b"kept\n")
        assert client.readline() == b"KEPT\n"


def test_a_client_that_never_shakes_hands_holds_nobody_up(make: Make, upper: Running) -> None:
    made = make(upper, tls=True)
    with socket.create_connection((made.host, made.port), LIMIT), made.connect() as client:
        assert ask(client) == b"HI\n"
        assert [known.state for known in made.connections] == ["connecting", "open"]


def test_a_client_that_never_shakes_hands_is_given_up(make: Make, upper: Running) -> None:
    made = make(upper, tls=True, connect_timeout=0.05)
    with socket.create_connection((made.host, made.port), LIMIT) as silent:
        with pytest.raises(ConnectionResetError):
            silent.recv(1)
    assert made.connections[0].state == "failed"
    assert "handshake with the client" in made.connections[0].reason


def test_a_client_that_speaks_no_tls(make: Make, upper: Running) -> None:
    made = make(upper, tls=True)
    with connect(made.address) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert isinstance(client.read_eof(), bytes)
    assert "handshake with the client" in made.connections[0].reason


def test_a_server_that_speaks_no_tls(make: Make, upper: Running) -> None:
    context = shared_authority().client_context()
    made = make(upper, upstream_tls=context, server_hostname="localhost", connect_timeout=0.1)
    with pytest.raises(ConnectionError), made.connect() as client:
        client.readline()
    assert "handshake with the server" in made.connections[0].reason


@pytest.mark.parametrize("profile", ["expired", "wrong-host", "untrusted"])
def test_a_certificate_of_the_link_that_is_wrong(make: Make, upper: Running, profile: str) -> None:
    made = make(upper, tls=profile)
    with pytest.raises(ssl.SSLError):
        made.connect()


def test_a_certificate_of_the_server_that_is_wrong(make: Make, stack: ExitStack) -> None:
    server = stack.enter_context(launch(Upper, tls="expired"))
    made = make(server, upstream_tls=True)
    with pytest.raises(ConnectionError), made.connect() as client:
        client.readline()
    assert "certificate" in made.connections[0].reason
    server.errors.clear()


def test_authorities_contexts_and_credentials(make: Make, upper: Running) -> None:
    authority = Authority()
    credential = authority.server_credential()
    for tls in (authority, credential, credential.server_context()):
        made = make(upper, tls=tls)
        with StreamClient.connect(
            made.address, tls=authority.client_context(), server_hostname="localhost"
        ) as client:
            assert ask(client) == b"HI\n"
