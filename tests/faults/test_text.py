"""The text form of plans, and what is said of text that is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from servertest._support import UsageError
from servertest.faults import (
    Bandwidth,
    Garbage,
    InsertBytes,
    Latency,
    LimitData,
    Loss,
    Plan,
    ResetPeer,
    Slicer,
    Stall,
    downstream,
    plan,
    presets,
    upstream,
)

examples = settings(max_examples=200, derandomize=True, database=None, deadline=None)

READ: list[tuple[str, Any]] = [
    ("", Plan()),
    ("  ", Plan()),
    ("latency", Latency()),
    ("latency:0.05", Latency(0.05)),
    ("latency:0.05,jitter:0.01|slicer:3", Latency(0.05, jitter=0.01) | Slicer(3)),
    (" latency : 0.05 , jitter = 0.01 | slicer : 3 ", Latency(0.05, jitter=0.01) | Slicer(3)),
    ("latency:jitter:0.01", Latency(jitter=0.01)),
    ("latency:50ms,jitter:500us", Latency(0.05, jitter=0.0005)),
    ("latency:2s", Latency(2)),
    ("stall:none", Stall(None)),
    ("stall:1min", Stall(60)),
    ("limit_data:10kB", LimitData(10_000)),
    ("limit_data:1.5KiB", LimitData(1536)),
    ("bandwidth:1MB/s", Bandwidth(1_000_000)),
    ("bandwidth:8Mbit/s", Bandwidth(1_000_000)),
    ("bandwidth:800bit", Bandwidth(100)),
    ("bandwidth:1e6", Bandwidth(1_000_000)),
    ("loss:10%", Loss(0.1)),
    ("latency:distribution:pareto", Latency(distribution="pareto")),
    (r'insert_bytes:"a\"\\\n\x00|,)@ "', InsertBytes(b'a"\\\n\0|,)@ ')),
    ("upstream(latency:0.05|slicer:3)|downstream(limit_data:10)", upstream(Latency(0.05), Slicer(3)) | downstream(LimitData(10))),
    ("upstream()", None),
    ("(latency|slicer:3)@first:2", (Latency() | Slicer(3)).on(first=2)),
    ("upstream(latency|slicer:3)@first:2", upstream(Latency() | Slicer(3)).on(first=2)),
    ("reset_peer@connection:1", ResetPeer().on(connection=1)),
    ("reset_peer@connection:1+3", ResetPeer().on(connection=(1, 3))),
    ("reset_peer@connection:2..5", ResetPeer().on(connection=range(2, 6))),
    ("reset_peer@connection:1..9/2", ResetPeer().on(connection=range(1, 10, 2))),
    ("reset_peer:after_bytes:10@every:3,first:2,probability:50%", ResetPeer(after_bytes=10).on(every=3, first=2, probability=0.5)),
    ("garbage@after_bytes:1kB", Garbage().on(after_bytes=1000)),
    ('garbage@pattern:"QUIT\\r\\n"', Garbage().on(pattern=b"QUIT\r\n")),
    ('garbage@pattern:re"[A-Z]+\\d"', Garbage().on(pattern=re.compile(rb"[A-Z]+\d"))),
    ('garbage@pattern:re"quit"i', Garbage().on(pattern=re.compile(b"quit", re.IGNORECASE))),
    ('garbage@pattern:bre"\\xff\\"+"', Garbage().on(pattern=re.compile(b'\xff"+'))),
    ("garbage@between:0.5..2", Garbage().on(between=(0.5, 2))),
    ("garbage@between:500ms..", Garbage().on(between=(0.5, float("inf")))),
    ("garbage@between:..2", Garbage().on(between=(0, 2))),
    ("loss:1@datagram:1..2", Loss(1).on(datagram=range(1, 3))),
    ("preset:3g", presets()["3g"]),
    ("3G", presets()["3g"]),
    ("reset-peer", ResetPeer()),
    ("lossy-wifi|slicer:3", presets()["lossy_wifi"] | Slicer(3)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), READ, ids=[text for text, _ in READ])
def test_reads(text: str, value: Any) -> None:
    if value is None:
        with pytest.raises(ValueError, match="here stands the name of a fault"):
            plan(text)
    else:
        assert plan(text) == plan(value)
        assert plan(plan(text).text) == plan(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Plan(), ""),
        (Latency(0.05, jitter=0.01) | Slicer(3), "latency:0.05,jitter:0.01|slicer:3"),
        (Latency(jitter=0.01) | Slicer(), "latency:jitter:0.01|slicer"),
        (upstream(Latency(2.0), Slicer(3)) | LimitData(0), "upstream(latency:2|slicer:3)|limit_data:0"),
        (ResetPeer().on(connection=range(1, 10, 2)), "reset_peer@connection:1..9/2"),
        (InsertBytes(b'"\\\t\xff'), r'insert_bytes:"\"\\\t\xff"'),
        (Garbage().on(pattern=re.compile(b'a"', re.I)), 'garbage@pattern:bre"a\\""i'),
    ],
)
def test_writes(value: Any, text: str) -> None:
    assert str(plan(value)) == text
    assert plan(text) == plan(value)


WRONG = [
    ("latncy:1", 1, "there is no fault 'latncy'; did you mean latency?"),
    ("slicer:3|latncy:1", 10, "did you mean latency?"),
    ("delay:3", 1, "there is no fault 'delay'; did you mean latency?"),
    ("slicer|Packet-Loss", 8, "there is no fault 'Packet-Loss'; did you mean loss?"),
    ("xyzzy", 1, "there is no fault 'xyzzy'; there are "),
    ("preset:5g", 8, "there is no preset '5g'; did you mean"),
    ("latency:delya:3", 9, "there is no field of Latency 'delya'; did you mean delay?"),
    ("latency:-1", 1, "Latency: delay is a number of seconds, at least 0, not -1"),
    ("slicer|latency:-1", 8, "Latency: delay"),
    ("latency:50m", 9, "unknown unit 'm': there are s, ms, us, min"),
    ("latency:5kB", 9, "unknown unit 'kB'"),
    ("corrupt:bits:2s", 14, "unknown unit 's': none is wanted"),
    ("latency:soon", 9, "here stands a number, not 'soon'"),
    ("latency:", 9, "here a value is missing"),
    ("slicer:3,4", 10, "Slicer: here stands field:value, with one of average_size, size_variation, delay"),
    ("slicer:3,average_size:4", 10, "Slicer: average_size is given twice"),
    ("blackhole:3", 11, "Blackhole has no fields"),
    ("upstream(latency", 17, "a parenthesis is not closed"),
    ("latency)", 8, "')' is unexpected"),
    ("latency|", 9, "here stands the name of a fault"),
    ("|latency", 1, "here stands the name of a fault"),
    ("latency slicer", 9, "'s' is unexpected"),
    ("insert_bytes:abc", 14, 'bytes stand in double quotes, as in "abc"'),
    ('insert_bytes:"abc', 14, "here a value is missing"),
    (r'insert_bytes:"a\q"', 16, "this escape is not known"),
    ('insert_bytes:"ä"', 15, "only ASCII stands for bytes"),
    ("latency@conection:1", 9, "did you mean connection?"),
    ("latency@", 9, "a trigger: here stands field:value"),
    ("latency@connection:1,every:2", 9, "connection says which ones already; every contradicts it"),
    ("latency@connection:0", 9, "connection is a number from 1 on"),
    ("latency@connection:x", 20, "numbers are written 3, 1+3, 1..5 or 1..9/2, not x"),
    ("latency@connection:5..2", 9, "connection is a number from 1 on"),
    ("latency@between:3", 17, "two times are written 0.5..2"),
    ("latency@between:3..1", 9, "the first before the second"),
    ("latency@pattern:abc", 17, "a pattern stands in double quotes"),
    ('latency@pattern:re"("', 17, "the expression is malformed"),
    ('latency@pattern:re"a"q', 17, "unknown flag 'q'"),
    ('latency@when:"x"', 9, "there is no field of a trigger 'when'"),
    ("upstream(downstream(latency))", 1, "Latency() is aimed downstream already, and cannot go upstream"),
]


@pytest.mark.parametrize(("text", "place", "problem"), WRONG, ids=[text for text, _, _ in WRONG])
def test_malformed_text_is_shown_with_the_place(text: str, place: int, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        plan(text)

    first, shown, mark = str(caught.value).split("\n")
    assert first.startswith(f"faults, at character {place}: ")
    assert problem in first
    assert shown == f"  {text}"
    assert mark.index("^") == place + 1


def test_a_function_cannot_be_written_down() -> None:
    whole = Latency().on(when=lambda site: True)

    with pytest.raises(ValueError, match="no text form"):
        _ = whole.text


@examples
@given(st.binary(min_size=1, max_size=20))
def test_all_bytes_can_be_written(data: bytes) -> None:
    assert plan(plan(InsertBytes(data)).text) == plan(InsertBytes(data))
    assert plan(Garbage().on(pattern=data).text) == Garbage().on(pattern=data)
    expression = re.compile(re.escape(data))
    assert plan(Garbage().on(pattern=expression).text) == Garbage().on(pattern=expression)


@examples
@given(st.text(alphabet='latencyslicer:,|()@"\\.0123 upstream', max_size=40))
def test_any_text_is_a_plan_or_a_usage_error(text: str) -> None:
    try:
        whole = plan(text)
    except UsageError:
        return
    assert plan(whole.text) == whole
