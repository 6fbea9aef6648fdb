"""A relay without faults is not noticed; with faults it does what a line says, in real time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import pytest

from servertest._support import UsageError
from servertest.faults import Decision, Latency, LimitData, ResetPeer, Slicer, Stall, plan, upstream
from servertest.transcript import Transcript
from servertest.wire import _relay
from servertest.wire._relay import Relay
from servertest.wire._relay_leg import Leg
from servertest.wire._relay_poller import EpollPoller, SelectPoller
from tests._descriptors import new_descriptors, open_descriptors
from tests.wire._relays import LIMIT, Joined, cut_off, join, join_datagrams, read_all, send_all

BIG = bytes(range(256)) * 20_000


@pytest.fixture(params=["best", "select"])
def relay(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """On the best poller of this system, and on the one that every system has."""
    if request.param == "select":
        monkeypatch.setattr(_relay, "new_poller", SelectPoller)
    made = Relay()
    yield made
    made.stop()
    assert made.errors == []


@pytest.fixture(params=["inet", "unix"])
def near(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["inet", "unix"])
def far(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_bytes_pass_both_ways_and_half_close_is_kept(relay: Relay, near: str, far: str) -> None:
    joined = join(relay, near=near, far=far)
    joined.client.sendall(b"hello")
    joined.client.shutdown(socket.SHUT_WR)
    assert read_all(joined.server) == (b"hello", "fin")
    joined.server.sendall(b"BYE")
    joined.server.close()
    assert read_all(joined.client) == (b"BYE", "fin")
    joined.client.close()
    assert joined.wait_end() == "finished"


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
def test_much_arrives_whole_at_a_slow_reader(relay: Relay, near: str, far: str, direction: str) -> None:
    joined = join(relay, near=near, far=far)
    sender, receiver = joined.ends(direction)
    writer = threading.Thread(target=send_all, args=(sender, BIG))
    writer.start()
    got = bytearray()
    while chunk := receiver.recv(10_000):
        got += chunk
    writer.join(LIMIT)
    assert got == BIG
    joined.close()


def test_both_ways_at_once(relay: Relay) -> None:
    joined = join(relay)
    writers = [threading.Thread(target=send_all, args=(sock, BIG)) for sock in (joined.client, joined.server)]
    results: list[tuple[bytes, str]] = []
    readers = [
        threading.Thread(target=lambda sock=sock: results.append(read_all(sock)))
        for sock in (joined.client, joined.server)
    ]
    for thread in (*writers, *readers):
        thread.start()
    for thread in (*writers, *readers):
        thread.join(LIMIT)
    assert results == [(BIG, "fin")] * 2
    joined.close()


def test_a_sink_that_takes_nothing_holds_its_source_up(relay: Relay) -> None:
    joined = join(relay)
    joined.client.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += joined.client.send(BIG)
            relay.call(lambda: None)
    joined.client.settimeout(LIMIT)
    assert sent < 64 << 20
    data, _ = read_all(joined.server, sent)
    assert len(data) == sent
    joined.close()


@pytest.mark.parametrize("direction", ["upstream", "downstream"])
def test_a_reset_arrives_as_a_reset_behind_what_was_sent(relay: Relay, direction: str) -> None:
    transcript, onward = Transcript(), Transcript()
    joined = join(relay, transcript=transcript, upstream_transcript=onward)
    sender, receiver = joined.ends(direction)
    sender.sendall(b"last words")
    assert read_all(receiver, 10) == (b"last words", "open")
    cut_off(sender)
    assert read_all(receiver) == (b"", "rst")
    assert joined.wait_end() == "reset"
    culprit = "client" if direction == "upstream" else "server"
    assert transcript.connections[0].reset_by == culprit
    assert onward.connections[0].reset_by == culprit
    joined.close()


def test_a_reset_waits_for_bytes_that_a_fault_delays(relay: Relay) -> None:
    joined = join(relay, Latency(0.1))
    joined.client.sendall(b"last words")
    relay.call(lambda: None)
    began = time.monotonic()
    cut_off(joined.client)
    data, end = read_all(joined.server)
    assert end == "rst"
    assert time.monotonic() - began < LIMIT
    assert data in (b"last words", b"")  # the system may drop what the peer has not acknowledged
    joined.close()


def test_a_client_that_resets_after_its_half_close_is_noticed(relay: Relay) -> None:
    joined = join(relay)
    joined.client.shutdown(socket.SHUT_WR)
    assert read_all(joined.server) == (b"", "fin")
    cut_off(joined.client)
    # select(2) does not tell of errors alone: there the next write does.
    if isinstance(relay._poller, EpollPoller):
        assert joined.wait_end() == "reset"
    joined.close()


def test_a_server_that_is_gone_resets_the_client_that_goes_on(relay: Relay) -> None:
    joined = join(relay)
    joined.server.sendall(b"bye")
    joined.server.close()
    assert read_all(joined.client) == (b"bye", "fin")
    with pytest.raises(ConnectionError):
        while True:
            joined.client.sendall(b"more")
            relay.call(lambda: None)
    assert joined.wait_end() == "reset"
    joined.close()


def test_a_fault_cuts_both_sides_off(relay: Relay) -> None:
    joined = join(relay, upstream(ResetPeer(after_bytes=5)))
    joined.client.sendall(b"123456789")
    assert read_all(joined.server) == (b"12345", "rst")
    assert read_all(joined.client) == (b"", "rst")
    assert joined.wait_end() == "reset"
    joined.close()


def test_a_fault_closes_both_sides_in_order(relay: Relay) -> None:
    joined = join(relay, upstream(LimitData(5)))
    joined.server.sendall(b"first")
    assert read_all(joined.client, 5) == (b"first", "open")
    joined.client.sendall(b"123456789" * 1000)
    assert read_all(joined.server) == (b"12345", "fin")
    assert read_all(joined.client) == (b"", "fin")
    assert joined.wait_end() == "finished"
    joined.close()


def test_the_reset_of_an_existing_connection(relay: Relay) -> None:
    joined = join(relay)
    joined.client.sendall(b"x")
    assert read_all(joined.server, 1) == (b"x", "open")
    relay.call(lambda: joined.connection.add_faults("late", plan(ResetPeer())))
    assert read_all(joined.server) == (b"", "rst")
    assert read_all(joined.client) == (b"", "rst")
    joined.close()


def test_latency_is_added_once_in_each_direction_and_pieces_keep_their_cuts(relay: Relay) -> None:
    joined = join(relay, upstream(Slicer(3)) | Latency(0.05))
    began = time.monotonic()
    joined.client.sendall(b"abcdefgh")
    assert read_all(joined.server, 8)[0] == b"abcdefgh"
    once = time.monotonic() - began
    joined.server.sendall(b"x")
    assert read_all(joined.client, 1)[0] == b"x"
    assert once >= 0.05
    assert time.monotonic() - began >= 0.1
    joined.close()


def test_faults_come_and_go_without_losing_a_byte(relay: Relay) -> None:
    joined = join(relay)
    writer = threading.Thread(target=send_all, args=(joined.client, BIG))
    result: list[tuple[bytes, str]] = []
    reader = threading.Thread(target=lambda: result.append(read_all(joined.server)))
    writer.start()
    reader.start()
    faults = [plan(one) for one in (Latency(0.01), Slicer(5000), Stall(0.05))]
    for number in range(40):
        change = joined.connection
        relay.call(partial(change.add_faults, f"{number}", faults[number % 3]))
        if number % 4 == 3:
            relay.call(partial(change.replace_faults, f"{number}", plan(Latency(0.002))))
        relay.call(partial(change.remove_faults, f"{number}"))
    writer.join(LIMIT)
    reader.join(LIMIT)
    assert result == [(BIG, "fin")]
    joined.close()


def test_a_stalled_stream_goes_on_where_it_was_when_the_fault_is_taken_away(relay: Relay) -> None:
    joined = join(relay, Stall(None))
    joined.client.sendall(b"held")
    joined.client.shutdown(socket.SHUT_WR)
    relay.call(lambda: joined.connection.remove_faults(""))
    assert read_all(joined.server) == (b"held", "fin")
    joined.close()


def test_decisions_are_told(relay: Relay) -> None:
    told: list[Decision] = []
    joined = join(relay, upstream(LimitData(5)), trace=told.append, connection=7)
    joined.client.sendall(b"123456789")
    read_all(joined.server)
    assert [(one.connection, one.direction, one.fault) for one in told] == [(7, "upstream", "limit_data")]
    joined.close()


def test_what_a_trigger_raises_ends_its_connection_alone() -> None:
    relay = Relay()

    def broken(site: object) -> bool:
        raise ZeroDivisionError("no")

    healthy = join(relay)
    with pytest.raises(ZeroDivisionError):
        join(relay, Latency(0.01).on(when=broken))
    healthy.client.sendall(b"x")
    assert read_all(healthy.server, 1)[0] == b"x"
    healthy.close()
    relay.stop()


def test_the_end_of_the_relay_is_an_end_of_file() -> None:
    before = open_descriptors()
    relay = Relay()
    joined = join(relay)
    joined.client.sendall(b"x")
    assert read_all(joined.server, 1)[0] == b"x"
    relay.stop()
    relay.stop()
    assert read_all(joined.client) == (b"", "fin")
    assert read_all(joined.server) == (b"", "fin")
    assert joined.wait_end() == "forced"
    joined.close()
    with pytest.raises(UsageError, match="carries nothing"):
        relay.call(lambda: None)
    assert not new_descriptors(before)


def test_it_may_be_stopped_from_its_own_thread() -> None:
    relay = Relay()
    relay.call(relay.stop)
    relay.stop()
    assert not relay.running


def test_both_records_tell_the_story(relay: Relay) -> None:
    transcript, onward = Transcript(), Transcript()
    joined = join(relay, upstream(Latency(0.02)), transcript=transcript, upstream_transcript=onward)
    joined.client.sendall(b"ping")
    joined.client.shutdown(socket.SHUT_WR)
    assert read_all(joined.server) == (b"ping", "fin")
    joined.server.close()
    assert read_all(joined.client) == (b"", "fin")
    joined.client.close()
    assert joined.wait_end() == "finished"
    for record in (transcript, onward):
        seen = record.connections[0]
        assert (seen.upstream, seen.downstream, seen.close_kind) == (b"ping", b"", "fin")
        assert seen.closed_by == "client"


def test_datagrams_keep_their_borders(relay: Relay) -> None:
    client, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in (client, server):
        sock.settimeout(LIMIT)
    peer = join_datagrams(relay, near, far, Latency(0.01))
    for data in (b"one", b"", b"x" * 60_000):
        client.send(data)
    assert [server.recv(1 << 17) for _ in range(3)] == [b"one", b"", b"x" * 60_000]
    server.send(b"back")
    assert client.recv(10) == b"back"
    relay.call(peer.close)
    client.close()
    server.close()


def test_a_full_datagram_socket_holds_its_source_up_and_nothing_is_lost(relay: Relay) -> None:
    client, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in (client, server):
        sock.settimeout(LIMIT)
    join_datagrams(relay, near, far)
    writer = threading.Thread(target=lambda: [client.send(b"%d" % number) for number in range(3000)])
    writer.start()
    assert [server.recv(10) for _ in range(3000)] == [b"%d" % number for number in range(3000)]
    writer.join(LIMIT)
    client.close()
    server.close()


def test_what_has_ended_leaves_nothing_to_the_collector_of_garbage(relay: Relay) -> None:
    """Thousands of connections a second would keep it busy."""
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        joined = join(relay)
        gone: list[Callable[[], object]] = [
            weakref.ref(joined.connection),
            *(weakref.ref(leg.sock) for leg in legs_of(joined)),
        ]
        joined.client.sendall(b"x")
        joined.client.shutdown(socket.SHUT_WR)
        assert read_all(joined.server) == (b"x", "fin")
        joined.server.close()
        assert joined.wait_end() == "finished"
        joined.client.close()
        del joined
        relay.call(lambda: None)  # the turn in which it ended is over
        relay.call(lambda: None)
        assert [one() for one in gone] == [None, None, None]
    finally:
        gc.enable()


def legs_of(joined: Joined) -> tuple[Leg, Leg]:
    return joined.connection.client, joined.connection.server


# Unix sockets take what is sent at once. TCP keeps what the peer has not acknowledged, and a RST throws that away.
@pytest.mark.parametrize(("end", "size"), [("finished", 5000), ("reset", 200)])
def test_others_have_their_turn_while_one_is_sent_in_thousands_of_pieces(
    relay: Relay, end: str, size: int
) -> None:
    faults = upstream(Slicer(1)) | upstream(ResetPeer(after_bytes=size) if end == "reset" else Slicer(1))
    joined = join(relay, faults, far="unix" if end == "reset" else "inet")
    seen = [0]

    class Turns:
        def pump(self) -> None:
            seen.append(joined.connection.upstream.delivered)
            if joined.connection.end is None:
                relay.again(self)

        def failed(self, error: Exception) -> None:
            raise error

    turns = Turns()
    relay.call(lambda: relay.again(turns))
    joined.client.sendall(b"x" * size)
    if end == "finished":
        joined.client.shutdown(socket.SHUT_WR)
    assert read_all(joined.server) == (b"x" * size, "fin")
    joined.close()
    assert joined.wait_end() == end
    assert joined.connection.upstream.delivered == size
    assert max(after - before for before, after in pairwise([*seen, size])) <= 150


def test_what_was_to_be_done_for_a_connection_is_left_out_when_it_has_ended(relay: Relay) -> None:
    joined = join(relay)
    later = threading.Event()

    class Bell:
        timer_at: float | None = None

        def due(self, now: float) -> None:
            later.set()

        def failed(self, error: Exception) -> None:
            raise error

    def end() -> None:
        now = time.monotonic()
        for flow in joined.connection.directions:
            flow._force_at, flow.resting, flow.source.readable = now, True, True
            relay.call_at(now + 0.01, flow)
            relay.again(flow)
        relay.call_at(now + 0.02, Bell())
        joined.connection.reset()

    relay.call(end)
    assert later.wait(LIMIT)
    assert relay.call(lambda: relay.running)
    assert relay.errors == []
    joined.close()
