"""Behaviours in virtual time: what is sent when, without a socket."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from servertest.clients.behaviours import (
    Behaviour,
    ConnectAndDrop,
    Flooder,
    HalfCloser,
    HalfOpen,
    Honest,
    IdleAfterConnect,
    IdleMidRequest,
    NeverCloses,
    NeverReads,
    Pipeliner,
    Resetter,
    SlowBody,
    SlowReader,
    SlowWriter,
)
from servertest.clients.behaviours._session import Session
from servertest.wire._line import ABORTED, CLOSED, FINISHED, Ended

START = 100.0


class Played:
    """A behaviour that is played to a time."""

    def __init__(
        self, behaviour: Behaviour, *, transport: Any = "stream", number: int = 1, seed: int = 0
    ) -> None:
        self.now = START
        self.session = Session(behaviour.script(transport), seed, number, transport, START)
        self.out: list[tuple[float, bytes | Ended]] = []
        self.take()

    def take(self) -> None:
        self.out += [(round(self.now - START, 6), each) for each in self.session.take(self.now)]

    def until(self, seconds: float) -> Played:
        while (due := self.session.due) is not None and due <= START + seconds:
            self.now = max(due, self.now)
            self.take()
        self.now = START + seconds
        return self

    @property
    def data(self) -> bytes:
        return b"".join(each for _, each in self.out if isinstance(each, bytes))

    @property
    def ends(self) -> list[tuple[float, Ended]]:
        return [(at, each) for at, each in self.out if isinstance(each, Ended)]


def test_a_slow_writer_keeps_its_rate() -> None:
    played = Played(SlowWriter(b"hello\n", bytes_per_second=2)).until(100)

    assert played.out == [(0, b"h"), (0.5, b"e"), (1.0, b"l"), (1.5, b"l"), (2.0, b"o"), (2.5, b"\n")]
    assert played.session.sent_all
    assert played.session.done


def test_chunks_vary_and_the_rate_stays() -> None:
    played = Played(SlowWriter(b"x" * 4000, bytes_per_second=10, chunk=10, variation=9, jitter=0.5)).until(
        200
    )
    sizes = {len(each) for _, each in played.out if isinstance(each, bytes)}
    times = [at for at, _ in played.out]
    pauses = [later - earlier for earlier, later in pairwise(times)]

    assert min(sizes) == 1
    assert max(sizes) == 19
    assert 0.5 <= min(pauses) < 0.6
    assert 1.4 < max(pauses) <= 1.5
    assert 1600 < len(played.data) < 2400


def test_the_same_number_and_seed_send_the_same_bytes_at_the_same_times() -> None:
    one = SlowWriter(b"x" * 100, chunk=5, variation=4, jitter=1)

    assert Played(one, number=7, seed=3).until(20).out == Played(one, number=7, seed=3).until(20).out
    assert Played(one, number=7, seed=3).until(20).out != Played(one, number=8, seed=3).until(20).out
    assert Played(one, number=7, seed=3).until(20).out != Played(one, number=7, seed=4).until(20).out


def test_a_late_driver_does_not_make_a_client_drift() -> None:
    played = Played(SlowWriter(b"x", bytes_per_second=100, repeat=None))
    played.now = START + 0.955
    played.take()

    assert len(played.data) == 96
    assert played.session.due == pytest.approx(START + 0.96)


def test_a_slow_body_follows_a_fast_head() -> None:
    played = Played(SlowBody(b"HEAD", b"ab", bytes_per_second=1, repeat=2)).until(10)

    assert played.out == [(0, b"HEAD"), (0, b"a"), (1, b"b"), (2, b"a"), (3, b"b")]


def test_a_slow_body_may_go_on_for_ever() -> None:
    played = Played(SlowBody(b"HEAD", b"ab", bytes_per_second=10, repeat=None)).until(60)

    assert played.data.startswith(b"HEADababab")
    assert len(played.data) == 4 + 601
    assert not played.session.done


@pytest.mark.parametrize(("after", "sent"), [(None, b"hello"), (2, b"he"), (0, b"")])
def test_idle_in_mid_request(after: int | None, sent: bytes) -> None:
    played = Played(IdleMidRequest(b"hello\n", after)).until(1000)

    assert played.data == sent
    assert not played.session.done
    assert played.session.due is None


def test_idle_after_connect() -> None:
    played = Played(IdleAfterConnect()).until(1000)

    assert played.out == []
    assert not played.session.done


def test_a_pipeliner_does_not_wait() -> None:
    played = Played(Pipeliner(b"ab", times=3, reply_bytes=3))

    assert played.data == b"ababab"
    assert not played.session.done
    played.session.feed(b"xyz", START)
    assert played.session.done


def test_a_pipeliner_hands_over_much_in_parts() -> None:
    played = Played(Pipeliner(b"x" * 1000, times=1000))
    for _ in range(20):
        played.take()

    assert len(played.data) == 1_000_000


def test_a_slow_reader_reads_a_little_and_waits() -> None:
    session = Played(SlowReader(b"get", size=5, pause=2)).session
    assert session.wants == 5
    session.feed(b"12345", START)
    assert session.wants == 5  # the first drop passes at once; the next has to wait
    session.feed(b"67890", START)
    assert session.wants == 0
    assert session.due == START + 2
    session.take(START + 2)
    assert session.wants == 5


def test_who_never_reads_wants_nothing() -> None:
    played = Played(NeverReads(b"get", repeat=2))

    assert played.data == b"getget"
    assert played.session.wants == 0
    assert played.session.deaf


def test_an_honest_client_closes_when_its_reply_is_there() -> None:
    session = Played(Honest(b"hi\n", reply_bytes=3)).session
    session.feed(b"HI", START)
    assert not session.content
    session.feed(b"\n", START)
    assert session.content


def test_drop_is_held_and_then_closed() -> None:
    assert Played(ConnectAndDrop()).out == [(0, CLOSED)]
    assert Played(ConnectAndDrop(hold=3)).until(10).out == [(3, CLOSED)]


def test_a_half_closer_finishes_and_goes_on() -> None:
    played = Played(HalfCloser(b"bye"))

    assert played.out == [(0, b"bye"), (0, FINISHED)]
    assert played.session.wants


@pytest.mark.parametrize(
    ("behaviour", "sent", "at"),
    [(Resetter(b"hello"), b"hello", 0), (Resetter(b"hello", 2, 1.5), b"he", 1.5), (Resetter(b""), b"", 0)],
)
def test_a_resetter_resets_at_its_byte(behaviour: Resetter, sent: bytes, at: float) -> None:
    played = Played(behaviour).until(10)

    assert played.data == sent
    assert played.ends == [(at, ABORTED)]


@pytest.mark.parametrize(
    ("behaviour", "closes"),
    [
        (SlowWriter(b"hello"), True),
        (IdleMidRequest(), True),
        (IdleAfterConnect(), True),
        (HalfCloser(), True),
        (NeverCloses(), False),
        (HalfOpen(), False),
    ],
    ids=str,
)
def test_when_the_server_closes_they_close_too_unless_their_line_conceals_it(
    behaviour: Behaviour, closes: bool
) -> None:
    assert Played(behaviour).session.end(START) is closes


def test_a_flooder_sends_datagrams_at_its_rate() -> None:
    played = Played(Flooder(b"x", per_second=1000), transport="datagram").until(2)

    assert 2000 <= len(played.data) <= 2001
    assert {each for _, each in played.out} == {b"x"}


def test_a_flooder_of_connections_resets_each() -> None:
    script = Flooder(b"x", per_second=50).script("stream")

    assert script.every == 0.02
    assert Played(Flooder(b"x")).out == [(0, b"x"), (0, ABORTED)]
