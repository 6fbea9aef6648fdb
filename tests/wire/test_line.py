"""The line: order and time, whatever the faults."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings, strategies as st

from servertest.faults import Abort, Action, Close, Finish, Send, Stage
from servertest.wire._line import ABORTED, CLOSED, FINISHED, Line, Output

examples = settings(max_examples=100, derandomize=True, database=None, deadline=None)


class Timed(Stage):
    """Each chunk waits for as long as its first byte says."""

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        yield Send(data, after=data[0] / 10)


class Keeping(Stage):
    """Keeps everything."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self.kept.append(data)
        self.held += len(data)
        return ()

    def end(self, now: float) -> Iterable[Action]:
        return ()

    def leave(self, now: float) -> Iterable[Action]:
        return [*map(Send, self.kept), Finish()]


class Ringing(Stage):
    """Asks to be woken at times, and says when it was."""

    def __init__(self, *times: float) -> None:
        self.times = [*times]
        self.woken: list[float] = []

    def begin(self, now: float) -> Iterable[Action]:
        self.wake_at = self.times.pop(0)
        return ()

    def wake(self, now: float) -> Iterable[Action]:
        self.woken.append(now)
        self.wake_at = self.times.pop(0) if self.times else None
        return (Send(b"%d" % now),)


def line(*stages: Stage, ordered: bool = True) -> Line:
    made = Line(ordered=ordered)
    made.set_stages([(f"{number}", lambda stage=stage: stage) for number, stage in enumerate(stages)], 0)  # type: ignore[misc]
    return made


def everything(carrying: Line) -> list[Output]:
    out = [*carrying.take(0)]
    while (due := carrying.due) is not None:
        out += carrying.take(due)
    return out


def test_without_stages_it_is_clear_and_passes_at_once() -> None:
    carrying = line()

    assert carrying.clear
    assert carrying.due is None
    carrying.put(b"a", 1)
    assert carrying.take(1) == [b"a"]
    assert carrying.take(1) == ()
    carrying.finish(2)
    assert carrying.take(2) == [FINISHED]
    assert carrying.ended is FINISHED


def test_the_end_does_not_overtake_bytes() -> None:
    carrying = line(Timed())
    carrying.put(b"\x09", 0)
    carrying.put(b"\x01", 0)
    carrying.finish(0)

    assert carrying.due == 0.9
    assert carrying.waiting == 2
    assert carrying.take(0.89) == ()
    assert carrying.take(0.9) == [b"\x09", b"\x01", FINISHED]


def test_datagrams_overtake_each_other_but_their_end_overtakes_none() -> None:
    carrying = line(Timed(), ordered=False)
    for each in (b"\x09", b"\x01", b"\x05"):
        carrying.put(each, 0)
    carrying.finish(0)

    assert everything(carrying) == [b"\x01", b"\x05", b"\x09", FINISHED]


def test_what_is_due_goes_on_as_of_the_time_at_which_it_was_due() -> None:
    carrying = line(Timed(), Timed())
    carrying.put(b"\x05", 0)
    carrying.take(0.7)

    assert carrying.due == 1.0
    assert carrying.take(1.0) == [b"\x05"]


def test_everything_that_was_missed_happens_in_the_order_of_its_time() -> None:
    ringing = Ringing(1, 3)
    carrying = line(Timed(), ringing)
    carrying.put(b"\x14", 0)

    assert carrying.take(5) == [b"1", b"\x14", b"3"]
    assert ringing.woken == [1, 3]


def test_transmission_adds_up_and_propagation_does_not() -> None:
    class Sending(Stage):
        def data(self, data: bytes, now: float) -> Iterable[Action]:
            yield Send(data, after=1, takes=0.5)

    carrying = line(Sending())
    for _ in range(3):
        carrying.put(b"x", 0)
    carrying.finish(0)

    assert carrying.take(1.5) == [b"x"]
    assert carrying.take(2) == [b"x"]
    assert carrying.take(2.5) == [b"x", FINISHED]


def test_a_source_that_is_cut_off_is_passed_on_behind_its_bytes() -> None:
    carrying = line(Timed())
    carrying.put(b"\x05", 0)
    carrying.abort(0)

    assert everything(carrying) == [b"\x05", ABORTED]
    assert carrying.due is None


@pytest.mark.parametrize("ending", [Close(), Abort()])
def test_nothing_follows_an_end_that_is_final(ending: Action) -> None:
    class Ending(Stage):
        def data(self, data: bytes, now: float) -> Iterable[Action]:
            return (ending, Send(b"more"))

    carrying = line(Ending(), Stage())
    carrying.put(b"x", 0)
    carrying.put(b"y", 0)
    carrying.finish(0)

    assert everything(carrying) == [CLOSED if ending == Close() else ABORTED]


def test_a_direction_that_has_finished_may_still_be_cut_off() -> None:
    class Later(Stage):
        wake_at = 5.0

        def wake(self, now: float) -> Iterable[Action]:
            return (Send(b"too late"), Abort())

    carrying = line(Later())
    carrying.put(b"x", 0)
    carrying.finish(0)

    assert carrying.take(0) == [b"x", FINISHED]
    assert carrying.due == 5
    assert carrying.take(5) == [ABORTED]
    assert carrying.ended is ABORTED


def test_a_reset_after_the_end_is_passed_on() -> None:
    carrying = line(Stage())
    carrying.finish(0)
    carrying.put(b"nothing", 0)
    carrying.finish(0)
    carrying.abort(1)

    assert carrying.take(1) == [FINISHED, ABORTED]


class Concealing(Keeping):
    """Keeps even that the source was cut off, until it is taken away."""

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        return (Send(data),)

    def abort(self, now: float) -> Iterable[Action]:
        return ()

    def leave(self, now: float) -> Iterable[Action]:
        return (Abort(),)


