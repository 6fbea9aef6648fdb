"""Laws that hold for every script: how a stream is cut changes nothing, and nothing that a client sends breaks anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings, strategies as st

from servertest.faults import Plan as Faults
from servertest.faults.strategies import plans
from servertest.mocks import Ending, Script, Template
from servertest.transcript import Delimited, Framing, LengthPrefixed
from tests.mocks._stage import Stage

WORDS = st.text("ab\n", min_size=1, max_size=4).map(lambda text: text.encode())
PATTERNS = st.sampled_from([rb"a+b", rb"(?P<x>[ab]*)\n", rb"b.a", rb"a|ab\n", rb"(?s:..)\n?"]).map(
    lambda source: re.compile(source)
)
OFTEN = st.sampled_from(["once", "optional", "forever", "twice", "more"])


@dataclass(frozen=True)
class Plan:
    """A step of a script that is to be made."""

    expected: Any
    often: str
    state: str | None
    then: str | None

    def add(self, script: Script, number: int) -> None:
        step = script.expect(self.expected).reply(b"<%d>" % number)
        often: dict[str, Callable[[], object]] = {
            "once": step.once,
            "optional": step.optional,
            "forever": step.forever,
            "twice": lambda: step.times(2),
            "more": lambda: step.at_least(1),
        }
        often[self.often]()
        step.when(self.state).then(self.then)


STEPS = st.lists(
    st.builds(
        Plan, WORDS | PATTERNS, OFTEN, st.none() | st.just("start") | st.just("s"), st.none() | st.just("s")
    ),
    max_size=6,
)
CUTS = st.lists(st.integers(1, 5), max_size=30)


def make(steps: list[Plan], framing: Framing | None = None, order: bool = True, last: bool = False) -> Script:
    script = Script(framing=framing)
    if order:
        for number, step in enumerate(steps):
            step.add(script, number)
    else:
        with script.any_order():
            for number, step in enumerate(steps):
                step.add(script, number)
    if last:
        script.otherwise().reply(b"?")
    return script


def play(script: Script, pieces: list[bytes]) -> tuple[Any, ...]:
    stage = Stage(script).say(*pieces).end().run()
    steps = [occurrence.step.number for occurrence in stage.performance.occurrences]
    return steps, stage.said, stage.endings, stage.owed, bool(stage.unexpected)


def cut(stream: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    return [piece for piece in [*pieces, stream] if piece]


@given(steps=STEPS, stream=st.lists(WORDS, max_size=8).map(b"".join), cuts=CUTS, order=st.booleans())
@settings(max_examples=300, deadline=None)
def test_how_a_stream_is_cut_changes_nothing(
    steps: list[Plan], stream: bytes, cuts: list[int], order: bool
) -> None:
    assert play(make(steps, order=order), cut(stream, cuts)) == play(
        make(steps, order=order), cut(stream, [])
    )


@given(
    steps=st.lists(
        st.builds(Plan, st.sampled_from([b"a", b"b", b"ab"]), OFTEN, st.none(), st.none()), max_size=6
    ),
    words=st.lists(st.sampled_from([b"a", b"b", b"ab", b"c"]), max_size=8),
    cuts=CUTS,
    framing=st.sampled_from([Delimited(b"\r\n"), LengthPrefixed(2)]),
    last=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_nor_does_it_with_messages(
    steps: list[Plan], words: list[bytes], cuts: list[int], framing: Framing, last: bool
) -> None:
    stream = b"".join(map(framing.wrap, words))
    whole = play(make(steps, framing, last=last), cut(stream, []))
    assert play(make(steps, framing, last=last), cut(stream, cuts)) == whole
    if last:
        assert not whole[-1], "whatever comes is expected"
        assert len(whole[0]) == len(words)


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_nothing_that_a_client_sends_breaks_anything(pieces: list[bytes], seed: int) -> None:
    script = Script()
    script.banner(b"hi", slowly=3)
    script.expect(re.compile(rb"(?s:(?P<a>.)\x00)")).reply(Template(b"{a}"), pieces=2, pause=1).with_faults(
        "slicer:1|latency:0.1"
    )
    script.expect(re.compile(rb"[\x80-\xff]+\n")).garbage().optional()
    script.otherwise().reply(lambda request: request.data[::-1]).with_faults("corrupt:0.1")
    stage = Stage(script, seed=seed).say(*[piece for piece in pieces if piece]).run().end().run()
    assert not stage.performance.troubles
    assert stage.endings == [Ending.CLOSE]


def under_faults(transport: Any, on_step: Faults, on_all: Faults, seed: int) -> tuple[Any, ...]:
    script = Script(transport)
    script.expect(re.compile(rb"(?s:..)")).reply(b"0123456789" * 20, pieces=3, pause=0.1).with_faults(on_step)
    script.expect(b"next").reply(b"and so on", delay=0.2)
    stage = Stage(script, seed=seed, faults=on_all).say(b"ab").run(100).say(b"next").run(200)
    if transport == "stream":
        stage.end().run(300)
    assert not stage.performance.troubles
    return stage.out, stage.performance.server_end, stage.owed


@given(on_step=plans("stream"), on_all=plans("stream"), seed=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_any_faults_on_any_step_end_and_repeat(on_step: Faults, on_all: Faults, seed: int) -> None:
    once = under_faults("stream", on_step, on_all, seed)
    assert once == under_faults("stream", on_step, on_all, seed)
    said = b"".join(what for _, what in once[0] if isinstance(what, bytes))
    if not on_step and not on_all:
        assert said == b"0123456789" * 20 + b"and so on"


@given(on_step=plans("datagram"), on_all=plans("datagram"), seed=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_and_of_datagrams(on_step: Faults, on_all: Faults, seed: int) -> None:
    assert under_faults("datagram", on_step, on_all, seed) == under_faults("datagram", on_step, on_all, seed)
