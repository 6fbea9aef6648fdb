"""Composition, aim, and the places and transports that faults are for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from servertest._support import UsageError
from servertest.faults import (
    Bandwidth,
    EmptyReply,
    Entry,
    Fault,
    Latency,
    Loss,
    Plan,
    Refuse,
    ShortReads,
    Site,
    Slicer,
    SlowAccept,
    Stage,
    Stall,
    downstream,
    plan,
    registry,
    start,
    upstream,
)

ANY: Any = SimpleNamespace(**registry)  # built with wrong values on purpose


def test_faults_are_met_from_left_to_right() -> None:
    whole = Latency(0.1) | Slicer(3) | upstream(Bandwidth(10))

    assert [entry.fault.name for entry in whole] == ["latency", "slicer", "bandwidth"]
    assert [entry.direction for entry in whole] == [None, None, "upstream"]


@pytest.mark.parametrize(
    "joined", [Latency(0.1) | "slicer:3", "latency:0.1" | Slicer(3), plan("latency:0.1|slicer:3")]
)
def test_text_joins_too(joined: Plan) -> None:
    assert joined == Latency(0.1) | Slicer(3)


def test_none_stands_for_no_faults() -> None:
    assert plan(None) == Plan()
    assert not plan(None)
    assert Latency(0.1) | None == Plan.of(Latency(0.1))


def test_what_is_no_fault_is_refused() -> None:
    with pytest.raises(UsageError, match="faults are Fault values"):
        plan(3)  # type: ignore[arg-type]


def test_an_aim_is_kept_and_cannot_be_turned_round() -> None:
    aimed = upstream(Latency(0.1) | Slicer(3))

    assert upstream(aimed) == aimed
    with pytest.raises(UsageError, match="aimed upstream already"):
        downstream(aimed)


def test_an_aimed_fault_works_on_its_way_alone() -> None:
    whole = upstream(Latency(0.1)) | Slicer(3)

    assert len(start(whole, direction="upstream")) == 2
    assert len(start(whole, direction="downstream")) == 1


def test_a_reply_fault_is_for_replies_unless_aimed() -> None:
    assert start(plan(EmptyReply()), direction="upstream") == []
    assert len(start(upstream(EmptyReply()), direction="upstream")) == 1


def test_names_count_the_second_of_a_kind() -> None:
    whole = Latency(0.1) | Slicer(3) | Latency(0.2)

    assert [name for name, _ in whole.named()] == ["latency", "slicer", "latency#2"]


def test_keys_follow_the_fault_not_its_number() -> None:
    """A line keeps the state of a stage whose key stays: taking the first away must not touch the second."""
    both = [key for key, _ in start(Latency(0.1) | Latency(0.2))]
    left = [key for key, _ in start(plan(Latency(0.2)))]
    equal = [key for key, _ in start(Latency(0.1) | Latency(0.1))]

    assert left == both[1:]
    assert len(set(equal)) == 2


def test_random_streams_follow_the_fault_not_its_number() -> None:
    def streams(whole: Plan) -> list[str]:
        return [stream for _, stream, _ in whole.streams()]

    assert streams(Slicer(3) | Latency(0.2) | Latency(0.1))[-1:] == streams(plan(Latency(0.1)))
    assert len(set(streams(Latency(0.1) | Latency(0.1) | Latency(0.1)))) == 3
    assert streams(plan(Latency(1))) == streams(plan(Latency(1.0)))


def test_a_fault_of_the_other_transport_is_refused_with_the_reason() -> None:
    with pytest.raises(
        UsageError, match="Loss is not for a stream: TCP would have sent it again: use Stall or Latency"
    ):
        start(plan(Loss()))
    with pytest.raises(UsageError, match=r"Slicer is not for a datagram: .* use TruncateDatagram"):
        start(plan(Slicer()), transport="datagram")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ShortReads(), "its own socket"),
        (SlowAccept(), "connections are accepted"),
        (Refuse(), "connections are accepted"),
    ],
)
def test_a_fault_of_another_place_is_refused_with_the_reason(fault: Fault, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{type(fault).__name__} cannot be done here: .*{reason}"):
        plan(fault).check("stream", ("line",))


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ([Latency(), Slicer(2)], r"write Latency\(\) \| Slicer\(average_size=2\)"),
        (Slicer, r"write Slicer\(\)"),
        (3, "or their text, not 3$"),
    ],
)
def test_what_is_no_plan_is_told_with_what_was_meant(faults: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan(faults)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Plan(), "Plan()"),
        (plan(Latency(0.5)), "plan(Latency(delay=0.5))"),
        (Latency() | Slicer(3, size_variation=1), "Latency() | Slicer(average_size=3, size_variation=1)"),
        (upstream(Latency(1.0), Slicer(3)), "upstream(Latency(delay=1) | Slicer(average_size=3))"),
        (
            Stall(None, after_bytes=3).on(connection=(3, 1)),
            "Stall(duration=None, after_bytes=3).on(connection=(1, 3))",
        ),
        (Stall().on(between=(1, float("inf"))), "Stall().on(between=(1, float('inf')))"),
    ],
)
def test_repr_is_python(value: Plan, written: str) -> None:
    assert repr(value) == written
    assert eval(written) == value


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ANY.latency(-1), "Latency: delay is a number of seconds, at least 0, not -1"),
        (lambda: ANY.latency(True), "Latency: delay is a number of seconds, at least 0, not True"),
        (lambda: ANY.latency(float("nan")), "Latency: delay is a number of seconds, at least 0, not nan"),
        (lambda: ANY.latency(float("inf")), "Latency: delay is a number of seconds, at least 0, not inf"),
        (lambda: ANY.latency("1"), "Latency: delay is a number of seconds, at least 0, not '1'"),
        (
            lambda: ANY.latency(distribution="gauss"),
            "Latency: distribution is one of 'uniform', 'normal', 'lognormal', 'pareto'",
        ),
        (lambda: ANY.latency(correlation=1.5), "Latency: correlation is a number from 0 to 1, not 1.5"),
        (lambda: ANY.loss(1.1), "Loss: probability is a number from 0 to 1, not 1.1"),
        (lambda: ANY.slicer(0), "Slicer: average_size is a whole number of bytes, at least 1, not 0"),
        (lambda: ANY.slicer(3, 3), "Slicer: size_variation is less than average_size, 3, not 3"),
        (lambda: ANY.slicer(1.5), "Slicer: average_size is a whole number of bytes, at least 1, not 1.5"),
        (
            lambda: ANY.stall(after=1, after_bytes=1),
            "Stall: after_bytes is given instead of after, not with it: None, not 1",
        ),
        (lambda: ANY.bandwidth(-1), "Bandwidth: rate is a number of bytes per second, at least 0, not -1"),
        (lambda: ANY.limit_data(None), "LimitData: limit is a whole number of bytes, at least 0, not None"),
        (
            lambda: ANY.reset_peer(after_bytes=-1),
            "ResetPeer: after_bytes is a whole number of bytes, at least 0, or None, not -1",
        ),
        (lambda: ANY.insert_bytes(b""), "InsertBytes: data is bytes, at least one, not b''"),
        (lambda: ANY.insert_bytes("x"), "InsertBytes: data is bytes, at least one, not 'x'"),
        (lambda: ANY.corrupt(bits=9), "Corrupt: bits is a whole number from 1 to 8, not 9"),
        (
            lambda: ANY.fail_call("read"),
            "FailCall: call is one of 'recv', 'send', 'connect', 'shutdown', not 'read'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_field_and_what_is_allowed(build: Any, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        build()


def test_parameters_tell_tables_all_they_need() -> None:
    delay, jitter, distribution, correlation = Latency.parameters()

    assert (delay.name, delay.default) == ("delay", 0.1)
    assert delay.rule is not None
    assert delay.rule.unit == "s"
    assert delay.about == "The mean, in seconds."
    assert jitter.about.endswith("A delay below zero is none.")
    assert distribution.rule is not None
    assert distribution.rule.choices == ("uniform", "normal", "lognormal", "pareto")
    assert correlation.rule is not None
    assert correlation.rule.unit == ""


def test_a_fault_of_the_users_own_is_known_by_name() -> None:
    assert registry["latency"] is Latency
    assert {"reset_peer", "random_data_then_close", "gilbert_elliott"} <= registry.keys()


def test_a_plan_has_a_length_and_entries() -> None:
    whole = Latency(0.1) | Slicer(3)

    assert len(whole) == 2
    assert whole.entries[0] == Entry(Latency(0.1))


def test_a_description_is_one_line_for_tables() -> None:
    assert SlowAccept.description() == (
        "The connection is made, for the system does that, and the server comes to it late."
    )
    assert "Attributes" not in Latency.description()
    assert "\n" not in Latency.description()


def test_a_fault_may_write_itself_and_stay_unknown() -> None:
    @dataclass(frozen=True)
    class _Hidden(Fault):
        """Known to nobody.

        Attributes:
            field: Something
                on two lines.

        Example:
            none
        """

        field: int = 3

        def __repr__(self) -> str:
            return "hidden"

    assert repr(_Hidden()) == "hidden"
    assert [(each.about, each.rule) for each in _Hidden.parameters()] == [("Something on two lines.", None)]
    assert _Hidden not in registry.values()


def test_a_site_shows_where_it_is() -> None:
    assert repr(Site(7, "loss")) == "<Site of loss on downstream of connection 1, seed 7>"


def test_places_have_draws_of_their_own() -> None:
    site = Site(7, "loss")

    assert site.draws_at(1).random() == site.draws_at(1).random() != site.draws_at(2).random()
    assert site.draws is site.draws


def test_a_stage_with_nothing_to_do_wakes_for_nothing() -> None:
    assert Stage().wake(0) == ()
