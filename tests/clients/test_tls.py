"""What is special about TLS: the handshake and its failures, half-close, ragged ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from servertest._support import DeadlineExceeded, PeerClosed, PeerReset, UsageError, hard_reset
from servertest.clients import AsyncStreamClient, ReceiveBuffer, StreamClient
from servertest.clients._tls import TlsSession

from ._twins import PATIENCE, Background, Threads, Twin
from .conftest import Link, accept

Listen = Callable[..., socket.socket]
Start = Callable[..., Background]


class MemoryPeer:
    """A TLS server whose two directions end one by one, which an SSLSocket cannot do."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._until(self.tls.do_handshake)

    def recv(self) -> bytes:
        result: bytes = self._until(self.tls.read, 65536)
        return result

    def sendall(self, data: bytes) -> None:
        self._until(self.tls.write, data)

    def close_notify(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.sock.sendall(self._outgoing.read())

    def _until(self, function: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return function(*args)
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._incoming.write(self.sock.recv(65536))
            except ssl.SSLZeroReturnError:
                return b""
            finally:
                self.sock.sendall(self._outgoing.read())


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def version(request: pytest.FixtureRequest, client_context: ssl.SSLContext) -> str:
    """Both versions: closing and tickets differ."""
    client_context.maximum_version = getattr(ssl.TLSVersion, request.param)
    name: str = request.param
    return name


@pytest.fixture
def memory_link(
    twin: Twin,
    listen: Listen,
    background: Start,
    version: str,
    client_context: ssl.SSLContext,
    server_context: ssl.SSLContext,
    stack: contextlib.ExitStack,
) -> tuple[StreamClient, MemoryPeer]:
    listener = listen()
    accepted = background(lambda: MemoryPeer(accept(listener, None), server_context))
    client = stack.enter_context(twin.connect(listener.getsockname(), tls=client_context))
    peer = accepted.result()
    stack.enter_context(peer.sock)
    return client, peer


def test_half_close_ends_one_direction_and_loses_nothing(
    memory_link: tuple[StreamClient, MemoryPeer],
) -> None:
    client, peer = memory_link
    # A record that has come in part when the half-close is sent must not be lost.
    peer.tls.write(b"on its way")
    records = peer._outgoing.read()
    peer.sock.sendall(records[:10])
    with pytest.raises(DeadlineExceeded):
        client.read_some(timeout=0.01)
    client.send_all(b"request")
    client.half_close()
    peer.sock.sendall(records[10:])
    assert peer.recv() == b"request"
    assert peer.recv() == b""
    peer.sendall(b", late answer")
    peer.close_notify()
    assert client.read_eof() == b"on its way, late answer"
    assert not client.ragged_eof


def test_half_close_ends_the_network_connections_direction_as_well(
    memory_link: tuple[StreamClient, MemoryPeer],
) -> None:
    client, peer = memory_link
    client.half_close()
    assert peer.recv() == b""
    assert peer.sock.recv(1) == b""


def test_the_peer_may_half_close_first(memory_link: tuple[StreamClient, MemoryPeer]) -> None:
    client, peer = memory_link
    peer.close_notify()
    assert client.read_eof() == b""
    client.send_all(b"still talking")
    assert peer.recv() == b"still talking"


def test_closing_says_so_first(memory_link: tuple[StreamClient, MemoryPeer]) -> None:
    client, peer = memory_link
    client.send_all(b"bye")
    client.close()
    assert peer.recv() == b"bye"
    assert peer.recv() == b""  # SSLZeroReturnError: close_notify came
    assert (
        peer.sock.recv(1) == b""
    )  # and then FIN, not RST, although the session tickets were never asked for


def test_closing_throws_away_so_much_and_no_more(
    memory_link: tuple[StreamClient, MemoryPeer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that never pauses must not keep the client from closing."""
    client, peer = memory_link
    monkeypatch.setattr("servertest.clients._core._DRAIN_LIMIT", 1)
    peer.sendall(b"x" * 200_000)
    client.close()
    with pytest.raises(ConnectionResetError):
        while peer.sock.recv(65536):
            pass


def test_an_end_without_close_notify_is_the_end_and_is_noted(make_link: Callable[..., Link]) -> None:
    link = make_link("inet+tls")
    link.peer.sendall(b"truncated?")
    assert not link.client.ragged_eof
    link.peer.close()  # an SSLSocket closes without a word
    assert link.client.read_eof() == b"truncated?"
    assert link.client.ragged_eof


def test_without_tls_no_end_is_ragged(tcp: Link) -> None:
    tcp.peer.close()
    assert tcp.client.read_eof() == b""
    assert not tcp.client.ragged_eof
    assert tcp.client.tls is None


def test_a_client_shows_what_was_agreed_upon(make_link: Callable[..., Link]) -> None:
    tls = make_link("inet+tls").client.tls
    assert tls is not None
    assert tls.version() == "TLSv1.3"
    names = (tls.getpeercert() or {})["subjectAltName"]
    assert ("DNS", "unix.test") in names


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux can be asked not to delay an ACK")
def test_session_tickets_are_acknowledged_at_once(make_link: Callable[..., Link]) -> None:
    """Or a server that speaks first, over a socket that nobody set TCP_NODELAY on, would be 40 ms late."""
    sock = make_link("inet+tls").client.socket
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)


@pytest.mark.parametrize("family", ["inet", "inet6"])
def test_the_name_to_check_is_the_addresss_host(
    twin: Twin,
    listen: Listen,
    background: Start,
    family: str,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    listener = listen(family)
    accepted = background(accept, listener, server_context)
    with twin.connect(listener.getsockname(), tls=client_context) as client, accepted.result() as peer:
        peer.sendall(b"220 ready\r\n")
        assert client.readline() == b"220 ready\r\n"


def test_a_unix_address_has_no_name_to_check(
    twin: Twin, listen: Listen, client_context: ssl.SSLContext
) -> None:
    address = listen("unix").getsockname()
    with pytest.raises(UsageError, match="give server_hostname="):
        twin.connect(address, tls=client_context)


# Handshakes that fail


def refuse(listener: socket.socket, context: ssl.SSLContext) -> ssl.SSLError | None:
    """Serve one connection; the error that the server saw."""
    with listener.accept()[0] as sock:
        sock.settimeout(PATIENCE)
        try:
            context.wrap_socket(sock, server_side=True).close()
        except ssl.SSLError as error:
            return error
        return None


def test_a_certificate_that_is_not_trusted(
    twin: Twin, listen: Listen, background: Start, server_context: ssl.SSLContext
) -> None:
    listener = listen()
    serving = background(refuse, listener, server_context)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer") as caught:
        twin.connect(listener.getsockname(), tls=ssl.create_default_context())
    assert f"in the TLS handshake with 127.0.0.1:{listener.getsockname()[1]}" in caught.value.__notes__
    # The server learns why, because the alert was sent.
    assert "ALERT_UNKNOWN_CA" in str(serving.result())


def test_a_certificate_for_another_name(
    twin: Twin,
    listen: Listen,
    background: Start,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    listener = listen()
    serving = background(refuse, listener, server_context)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        twin.connect(listener.getsockname(), tls=client_context, server_hostname="other.test")
    assert isinstance(serving.result(), ssl.SSLError)


def test_a_server_that_wants_a_certificate_and_gets_none(
    twin: Twin,
    listen: Listen,
    background: Start,
    authority: trustme.CA,
    client_context: ssl.SSLContext,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = listen()
    serving = background(refuse, listener, context)
    # With TLS 1.3 the client is done before the server has looked: the alert meets the first read.
    with twin.connect(listener.getsockname(), tls=client_context) as client:
        with pytest.raises(
            ssl.SSLError, match=r"ALERT_CERTIFICATE_REQUIRED|alert certificate required"
        ) as caught:
            client.readline()
        assert caught.value.__notes__ == [f"from 127.0.0.1:{listener.getsockname()[1]}"]
    assert isinstance(serving.result(), ssl.SSLError)


def test_a_server_that_stalls(twin: Twin, listen: Listen, client_context: ssl.SSLContext) -> None:
    address = listen().getsockname()  # the kernel accepts, nobody answers
    with pytest.raises(DeadlineExceeded, match=r"^waited 0\S* s for the TLS handshake with 127"):
        twin.connect(address, tls=client_context, timeout=0.05)


def test_the_handshake_has_what_connecting_left_of_the_time(
    listen: Listen, client_context: ssl.SSLContext
) -> None:
    given: list[float | None] = []

    class Sync(StreamClient):
        def start_tls(self, *_: object, timeout: float | None = None) -> None:
            given.append(timeout)

    class Asynchronous(AsyncStreamClient):
        async def start_tls(self, *_: object, timeout: float | None = None) -> None:
            given.append(timeout)

    async def main() -> None:
        await (await Asynchronous.connect(address, tls=client_context, timeout=5)).close()

    address = listen().getsockname()
    Sync.connect(address, tls=client_context, timeout=5).close()
    asyncio.run(main())
    assert len(given) == 2
    assert all(seconds is not None and 0 < seconds < 5 for seconds in given)


@pytest.mark.parametrize(
    ("end", "error"),
    [(socket.socket.close, PeerClosed), (hard_reset, PeerReset)],
    ids=["closes", "resets"],
)
def test_a_server_that_leaves_in_the_middle(
    twin: Twin,
    listen: Listen,
    background: Start,
    client_context: ssl.SSLContext,
    end: Callable[[socket.socket], None],
    error: type[OSError],
) -> None:
    listener = listen()

    def leave() -> None:
        sock, _ = listener.accept()
        sock.recv(65536)
        end(sock)

    serving = background(leave)
    with pytest.raises(error, match=r"in the middle of the TLS handshake|reset the connection"):
        twin.connect(listener.getsockname(), tls=client_context)
    serving.result()


def test_a_server_that_speaks_no_tls(
    twin: Twin, listen: Listen, background: Start, client_context: ssl.SSLContext
) -> None:
    listener = listen()

    def greet() -> None:
        with listener.accept()[0] as sock:
            sock.sendall(b"220 ready, and plainly so\r\n")
            sock.settimeout(PATIENCE)
            while sock.recv(65536):
                pass

    greeting = background(greet)
    with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|wrong version number"):
        twin.connect(listener.getsockname(), tls=client_context)
    greeting.result()


# STARTTLS


def test_tls_may_begin_later(
    tcp: Link, background: Start, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    tcp.peer.sendall(b"220 ready\r\n")
    assert tcp.client.readline() == b"220 ready\r\n"
    wrapping = background(lambda: server_context.wrap_socket(tcp.peer, server_side=True))
    tcp.client.start_tls(client_context)
    with wrapping.result() as peer:
        tcp.client.send_all(b"EHLO\r\n")
        assert peer.recv(100) == b"EHLO\r\n"
    with pytest.raises(UsageError, match="has TLS already"):
        tcp.client.start_tls(client_context)


def test_tls_cannot_begin_over_unread_bytes(tcp: Link, client_context: ssl.SSLContext) -> None:
    tcp.peer.sendall(b"220 ready\r\nunexpected")
    assert tcp.client.readline() == b"220 ready\r\n"
    with pytest.raises(UsageError, match=r"TLS cannot begin here: .* has unread: b'unexpected'"):
        tcp.client.start_tls(client_context)


def test_an_ssl_socket_is_refused(
    twin: Twin, make_link: Callable[..., Link], client_context: ssl.SSLContext
) -> None:
    wrapped = make_link("inet+tls").peer
    with pytest.raises(UsageError, match="hand over the plain socket and call start_tls"):
        twin.stream(wrapped)


# Both directions at once


@pytest.mark.parametrize("twin", [Threads], indirect=True)  # test_asyncio.py has the same for tasks
def test_one_thread_reads_while_another_writes(
    memory_link: tuple[StreamClient, MemoryPeer], background: Start
) -> None:
    client, peer = memory_link
    message = bytes(range(256)) * 4000
    echoed = threading.Event()

    def echo() -> None:
        size = 0
        while size < len(message):
            data = peer.recv()
            size += len(data)
            peer.sendall(data)
        echoed.set()

    echoing = background(echo)
    writing = background(client.send_all, message)
    assert client.read_exactly(len(message)) == message
    writing.result()
    echoing.result()
    assert echoed.is_set()


# The session by itself


def test_close_notify_before_a_handshake_says_nothing(client_context: ssl.SSLContext) -> None:
    session = TlsSession(client_context, "localhost")
    session.close_notify()
    session.close_notify()
    assert session.unsent == b""


def test_an_end_after_close_notify_is_not_ragged(client_context: ssl.SSLContext) -> None:
    session, buffer = TlsSession(client_context, "localhost"), ReceiveBuffer()
    buffer.feed_eof()
    session.end_of_stream(buffer)
    assert not session.ragged_eof
