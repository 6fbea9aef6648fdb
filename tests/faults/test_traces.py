"""What was decided: kept, counted, saved, compared."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from servertest._support import Mismatch
from servertest.faults import Corrupt, Decision, Loss, Trace, check_repeatable
from tests.faults._driving import carry


def decision(number: int, fault: str = "loss") -> Decision:
    return Decision(float(number), number, "upstream", fault, f"loses datagram {number}")


def test_it_keeps_the_first_and_counts_all() -> None:
    trace = Trace(3)
    for number in range(5):
        trace(decision(number))
    trace.add(decision(9, "latency"))

    assert [each.time for each in trace] == [0, 1, 2]
    assert len(trace) == 3
    assert trace.counts == {"loss": 5, "latency": 1}
    assert trace.missing == 3
    assert repr(trace) == "<Trace of 6 decisions: {'loss': 5, 'latency': 1}>"
    trace.clear()
    assert (trace.decisions, trace.counts) == ((), {})


def test_threads_may_add_to_it() -> None:
    trace = Trace(100)

    def add() -> None:
        for number in range(1000):
            trace(decision(number))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert trace.counts["loss"] == 4000
    assert len(trace) == 100


def test_it_is_saved_and_read_again(tmp_path: Path) -> None:
    trace = Trace(2, seed=7)
    for number in range(3):
        trace(decision(number))
    trace.dump(tmp_path / "trace")
    again = Trace.load(tmp_path / "trace")

    assert again.decisions == trace.decisions
    assert again.counts == trace.counts
    assert again.seed == 7
    assert len((tmp_path / "trace").read_text().splitlines()) == 3


@pytest.mark.parametrize("line", ["{", "[]", '{"time": 1}', '{"counts": 3}', "3"])
def test_what_is_no_trace_is_refused_with_the_line(tmp_path: Path, line: str) -> None:
    Trace().dump(tmp_path / "trace")
    with (tmp_path / "trace").open("a") as file:
        file.write(line)

    with pytest.raises(ValueError, match="line 2: this is no decision"):
        Trace.load(tmp_path / "trace")


def test_a_trace_keeps_something_or_nothing() -> None:
    with pytest.raises(ValueError, match="limit is how many decisions"):
        Trace(-1)


def test_a_run_that_repeats() -> None:
    trace = check_repeatable(lambda: carry(Loss(0.5), [b"a"] * 50, "datagram", seed=3).trace)

    assert trace.counts["loss"] > 10


def test_a_run_that_does_not_repeat_is_shown_where_it_differs() -> None:
    seeds = iter([1, 2])

    with pytest.raises(Mismatch) as caught:
        check_repeatable(lambda: carry(Corrupt(0.01), bytes(1000), seed=next(seeds)).trace)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "the same seed gave different decisions: decision 1 of corrupt on connection 1 downstream"
    )
    assert lines[1].startswith("  - corrupts byte ")
    assert lines[2].startswith("  + corrupts byte ")


def test_one_that_stops_early_is_shown_too() -> None:
    lengths = iter([3, 2])

    with pytest.raises(
        Mismatch, match=r"decision 3 of loss(?s:.*)  - loses datagram 3\n  \+ \(nothing more\)"
    ):
        check_repeatable(lambda: carry(Loss(1), [b"a"] * next(lengths), "datagram").trace)


def test_times_and_the_order_between_connections_may_differ() -> None:
    orders = iter([(1, 2), (2, 1)])

    def run() -> Trace:
        trace = Trace()
        for time, connection in enumerate(next(orders)):
            trace(Decision(time, connection, "upstream", "loss", "loses datagram 1"))
        return trace

    check_repeatable(run)


def test_what_was_only_counted_is_compared_too() -> None:
    lengths = iter([3, 2])

    def run() -> Trace:
        trace = Trace(1)
        for _ in range(next(lengths)):
            trace(decision(1))
        return trace

    with pytest.raises(Mismatch, match=r"first \{'loss': 3\}, then \{'loss': 2\} decisions in all"):
        check_repeatable(run)
