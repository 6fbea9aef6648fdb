"""What holds for every fault that exists, or will: a new one is put through this as soon as it is defined."""

from __future__ import annotations

import os
import pickle
import re
from typing import Any, Literal

import pytest
from hypothesis import given, settings, strategies as st

import servertest.faults
from servertest.faults import (
    Entry,
    Fault,
    Latency,
    LimitData,
    Plan,
    Slicer,
    TruncateDatagram,
    plan,
    registry,
    start,
    start_calls,
    start_listener,
)
from servertest.faults.strategies import faults, plans
from servertest.wire._line import ABORTED, CLOSED, FINISHED, Ended
from tests.faults._driving import FOREVER, Carried, Driver, carry, cut

KINDS = sorted(registry.values(), key=lambda kind: kind.name)
ON_LINES = [kind for kind in KINDS if kind.place == "line"]
ON_STREAMS = [kind for kind in ON_LINES if "stream" in kind.carried_by]
ON_DATAGRAMS = [kind for kind in ON_LINES if "datagram" in kind.carried_by]
NAMES: dict[str, Any] = {**vars(servertest.faults), "re": re}
DATA = bytes(range(256)) * 24
# The same examples in every run. To look for new ones, say how many: SERVERTEST_EXAMPLES=1000 pytest tests/faults
WANTED = os.environ.get("SERVERTEST_EXAMPLES")
examples = settings(
    max_examples=int(WANTED or 30), derandomize=WANTED is None, database=None, deadline=None, print_blob=True
)


def transport_of(kind: type[Fault]) -> Literal["stream", "datagram"]:
    return "stream" if "stream" in kind.carried_by else "datagram"


def of_kind(kind: type[Fault]) -> st.SearchStrategy[Fault]:
    return faults(transport_of(kind), place=kind.place, kinds=[kind])


def named(kind: type[Fault]) -> str:
    return kind.name


def pieces(carried: Carried) -> list[tuple[float, Any]]:
    return [(time, output) for time, output in carried.outputs if isinstance(output, bytes)]


every_kind = pytest.mark.parametrize("kind", KINDS, ids=named)
on_streams = pytest.mark.parametrize("kind", ON_STREAMS, ids=named)
on_datagrams = pytest.mark.parametrize("kind", ON_DATAGRAMS, ids=named)


@every_kind
def test_is_built_with_nothing_said(kind: type[Fault]) -> None:
    assert isinstance(kind.example(), kind)


@every_kind
def test_says_what_it_is_and_what_its_fields_mean(kind: type[Fault]) -> None:
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")
    for parameter in kind.parameters():
        assert parameter.rule is not None, f"{parameter.name} takes anything"
        assert parameter.about, f"the docstring says nothing of {parameter.name}"


@every_kind
def test_says_why_another_transport_does_not_carry_it(kind: type[Fault]) -> None:
    assert len(kind.carried_by) == 2 or kind.why_not


@every_kind
def test_repr_and_text_read_back_equal(kind: type[Fault]) -> None:
    @examples
    @given(of_kind(kind))
    def check(fault: Fault) -> None:
        assert eval(repr(fault), NAMES) == fault
        assert plan(str(fault)) == Plan.of(fault)
        assert repr(plan(str(fault)).entries[0].fault) == repr(fault)

    check()


@every_kind
def test_equal_values_have_one_hash_and_survive_pickling(kind: type[Fault]) -> None:
    @examples
    @given(of_kind(kind))
    def check(fault: Fault) -> None:
        again = pickle.loads(pickle.dumps(fault))
        assert again == fault
        assert hash(again) == hash(fault)
        assert {again, fault} == {fault}

    check()


@every_kind
def test_works_where_it_says(kind: type[Fault]) -> None:
    whole = Plan.of(kind.example())
    transport = transport_of(kind)
    direction = kind.usual_direction or "downstream"

    assert bool(start(whole, transport=transport, direction=direction)) == (kind.place == "line")
    assert bool(start_calls(whole, transport=transport)) == (kind.place == "calls" or kind.at_connect)
    assert bool(start_listener(whole, transport=transport)) == (kind.place == "listener")


@on_streams
def test_the_stream_ends_at_the_latest_when_the_fault_is_taken_away(kind: type[Fault]) -> None:
    @examples
    @given(of_kind(kind), st.booleans())
    def check(fault: Fault, reset: bool) -> None:
        driver = Driver(fault)
        driver.put(*cut(DATA, 1000, 1001, 5000))
        driver.abort() if reset else driver.finish()
        driver.until(FOREVER)
        if driver.carried.ended is None:
            driver.set(None)
            driver.until(FOREVER)
        assert driver.carried.ended is not None
        assert driver.line.waiting == 0

    check()


@on_streams
def test_what_a_fault_before_it_closes_ends_as_if_the_source_had_finished(kind: type[Fault]) -> None:
    @examples
    @given(of_kind(kind))
    def check(fault: Fault) -> None:
        closed, finished = Driver(LimitData(1000) | plan(fault)), Driver(fault)
        closed.put(DATA)
        finished.put(DATA[:1000])
        finished.finish()
        for driver in (closed, finished):
            driver.until(FOREVER)
            driver.set(None)
        assert pieces(closed.carried) == pieces(finished.carried)
        assert closed.carried.ended in (CLOSED, ABORTED)

    check()


