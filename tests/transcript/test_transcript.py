"""Recording, reading and waiting."""

from __future__ import annotations

import os
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from servertest._support import DeadlineExceeded, UsageError
from servertest.transcript import (
    Close,
    Connect,
    Data,
    Datagram,
    Event,
    Failure,
    Gap,
    HalfClose,
    Note,
    RemoteRecorder,
    Transcript,
    describe_error,
)

CLIENT = ("127.0.0.1", 50000)
SERVER = ("127.0.0.1", 8000)


@pytest.fixture
def transcript() -> Transcript:
    return Transcript()


def test_everything_that_is_recorded_can_be_read_in_order(transcript: Transcript) -> None:
    number = transcript.connect(CLIENT, SERVER)
    transcript.data(number, "upstream", b"hi\n")
    transcript.data(number, "downstream", b"HI\n")
    transcript.half_close(number, "client")
    transcript.note(number, "remark")
    transcript.failure(number, "handle", ValueError("odd"))
    transcript.close(number, "server", "fin")
    connect, up, down, half, note, failure, close = transcript.events
    assert isinstance(connect, Connect)
    assert (connect.client, connect.server) == (CLIENT, SERVER)
    assert up == Data(up.time, 1, "upstream", b"hi\n")
    assert down == Data(down.time, 1, "downstream", b"HI\n")
    assert half == HalfClose(half.time, 1, "client")
    assert note == Note(note.time, 1, "remark")
    assert isinstance(failure, Failure)
    assert (failure.where, failure.type_name, failure.message) == ("handle", "ValueError", "odd")
    assert close == Close(close.time, 1, "server", "fin")
    times = [event.time for event in transcript.events]
    assert times == sorted(times)
    assert len(transcript) == 7


def test_a_conversation_says_who_ended_it_and_how(transcript: Transcript) -> None:
    number = transcript.connect(CLIENT, SERVER)
    (conversation,) = transcript.connections
    assert (conversation.client, conversation.server, conversation.number) == (CLIENT, SERVER, 1)
    assert (conversation.is_open, conversation.closed, conversation.state) == (True, None, "open")
    transcript.half_close(number, "client")
    assert (conversation.closed_by, conversation.half_closed_by) == (None, "client")
    assert conversation.state == "open, the client has finished sending"
    transcript.close(number, "server", "fin")
    assert (conversation.is_open, conversation.closed) == (False, transcript.events[-1].time)
    assert (conversation.closed_by, conversation.close_kind, conversation.reset_by) == ("client", "fin", None)
    assert conversation.state == "closed by the client (FIN)"


@pytest.mark.parametrize(
    ("by", "how", "state"),
    [
        ("server", "fin", "closed by the server (FIN)"),
        ("client", "rst", "reset by the client (RST)"),
        (None, "rst", "reset (RST)"),
        (None, "timeout", "given up by the system (timeout)"),
        ("server", "forced", "closed by the server (forced)"),
        (None, "forced", "closed (forced)"),
    ],
)
def test_every_kind_of_end_has_words(transcript: Transcript, by: object, how: object, state: str) -> None:
    number = transcript.connect(CLIENT, SERVER)
    transcript.close(number, by, how)  # type: ignore[arg-type]
    (conversation,) = transcript.connections
    assert conversation.state == state
    assert (conversation.closed_by, conversation.close_kind) == (by, how)
    assert conversation.reset_by == (by if how == "rst" else None)


def test_the_first_word_on_the_end_counts(transcript: Transcript) -> None:
    number = transcript.connect(CLIENT, SERVER)
    transcript.close(number, "client", "rst")
    transcript.close(number, "server", "fin")
    (conversation,) = transcript.connections
    assert (conversation.closed_by, conversation.close_kind) == ("client", "rst")
    assert len(conversation.events) == 2
    transcript.wait_for(closed=1, timeout=0)
    with pytest.raises(DeadlineExceeded):
        transcript.wait_for(closed=2, timeout=0)


def test_bytes_are_those_of_the_connection_and_the_direction(transcript: Transcript) -> None:
    one, two = transcript.connect(CLIENT, SERVER), transcript.connect(CLIENT, SERVER)
    transcript.data(one, "upstream", b"a")
    transcript.data(two, "upstream", b"bb")
    transcript.data(one, "upstream", b"c")
    transcript.data(two, "downstream", b"d")
    first, second = transcript.connections
    assert (first.upstream, first.downstream) == (b"ac", b"")
    assert (second.upstream, second.downstream) == (b"bb", b"d")
    assert (first.upstream_total, second.upstream_total, second.downstream_total) == (2, 2, 1)
    assert first.events == tuple(event for event in transcript.events if event.connection == one)


def test_data_is_copied_out_of_a_buffer_that_its_owner_reuses(transcript: Transcript) -> None:
    number = transcript.connect(CLIENT, SERVER)
    buffer = bytearray(b"first")
    transcript.data(number, "upstream", buffer)
    buffer[:] = b"other"
    assert transcript.connections[0].upstream == b"first"
    assert transcript.events[1] == Data(transcript.events[1].time, 1, "upstream", b"first")


