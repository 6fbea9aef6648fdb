"""Of TLS, the plain text is recorded."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import trustme

from servertest._support import bound_socket, hard_reset
from servertest.transcript import Transcript
from servertest.wire import observe, observe_context, observe_listener, observed_number

from .conftest import LIMIT, short


@dataclass
class Contexts:
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def issued() -> tuple[trustme.CA, trustme.LeafCert]:
    authority = trustme.CA()
    return authority, authority.issue_cert("localhost")


@pytest.fixture
def contexts(issued: tuple[trustme.CA, trustme.LeafCert]) -> Contexts:
    authority, certificate = issued
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Contexts(server, client)


@contextmanager
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with bound_socket("stream", "inet") as listener:
        client = socket.create_connection(listener.getsockname(), LIMIT)
        server, _ = listener.accept()
        server.settimeout(LIMIT)
        with client, server:
            yield server, client


@contextmanager
def shaking_hands(contexts: Contexts, client: socket.socket) -> Iterator[Future[ssl.SSLSocket]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(contexts.client.wrap_socket, client, server_hostname="localhost")


@contextmanager
def observed_server(
    contexts: Contexts,
) -> Iterator[tuple[ssl.SSLSocket, Future[ssl.SSLSocket], Transcript]]:
    """A server's end that is observed, what comes of its client's handshake, and what is written down."""
    transcript = Transcript()
    with sockets() as (plain, client), shaking_hands(contexts, client) as shaken:
        server = contexts.server.wrap_socket(plain, server_side=True)
        observe(server, transcript, transcript.connect(None, None))
        yield server, shaken, transcript


def story(transcript: Transcript) -> list[str]:
    return [short(event) for event in transcript.events]


def talk(server: ssl.SSLSocket, client: ssl.SSLSocket, transcript: Transcript) -> None:
    """Every way of reading and writing, with what is recorded of it."""
    client.sendall(b"abcdefghijklmno")
    buffer = bytearray(3)
    assert server.recv(3) == b"abc"
    assert server.recv_into(buffer) == 3
    assert server.read(3) == b"ghi"
    assert server.read(3, buffer) == len(buffer)  # type: ignore[comparison-overlap] # typeshed knows bytes only
    with server.makefile("rb", 0) as file:
        assert file.read(3) == b"mno"
    assert server.send(b"1") == 1
    server.sendall(b"2")
    assert server.write(b"3") == 1
    with server.makefile("wb") as file:
        file.write(b"4")
    got = b""
    while len(got) < 4:
        got += client.recv(10)
    (seen,) = transcript.connections
    assert (seen.upstream, seen.downstream) == (b"abcdefghijklmno", b"1234")
    assert [short(event) for event in seen.events if short(event).startswith("Data")] == [
        *(f"Data upstream {part!r}" for part in (b"abc", b"def", b"ghi", b"jkl", b"mno")),
        *(f"Data downstream {part!r}" for part in (b"1", b"2", b"3", b"4")),
    ]


def test_a_tls_socket_is_observed_in_place(contexts: Contexts) -> None:
    transcript = Transcript()
    with sockets() as (plain, client), shaking_hands(contexts, client) as shaken:
        server = contexts.server.wrap_socket(plain, server_side=True)
        observed = observe(server, transcript, transcript.connect(None, None))
        assert observed is server
        assert isinstance(observed, ssl.SSLSocket)
        with observed, shaken.result(LIMIT) as tls_client:
            assert observed.version() == tls_client.version()
            talk(observed, tls_client, transcript)
            with pytest.raises(NotImplementedError):
                observed.dup()
            tls_client.close()
            assert observed.recv(1) == b""
            observed.close()
    assert story(transcript)[-2:] == ["HalfClose client", "Close server fin"]


def test_the_observation_of_a_wrapped_socket_goes_on(contexts: Contexts) -> None:
    transcript = Transcript()
    observe_context(contexts.server)
    observe_context(contexts.server)
    with sockets() as (plain, client), shaking_hands(contexts, client) as shaken:
        observed = observe(plain, transcript, transcript.connect(None, None))
        with contexts.server.wrap_socket(observed, server_side=True) as server:
            assert observed_number(server) == 1
            assert observed_number(observed) is None
            with shaken.result(LIMIT) as tls_client:
                talk(server, tls_client, transcript)
                observed.close()
                assert transcript.connections[0].is_open
                server.close()
                assert tls_client.recv(1) == b""
    assert story(transcript)[-1] == "Close server fin"


def test_a_handshake_in_the_worker(contexts: Contexts) -> None:
    """As the framework's TLS mix-in does it: wrapped in the loop, shaken in the worker."""
    transcript = Transcript()
    observe_context(contexts.server)
    with sockets() as (plain, client):
        observed = observe(plain, transcript, transcript.connect(None, None))
        server = contexts.server.wrap_socket(observed, server_side=True, do_handshake_on_connect=False)
        with server, shaking_hands(contexts, client) as shaken:
            server.do_handshake()
            with shaken.result(LIMIT) as tls_client:
                talk(server, tls_client, transcript)


