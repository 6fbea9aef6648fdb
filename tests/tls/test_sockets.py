"""The behaviours go wherever the context goes: into servers of others, and into asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from servertest._support import Deadline
from servertest.tls import Authority, HandshakeEnded, _sockets as sockets, profile_for

from ._tiny import LIMIT, Seen, TinyServer, look_with_ssl

ADDRESS = ("127.0.0.1", 0)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
CLOSE_NOTIFY = 21  # the type of a record that holds an alert (RFC 8446 section 5.1); TLS 1.2 shows it

TLSPair = tuple[ssl.SSLSocket, ssl.SSLSocket]


@contextlib.contextmanager
def connected(
    ca: Authority, profile: str = "good", *, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Iterator[TLSPair]:
    """A client and a server that have shaken hands, without any code of ours but the contexts."""
    client, server = socket.socketpair()
    client.settimeout(LIMIT)
    server.settimeout(LIMIT)
    context = ca.client_context()
    context.maximum_version = version
    with ThreadPoolExecutor(1) as worker:
        server_context = ca.server_context(ADDRESS, profile)
        future = worker.submit(
            server_context.wrap_socket, server, server_side=True, suppress_ragged_eofs=False
        )
        with (
            context.wrap_socket(
                client, server_hostname="localhost", suppress_ragged_eofs=False
            ) as tls_client,
            future.result(LIMIT) as tls_server,
        ):
            yield tls_client, tls_server


def below_tls(tls: ssl.SSLSocket) -> bytes:
    """What arrived, as it came over the wire."""
    return socket.socket.recv(tls, 4096)


def test_a_server_says_goodbye(ca: Authority) -> None:
    with connected(ca) as (client, server):
        server.sendall(b"bye")
        server.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"bye"
        assert client.recv(100) == b""


def test_a_client_says_goodbye(ca: Authority) -> None:
    with connected(ca) as (client, server):
        client.shutdown(socket.SHUT_WR)
        assert server.recv(100) == b""


def test_goodbye_is_said_once_even_if_unwrapped_before(ca: Authority) -> None:
    """As servers do that know TLS: unwrap what does not block, then shut down."""
    with connected(ca, version=ssl.TLSVersion.TLSv1_2) as (client, server):
        server.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):
            server.unwrap()
        server.shutdown(socket.SHUT_WR)
        record = below_tls(client)
        assert record[0] == CLOSE_NOTIFY
        assert len(record) == 5 + int.from_bytes(record[3:5])
        assert below_tls(client) == b""


def test_goodbye_after_goodbye(ca: Authority) -> None:
    with connected(ca) as (client, server):
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.shutdown(socket.SHUT_WR)
        server.shutdown(socket.SHUT_WR)


def test_closing_says_nothing(ca: Authority) -> None:
    """The parent of a forking server closes its copy, and the child goes on talking."""
    with connected(ca, version=ssl.TLSVersion.TLSv1_2) as (client, server):
        server.close()
        assert below_tls(client) == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_an_answer_to_the_goodbye_that_nobody_has_read_resets_nobody(
    ca: Authority, version: ssl.TLSVersion
) -> None:
    with connected(ca, version=version) as (client, server):
        server.shutdown(socket.SHUT_WR)
        client.settimeout(0)
        client.unwrap()  # reads the goodbye, and sends one
        client.settimeout(LIMIT)
        assert select.select([server], [], [], LIMIT)[0]
        server.close()
        assert below_tls(client) == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_that_nobody_has_read_reset_as_always(ca: Authority, version: ssl.TLSVersion) -> None:
    with connected(ca, version=version) as (client, server):
        server.shutdown(socket.SHUT_WR)
        client.sendall(b"more than a goodbye has")
        assert select.select([server], [], [], LIMIT)[0]
        server.close()
        with pytest.raises(ConnectionResetError):
            while below_tls(client):
                pass


def test_cutting_off_says_nothing(ca: Authority) -> None:
    with connected(ca, version=ssl.TLSVersion.TLSv1_2) as (client, server):
        server.shutdown(socket.SHUT_RDWR)
        assert below_tls(client) == b""


def test_goodbye_to_a_peer_that_has_gone(ca: Authority) -> None:
    with connected(ca) as (client, server):
        client.close()
        with pytest.raises(OSError):  # from shutdown(2), as of any socket: ours came to nothing
            server.sendall(b"x")
        server.shutdown(socket.SHUT_WR)


def test_goodbye_to_a_peer_that_takes_nothing_is_given_up(ca: Authority) -> None:
    with connected(ca) as (client, server):
        server.settimeout(0)
        with contextlib.suppress(ssl.SSLWantWriteError):
            while True:
                server.send(b"x" * 65536)
        server.settimeout(0.02)
        began = time.monotonic()
        server.shutdown(socket.SHUT_WR)
        assert 0.02 <= time.monotonic() - began < LIMIT
        assert server.gettimeout() == 0.02
        assert client.recv(1) == b"x"


def test_ragged_never_says_goodbye(ca: Authority) -> None:
    with connected(ca, "ragged-eof", version=ssl.TLSVersion.TLSv1_2) as (client, server):
        assert server.unwrap() is server
        server.shutdown(socket.SHUT_WR)
        assert below_tls(client) == b""


def test_a_server_that_knows_only_contexts_stalls(ca: Authority) -> None:
    """Its socket's own timeout ends it, or the client."""
    client, server = socket.socketpair()
    context = ca.server_context(ADDRESS, "handshake-stall")
    with client, context.wrap_socket(server, server_side=True, do_handshake_on_connect=False) as tls:
        client.sendall(b"hello?")
        tls.settimeout(0.02)
        with pytest.raises(TimeoutError):
            tls.do_handshake()
        client.close()
        with pytest.raises(HandshakeEnded, match="the client gave up"):
            tls.do_handshake()