def test_datagrams_are_told_apart_by_their_peer(transcript: Transcript) -> None:
    here, there = ("127.0.0.1", 1), ("127.0.0.1", 2)
    assert transcript.datagram("upstream", b"a", here) == 1
    assert transcript.datagram("upstream", b"", there) == 2
    assert transcript.datagram("downstream", b"b", here) == 1
    first, second = transcript.connections
    assert (first.transport, first.client, first.server) == ("datagram", here, None)
    assert (first.upstream, first.downstream) == (b"a", b"b")
    assert second.events == (Datagram(second.opened, 2, "upstream", b"", there),)
    assert not first.is_open
    assert first.state == "datagrams"
    transcript.wait_idle(timeout=0)


def test_failures_are_found_on_their_connection_and_in_all(transcript: Transcript) -> None:
    number = transcript.connect(CLIENT, SERVER)
    transcript.failure(number, "handle", ValueError("one"))
    transcript.failure(0, "serve_forever", OSError("two"))
    assert [failure.message for failure in transcript.failures] == ["one", "two"]
    assert [failure.message for failure in transcript.connections[0].failures] == ["one"]


def test_an_empty_transcript_is_not_nothing(transcript: Transcript) -> None:
    assert transcript
    assert len(transcript) == 0
    assert transcript.events == ()
    assert transcript.connections == []


def test_waiting_ends_when_the_last_thing_comes(transcript: Transcript) -> None:
    waiting = threading.Event()

    def seen(record: Transcript) -> bool:
        waiting.set()
        return record.connections[0].upstream.endswith(b"!")

    with ThreadPoolExecutor(1) as pool:
        number = transcript.connect(CLIENT, SERVER)
        waiter = pool.submit(
            transcript.wait_for,
            connections=1,
            closed=1,
            failures=1,
            upstream=b"hello",
            downstream=re.compile(rb"h(i|o)$"),
            until=seen,
        )
        transcript.data(number, "upstream", b"hel")
        transcript.data(number, "upstream", b"lo!")
        transcript.data(number, "downstream", b"ho")
        transcript.failure(number, "handle", ValueError())
        assert not waiter.done()
        transcript.close(number, "client", "fin")
        waiter.result(timeout=5)
    assert waiting.is_set()


