"""Profile.wrap: in the worker, with an end in time, and with a last word that arrives."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from servertest._support import Deadline, DeadlineExceeded, ServertestError, hard_reset
from servertest.tls import Authority, HandshakeEnded, Profile, profile_for, profiles
from tests._descriptors import new_descriptors, open_descriptors

from ._tiny import LIMIT, TinyServer, look_with_ssl

ADDRESS = ("127.0.0.1", 0)
SHORT = 0.03  # seconds, where a deadline is to pass

Pair = tuple[socket.socket, socket.socket]

every_profile = pytest.mark.parametrize("profile", profiles(), ids=str)


@pytest.fixture
def worker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A client's end and a server's end, over TCP."""
    with (
        socket.create_server(ADDRESS) as listener,
        socket.create_connection(listener.getsockname(), LIMIT) as client,
        listener.accept()[0] as server,
    ):
        yield client, server


@pytest.fixture
def cancel() -> Iterator[Pair]:
    """What is watched, and what makes it readable."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def hello(context: ssl.SSLContext) -> bytes:
    """The first flight of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def refusal(future: Future[ssl.SSLSocket]) -> BaseException | None:
    return future.exception(LIMIT)


@every_profile
def test_a_silent_client_is_given_up_at_the_deadline(profile: Profile, pair: Pair, ca: Authority) -> None:
    """Only the profile that is about silence takes it as expected."""
    client, server = pair
    with pytest.raises(OSError) as caught:
        profile.wrap(server, ca.server_context(ADDRESS, profile), SHORT)
    if profile.behaviour == "stall":
        assert isinstance(caught.value, HandshakeEnded)
        assert isinstance(caught.value.__cause__, DeadlineExceeded)
    else:
        assert isinstance(caught.value, DeadlineExceeded)
        assert f"127.0.0.1:{client.getsockname()[1]} (profile '{profile.name}')" in str(caught.value)
    assert client.recv(1) == b""


def test_a_client_that_drips_is_given_up_at_the_same_deadline(
    pair: Pair, ca: Authority, worker: ThreadPoolExecutor
) -> None:
    """The deadline is for the handshake as a whole: bytes that come do not put it off."""
    client, server = pair
    future = worker.submit(profile_for("good").wrap, server, ca.server_context(), SHORT)
    for byte in hello(ca.client_context())[:-1]:  # some 500 bytes, one for each millisecond
        with contextlib.suppress(ConnectionError):
            client.send(bytes([byte]))
        if wait([future], 0.001).done:
            break
    assert isinstance(refusal(future), DeadlineExceeded)


def test_a_client_that_floods_a_stall_is_looked_at_in_between(pair: Pair, ca: Authority) -> None:
    """However much comes: after each piece whoever polls can look at the time."""
    client, server = pair
    context = ca.server_context(ADDRESS, "handshake-stall")
    client.sendall(b"x" * 200_000)
    with context.wrap_socket(server, server_side=True, do_handshake_on_connect=False) as tls:
        tls.settimeout(0)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        assert socket.socket.recv(tls, 1) == b"x"


@every_profile
def test_cancelling_ends_the_wait(
    profile: Profile, pair: Pair, cancel: Pair, ca: Authority, worker: ThreadPoolExecutor
) -> None:
    client, server = pair
    context = ca.server_context(ADDRESS, profile)
    future = worker.submit(profile.wrap, server, context, LIMIT, cancelled=cancel[0].fileno())
    cancel[1].send(b"!")
    error = refusal(future)
    assert isinstance(error, HandshakeEnded)
    assert error.reason == "cancelled while the handshake was going on"
    assert client.recv(1) == b""


def test_a_stall_ends_when_the_client_goes(pair: Pair, ca: Authority, worker: ThreadPoolExecutor) -> None:
    client, server = pair
    profile = profile_for("handshake-stall")
    future = worker.submit(profile.wrap, server, ca.server_context(ADDRESS, profile), LIMIT)
    client.sendall(hello(ca.client_context()))
    client.close()
    error = refusal(future)
    assert isinstance(error, HandshakeEnded)
    assert error.reason == "the client gave up"