@pytest.mark.parametrize("name", ["handshake-stall", "handshake-reset"])
def test_a_server_that_polls_is_asked_to_go_on_polling(name: str, ca: Authority) -> None:
    client, server = socket.socketpair()
    context = ca.server_context(ADDRESS, name)
    with client, context.wrap_socket(server, server_side=True, do_handshake_on_connect=False) as tls:
        tls.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()


def test_a_server_that_knows_only_contexts_resets(ca: Authority) -> None:
    client, server = socket.socketpair()
    context = ca.server_context(ADDRESS, "handshake-reset")
    with client:
        client.sendall(b"hello?")
        with pytest.raises(HandshakeEnded, match=r"reset$"):
            context.wrap_socket(server, server_side=True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_handshake_needs_no_delayed_acknowledgement(ca: Authority) -> None:
    """40 ms each time, where the kernel delays it and the client has to wait for it (Linux)."""
    times = []
    with TinyServer(ca.server_credential(ADDRESS)) as server:
        for _ in range(10):
            began = time.monotonic()
            assert look_with_ssl(server.address, ca.client_context()).received == b"HI\n"
            times.append(time.monotonic() - began)
    assert min(times) < 0.04


def test_a_handshake_that_is_done_is_done(ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if there is nothing to acknowledge any more."""

    def too_late(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(sockets.PromptSocket, "setsockopt", too_late, raising=False)
    with TinyServer(ca.server_credential(ADDRESS)) as server:
        assert look_with_ssl(server.address, ca.client_context()).received == b"HI\n"


def test_a_client_that_only_writes_leaves_no_reset_behind(ca: Authority) -> None:
    """Session tickets that it never reads would turn its close into one."""
    assert ca.server_context().num_tickets == 0
    with connected(ca) as (client, server):
        client.sendall(b"x")
        client.close()
        assert server.recv(10) == b"x"
        with pytest.raises(ssl.SSLEOFError):  # no goodbye, as of anyone who just closes; but no reset either
            server.recv(10)


def test_waiting_is_cancelled_before_it_is_late() -> None:
    quiet, _other = socket.socketpair()
    cancelled, cancel = socket.socketpair()
    with quiet, _other, cancelled, cancel:
        cancel.send(b"!")
        assert not sockets.wait_ready(quiet, 1, Deadline(0, "nothing"), cancelled.fileno())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.readline()).upper())
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def look_at_asyncio(ca: Authority, name: str, errors: list[BaseException]) -> Seen:
    """What a blocking client sees of an asyncio server."""
    asyncio.get_running_loop().set_exception_handler(lambda _, about: errors.append(about["exception"]))
    context = ca.server_context(ADDRESS, name)
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    async with asyncio.timeout(LIMIT):
        address = server.sockets[0].getsockname()
        patience = 0.03 if name == "handshake-stall" else LIMIT
        seen = await asyncio.to_thread(look_with_ssl, address, ca.client_context(), timeout=patience)
        server.close()
        await server.wait_closed()
    return seen


@pytest.mark.parametrize("name", ["good", "expired", "handshake-stall", "ragged-eof"])
def test_asyncio(name: str, ca: Authority) -> None:
    symptom = profile_for(name).symptoms.client
    seen = asyncio.run(look_at_asyncio(ca, name, []))
    if symptom is None:
        assert (seen.error, seen.received) == (None, b"HI\n")
    else:
        assert symptom.matches(seen.error)
        assert symptom.when == seen.when


def test_asyncio_cannot_reset(ca: Authority) -> None:
    """And says so, instead of closing in another way."""
    errors: list[BaseException] = []
    asyncio.run(look_at_asyncio(ca, "handshake-reset", errors))
    assert "which asyncio keeps away from TLS" in str(errors[0])
