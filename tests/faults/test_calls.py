"""Faults of calls and of listeners: what has to be asked before each call, and what is said."""

from __future__ import annotations

import re
from math import inf
from typing import Any

import pytest

from servertest.faults import (
    PASS,
    AcceptError,
    Calls,
    FailCall,
    FailFork,
    FailThreadStart,
    Faults,
    FullBacklog,
    Interrupt,
    Latency,
    Refuse,
    ShortReads,
    ShortWrites,
    Site,
    SlowAccept,
    SpuriousReadiness,
    Trace,
    Verdict,
    downstream,
    plan,
    start_calls,
    start_listener,
    upstream,
)


def errors(calls: Calls, call: str, times: int = 6) -> list[str | None]:
    return [calls.before(call, 100, 0.0).error for _ in range(times)]


def on_socket(faults: Faults, **site: Any) -> Calls:
    return start_calls(plan(faults), **site)


def on_listener(faults: Faults, **site: Any) -> Calls:
    return start_listener(plan(faults), **site)


def test_without_faults_nobody_need_ask() -> None:
    assert not on_socket(None)
    assert not on_listener("latency|short_reads")
    assert on_socket("short_reads")
    assert on_socket(None).before("recv", 10, 0) == PASS


def test_short_reads_and_writes() -> None:
    calls = on_socket(ShortReads(3) | ShortWrites(5))

    assert calls.before("recv", 100, 0) == Verdict(limit=3)
    assert calls.before("send", 100, 0) == Verdict(limit=5)
    assert calls.before("recv", 3, 0) == PASS
    assert calls.before("connect", 0, 0) == PASS


def test_the_strictest_counts() -> None:
    calls = on_socket(ShortReads(3) | ShortReads(2) | FailCall(nth=2))

    assert calls.before("recv", 100, 0) == Verdict(limit=2)
    assert calls.before("recv", 100, 0) == Verdict("ECONNRESET", limit=2)


@pytest.mark.parametrize(
    ("fault", "call", "failed"),
    [
        (FailCall(), "recv", ["ECONNRESET", None, None, None, None, None]),
        (FailCall("send", "EPIPE", nth=3), "send", [None, None, "EPIPE", None, None, None]),
        (FailCall("send", "EPIPE", nth=5, times=None), "send", [None] * 4 + ["EPIPE"] * 2),
        (FailCall("send"), "recv", [None] * 6),
        (Interrupt("accept", times=2), "accept", ["EINTR", "EINTR", None, None, None, None]),
        (SpuriousReadiness(nth=2), "recv", [None, "EAGAIN", None, None, None, None]),
    ],
    ids=str,
)
def test_the_nth_call_fails(fault: Faults, call: str, failed: list[str | None]) -> None:
    assert errors(on_socket(fault), call) == failed


@pytest.mark.parametrize(
    ("fault", "call", "failed"),
    [
        (AcceptError("EMFILE", nth=2, times=2), "accept", [None, "EMFILE", "EMFILE", None, None, None]),
        (FailThreadStart(times=None), "thread", ["EAGAIN"] * 6),
        (FailFork("ENOMEM"), "fork", ["ENOMEM", None, None, None, None, None]),
        (Refuse(), "listen", ["ECONNREFUSED"] * 6),
        (AcceptError(times=None).on(every=3), "accept", [None, None, "ECONNABORTED"] * 2),
        (AcceptError(times=None).on(first=2), "accept", ["ECONNABORTED"] * 2 + [None] * 4),
    ],
    ids=str,
)
def test_listeners_fail(fault: Faults, call: str, failed: list[str | None]) -> None:
    assert errors(on_listener(fault), call) == failed


def test_threads_fail_for_the_connection_that_was_triggered() -> None:
    calls = on_listener(FailThreadStart(times=None).on(connection=2))
    failed = []
    for _ in range(3):
        calls.before("accept", 0, 0)
        failed.append(calls.before("thread", 0, 0).error)

    assert failed == [None, "EAGAIN", None]


def test_slow_and_full_listeners() -> None:
    assert on_listener(SlowAccept(2)).before("accept", 0, 0) == Verdict(delay=2)
    assert on_listener(FullBacklog()).before("accept", 0, 0) == Verdict(delay=inf)
    assert on_listener(FullBacklog(3)).before("accept", 0, 0) == Verdict(delay=3)
    assert on_listener(FullBacklog()).before("listen", 128, 0) == Verdict(limit=0)
    assert on_listener(SlowAccept()).before("listen", 128, 0) == PASS


def test_an_aimed_fault_works_on_the_calls_of_its_way() -> None:
    both = FailCall("send", times=None) | FailCall("recv", times=None)

    at_client = on_socket(downstream(both), receives="downstream")
    assert (errors(at_client, "recv", 1), errors(at_client, "send", 1)) == (["ECONNRESET"], [None])
    at_server = on_socket(downstream(both), receives="upstream")
    assert (errors(at_server, "recv", 1), errors(at_server, "send", 1)) == ([None], ["ECONNRESET"])
    assert errors(on_socket(upstream(both), receives="upstream"), "recv", 1) == ["ECONNRESET"]