def test_a_stall_holds_up_nobody_else(ca: Authority) -> None:
    """Each client is stalled by itself: the loop that accepts goes on."""
    with TinyServer(ca.server_credential(ADDRESS, "handshake-stall")) as server:
        with socket.create_connection(server.address, LIMIT), socket.create_connection(server.address, LIMIT):
            assert isinstance(
                look_with_ssl(server.address, ca.client_context(), timeout=SHORT).error, TimeoutError
            )
        assert all(isinstance(server.outcome(), HandshakeEnded) for _ in range(3))


def test_a_silent_client_holds_up_nobody_else(ca: Authority) -> None:
    with (
        TinyServer(ca.server_credential(ADDRESS)) as server,
        socket.create_connection(server.address, LIMIT),
    ):
        assert look_with_ssl(server.address, ca.client_context()).received == b"HI\n"


def test_a_reset_waits_for_the_hello(pair: Pair, ca: Authority) -> None:
    client, server = pair
    profile = profile_for("handshake-reset")
    client.sendall(b"\x16")
    with pytest.raises(HandshakeEnded, match=r"reset$"):
        profile.wrap(server, ca.server_context(ADDRESS, profile), LIMIT)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_reset_of_a_client_that_says_nothing(pair: Pair, ca: Authority) -> None:
    client, server = pair
    profile = profile_for("handshake-reset")
    client.close()
    with pytest.raises(HandshakeEnded, match="left without a word"):
        profile.wrap(server, ca.server_context(ADDRESS, profile), LIMIT)


def test_a_reset_on_a_unix_socket(ca: Authority) -> None:
    """Unix sockets have no RST, but data left unread makes their peer see one."""
    profile = profile_for("handshake-reset")
    client, server = socket.socketpair()
    with client, server:
        client.sendall(b"\x16")
        with pytest.raises(HandshakeEnded):
            profile.wrap(server, ca.server_context(ADDRESS, profile), LIMIT)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_the_alert_overtakes_the_reset(ca: Authority) -> None:
    """A TLS 1.3 client that sends much before it reads gets to know why it was refused, every time."""
    context = ca.client_context("no-client-cert")
    symptom = profile_for("no-client-cert").symptoms.client
    assert symptom is not None
    with TinyServer(ca.server_credential(ADDRESS, "no-client-cert")) as server:
        for _ in range(10):
            with (
                socket.create_connection(server.address, LIMIT) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as tls,
            ):
                tls.sendall(b"x" * 100_000)
                with pytest.raises(symptom.exception) as caught:
                    tls.recv(1)
                assert symptom.matches(caught.value)


def test_who_never_hangs_up_is_not_waited_for_long(
    pair: Pair, ca: Authority, worker: ThreadPoolExecutor
) -> None:
    """The last word waits for a client that speaks no TLS, but not beyond the handshake's own deadline."""
    client, server = pair
    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    future = worker.submit(profile_for("good").wrap, server, ca.server_context(), SHORT)
    error = future.exception(0.5)
    assert isinstance(error, ssl.SSLError)
    assert error.reason == "HTTP_REQUEST"
    assert error.__notes__ == ["the client spoke plain HTTP: it needs an https:// URL"]


def test_the_last_word_is_given_up_when_cancelled(
    pair: Pair, cancel: Pair, ca: Authority, worker: ThreadPoolExecutor
) -> None:
    client, server = pair
    client.sendall(b"EHLO localhost\r\n")
    future = worker.submit(
        profile_for("good").wrap,
        server,
        ca.server_context(),
        Deadline(None, "ever"),
        cancelled=cancel[0].fileno(),
    )
    assert client.recv(1) == b""  # the server's last word, so the handshake has failed and the wait is on
    cancel[1].send(b"!")
    error = refusal(future)
    assert isinstance(error, ssl.SSLError)
    assert error.__notes__ == ["the client does not speak TLS"]


def test_what_comes_back_is_the_connection(pair: Pair, ca: Authority, worker: ThreadPoolExecutor) -> None:
    """It takes the plain socket's place, timeout and all."""
    client, server = pair
    server.settimeout(7.5)
    descriptor = server.fileno()
    future = worker.submit(
        profile_for("good").wrap, server, ca.server_context(), Deadline(LIMIT, "this test")
    )
    with (
        ca.client_context().wrap_socket(client, server_hostname="127.0.0.1") as tls_client,
        future.result(LIMIT) as tls_server,
    ):
        assert isinstance(tls_server, ssl.SSLSocket)
        assert (tls_server.fileno(), tls_server.gettimeout(), server.fileno()) == (descriptor, 7.5, -1)
        tls_client.sendall(b"hi")
        assert tls_server.recv(2) == b"hi"