def test_a_failed_handshake_is_a_connection_that_ends(contexts: Contexts) -> None:
    transcript = Transcript()
    observe_context(contexts.server)
    with sockets() as (plain, client):
        observed = observe(plain, transcript, transcript.connect(None, None))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            contexts.server.wrap_socket(observed, server_side=True)
    assert story(transcript)[1:] in (["Close server fin"], ["Close server rst"])


def test_a_refused_wrapping_leaves_the_observation_as_it_was(contexts: Contexts) -> None:
    transcript = Transcript()
    observe_context(contexts.server)
    with sockets() as (plain, client):
        observed = observe(plain, transcript, transcript.connect(None, None))
        with pytest.raises(ValueError, match="server_hostname"):
            contexts.server.wrap_socket(observed, server_side=True, server_hostname="x")
        assert observed_number(observed) == 1
        client.sendall(b"x")
        assert observed.recv(1) == b"x"
        observed.close()
    assert story(transcript)[1:] == ["Data upstream b'x'", "Close server fin"]


def test_other_peoples_contexts_end_the_observation_and_that_is_said(contexts: Contexts) -> None:
    transcript = Transcript()
    with sockets() as (plain, client), shaking_hands(contexts, client) as shaken:
        observed = observe(plain, transcript, transcript.connect(None, None))
        with (
            contexts.server.wrap_socket(observed, server_side=True) as server,
            shaken.result(LIMIT) as tls_client,
        ):
            server.sendall(b"x")
            assert tls_client.recv(1) == b"x"
        observed.close()
    assert "not recorded" in str(transcript.events[1])
    assert story(transcript)[2:] == ["Close server fin"]


def test_a_context_that_observes_wraps_unobserved_sockets_as_before(contexts: Contexts) -> None:
    observe_context(contexts.server)
    with sockets() as (plain, client), shaking_hands(contexts, client) as shaken:
        server = contexts.server.wrap_socket(plain, server_side=True)
        with server, shaken.result(LIMIT) as tls_client:
            assert observed_number(server) is None
            server.sendall(b"x")
            assert tls_client.recv(1) == b"x"


def test_after_tls_the_plain_socket_is_recorded(contexts: Contexts) -> None:
    with observed_server(contexts) as (server, shaken, transcript):
        tls_client = shaken.result(LIMIT)
        with ThreadPoolExecutor(1) as pool:
            unwrapped = pool.submit(tls_client.unwrap)
            assert server.unwrap() is server
            unwrapped.result(LIMIT)
        tls_client.sendall(b"abcd")
        assert server.recv(2) == b"ab"
        assert server.recv_into(bytearray(2)) == 2
        server.sendall(b"ef")
        server.send(b"g")
        server.close()
        tls_client.close()
    (seen,) = transcript.connections
    assert (seen.upstream, seen.downstream) == (b"abcd", b"efg")


def test_a_tls_client_that_just_hangs_up(contexts: Contexts) -> None:
    transcript = Transcript()
    with sockets() as (plain, client), shaking_hands(contexts, client) as shaken:
        server = contexts.server.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False)
        with observe(server, transcript, transcript.connect(None, None)) as observed:
            tls_client = shaken.result(LIMIT)
            observed.send(b"x")
            assert tls_client.recv(1) == b"x"
            tls_client.shutdown(socket.SHUT_WR)
            with pytest.raises(ssl.SSLEOFError):
                observed.recv(1)
            tls_client.close()
    assert "HalfClose client" in story(transcript)