@on_streams
def test_chunks_do_not_matter_behind_a_gate(kind: type[Fault]) -> None:
    @examples
    @given(of_kind(kind), st.integers(0, 300), st.lists(st.integers(0, 600), max_size=12), st.booleans())
    def check(fault: Fault, begins: int, places: list[int], by_pattern: bool) -> None:
        pattern = DATA[begins : begins + 2]
        gated = fault.on(pattern=pattern) if by_pattern else fault.on(after_bytes=begins)
        whole = carry(gated, DATA)
        pieces = carry(gated, cut(DATA, *places))
        assert pieces.data == whole.data
        assert pieces.ended == whole.ended
        assert pieces.decided == whole.decided

    check()


def test_chunks_do_not_matter_to_whole_plans() -> None:
    @examples
    @given(plans("stream"), st.lists(st.integers(0, len(DATA)), max_size=12), st.integers(0, 3))
    def check(faults: Plan, places: list[int], seed: int) -> None:
        whole = carry(faults, DATA, seed=seed)
        pieces = carry(faults, cut(DATA, *places), seed=seed)
        assert pieces.data == whole.data
        assert pieces.ended == whole.ended

    check()


@on_streams
def test_what_is_lossless_keeps_every_byte_in_order(kind: type[Fault]) -> None:
    @examples
    @given(of_kind(kind), st.integers(0, 30))
    def check(fault: Fault, tenths: int) -> None:
        driver = Driver(fault)
        driver.put(*cut(DATA, 17, 3000))
        driver.until(tenths / 10)
        driver.set(None)
        driver.put(b"after")
        driver.finish()
        driver.until(FOREVER)
        assert not kind.lossless or driver.carried.data == DATA + b"after"

    check()


@on_streams
def test_taking_it_away_heals_a_live_stream(kind: type[Fault]) -> None:
    @examples
    @given(of_kind(kind), st.integers(0, 30))
    def check(fault: Fault, tenths: int) -> None:
        driver = Driver(fault)
        driver.put(*cut(DATA, 17, 3000))
        driver.until(tenths / 10)
        driver.set(None)
        alive = driver.carried.ended is None
        assert driver.line.clear
        driver.put(b"after")
        assert not alive or driver.carried.data.endswith(b"after")

    check()


@on_datagrams
def test_taking_it_away_heals_datagrams(kind: type[Fault]) -> None:
    @examples
    @given(faults("datagram", kinds=[kind]), st.integers(0, 30))
    def check(fault: Fault, tenths: int) -> None:
        driver = Driver(fault, "datagram")
        driver.put(*(b"%d" % number for number in range(50)))
        driver.until(tenths / 10)
        driver.set(None)
        driver.put(b"after")
        assert driver.carried.datagrams[-1] == b"after"
        if kind.lossless:
            assert sorted(driver.carried.datagrams) == sorted(
                [*(b"%d" % number for number in range(50)), b"after"]
            )

    check()


@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_the_same_seed_gives_the_same_decisions(transport: Any) -> None:
    @examples
    @given(plans(transport), st.integers(0, 3))
    def check(whole: Plan, seed: int) -> None:
        chunks = [(number / 7, DATA[:100]) for number in range(30)]
        one, other = (carry(whole, chunks, transport, seed=seed) for _ in range(2))
        assert one.outputs == other.outputs
        assert one.trace.decisions == other.trace.decisions

    check()


@pytest.mark.parametrize("transport", ["stream", "datagram"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_another_fault_changes_nobodys_draws(transport: Any, first: bool) -> None:
    @examples
    @given(faults(transport), st.integers(0, 3))
    def check(fault: Fault, seed: int) -> None:
        # One that has nothing to do: whatever differs then comes from the draws.
        other = Slicer(10**9) if transport == "stream" else TruncateDatagram(10**9)
        chunks = [DATA[:100]] * 30
        alone = carry(fault, chunks, transport, seed=seed)
        together = carry(other | fault if first else fault | other, chunks, transport, seed=seed)
        assert together.outputs == alone.outputs
        told = {fault.name, f"{fault.name}#2"}
        assert [each.what for each in together.trace if each.fault in told and each.what != "slices"] == [
            what for what in alone.decided if what != "slices"
        ]

    check()


@on_streams
def test_a_trigger_delays_and_limits_it_without_a_break(kind: type[Fault]) -> None:
    """Before the byte at which it begins, and on connections that it spares, everything passes."""

    @examples
    @given(of_kind(kind), st.integers(0, 300))
    def check(fault: Fault, begins: int) -> None:
        assert carry(fault.on(connection=2), DATA).data == DATA
        assert carry(fault.on(after_bytes=begins), DATA).data.startswith(DATA[:begins])
        spared = carry(fault.on(after_bytes=len(DATA) + 1), DATA)
        assert spared.data == DATA

    check()


@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_plans_read_back_equal(transport: Any) -> None:
    @examples
    @given(plans(transport))
    def check(whole: Plan) -> None:
        assert plan(whole.text) == whole
        assert eval(repr(whole), NAMES) == whole
        assert pickle.loads(pickle.dumps(whole)) == whole
        assert hash(plan(whole.text)) == hash(whole)

    check()


@on_streams
def test_nothing_follows_an_end(kind: type[Fault]) -> None:
    @examples
    @given(of_kind(kind))
    def check(fault: Fault) -> None:
        outputs = [output for _, output in carry(fault, cut(DATA, 10, 20, 3000)).outputs]
        endings = [output for output in outputs if isinstance(output, Ended)]
        assert outputs[len(outputs) - len(endings) :] == endings, "bytes after an end"
        # A connection that is closed half may still be closed or cut off.
        assert len(endings) <= 1 or (
            endings[0] is FINISHED and endings[1] is not FINISHED and len(endings) == 2
        )

    check()


def test_entries_are_values() -> None:
    assert {Entry(Latency(0.1)), Entry(Latency(0.1))} == {Entry(Latency(0.1))}
