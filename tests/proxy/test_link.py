"""A link: where it listens, whom it reaches, what it knows, and its end."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from servertest._support import (
    HandlerFailed,
    PeerReset,
    UsageError,
    hard_reset,
    have_ipv6,
    refused_address,
)
from servertest.clients import StreamClient, connect
from servertest.faults import (
    AcceptError,
    Blackhole,
    FailFork,
    FullBacklog,
    Latency,
    LimitData,
    Loss,
    Plan,
    Refuse,
    ResetPeer,
    ShortReads,
    Slicer,
    SlowAccept,
    Stall,
    downstream,
    plan,
    upstream,
)
from servertest.launch import Running, launch
from servertest.proxy import Link, Proxy, link
from servertest.proxy._traffic import Traffic
from servertest.transcript import Note
from tests._descriptors import new_descriptors, open_descriptors
from tests.proxy.conftest import LIMIT, Upper, UpperDatagram

Make = Callable[..., Link]

FAMILIES = ["inet", "inet6", "dual", "unix", "abstract"]
STREAMS = ["ThreadingTCPServer", "ThreadingUnixStreamServer"]
DATAGRAMS = ["UDPServer", "UnixDatagramServer"]


def is_here(family: str) -> bool:
    return have_ipv6() if family in ("inet6", "dual") else os.name == "posix"


families = pytest.mark.parametrize("family", [one for one in FAMILIES if is_here(one)])


def ask(client: Any, text: bytes = b"hi\n") -> bytes:
    client.send(text)
    return bytes(client.readline())


@families
@pytest.mark.parametrize("kind", STREAMS)
def test_streams_of_all_families_in_all_combinations(
    make: Make, stack: ExitStack, kind: str, family: str
) -> None:
    server = stack.enter_context(launch(Upper, kind=kind))
    made = make(server, listen=family)
    with made.connect() as client:
        assert ask(client) == b"HI\n"
    assert made.transcript is not None
    made.transcript.wait_for(closed=1)
    assert made.transcript.connections[0].upstream == b"hi\n"


@pytest.mark.parametrize("family", [one for one in FAMILIES if is_here(one) and one != "dual"])
@pytest.mark.parametrize("kind", DATAGRAMS)
def test_datagrams_of_all_families_in_all_combinations(
    make: Make, stack: ExitStack, kind: str, family: str
) -> None:
    server = stack.enter_context(launch(UpperDatagram, kind=kind))
    made = make(server, listen=family)
    with made.connect() as one, made.connect() as other:
        for client in (one, other, one):
            client.send(b"hi")
            assert client.receive() == b"HI"
    assert [known.state for known in made.connections] == ["open", "open"]
    assert made.transport == "datagram"


@families
@pytest.mark.parametrize("kind", STREAMS)
def test_down_refuses_and_cuts_and_comes_up_on_the_same_address(
    make: Make, stack: ExitStack, kind: str, family: str
) -> None:
    server = stack.enter_context(launch(Upper, kind=kind))
    made = make(server, listen=family)
    address = made.address
    with made.connect() as client:
        assert ask(client) == b"HI\n"
        with made.down():
            assert not made.is_up
            assert client.read_eof() == b""
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    made.connect()
    assert made.address == address
    with made.connect() as client:
        assert ask(client) == b"HI\n"


@pytest.mark.parametrize("family", [one for one in FAMILIES if is_here(one) and one != "dual"])
def test_datagrams_are_refused_while_it_is_down(make: Make, stack: ExitStack, family: str) -> None:
    server = stack.enter_context(launch(UpperDatagram, kind="UDPServer"))
    made = make(server, listen=family)
    with made.connect() as client, made.down(), pytest.raises(ConnectionRefusedError):
        client.send(b"lost")
        client.receive()
    with made.connect() as client:
        client.send(b"hi")
        assert client.receive() == b"HI"


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "UDPServer"])
def test_nobody_gets_the_port_while_it_is_down(make: Make, stack: ExitStack, kind: str) -> None:
    handler = Upper if kind == "ThreadingTCPServer" else UpperDatagram
    made = make(stack.enter_context(launch(handler, kind=kind)))
    with made.down(), socket.socket(type=made_type(made)) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(made.address)


def made_type(made: Link) -> socket.SocketKind:
    return socket.SOCK_STREAM if made.transport == "stream" else socket.SOCK_DGRAM


def test_down_may_be_a_reset(make: Make, upper: Running) -> None:
    made = make(upper)
    with made.connect() as client:
        assert ask(client) == b"HI\n"
        with made.down(reset=True), pytest.raises(PeerReset):
            client.read_eof()


def test_down_within_down_comes_up_once(make: Make, upper: Running) -> None:
    made = make(upper)
    states = []
    with made.down():
        with made.down():
            pass
        states.append(made.is_up)
    states.append(made.is_up)
    made.disable()
    with made.down():
        pass
    states.append(made.is_up)
    assert states == [False, True, False]
    made.enable()
    with made.connect() as client:
        assert ask(client) == b"HI\n"


def test_faults_come_and_go_on_a_connection_that_lives(make: Make, upper: Running) -> None:
    made = make(upper, seed=7)
    with made.connect() as client:
        assert ask(client) == b"HI\n"
        with made.faults(Stall(None)):
            client.send(b"kept\n")
            assert made.plan == plan(Stall(None))
        assert client.readline() == b"KEPT\n"
        key = made.add(downstream(LimitData(3)))
        made.update(key, downstream(LimitData(4)))
        made.remove(key)
        assert ask(client) == b"HI\n"
        made.set(downstream(LimitData(2)))
        client.send(b"hi\n")
        assert client.read_eof() == b"HI"
    assert made.hits == {"stall": 2, "limit_data": 1}
    assert [decision.connection for decision in made.trace] == [1, 1, 1]
    assert made.connections[0].hits == made.hits


def test_a_fault_on_one_connection_alone(make: Make, upper: Running) -> None:
    made = make(upper)
    with made.faults(ResetPeer(after_bytes=1).on(connection=1)):
        with made.connect() as client, pytest.raises(PeerReset):
            ask(client)
        with made.connect() as client:
            assert ask(client) == b"HI\n"
    assert [known.state for known in made.connections][:1] == ["reset"]
    assert made.connections[0].hits
    assert not made.connections[1].hits


def test_faults_added_while_others_stand_keep_their_names(make: Make, upper: Running) -> None:
    made = make(upper, Latency(0.001))
    first, second = made.add(Latency(0.002)), made.add(Latency(0.003), key="mine")
    assert second == "mine"
    made.remove(first)
    assert made.plan == Latency(0.001) | Latency(0.003)
    assert list(made.fault_groups) == ["", "mine"]
    with pytest.raises(UsageError, match="there are no faults under the key 'gone'; there are '', 'mine'"):
        made.remove("gone")
    with pytest.raises(UsageError, match="there are faults under the key 'mine' already"):
        made.add(Latency(0.1), key="mine")
    made.set()
    assert made.plan == Plan()


def test_the_same_seed_decides_the_same(make: Make, upper: Running) -> None:
    def run(seed: int) -> list[int]:
        made = make(upper, ResetPeer(after_bytes=1).on(probability=0.5), seed=seed)
        hit = []
        for number in range(1, 13):
            with made.connect() as client:
                try:
                    ask(client)
                except ConnectionError:
                    hit.append(number)
        return hit

    first = run(5)
    assert run(5) == first
    assert run(6) != first


def test_a_server_that_is_not_there_is_said(make: Make) -> None:
    with refused_address() as address:
        made = make(address)
        with pytest.raises(ConnectionError), made.connect() as client:
            client.readline()
        assert made.transcript is not None
        made.transcript.wait_for(closed=1)
        (known,) = made.connections
        assert known.state == "failed"
        assert "Connection refused" in known.reason
        assert known.reason in made.transcript.render(width=200)


def test_a_server_that_is_not_there_yet(make: Make, stack: ExitStack) -> None:
    with refused_address() as address:
        made = make(address)
    stack.enter_context(launch(Upper, address=address))
    with made.connect() as client:
        assert ask(client) == b"HI\n"


def test_a_unix_server_with_a_full_queue_is_waited_for(make: Make, stack: ExitStack, tmp_path: Any) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        made = make(str(tmp_path / "s"))
        clients = [stack.enter_context(made.connect()) for _ in range(4)]
        for client in clients:
            client.send(b"x")
        accepted = [stack.enter_context(listener.accept()[0]) for _ in clients]
        for sock in accepted:
            sock.settimeout(LIMIT)
            assert sock.recv(1) == b"x"


def test_a_server_that_never_takes_the_connection_is_given_up(make: Make, tmp_path: Any) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        first.connect(str(tmp_path / "s"))
        made = make(str(tmp_path / "s"), listen="inet", connect_timeout=0.05)
        with connect(made.address) as client, pytest.raises(PeerReset):
            client.readline()
    assert "nothing came of it within 0.05 s" in made.connections[0].reason


def test_connections_are_known_with_their_bytes(make: Make, upper: Running) -> None:
    made = make(upper, upstream(Slicer(2)))
    with made.connect() as client:
        ask(client, b"hello\n")
        (known,) = made.connections
        assert (known.state, known.is_open) == ("open", True)
        assert known.client == client.local_address
        assert not known.ended
    assert made.transcript is not None
    made.transcript.wait_for(closed=1)
    made.relay.call(lambda: None)
    assert (known.upstream_received, known.upstream_delivered) == (6, 6)
    assert (known.downstream_received, known.downstream_delivered) == (6, 6)
    assert (known.state, known.is_open) == ("finished", False)
    assert known.ended
    assert "finished" in repr(known)


def test_both_transcripts_see_their_own_side(make: Make, upper: Running) -> None:
    made = make(upper, downstream(LimitData(2)))
    with made.connect() as client:
        client.send(b"hi\n")
        assert client.read_eof() == b"HI"
    assert made.transcript is not None
    assert made.upstream_transcript is not None
    for record in (made.transcript, made.upstream_transcript):
        record.wait_for(closed=1)
    assert made.transcript.connections[0].downstream == b"HI"
    assert made.upstream_transcript.connections[0].downstream == b"HI\n"
    assert "limit_data, downstream: closes after 2 bytes" in made.transcript.render(width=120)


def test_nothing_is_recorded_if_nobody_wants_it(make: Make, upper: Running) -> None:
    made = make(upper, transcript=False)
    with made.connect() as client:
        assert ask(client) == b"HI\n"
    assert made.transcript is None
    assert made.upstream_transcript is None


def test_a_chain_of_links(make: Make, upper: Running) -> None:
    made = make(make(upper, Latency(0.001)), Slicer(1))
    with made.connect() as client:
        assert ask(client) == b"HI\n"


def test_a_client_that_stays_is_closed_at_the_end_and_the_handler_sees_end_of_file(upper: Running) -> None:
    with link(upper) as made:
        client = made.connect()
        assert ask(client) == b"HI\n"
        raw = socket.create_connection((made.host, made.port), LIMIT)
        raw.sendall(b"hi\n")
        assert raw.recv(10) == b"HI\n"
    assert client.closed
    assert raw.recv(10) == b""
    raw.close()
    assert not made.running
    with pytest.raises(ConnectionRefusedError):
        StreamClient.connect(made.address)
    made.stop()


def test_bytes_held_by_a_fault_do_not_hold_the_end_up(upper: Running) -> None:
    made = link(upper, Blackhole() | Stall(None) | Latency(50.0))
    with made.connect() as client:
        client.send(b"x" * 100_000)
        made.stop()


def test_nothing_is_left(stack: ExitStack, upper: Running) -> None:
    before = open_descriptors()
    for family in FAMILIES[:1] + FAMILIES[3:]:
        with link(upper, listen=family) as made, made.connect() as client:
            path = made.address
            assert ask(client) == b"HI\n"
            made.disable()
        assert not (isinstance(path, str) and os.path.exists(path))
    assert not any(thread.name == "servertest link" for thread in threading.enumerate())
    upper.transcript.wait_idle()  # type: ignore[union-attr]
    assert not new_descriptors(before)


def test_one_proxy_has_many_links_and_one_thread(upper: Running) -> None:
    with Proxy() as proxy:
        links = [proxy.link(upper) for _ in range(5)]
        assert [thread.name for thread in threading.enumerate()].count("servertest proxy") == 1
        assert proxy.links == links
        links[0].stop()
        assert proxy.links == links[1:]
        with links[1].connect() as client:
            assert ask(client) == b"HI\n"
    assert not links[1].running
    with pytest.raises(UsageError, match="the proxy was stopped"):
        proxy.link(upper)
    proxy.stop()


def test_a_trigger_that_raises_fails_at_the_end_and_leaves_others_alone(upper: Running) -> None:
    def broken(site: Any) -> bool:
        if site.connection == 1:
            raise ZeroDivisionError("oh no")
        return False

    made = link(upper, Latency(0.1).on(when=broken))
    with pytest.raises(ConnectionError), made.connect() as client:
        ask(client)
    with made.connect() as client:
        assert ask(client) == b"HI\n"
    with pytest.raises(HandlerFailed, match="oh no"):
        made.stop()


def test_what_a_trigger_raises_at_the_beginning_is_known_before_the_end_is_seen(
    upper: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the server would be blamed for the reset, if it was quick to complain of it."""
    known: list[Exception | None] = []
    ended = Traffic._passage_ended

    def seen(traffic: Traffic, passage: Any) -> None:
        known.append(passage.error)
        ended(traffic, passage)

    monkeypatch.setattr(Traffic, "_passage_ended", seen)
    error = LookupError("of mine")

    def broken(site: Any) -> bool:
        raise error

    made = link(upper, Latency(0).on(when=broken))
    with pytest.raises(ConnectionError), made.connect() as client:
        ask(client)
    with pytest.raises(HandlerFailed, match=r"raised: LookupError: of mine$"):
        made.stop()
    assert known == [error]