def test_time_outs_of_tls_are_the_same_errors(contexts: Contexts) -> None:
    transcript = Transcript()
    with sockets() as (plain, client), shaking_hands(contexts, client) as shaken:
        server = contexts.server.wrap_socket(plain, server_side=True)
        with shaken.result(LIMIT), observe(server, transcript, transcript.connect(None, None)) as observed:
            observed.settimeout(0.001)
            with pytest.raises(TimeoutError, match="The read operation timed out"):
                observed.recv(1)
            observed.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                observed.recv(1)
    assert "a read had timed out" in str(transcript.events)


def test_a_tls_listener(contexts: Contexts) -> None:
    transcript = Transcript()
    plain = bound_socket("stream", "inet")
    tls_listener = contexts.server.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    listener = observe_listener(tls_listener, transcript)
    assert listener is tls_listener
    with (
        listener,
        socket.create_connection(listener.getsockname(), LIMIT) as client,
        shaking_hands(contexts, client) as shaken,
        listener.accept()[0] as server,
    ):
        assert isinstance(server, ssl.SSLSocket)
        server.settimeout(LIMIT)
        server.do_handshake()
        with shaken.result(LIMIT) as tls_client:
            talk(server, tls_client, transcript)


def test_an_answer_to_the_servers_goodbye_is_no_reset(contexts: Contexts) -> None:
    with observed_server(contexts) as (server, shaken, transcript):
        with shaken.result(LIMIT) as tls_client:
            server.settimeout(0)
            with pytest.raises(ssl.SSLWantReadError):
                server.unwrap()
            tls_client.unwrap()
            tls_client.shutdown(socket.SHUT_WR)
            assert select.select([server], [], [], LIMIT)[0]
            server.close()
            assert tls_client.recv(1) == b"", "and the client met no reset either"
    assert story(transcript)[1:] == ["HalfClose client", "Close server fin"]


@pytest.mark.parametrize("shut", [False, True], ids=["close", "shutdown and close"])
def test_a_goodbye_to_a_client_that_has_closed_is_no_reset(contexts: Contexts, shut: bool) -> None:
    with observed_server(contexts) as (server, shaken, transcript):
        with shaken.result(LIMIT) as tls_client:
            tls_client.settimeout(0)
            with pytest.raises(ssl.SSLWantReadError):
                tls_client.unwrap()
        assert select.select([server], [], [], LIMIT)[0]
        server.settimeout(0)
        server.unwrap()
        wait_for_error(server)  # the answer of the client's system to that
        if shut:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)
        server.close()
    assert story(transcript)[1:] == ["Close server fin"]


def test_a_second_goodbye_finds_no_reset_either(contexts: Contexts) -> None:
    with observed_server(contexts) as (server, shaken, transcript):
        tls_client = shaken.result(LIMIT)
        server.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            server.unwrap()
        hard_reset(tls_client)
        wait_for_error(server)
        with pytest.raises(OSError):
            server.unwrap()
        server.close()
    assert story(transcript)[1:] == ["HalfClose client", "Close server fin"]


def test_a_goodbye_to_a_client_that_has_closed_a_unix_socket_is_no_reset(contexts: Contexts) -> None:
    transcript = Transcript()
    plain, client = socket.socketpair()
    for sock in (plain, client):
        sock.settimeout(LIMIT)
    with plain, client, shaking_hands(contexts, client) as shaken:
        server = contexts.server.wrap_socket(plain, server_side=True)
        observe(server, transcript, transcript.connect(None, None))
        with shaken.result(LIMIT) as tls_client:
            tls_client.settimeout(0)
            with pytest.raises(ssl.SSLWantReadError):
                tls_client.unwrap()
        server.settimeout(0)
        with pytest.raises(BrokenPipeError):
            server.unwrap()
        server.close()
    assert story(transcript)[1:] == ["HalfClose client", "Close server fin"]


def test_a_reset_before_the_goodbye_is_one(contexts: Contexts) -> None:
    with observed_server(contexts) as (server, shaken, transcript):
        hard_reset(shaken.result(LIMIT))
        wait_for_error(server)
        server.settimeout(0)
        with pytest.raises(OSError):
            server.unwrap()
        server.close()
    assert story(transcript)[1:] == ["Close client rst"]


def wait_for_error(sock: socket.socket) -> None:
    poll = select.poll()
    poll.register(sock, 0)
    assert poll.poll(LIMIT * 1000)