@pytest.mark.parametrize(
    "last",
    [
        Data(1.0, 1, "upstream", b"x"),
        Datagram(1.0, 2, "upstream", b"x", CLIENT),
        Gap(1.0, 1, "upstream", 1),
        Note(1.0, 0, "x"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_event_is_looked_at(transcript: Transcript, last: Event) -> None:
    looked = threading.Semaphore(0)

    def seen(record: Transcript) -> bool:
        looked.release()
        return bool(record.events)

    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(transcript.wait_for, until=seen)
        assert looked.acquire(timeout=5)
        transcript.add(last)
        assert looked.acquire(timeout=2)
        waiter.result(timeout=2)


def test_waiting_for_what_is_there_takes_no_time(transcript: Transcript) -> None:
    transcript.connect(CLIENT, SERVER)
    transcript.wait_for(connections=1, timeout=0)


def test_a_wait_in_vain_says_what_is_there_instead(transcript: Transcript) -> None:
    number = transcript.connect(CLIENT, SERVER)
    transcript.data(number, "upstream", b"hello")
    transcript.failure(number, "handle", ValueError("odd"))
    with pytest.raises(DeadlineExceeded) as caught:
        transcript.wait_for(connections=2, upstream=b"bye", timeout=0.01)
    text = str(caught.value)
    assert "waited 0.01 s for 2 connections, and b'bye' from a client" in text
    assert "there was 1 connection" in text
    assert "127.0.0.1:50000" in text
    assert "b'hello'" in text
    assert "ValueError: odd" in text


def test_waiting_for_idleness(transcript: Transcript) -> None:
    number = transcript.connect(CLIENT, SERVER)
    with pytest.raises(DeadlineExceeded, match="all connections to end"):
        transcript.wait_idle(timeout=0.01)
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(transcript.wait_idle)
        transcript.half_close(number, "client")
        transcript.close(number, "server", "fin")
        waiter.result(timeout=5)


def test_waiting_for_nothing_is_a_mistake(transcript: Transcript) -> None:
    with pytest.raises(UsageError, match="what to wait for"):
        transcript.wait_for()


def test_limits_cannot_be_negative() -> None:
    with pytest.raises(UsageError, match="from 0 up"):
        Transcript(max_bytes=-1)


def test_threads_lose_nothing(transcript: Transcript) -> None:
    def talk(index: int) -> None:
        number = transcript.connect((str(index), index), SERVER)
        for _ in range(50):
            transcript.data(number, "upstream", b"%d" % index)
        transcript.close(number, "client", "fin")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(talk, range(8)))
    assert len(transcript) == 8 * 52
    assert sorted(c.number for c in transcript.connections) == list(range(1, 9))
    for conversation in transcript.connections:
        assert conversation.upstream == b"%d" % conversation.client[1] * 50


def test_events_travel_between_processes() -> None:
    sent: list[bytes] = []
    home = Transcript()
    remote = RemoteRecorder(lambda event: sent.append(pickle.dumps(event)), started=home.started)
    number = remote.connect(CLIENT, SERVER)
    remote.data(number, "upstream", bytearray(b"hi"))
    remote.half_close(number, "client")
    remote.failure(number, "handle", ValueError("odd"))
    remote.note(0, "general")
    remote.close(number, "server", "fin")
    assert remote.datagram("upstream", b"x", ("::1", 1, 0, 0)) == 2
    assert remote.datagram("downstream", b"y", ("::1", 1, 0, 0)) == 2
    remote.add(Note(0.0, 1, "made by hand"))
    events: list[Event] = [pickle.loads(event) for event in sent]
    for event in events:
        home.add(event)
    assert set(home.events) == set(events)
    assert home.connections[0].closed_by == "client"
    assert all(0 <= event.time <= home.now() for event in home.events)


def test_each_source_numbers_its_own_connections() -> None:
    home = Transcript()
    home.connect(CLIENT, SERVER)
    for worker in ("a", "b"):
        home.add(Connect(1.0, 1, (worker, 1), SERVER), source=worker)
    for worker in ("b", "a"):
        home.add(Data(2.0, 1, "upstream", worker.encode()), source=worker)
    home.add(Note(3.0, 0, "about none"), source="a")
    home.add(Datagram(4.0, 7, "upstream", b"x", ("peer", 1)), source="a")
    home.add(Datagram(5.0, 9, "downstream", b"y", ("peer", 1)), source="b")
    assert [c.number for c in home.connections] == [1, 2, 3, 4]
    assert [c.upstream for c in home.connections] == [b"", b"a", b"b", b"x"]
    assert home.connections[3].downstream == b"y"
    assert home.connect(CLIENT, SERVER) == 5


def test_what_is_forgotten_of_a_source_is_forgotten_wholly() -> None:
    home = Transcript(max_connections=2)
    for number in range(1, 21):
        home.add(Connect(0.0, number, CLIENT, SERVER), source="worker")
        home.add(Close(0.0, number, "client", "fin"), source="worker")
    assert [c.number for c in home.connections] == [1, 20]
    assert len(home._translated) == len(home._origins) == 2


def test_what_comes_late_is_put_in_its_place() -> None:
    home = Transcript()
    home.add(Connect(2.0, 1, CLIENT, SERVER))
    home.add(Note(1.0, 0, "earlier"))
    assert [event.time for event in home.events] == [1.0, 2.0]


def test_a_recorded_transcript_can_be_made_of_events() -> None:
    events = (
        Connect(0.5, 3, CLIENT, SERVER),
        Data(0.5, 3, "upstream", b"x"),
        Gap(0.6, 3, "upstream", 10),
        Data(0.7, 3, "upstream", b"y"),
        Close(1.0, 3, None, "timeout"),
    )
    transcript = Transcript.from_events(events)
    assert transcript.events == events
    (conversation,) = transcript.connections
    assert (conversation.upstream, conversation.upstream_total) == (b"xy", 12)


def test_recording_while_recording_does_not_deadlock(transcript: Transcript) -> None:
    """A signal handler, or the destructor of a forgotten socket, may run in the middle of a record."""

    def interrupted(record: Transcript) -> bool:
        record.note(0, "from within")
        return True

    with ThreadPoolExecutor(1) as pool:
        pool.submit(transcript.wait_for, until=interrupted).result(timeout=5)
    assert len(transcript) == 1


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="the platform has no fork")
def test_a_forked_child_does_not_inherit_a_held_lock(transcript: Transcript) -> None:
    """What a fork does is asked of the hook itself: to fork in a process with threads is what it guards against."""
    from servertest.transcript import _transcript as module

    entered, leave = threading.Event(), threading.Event()

    def hold(_: Transcript) -> bool:
        entered.set()
        return leave.wait(5)

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(transcript.wait_for, until=hold, timeout=5)
        try:
            assert entered.wait(5)
            old = transcript._lock
            module._renew_locks()
            transcript.note(0, "would block for ever")
            assert transcript._lock is not old
        finally:
            leave.set()
        holder.result(timeout=5)
    assert len(transcript) == 1


def test_errors_are_described_even_if_they_cannot_describe_themselves() -> None:
    class BadError(Exception):
        def __str__(self) -> str:
            raise KeyError

    name, message, text = describe_error(BadError())
    assert name.endswith("BadError")
    assert "__str__ raised KeyError" in message
    assert "BadError" in text
    assert len(describe_error(ValueError("x" * 1_000_000))[1]) == 100_000
    assert describe_error(ValueError("x")) == ("ValueError", "x", "ValueError: x\n")