@pytest.mark.parametrize(
    ("upstream", "settings", "says"),
    [
        ("nowhere", {}, "upstream: 'nowhere' is no address"),
        (17, {}, "upstream: 17 is no address"),
        (
            ("127.0.0.1", 1),
            {"listen": ("0.0.0.0", 0)},
            "listen: 0.0.0.0:0 can be reached from other machines",
        ),
        (("127.0.0.1", 1), {"listen": "127.0.0.1"}, "listen: '127.0.0.1' is no address"),
        (("127.0.0.1", 1), {"transport": "sctp"}, "transport is 'stream' or 'datagram', not 'sctp'"),
        (("127.0.0.1", 1), {"transport": "datagram", "tls": True}, "TLS is for streams"),
        (("127.0.0.1", 1), {"tls": 3}, "tls is True, a profile"),
        (("127.0.0.1", 1), {"seed": 1.5}, "seed is a number or a text, not 1.5"),
        (("127.0.0.1", 1), {"connect_timeout": 0}, "connect_timeout is a number of seconds above 0, not 0"),
        (("127.0.0.1", 1), {"idle_timeout": "x"}, "idle_timeout is a number of seconds above 0, not 'x'"),
        (("127.0.0.1", 1), {"max_peers": 0}, "max_peers is a number from 1 up, not 0"),
        (("127.0.0.1", 1), {"faults": Loss(0.1)}, "Loss is not for a stream"),
        (("127.0.0.1", 1), {"faults": FailFork()}, "FailFork cannot be done here: a link starts no"),
        (("127.0.0.1", 1), {"faults": ShortReads(1)}, "ShortReads cannot be done here"),
        (("127.0.0.1", 1), {"faults": 5}, "faults are"),
    ],
)
def test_what_cannot_be_is_said(upstream: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        link(upstream, **settings)
    assert says in str(caught.value)


def test_a_server_of_the_other_transport(upper: Running) -> None:
    with pytest.raises(UsageError, match="is a stream server"):
        link(upper, transport="datagram")


def test_it_says_what_it_is(make: Make, upper: Running) -> None:
    made = make(upper, Latency(0.5), seed=3)
    assert repr(made) == f"<{made} through {plan(Latency(0.5))!r}, seed 3>"
    assert str(made) == f"Link from 127.0.0.1:{made.port} to 127.0.0.1:{upper.port}"
    assert made.host == "127.0.0.1"
    with pytest.raises(UsageError, match="has no path"):
        _ = made.path
    assert isinstance(make(upper).seed, int)
    with make(upper, listen="unix") as other:
        assert os.path.exists(other.path)
        with pytest.raises(UsageError, match="has no port"):
            _ = other.port


def test_an_address_that_is_given_is_taken_and_can_be_had_again(upper: Running, tmp_path: Any) -> None:
    with link(upper, listen=f"{tmp_path}/s") as made:
        assert made.path == f"{tmp_path}/s"
    with link(upper) as made:
        address = made.address
        with made.connect() as client:
            ask(client)
    with link(upper, listen=address) as made, made.connect() as client:
        assert made.address == address
        assert ask(client) == b"HI\n"


def test_what_hit_a_datagram_peer_stands_with_its_datagrams(make: Make, stack: ExitStack) -> None:
    server = stack.enter_context(launch(UpperDatagram, kind="UDPServer"))
    made = make(server, upstream(Loss(1)).on(datagram=1))
    with made.connect() as one, made.connect() as two:
        for client in (one, two):
            client.send(b"lost")
            client.send(b"not lost")
            assert client.receive() == b"NOT LOST"
    made.stop()
    assert made.transcript
    assert made.upstream_transcript
    for transcript in (made.transcript, made.upstream_transcript):
        assert [seen.number for seen in transcript.connections] == [1, 2]
        assert [bytes(seen.downstream) for seen in transcript.connections] == [b"NOT LOST"] * 2
    notes = [event.connection for event in made.transcript.events if isinstance(event, Note)]
    assert set(notes) == {1, 2}


# -- where connections are accepted


def is_turned_away(made: Link) -> bool:
    """Whether a client is let in, and then cut off before anything has passed."""
    try:
        with made.connect() as client:
            return client.read_eof() == b"" and made.transport == "stream"
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("kind", STREAMS)
def test_while_a_link_refuses_its_address_stays_taken_and_connections_go_on(
    make: Make, stack: ExitStack, kind: str
) -> None:
    made = make(stack.enter_context(launch(Upper, kind=kind)))
    address = made.address
    with made.connect() as client:
        assert ask(client) == b"HI\n"
        with made.faults(Refuse()):
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    made.connect()
            assert not made.is_up
            with pytest.raises(OSError):
                make(("127.0.0.1", 1), listen=address)
            assert ask(client) == b"HI\n"
            with made.down(), pytest.raises(ConnectionRefusedError):
                made.connect()
            with pytest.raises(ConnectionRefusedError):
                made.connect()
    assert (made.is_up, made.address) == (True, address)
    assert ask(made.connect()) == b"HI\n"
    assert made.hits == {"refuse": 1}


def test_a_link_that_refuses_from_the_beginning(make: Make, upper: Running) -> None:
    made = make(upper, "refuse")
    with pytest.raises(ConnectionRefusedError):
        made.connect()
    with made.down():
        made.set(None)
        with pytest.raises(ConnectionRefusedError):
            made.connect()
    assert ask(made.connect()) == b"HI\n"


def test_single_connections_are_refused_as_well_as_can_be(make: Make, upper: Running) -> None:
    made = make(upper, Refuse().on(connection=2))
    assert ask(made.connect()) == b"HI\n"
    assert is_turned_away(made)
    assert ask(made.connect()) == b"HI\n"

    refused = made.connections[1]
    assert (refused.state, refused.reason, refused.hits) == ("failed", "a fault refused it", {"refuse": 1})
    with made.faults(Refuse().on(connection=[1, 4])):
        assert is_turned_away(made)
        assert ask(made.connect()) == b"HI\n"


def test_a_refusal_takes_who_is_connected_already(make: Make, stack: ExitStack, upper: Running) -> None:
    made = make(upper)
    client = stack.enter_context(socket.socket())
    client.settimeout(LIMIT)

    def come_and_refuse() -> None:
        client.connect((made.host, made.port))
        listener = made._place.sock
        assert listener is not None
        select.select([listener], [], [], LIMIT)  # the system has put it into the queue
        made.add(Refuse())

    made.relay.call(come_and_refuse)  # in its own thread, so that nobody is taken in between
    client.sendall(b"hi\n")
    assert client.recv(3) == b"HI\n"
    with pytest.raises(ConnectionRefusedError):
        made.connect()


def test_a_link_that_is_slow_to_accept(make: Make, upper: Running) -> None:
    made = make(upper, SlowAccept(0.1))
    began = time.monotonic()
    assert ask(made.connect()) == b"HI\n"
    assert time.monotonic() - began >= 0.1

    made.set(SlowAccept(1000))
    client = made.connect()
    client.send(b"hi\n")
    with pytest.raises(TimeoutError):
        client.read_some(timeout=0.05)
    made.set(None)  # and so it need not wait any longer
    assert client.readline() == b"HI\n"
    assert [one.what for one in made.trace] == ["accepts 0.1 s later", "accepts 1000 s later"]


def test_a_link_whose_queue_is_full(make: Make, upper: Running) -> None:
    made = make(upper, FullBacklog())
    with ExitStack() as clients:
        states = []
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.settimeout(0.1)
            states.append(client.connect_ex((made.host, made.port)))
        assert states[0] == 0 != states[-1]
        made.set(None)
        assert ask(made.connect()) == b"HI\n"


def test_a_queue_is_full_for_a_time(make: Make, upper: Running) -> None:
    made = make(upper, FullBacklog(0.2))
    began = time.monotonic()
    assert ask(made.connect()) == b"HI\n"
    assert time.monotonic() - began >= 0.2
    assert ask(made.connect()) == b"HI\n"
    assert made.hits == {"full_backlog": 1}


def test_accept_fails_in_a_link(make: Make, upper: Running) -> None:
    made = make(upper, AcceptError("ECONNABORTED", nth=2))
    assert ask(made.connect()) == b"HI\n"
    assert is_turned_away(made)

    made.set(AcceptError("EMFILE", times=2))
    assert ask(made.connect()) == b"HI\n"
    assert made.hits == {"accept_error": 3}
    assert made.connections[-1].hits == {"accept_error": 2}


def test_faults_of_the_listener_that_stay_go_on_counting(make: Make, upper: Running) -> None:
    made = make(upper, AcceptError(nth=2))
    assert ask(made.connect()) == b"HI\n"
    made.set(AcceptError(nth=2) | Slicer(2))
    assert is_turned_away(made)
    assert ask(made.connect()) == b"HI\n"


# -- what has arrived when it is stopped


@pytest.mark.parametrize("end", ["finished", "reset"])
@pytest.mark.parametrize("faults", [None, Slicer(1 << 14)], ids=["plain", "through a fault"])
def test_what_has_arrived_before_the_stop_goes_on(
    make: Make, stack: ExitStack, faults: Any, end: str
) -> None:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    made = make(listener.getsockname(), faults)
    client = socket.create_connection((made.host, made.port), LIMIT)
    client.sendall(b"!")
    server = stack.enter_context(listener.accept()[0])
    server.settimeout(LIMIT)
    assert server.recv(1) == b"!"

    def speak() -> None:
        client.sendall(bytes(1 << 15))
        server.shutdown(socket.SHUT_WR)
        client.close() if end == "finished" else hard_reset(client)

    made.relay.call(speak)  # in its own thread, so that it has read nothing of this
    made.stop()

    if end == "finished":
        assert len(b"".join(iter(lambda: server.recv(1 << 16), b""))) == 1 << 15
    else:
        with pytest.raises(ConnectionResetError):
            while server.recv(1 << 16):
                pass
    assert made.connections[0].state == end


def test_who_does_not_read_does_not_hold_a_stop_up(make: Make, stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    made = make(listener.getsockname())
    client = stack.enter_context(socket.create_connection((made.host, made.port), LIMIT))
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.sendall(bytes(1 << 26))
    began = time.monotonic()
    made.stop()
    assert time.monotonic() - began < 5
    assert made.connections[0].state == "closed"


def test_a_datagram_that_has_arrived_before_the_stop_goes_on(make: Make, stack: ExitStack) -> None:
    server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 0))
    server.settimeout(LIMIT)
    made = make(server.getsockname(), transport="datagram")
    client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.relay.call(lambda: client.sendto(b"bye", (made.host, made.port)))
    made.stop()
    assert server.recv(10) == b"bye"


def test_a_keyword_that_nobody_knows_is_named(upper: Running) -> None:
    with pytest.raises(TypeError, match=r"link\(\) knows no sed=; did you mean seed=\?"):
        link(upper, sed=7)  # type: ignore[call-arg]
