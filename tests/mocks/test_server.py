"""Mock servers on real sockets: transports, connections, what is complained of, and what may be asked."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from servertest._support import DeadlineExceeded, Mismatch, PeerReset, UnknownKeyword, UsageError, have_ipv6
from servertest.faults import AcceptError, Latency, ResetPeer, Slicer
from servertest.launch import HandlerError
from servertest.mocks import Frame, MockFailed, MockServer, Template
from servertest.transcript import Datagrams, Delimited

STREAMS = [
    "tcp",
    "unix",
    "ThreadingTCPServer+tls",
    "ThreadingTCPServer+ipv6",
    "TCPServer",
    "ThreadPoolTCPServer",
]
DATAGRAMS = ["udp", "unix-datagram"]

#: What is no framing.
NONE: Any = b"\n"


@pytest.fixture
def make() -> Iterator[Callable[..., MockServer]]:
    """Mock servers that are stopped, whatever they complain of."""
    made: list[MockServer] = []

    def make(*arguments: Any, **options: Any) -> MockServer:
        made.append(MockServer(*arguments, **options))
        return made[-1]

    yield make
    for mock in made:
        try:
            mock.stop()
        except MockFailed:
            pass


def complaint(mock: MockServer) -> str:
    with pytest.raises(MockFailed) as caught:
        mock.stop()
    return str(caught.value)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_conversation_on_every_stream(make: Callable[..., MockServer], kind: str) -> None:
    if "ipv6" in kind and not have_ipv6():
        pytest.skip("no ::1 on this machine")
    mock = make(kind)
    mock.banner(b"220 ready\r\n")
    mock.expect(re.compile(rb"HELO (?P<who>.*)\r\n")).reply(Template(b"250 hello {who}\r\n"), pieces=3)
    mock.expect(b"QUIT\r\n").reply(b"221 bye\r\n").close()
    with mock.connect() as client:
        assert client.readline() == b"220 ready\r\n"
        client.send_all(b"HELO me\r\nQUIT\r\n")
        assert client.read_eof() == b"250 hello me\r\n221 bye\r\n"
    mock.stop()

    assert [(r.data, r.connection, r.step) for r in mock.requests] == [
        (b"HELO me\r\n", 1, 2),
        (b"QUIT\r\n", 1, 3),
    ]
    (conversation,) = mock.transcript.connections
    assert conversation.closed_by == "server"
    assert conversation.close_kind == "fin"


@pytest.mark.parametrize("kind", DATAGRAMS)
def test_a_conversation_in_datagrams(make: Callable[..., MockServer], kind: str) -> None:
    mock = make(kind)
    mock.expect(b"ping").reply(b"pong").times(2)
    mock.expect(b"").reply(b"empty", delay=0.01)
    with mock.connect() as client, mock.connect() as other:
        for each in (client, other):
            for sent, received in ((b"ping", b"pong"), (b"ping", b"pong"), (b"", b"empty")):
                each.send(sent)
                assert each.receive() == received
    mock.stop()


@pytest.mark.parametrize("kind", ["tcp", "ThreadingTCPServer+tls"])
def test_a_half_close_leaves_the_other_half(make: Callable[..., MockServer], kind: str) -> None:
    mock = make(kind)
    mock.banner(b"that is all").half_close()
    mock.expect(b"not from me")
    with mock.connect() as client:
        assert client.read_eof() == b"that is all"
        client.send_all(b"not from me")
    mock.stop()


@pytest.mark.parametrize("kind", ["tcp", "ThreadingTCPServer+tls"])
def test_a_reset_is_one(make: Callable[..., MockServer], kind: str) -> None:
    mock = make(kind)
    mock.expect(b"x").reset()
    with mock.connect() as client:
        client.send_all(b"x")
        with pytest.raises(PeerReset):
            client.read_eof()
    mock.stop()


def test_the_first_connection_fails_and_the_second_works(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.on(connection=1).reset()
    mock.expect(b"x").reply(b"y").close()
    with pytest.raises(ConnectionResetError), mock.connect() as client:
        client.read_eof()
    with mock.connect() as client:
        client.send_all(b"x")
        assert client.read_eof() == b"y"
    mock.stop()


def test_connections_have_copies_of_their_own(make: Callable[..., MockServer]) -> None:
    mock = make()
    for number in range(10):
        mock.expect(b"%d\n" % number).reply(b"<%d>\n" % number)
    mock.expect_eof()

    def converse(_: int) -> None:
        with mock.connect() as client:
            for number in range(10):
                client.send_all(b"%d\n" % number)
                assert client.readline() == b"<%d>\n" % number

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(converse, range(20)))
    mock.stop()

    assert len(mock.conversations) == 20
    assert len(mock.requests) == 200


def test_what_comes_just_before_the_end_counts(make: Callable[..., MockServer]) -> None:
    for _ in range(20):
        mock = make()
        mock.expect(b"log this\n")
        mock.expect_eof()
        with mock.connect() as client:
            client.send_all(b"log this\n")
        mock.stop()


def test_a_datagram_just_before_the_end_counts(make: Callable[..., MockServer]) -> None:
    for _ in range(20):
        mock = make("udp")
        mock.expect(b"metric:1|c")
        with mock.connect() as client:
            client.send(b"metric:1|c")
        mock.stop()


def test_verbs_while_a_client_is_there(make: Callable[..., MockServer]) -> None:
    mock = make()
    with mock.connect() as client:
        mock.wait_for(connections=1)
        mock.push(b"news\n")
        assert client.readline() == b"news\n"
        mock.expect(b"more?\n").reply(b"no\n")
        client.send_all(b"more?\n")
        assert client.readline() == b"no\n"
    mock.stop()


def test_a_patient_server_waits_for_its_script(make: Callable[..., MockServer]) -> None:
    mock = make(patient=True, framing=Delimited())
    with mock.connect() as client:
        client.send_all(b"hi\n")
        mock.wait_for(connections=1)
        mock.expect(b"hi").reply(b"HI")
        assert client.readline() == b"HI\n"
    mock.stop()


def test_faults_on_a_step_and_on_all(make: Callable[..., MockServer]) -> None:
    mock = make(faults=Latency(0.01))
    mock.expect(b"x").reply(b"0123456789").with_faults(ResetPeer(after_bytes=4))
    with mock.connect() as client:
        client.send_all(b"x")
        assert client.read_exactly(4) == b"0123"
        with pytest.raises(PeerReset):
            client.read_eof()
    mock.stop()
    assert any("reset_peer" in getattr(event, "text", "") for event in mock.transcript.events)


def test_a_hanging_server_stops_at_once(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.expect(b"x").hang()
    with mock.connect() as client:
        client.send_all(b"x")
        mock.wait_for(b"x")
        with pytest.raises(DeadlineExceeded):
            client.read_some(timeout=0.05)
        mock.stop(timeout=2)


def test_much_is_sent_to_a_slow_reader(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.banner(b"x" * 3_000_000).close()
    with mock.connect() as client:
        client.send_all(b"")
        assert client.read_eof() == b"x" * 3_000_000
    mock.stop()


def test_the_socket_of_another_library(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.expect(b"GET / HTTP/1.0\r\n\r\n").reply(b"HTTP/1.0 204 No Content\r\n\r\n").close()
    with socket.create_connection((mock.host, mock.port), 5) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert sock.makefile("rb").read().startswith(b"HTTP/1.0 204")
    mock.stop()


# -- what is asked


def test_requests_can_be_waited_for_and_asserted(make: Callable[..., MockServer]) -> None:
    mock = make(framing=Delimited())
    mock.otherwise().reply(b"ok")
    with mock.connect() as client:
        for word in (b"one", b"two", b"two"):
            client.send_all(word + b"\n")
            client.readline()
        mock.wait_for(b"two", times=2, requests=3)
        assert [r.data for r in mock.assert_received(re.compile(rb"tw."), times=2)] == [b"two", b"two"]
        mock.assert_received(b"one", connection=1)
        mock.assert_received(lambda data: data.isdigit(), times=0)
        with pytest.raises(Mismatch) as caught:
            mock.assert_received(b"twi", timeout=0)
        assert "what comes nearest" in str(caught.value)
        assert "byte 2" in str(caught.value)
        assert "received 3 requests" in str(caught.value)
        with pytest.raises(Mismatch, match=r'^"two" was received 2 times and not 3 by the mock server on'):
            mock.assert_received(b"two", times=3, timeout=0)
        with pytest.raises(Mismatch, match="on connection 2"):
            mock.assert_received(b"two", connection=2, timeout=0)
        with pytest.raises(DeadlineExceeded, match='for "three" at'):
            mock.wait_for(b"three", timeout=0.01)
    mock.stop()


def test_nothing_received_at_all(make: Callable[..., MockServer]) -> None:
    with pytest.raises(Mismatch, match="nobody has connected"):
        make().assert_received(b"x", timeout=0)


def test_waiting_for_the_end_of_the_script(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.expect(b"x")
    with mock.connect() as client:
        with pytest.raises(DeadlineExceeded, match="the script to be finished"):
            mock.wait_for(finished=True, timeout=0.01)
        client.send_all(b"x")
        mock.wait_for(finished=True)
    mock.stop()


def test_a_wait_for_nothing_is_refused(make: Callable[..., MockServer]) -> None:
    with pytest.raises(UsageError, match="what to wait for"):
        make().wait_for()
    with pytest.raises(UnknownKeyword, match="connections="):
        make().wait_for(connection=1)  # type: ignore[call-arg]


# -- what is complained of


def test_nobody_connected(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.expect(b"x")
    text = complaint(mock)
    assert "nobody has connected" in text
    assert '·  1  expect "x"' in text
    mock.stop()


def test_the_connection_that_never_came(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.on(connection=[1, 3]).reply(b"x").close()
    mock.expect(b"retry")
    with mock.connect() as client:
        client.read_eof()
    assert "no other connection came that plays the script for every connection; there were 1" in complaint(
        mock
    )


def test_an_unmet_step(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.expect(b"A").reply(b"a")
    mock.expect(re.compile(rb"B+C"))
    with mock.connect() as client:
        client.send_all(b"ABB")
        client.read_exactly(1)
    text = complaint(mock)

    assert "connection 1:" in text
    assert '✓  1  expect "A"' in text
    assert "✓ reply" in text
    assert "✗  2  expect /B+C/" in text
    assert "test_server.py:" in text
    assert '"ABB" ──' in text


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"quit\r\n", "upper and lower case alone"),
        (b"SECOND\r\n", "step 3 expects this, but comes later"),
        (b"FIRST\r\n", "step 1 expects this once, and has had it"),
        (b"STATE\r\n", "step 4 expects this in the state 'late', and the state is 'start'"),
        (b"QUITE\r\n", "byte 4: "),
    ],
)
def test_the_nearest_expectation(make: Callable[..., MockServer], sent: bytes, says: str) -> None:
    mock = make()
    mock.expect(b"FIRST\r\n")
    mock.expect(b"QUIT\r\n")
    mock.expect(b"SECOND\r\n")
    mock.expect(b"STATE\r\n").when("late").forever()
    with mock.connect() as client:
        client.send_all(b"FIRST\r\n" + sent)
        client.read_eof()
    text = complaint(mock)

    assert f'{sent.decode().strip()}\\r\\n" came, and step 2 expects' in text
    assert says in text or (says == "byte 4: " and "byte 4" in text)


def test_a_function_that_raises_is_shown_with_its_stack(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.expect(b"x").reply(lambda request: request["nobody"])
    with mock.connect() as client:
        client.send_all(b"x")
        client.read_eof()
    text = complaint(mock)
    assert "step 1 raised UsageError: nothing was captured under the name 'nobody'" in text
    assert 'request["nobody"]' in text


def test_what_is_forgiven_does_not_fail(make: Callable[..., MockServer]) -> None:
    mock = make()
    mock.expect(b"x")
    assert "nobody has connected" in mock.forgive()
    mock.verify()
    with mock.connect():
        mock.wait_for(connections=1)
    assert mock.forgive()
    mock.verify()
    with mock.connect():
        mock.wait_for(connections=2)
    assert "connection 2:" in complaint(mock)


def test_a_block_that_raises_is_told_what_the_mock_saw() -> None:
    with pytest.raises(ZeroDivisionError) as caught, MockServer() as mock:
        mock.expect(b"x")
        raise ZeroDivisionError
    assert "nobody has connected" in "".join(caught.value.__notes__)
    with pytest.raises(MockFailed), MockServer() as mock:
        mock.expect(b"x")


def test_errors_of_the_server_are_its_own(make: Callable[..., MockServer]) -> None:
    mock = make(tls=True)
    with mock.running.expects_error(OSError) as expected, mock.connect(tls=None) as client:
        client.send_all(b"this is no TLS at all\n")
        with contextlib.suppress(OSError):
            client.read_eof()
    assert isinstance(expected.error, HandlerError)
    mock.stop()


def test_a_client_that_refuses_the_certificate(make: Callable[..., MockServer]) -> None:
    mock = make(tls="expired")
    with pytest.raises(OSError, match="expired"):
        mock.connect()
    mock.stop()


def test_status_at_any_time(make: Callable[..., MockServer]) -> None:
    mock = make()
    assert "nobody has connected, and nothing is expected" in mock.status()
    mock.expect(b"x").optional()
    with mock.connect():
        mock.wait_for(connections=1)
        assert "1 conversation" in mock.status()
        assert "optional" in mock.status()
        assert "1 steps, 1 connections" in repr(mock)
    mock.stop()


def test_functions_of_the_script_may_wait_for_others(make: Callable[..., MockServer]) -> None:
    """No lock is held meanwhile: the second conversation goes on, and the script can be added to."""
    added, go = threading.Event(), threading.Event()
    mock = make()

    def slow(request: Any) -> bytes:
        mock.expect(b"other").reply(b"o")
        added.set()
        assert go.wait(5)
        return b"done"

    mock.on(1).expect(b"wait").reply(slow)
    with mock.connect() as one:
        one.send_all(b"wait")
        assert added.wait(5)
        with mock.connect() as two:
            two.send_all(b"other")
            assert two.read_exactly(1) == b"o"
        go.set()
        assert one.read_exactly(4) == b"done"
    mock.stop()


@pytest.mark.parametrize(
    ("kind", "instead"),
    [
        ("ForkingTCPServer", "ThreadingTCPServer"),
        ("SelectorTCPServer", "ThreadingTCPServer"),
        ("TCPServer+process", "ThreadingTCPServer"),
        ("PreForkUnixStreamServer+tls", r"ThreadingUnixStreamServer\+tls"),
        ("ForkingUDPServer", "ThreadingUDPServer"),
    ],
)
def test_kinds_that_cannot_follow_a_script(kind: str, instead: str) -> None:
    with pytest.raises(
        UsageError,
        match=f"threads of the test's process, .*; take {instead}, which no client can tell from it",
    ):
        MockServer(kind)


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda mock: mock.assert_received("x"), "bytes, a pattern over bytes or a function"),
        (lambda mock: mock.wait_for("x"), "bytes, a pattern over bytes or a function"),
        (lambda mock: mock.assert_received(re.compile("x")), "a pattern is over bytes"),
        (lambda mock: MockServer(framing=NONE), "such as Delimited"),
        (lambda mock: mock.expect(Frame(b"x", NONE)), "such as Delimited"),
        (lambda mock: mock.expect(Frame(b"x", Datagrams())), "cut by chance"),
        (lambda mock: mock.banner(Frame(b"x", NONE)), "such as Delimited"),
    ],
)
def test_what_nobody_can_look_for(use: Callable[[MockServer], object], says: str) -> None:
    with MockServer() as mock:
        with pytest.raises(UsageError, match=says):
            use(mock)
        mock.forgive()


def test_faults_where_connections_are_accepted(make: Callable[..., MockServer]) -> None:
    mock = make(faults=AcceptError(nth=1) | Slicer(average_size=1))
    mock.expect(b"A").reply(b"abc").close()

    def ask() -> bytes:
        with mock.connect() as client:
            client.send_all(b"A")
            return bytes(client.read_eof())

    with pytest.raises(ConnectionResetError):
        ask()
    assert ask() == b"abc"
    assert [type(entry.fault).__name__ for one in mock.histories for entry in one.faults] == [
        "Slicer",
        "AcceptError",
    ]
    mock.stop()


def test_a_mock_server_that_refuses(make: Callable[..., MockServer]) -> None:
    mock = make(faults="refuse")
    mock.expect(b"A")
    with pytest.raises(ConnectionRefusedError):
        mock.connect()
    with pytest.raises(MockFailed, match="nobody has connected"):
        mock.stop()


def test_other_nonsense() -> None:
    with pytest.raises(UnknownKeyword, match=r"^MockServer\(\) knows no frming=; did you mean framing="):
        MockServer(frming=Delimited())  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="cannot be done here"):
        MockServer(faults="fail_call")
    with pytest.raises(UsageError, match="take a forking kind"):
        MockServer(faults="fail_fork")
    with MockServer() as mock:
        for wrong in (0, [], [0], "1", True, range(3)):
            with pytest.raises(UsageError, match="counted from 1"):
                mock.on(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError), MockServer("udp") as mock:
        mock.banner(b"x")