def test_triggers() -> None:
    assert on_socket(ShortReads().on(connection=2), connection=2)
    assert not on_socket(ShortReads().on(connection=2), connection=1)
    timed = on_socket(ShortReads().on(between=(1, 2)), opened=10.0)
    assert [timed.before("recv", 9, time).limit for time in (10.9, 11.0, 11.9, 12.0)] == [None, 1, 1, None]
    listener = on_listener(AcceptError(times=None).on(between=(1, 2)))
    assert [listener.before("accept", 0, time).error for time in (0.5, 1.5)] == [None, "ECONNABORTED"]


def test_decisions_are_told() -> None:
    trace = Trace()
    calls = on_socket(FailCall(nth=2) | ShortReads(2), connection=7, note=trace)
    for _ in range(3):
        calls.before("recv", 9, 1.5)
    listener = on_listener(SlowAccept(2) | Refuse() | FullBacklog(), note=trace)
    listener.before("accept", 0, 2.5)

    assert [str(decision) for decision in trace] == [
        "1.500000 connection 7 downstream short_reads: lets recv move 2 bytes at most",
        "1.500000 connection 7 downstream fail_call: fails recv 2 with ECONNRESET",
        "2.500000 connection 1 upstream slow_accept: accepts 2 s later",
        "2.500000 connection 1 upstream refuse: refuses",
        "2.500000 connection 1 upstream full_backlog: never accepts",
    ]


def test_short_reads_of_datagrams_are_refused() -> None:
    with pytest.raises(
        ValueError, match="ShortReads is not for a datagram: a datagram is read and written whole"
    ):
        on_socket(ShortReads(), transport="datagram")
    assert on_socket(Interrupt(), transport="datagram")


def test_a_fault_without_a_word_lets_calls_pass() -> None:
    assert Calls()
    assert Calls().before("recv", 9, 0) == PASS
    assert on_listener(Refuse()).before("thread", 0, 0) == PASS


def test_faults_do_not_work_where_they_do_not_belong() -> None:
    with pytest.raises(ValueError, match="ShortReads does not work on what passes: its place is the calls"):
        ShortReads().stage(Site())
    with pytest.raises(ValueError, match="Latency does not work on calls: its place is the line"):
        Latency().calls(Site())


# -- triggers that wait for what passes


def move(calls: Calls, call: str, data: bytes, size: int = 100) -> Verdict:
    """Make a call that would move so many bytes, of which there are these."""
    verdict = calls.before(call, size, 0.0)
    if verdict.error is None:
        calls.moved(call, data[: verdict.limit])
    return verdict


@pytest.mark.parametrize("size", [4, 10, 100])
def test_a_call_stops_at_the_byte_after_which_the_fault_begins(size: int) -> None:
    calls = on_socket(ShortReads(1).on(after_bytes=10))
    data, got = b"0123456789abc", []

    while data:
        count = min(calls.before("recv", size, 0.0).limit or size, len(data))
        calls.moved("recv", data[:count])
        got.append(data[:count])
        data = data[count:]

    assert b"".join(got[:-3]) == b"0123456789"
    assert got[-3:] == [b"a", b"b", b"c"]


def test_each_way_counts_for_itself() -> None:
    calls = on_socket((FailCall("recv") | FailCall("send", "EPIPE")).on(after_bytes=3))

    assert move(calls, "send", b"abc") == Verdict(limit=3)
    assert calls.before("recv", 2, 0) == PASS
    assert calls.before("send", 2, 0).error == "EPIPE"
    assert calls.before("shutdown", 0, 0) == PASS
    assert move(calls, "recv", b"xyz") == Verdict(limit=3)
    assert calls.before("recv", 2, 0).error == "ECONNRESET"


@pytest.mark.parametrize("pattern", [b"QUIT", re.compile(rb"Q\w+T")])
def test_a_pattern_may_lie_across_calls(pattern: Any) -> None:
    calls = on_socket(FailCall("recv").on(pattern=pattern))

    assert [move(calls, "recv", data).error for data in (b"xQ", b"UI", b"T!", b"more", b"more")] == [
        None,
        None,
        None,
        "ECONNRESET",
        None,
    ]


def test_datagrams_are_counted_by_the_calls_that_move_them() -> None:
    calls = on_socket(FailCall("recv", "ETIMEDOUT").on(datagram=[2, 4]), transport="datagram")

    assert [move(calls, "recv", b"x").error for _ in range(6)] == [
        None,
        "ETIMEDOUT",
        None,
        None,
        None,
        None,
    ]


def test_bytes_and_times_together() -> None:
    calls = on_socket(ShortReads(1).on(after_bytes=2, between=(5, 9)))

    calls.moved("recv", b"ab")
    assert [calls.before("recv", 10, now).limit for now in (0.0, 5.0, 9.0)] == [None, 1, None]


def test_what_is_aimed_waits_for_its_own_way() -> None:
    calls = on_socket(downstream(ShortReads(1)).on(after_bytes=2))

    calls.moved("send", b"abc")
    assert calls.before("recv", 1, 0) == PASS
    calls.moved("recv", b"ab")
    assert calls.before("recv", 10, 0) == Verdict(limit=1)