def test_a_connection_that_is_wrapped_already(pair: Pair, ca: Authority, worker: ThreadPoolExecutor) -> None:
    """For servers that wrap when they accept and shake hands in the worker. They close it themselves."""
    client, server = pair
    profile = profile_for("handshake-stall")
    context = ca.server_context(ADDRESS, profile)
    with context.wrap_socket(server, server_side=True, do_handshake_on_connect=False) as tls:
        future = worker.submit(profile.shake_hands, tls, LIMIT)
        client.close()
        assert isinstance(future.exception(LIMIT), HandshakeEnded)
        assert tls.fileno() != -1


def test_a_client_that_is_gone_already(pair: Pair, ca: Authority) -> None:
    """Its address cannot be told any more; whichever error it is, it is one of connections."""
    client, server = pair
    hard_reset(client)
    with pytest.raises(OSError) as caught:
        profile_for("good").wrap(server, ca.server_context(), LIMIT)
    assert not isinstance(caught.value, HandshakeEnded | DeadlineExceeded)
    assert server.fileno() == -1


@pytest.mark.parametrize("name", ["good", "expired"])
def test_a_client_that_goes_in_the_middle(
    name: str, pair: Pair, ca: Authority, worker: ThreadPoolExecutor
) -> None:
    """Where a refusal is asked for, that is one."""
    client, server = pair
    profile = profile_for(name)
    future = worker.submit(profile.wrap, server, ca.server_context(ADDRESS, name), LIMIT)
    client.sendall(hello(ca.client_context()))
    select.select([client], [], [], LIMIT)  # the server has answered, and waits for the rest
    hard_reset(client)
    error = refusal(future)
    assert isinstance(error, HandshakeEnded if name == "expired" else ConnectionResetError)


def test_a_client_that_goes_after_it_was_wrapped(pair: Pair, ca: Authority) -> None:
    client, server = pair
    context = ca.server_context()
    with context.wrap_socket(server, server_side=True, do_handshake_on_connect=False) as tls:
        hard_reset(client)
        with pytest.raises(ConnectionError):
            profile_for("good").shake_hands(tls, LIMIT)


BIG = [f"host-{number}.example" for number in range(1000)]  # for a certificate of some 20,000 bytes


@pytest.fixture
def narrow() -> Iterator[Pair]:
    """A client's end and a server's end, between which such a certificate does not fit at once."""
    client, server = socket.socketpair()
    client.settimeout(LIMIT)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with client, server:
        yield client, server


def test_a_client_that_reads_nothing_is_given_up(narrow: Pair, ca: Authority) -> None:
    client, server = narrow
    client.sendall(hello(ca.client_context()))
    with pytest.raises(DeadlineExceeded):
        profile_for("good").wrap(server, ca.server_context(BIG), SHORT)


def test_a_client_that_reads_bit_by_bit_is_served(
    narrow: Pair, ca: Authority, worker: ThreadPoolExecutor
) -> None:
    client, server = narrow
    future = worker.submit(profile_for("good").wrap, server, ca.server_context(BIG), LIMIT)
    with ca.client_context().wrap_socket(client, server_hostname=BIG[-1]):
        future.result(LIMIT).close()


def test_what_is_no_connection_is_closed(ca: Authority) -> None:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with pytest.raises(NotImplementedError):
        profile_for("good").wrap(datagrams, ca.server_context(), LIMIT)
    assert datagrams.fileno() == -1


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to count descriptors")
@every_profile
def test_no_descriptor_is_left(profile: Profile, ca: Authority) -> None:
    def talk() -> None:
        with TinyServer(ca.server_credential(ADDRESS, profile)) as server:
            look_with_ssl(server.address, ca.client_context(profile), timeout=SHORT)
            server.outcome()

    talk()
    before = open_descriptors()
    talk()
    assert not new_descriptors(before)


def test_the_error_is_what_others_expect() -> None:
    """Servers swallow OSError from a connection that failed; hosts of ours look at the reason."""
    error = HandshakeEnded("expired", "the client gave up")
    assert isinstance(error, ServertestError | OSError)
    assert str(error) == "no TLS on this connection (profile 'expired'): the client gave up"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.profile, copy.reason, str(copy)) == (
        HandshakeEnded,
        "expired",
        "the client gave up",
        str(error),
    )