def test_a_stage_may_hold_up_that_the_source_was_cut_off() -> None:
    first, second = Concealing(), Concealing()
    carrying = line(Timed(), first, second)
    carrying.put(b"\x01", 0)
    carrying.abort(0)

    assert everything(carrying) == [b"\x01"]
    carrying.set_stages([("2", Stage)], 1)
    assert carrying.take(1) == ()
    carrying.set_stages([], 2)
    assert carrying.take(2) == [ABORTED]


class EndingAtOnce(Stage):
    def __init__(self, ending: Action) -> None:
        self.ending = ending

    def begin(self, now: float) -> Iterable[Action]:
        return (self.ending,)


def test_no_stage_holds_up_what_a_fault_cuts_off() -> None:
    assert everything(line(EndingAtOnce(Abort()), Concealing(), Keeping())) == [ABORTED]


def test_what_a_fault_closes_is_closed_when_the_stages_behind_let_the_end_pass() -> None:
    class Closing(Stage):
        def data(self, data: bytes, now: float) -> Iterable[Action]:
            return (Send(data), Close())

    class Late(Stage):
        def end(self, now: float) -> Iterable[Action]:
            return (Send(b"rest"), Finish(2))

    carrying = line(Closing(), Late(), Keeping())
    carrying.put(b"x", 0)
    assert carrying.take(5) == ()
    carrying.set_stages([("0", Stage), ("1", Stage)], 6)
    assert carrying.take(6) == [b"x", b"rest", CLOSED]
    assert carrying.ended is CLOSED


@pytest.mark.parametrize("finished", [True, False])
def test_what_has_ended_before_is_closed_too(finished: bool) -> None:
    class ClosingLater(Stage):
        wake_at = 5.0

        def wake(self, now: float) -> Iterable[Action]:
            return (Close(),)

    ends = []

    class Counting(Stage):
        def end(self, now: float) -> Iterable[Action]:
            ends.append(now)
            return super().end(now) if finished else ()

    carrying = line(ClosingLater(), Counting())
    carrying.finish(0)
    assert everything(carrying) == ([FINISHED, CLOSED] if finished else [])
    assert ends == [0]  # a stage hears of it once


def test_it_is_full_as_long_as_more_waits_than_the_window() -> None:
    class Narrow(Timed):
        window = 2

    carrying = line(Narrow())
    carrying.put(b"\x01\x01", 0)
    assert not is_full(carrying)
    carrying.put(b"\x02", 0)
    assert is_full(carrying)
    carrying.take(0.1)
    assert not is_full(carrying)


def test_what_a_stage_holds_counts() -> None:
    class Narrow(Keeping):
        window = 2

    carrying = line(Narrow())
    carrying.put(b"abc", 0)

    assert is_full(carrying)
    assert carrying.waiting == 3


def is_full(carrying: Line) -> bool:
    return carrying.full


def test_a_stage_that_is_taken_away_gives_back_what_it_has_in_order() -> None:
    keeping = Keeping()
    carrying = line(Timed(), keeping, Timed())
    carrying.put(b"\x01a", 0)
    carrying.take(0.1)
    carrying.put(b"\x03b", 0.1)
    carrying.finish(0.1)
    carrying.set_stages([("2", Timed)], 0.2)

    # "b" waited before the stage that held "a": it has to stay behind.
    assert [*carrying.take(0.2), *everything(carrying)] == [b"\x01a", b"\x03b", FINISHED]


def test_a_stage_that_stays_keeps_its_queue_and_its_state() -> None:
    ringing = Ringing(5)
    carrying = line(Timed(), ringing)
    carrying.put(b"\x09", 0)
    carrying.set_stages([("new", Timed), ("0", Stage), ("1", Stage)], 0.5)

    assert carrying.due == 0.9
    assert carrying.take(0.9) == [b"\x09"]
    assert carrying.due == 5
    carrying.put(b"\x01", 1)
    assert everything(carrying) == [b"\x01", b"5"]


def test_a_stage_begins_when_it_is_added_and_may_speak() -> None:
    class Speaking(Stage):
        def begin(self, now: float) -> Iterable[Action]:
            return (Send(b"at %g" % now),)

    carrying = line()
    carrying.set_stages([("0", Speaking)], 3)

    assert carrying.take(3) == [b"at 3"]


def test_a_line_shows_what_it_carries() -> None:
    carrying = line(Timed())
    carrying.put(b"\x09", 0)

    assert repr(carrying) == "<Line of ['0'], 1 bytes on the way, open>"


@examples
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.integers(0, 5)), max_size=20),
    st.lists(st.sampled_from(["timed", "keeping", "plain"]), max_size=3),
    st.lists(st.integers(0, 50), max_size=5),
)
def test_no_byte_is_lost_whenever_stages_come_and_go(
    chunks: list[tuple[bytes, int]], kinds: list[str], changes: list[int]
) -> None:
    makers = {"timed": Timed, "keeping": Keeping, "plain": Stage}
    carrying = Line()
    out: list[Output] = []
    now = 0.0
    for number, (chunk, wait) in enumerate(chunks):
        if number in changes:
            carrying.set_stages([(f"{kind}{number % 2}", makers[kind]) for kind in dict.fromkeys(kinds)], now)
        carrying.put(chunk, now)
        out += carrying.take(now)
        now += wait / 10
    carrying.set_stages([], now)
    carrying.finish(now)
    out += carrying.take(now)

    assert [each for each in out if not isinstance(each, bytes)][-1:] == [
        FINISHED
    ] or carrying.ended is FINISHED
    sent = b"".join(chunk for chunk, _ in chunks)
    assert b"".join(each for each in out if isinstance(each, bytes)) == sent
