"""What scripts mean: order, number, states, what is captured, when, and in which pieces. In virtual time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from servertest._support import UsageError
from servertest.faults import Latency, ResetPeer, upstream
from servertest.mocks import Act, Cue, Ending, Frame, Moment, Raw, Request, Scenarios, Script, Template
from servertest.transcript import Datagrams, Delimited, FixedSize, LengthPrefixed, WholeStream
from tests.mocks._stage import Stage

LINES = Delimited(b"\r\n")


def chat() -> Script:
    script = Script()
    script.banner(b"220 ready\r\n")
    script.expect(re.compile(rb"(?i:helo|ehlo) (?P<who>[^\r\n]*)\r\n")).reply(
        Template(b"250 hello {who}\r\n")
    )
    script.expect(b"NOOP\r\n").times(0, 2).reply(b"250 ok\r\n")
    script.expect(b"QUIT\r\n").reply(lambda request: b"221 bye " + request["who"] + b"\r\n").close()
    return script


def test_a_conversation() -> None:
    stage = Stage(chat()).say(b"HELO me\r\n", b"NOOP\r\n", b"QUIT\r\n")

    assert stage.said == b"220 ready\r\n250 hello me\r\n250 ok\r\n221 bye me\r\n"
    assert stage.endings == [Ending.CLOSE]
    assert stage.owed == []
    assert stage.performance.over


@settings(deadline=None)
@given(cuts=st.lists(st.integers(1, 12), max_size=30))
def test_how_the_stream_is_cut_changes_nothing(cuts: list[int]) -> None:
    stream = b"HELO me\r\nNOOP\r\nNOOP\r\nQUIT\r\n"
    stage = Stage(chat())
    for size in cuts:
        stage.say(stream[:size]) if stream[:size] else None
        stream = stream[size:]
    if stream:
        stage.say(stream)

    assert stage.said == b"220 ready\r\n250 hello me\r\n250 ok\r\n250 ok\r\n221 bye me\r\n"
    assert not stage.owed
    assert not stage.unexpected


def test_what_nothing_expects_ends_the_conversation_at_once() -> None:
    stage = Stage(chat()).say(b"HELO me\r\n", b"QUTI\r\n")

    assert stage.unexpected == [b"QUTI\r\n"]
    assert stage.endings == [Ending.CLOSE]
    (unexpected,) = stage.performance.unexpected
    assert [step.number for step in unexpected.awaited] == [3, 4]


def test_a_beginning_is_waited_for() -> None:
    stage = Stage(chat()).say(b"HEL")
    assert not stage.unexpected
    assert stage.end().unexpected == [b"HEL"]
    assert stage.performance.unexpected[0].midst


def test_the_client_may_leave_early_and_owes_the_rest() -> None:
    stage = Stage(chat()).say(b"HELO me\r\n").end()
    assert stage.owed == [3, 4][1:]
    assert stage.endings == [Ending.CLOSE]


@pytest.mark.parametrize(
    ("often", "sent", "owed", "unexpected"),
    [
        (lambda step: step.once(), b"", [1, 2], []),
        (lambda step: step.once(), b"A", [2], []),
        (lambda step: step.once(), b"AA", [2], [b"A"]),
        (lambda step: step.optional(), b"B", [], []),
        (lambda step: step.optional(), b"AB", [], []),
        (lambda step: step.optional(), b"AAB", [2], [b"AB"]),
        (lambda step: step.times(2), b"AB", [1, 2], [b"B"]),
        (lambda step: step.times(2), b"AAB", [], []),
        (lambda step: step.times(1, 3), b"AAAB", [], []),
        (lambda step: step.at_least(2), b"AAAAAB", [], []),
        (lambda step: step.forever(), b"B", [], []),
        (lambda step: step.forever(), b"AABAAA", [], []),
    ],
)
def test_how_often(
    often: Callable[[Any], object], sent: bytes, owed: list[int], unexpected: list[bytes]
) -> None:
    script = Script()
    often(script.expect(b"A"))
    script.expect(b"B")
    stage = Stage(script).say(sent) if sent else Stage(script)

    assert (stage.owed, stage.unexpected) == (owed, unexpected)


def test_what_the_server_does_on_its_own_beside_steps_for_ever() -> None:
    script = Script()
    script.expect(b"PING").reply(b"PONG").forever()
    script.banner(b"hello ")
    script.expect(b"A").at_least(1)
    script.expect(b"TIME").forever()
    script.push(b"news ")
    stage = Stage(script).say(b"PING", b"A")
    assert stage.said == b"hello PONGnews "
    assert not stage.owed

    script = Script()
    script.expect(b"A").optional()
    script.expect(b"PING").forever()
    with pytest.raises(UsageError, match="push: nobody knows when to do this, for step 1 "):
        script.push(b"news")


@settings(deadline=None)
@given(order=st.permutations([b"A", b"B", b"C"]))
def test_in_any_order(order: list[bytes]) -> None:
    script = Script()
    with script.any_order():
        for name in (b"A", b"B", b"C"):
            script.expect(name).reply(name.lower())
    script.expect(b"END").reply(b".")
    stage = Stage(script).say(*order, b"END")

    assert stage.said == b"".join(order).lower() + b"."
    assert not stage.owed


def test_the_end_cannot_come_before_all_of_any_order_has() -> None:
    script = Script()
    with script.any_order():
        script.expect(b"A")
        script.expect(b"B")
    script.expect(b"END")
    assert Stage(script).say(b"A", b"END").unexpected == [b"END"]


def test_otherwise() -> None:
    script = Script(framing=LINES)
    script.expect(b"A").reply(b"a")
    script.otherwise().reply(lambda request: b"what is " + request.data)
    assert script.otherwise() is script.otherwise()
    stage = Stage(script).say(b"B\r\nA\r\n")

    assert stage.said == b"what is B\r\na\r\n"
    assert not stage.unexpected
    assert not stage.owed


def test_states() -> None:
    script = Script(framing=LINES)
    script.expect(b"LOGIN").reply(b"in").then("in").forever()
    script.expect(b"LIST").reply(b"things").when("in").forever()
    script.expect(b"LIST").reply(b"not yet").when("start").forever()
    stage = Stage(script).say(b"LIST\r\nLOGIN\r\nLIST\r\n")

    assert stage.said == b"not yet\r\nin\r\nthings\r\n"
    assert Stage(script).say(b"LIST\r\n").said == b"not yet\r\n", "each conversation has a state of its own"


def test_scenarios_are_shared() -> None:
    script = Script(framing=LINES)
    script.expect(b"FAIL").then(outage="down").forever()
    script.expect(b"GET").when(outage="start").reply(b"here").forever()
    script.expect(b"GET").when(outage="down").reply(b"sorry").forever()
    scenarios = Scenarios()
    one, two = Stage(script, scenarios=scenarios), Stage(script, scenarios=scenarios)
    one.say(b"GET\r\nFAIL\r\n")
    two.say(b"GET\r\n")

    assert (one.said, two.said) == (b"here\r\n", b"sorry\r\n")
    assert str(scenarios) == "outage is 'down'"


def test_variables_last_for_the_conversation() -> None:
    script = Script(framing=LINES)
    script.expect(re.compile(rb"USER (?P<user>\w+)"))
    script.expect(lambda message: {"id": message[3:]} if message.startswith(b"ID ") else None)
    script.expect(b"WHO").reply(Template(b"{{{user}}} has {id}"))
    assert Stage(script).say(b"USER ann\r\nID 7\r\nWHO\r\n").said == b"{ann} has 7\r\n"


# -- when and how


def test_a_reply_takes_its_time_and_is_not_overtaken() -> None:
    script = Script()
    script.expect(b"A").reply(b"slow", delay=2)
    script.expect(b"B").reply(b"fast").close()
    stage = Stage(script).say(b"AB").run()

    assert stage.out == [(2, b"slow"), (2, b"fast"), (2, Ending.CLOSE)]


@pytest.mark.parametrize(
    ("how", "times"),
    [
        ({"pieces": 2}, [(0, b"abc"), (0, b"de")]),
        ({"pieces": [1, 3]}, [(0, b"a"), (0, b"bcd"), (0, b"e")]),
        ({"pieces": 9, "pause": 1}, [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (4, b"e")]),
        ({"slowly": 2}, [(0.5, b"a"), (1, b"b"), (1.5, b"c"), (2, b"d"), (2.5, b"e")]),
        ({"slowly": 1, "pieces": [4], "delay": 1}, [(5, b"abcd"), (6, b"e")]),
    ],
)
def test_pieces(how: dict[str, Any], times: list[tuple[float, bytes]]) -> None:
    script = Script()
    script.expect(b"?").reply(b"abcde", **how)
    assert Stage(script).say(b"?").run().out == times


def test_push_again_and_again() -> None:
    script = Script()
    script.push(b"tick", delay=1, times=3, every=2)
    assert Stage(script).run().out == [(1, b"tick"), (3, b"tick"), (5, b"tick")]


def test_half_close_and_go_on() -> None:
    script = Script()
    script.half_close()
    script.expect(b"A")
    script.expect_eof()
    stage = Stage(script).say(b"A").end()

    assert stage.endings == [Ending.FINISH, Ending.CLOSE]
    assert not stage.owed


def test_hang() -> None:
    script = Script()
    script.expect(b"A").reply(b"never mind").hang(delay=1)
    stage = Stage(script).say(b"A").run().say(b"anything").end().run()

    assert stage.said == b"never mind"
    assert stage.endings == []
    assert stage.performance.hung
    assert not stage.unexpected


def test_reset_and_garbage() -> None:
    script = Script()
    script.expect(b"A").garbage(10).reset()
    one, other = Stage(script, seed=1).say(b"A"), Stage(script, seed=1).say(b"A")

    assert one.out == other.out
    assert len(one.said) == 10
    assert one.endings == [Ending.RESET]
    assert Stage(script, seed=2).say(b"A").said != one.said


def test_an_act_of_ones_own() -> None:
    class Count(Act):
        def play(self, moment: Moment) -> list[Cue]:
            return [Cue(str(number).encode(), 1.0) for number in range(len(moment.request.data))]

        def __str__(self) -> str:
            return "count"

    script = Script()
    script.expect(b"abc").do(Count())
    assert Stage(script).say(b"abc").run().out == [(1, b"0"), (2, b"1"), (3, b"2")]


def test_eof_and_reset_can_be_expected() -> None:
    script = Script()
    script.expect(b"A")
    script.expect_eof().reply(b"bye")
    assert Stage(script).say(b"A").end().said == b"bye"
    assert Stage(script).say(b"A").cut().owed == [2]

    script = Script()
    script.expect_reset()
    assert Stage(script).cut().owed == []
    assert Stage(script).end().owed == [1]


# -- framings


def test_a_server_with_a_framing() -> None:
    script = Script(framing=LengthPrefixed(2))
    script.expect(b"hi").reply(b"HI").reply(Raw(b"\x00\x09half"))
    script.expect(lambda message: len(message) == 300)
    stage = Stage(script).say(b"\x00\x02h", b"i\x01\x2c", b"x" * 300)

    assert stage.said == b"\x00\x02HI\x00\x09half"
    assert not stage.owed


def test_frames_on_a_server_without() -> None:
    script = Script()
    script.expect(Frame(re.compile(rb"\w+"), LINES)).reply(Frame(Template(b"ok"), LengthPrefixed(1)))
    script.expect(Frame(b"abc", FixedSize(3))).reply(Frame(lambda request: request.data, FixedSize(3)))
    assert Stage(script).say(b"hello\r\nabc").said == b"\x02okabc"


def test_raw_bytes_on_a_server_with_a_framing() -> None:
    script = Script(framing=LINES)
    script.expect(b"DATA")
    script.expect(Raw(b"no line at all")).reply(b"ok")
    assert Stage(script).say(b"DATA\r\nno line at all").said == b"ok\r\n"


def test_the_whole_stream() -> None:
    script = Script(framing=WholeStream())
    script.expect(re.compile(rb"a+")).reply(b"counted")
    stage = Stage(script).say(b"aa", b"aaa")
    assert stage.said == b""
    assert stage.end().said == b"counted"


def test_what_is_no_message_is_unexpected() -> None:
    script = Script(framing=LengthPrefixed(4, max_size=100))
    script.expect(b"x")
    assert Stage(script).say(b"GET / HTTP/1.0").unexpected == [b"GET / HTTP/1.0"]


def test_datagrams() -> None:
    script = Script("datagram")
    script.expect(b"").reply(b"nothing")
    script.expect(re.compile(rb"a+")).reply(b"as", delay=1)
    stage = Stage(script).say(b"aa", b"", b"b", b"aaa").run()

    assert stage.out == [(0, b"nothing"), (1, b"as")]
    assert stage.unexpected == [b"aa", b"b"], "one unexpected datagram does not end anything"


def test_a_pattern_of_which_nobody_can_tell_where_it_fails_waits_for_more() -> None:
    script = Script()
    script.expect(re.compile(rb"(?=.*x).*\n"))
    stage = Stage(script).say(b"abc\n")
    assert not stage.unexpected
    assert stage.end().unexpected == [b"abc\n"]


# -- verbs while it is played


def test_verbs_may_be_added_while_it_is_played() -> None:
    script = Script()
    step = script.expect(b"A")
    stage = Stage(script).say(b"A")
    step.reply(b"a")
    script.push(b"news")
    script.expect(b"B").reply(b"b")
    stage.refresh().say(b"B")

    assert stage.said == b"anewsb"


def test_patience() -> None:
    script = Script()
    stage = Stage(script, patient=True).say(b"A")
    assert not stage.unexpected
    script.expect(b"A").reply(b"a")
    assert stage.refresh().said == b"a"
    assert Stage(script, patient=True).say(b"AB").end().unexpected == [b"B"]


# -- faults on steps


def test_faults_on_one_step() -> None:
    script = Script()
    script.expect(b"A").reply(b"aaaa").with_faults("slicer:1,delay:1")
    script.expect(b"B").reply(b"bbbb")
    stage = Stage(script).say(b"AB").run()

    assert stage.said == b"aaaabbbb"
    assert [what for _, what in stage.out] == [b"a", b"a", b"a", b"a", b"bbbb"]
    assert stage.out[-1][0] >= stage.out[-2][0] > 0


def test_a_reset_on_one_step() -> None:
    script = Script()
    script.expect(b"A").reply(b"0123456789").with_faults(ResetPeer(after_bytes=4))
    stage = Stage(script).say(b"A").run()

    assert stage.said == b"0123"
    assert stage.endings == [Ending.RESET]


def test_faults_begin_anew_each_time_a_step_comes() -> None:
    script = Script()
    script.expect(b"A").reply(b"0123456789").with_faults("limit_data:4").times(2)
    assert Stage(script).say(b"A").run().said == b"0123"


def test_faults_upstream_while_a_step_is_waited_for() -> None:
    script = Script()
    script.expect(b"A").reply(b"a")
    script.expect(b"B").reply(b"b").with_faults(upstream(Latency(3)))
    stage = Stage(script).say(b"A").say(b"B").run()
    assert stage.out == [(0, b"a"), (3, b"b")]


def test_faults_on_the_whole_connection() -> None:
    script = Script()
    script.expect(b"A").reply(b"a").close()
    from servertest.faults import plan

    stage = Stage(script, faults=plan("latency:1")).say(b"A").run()
    assert stage.out == [(2, b"a"), (2, Ending.CLOSE)]


def test_decisions_of_faults_are_told() -> None:
    told: list[Any] = []
    script = Script()
    script.expect(b"A").reply(b"0123456789").with_faults(ResetPeer(after_bytes=4))
    Stage(script, note=told.append).say(b"A").run()
    assert [decision.fault for decision in told] == ["reset_peer"]


# -- functions that raise


def test_a_function_that_raises_is_kept() -> None:
    def broken(request: Request) -> bytes:
        raise ZeroDivisionError("really")

    script = Script(framing=LINES)
    script.expect(b"A").reply(broken)
    stage = Stage(script).say(b"A\r\n")
    (trouble,) = stage.performance.troubles
    assert str(trouble.error) == "really"
    assert stage.endings == [Ending.CLOSE]

    script = Script("datagram")
    script.expect(lambda message: 1 / 0)
    stage = Stage(script).say(b"A").say(b"B")
    assert len(stage.performance.troubles) == 2


# -- what is refused


def refuse(make: Callable[[Script], object], match: str, **options: Any) -> None:
    with pytest.raises(UsageError, match=match):
        make(Script(**options))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda s: s.expect(b""), "expect_eof"),
        (lambda s: s.expect("text"), "cannot|can be expected"),
        (lambda s: s.expect(re.compile("text")), "over bytes"),
        (lambda s: s.expect(lambda m: True), "framing"),
        (lambda s: s.expect(Frame(b"x")), "framing"),
        (lambda s: s.banner("text"), "can be sent"),
        (lambda s: s.banner(b"x", delay=-1), "delay"),
        (lambda s: s.expect(b"x").reply(b"x", pieces=0), "pieces"),
        (lambda s: s.expect(b"x").reply(b"x", pieces=[2, 0]), "pieces"),
        (lambda s: s.expect(b"x").reply(b"x", slowly=0), "slowly"),
        (lambda s: s.expect(b"x").reply(b"x", pause="1"), "pause"),
        (lambda s: s.push(b"x", times=0), "times"),
        (lambda s: s.push(3), "can be sent"),
        (lambda s: s.garbage(0), "size"),
        (lambda s: s.expect(b"x").times(0), "times"),
        (lambda s: s.expect(b"x").times(2, 1), "times"),
        (lambda s: s.banner(b"x").forever(), "on its own"),
        (lambda s: s.banner(b"x").times(2), "on its own"),
        (lambda s: s.expect(b"x").do("act"), "Act"),
        (lambda s: s.expect(b"x").with_faults("fail_fork"), "cannot be done here"),
        (lambda s: s.expect(b"x").with_faults("loss:0.1"), "stream"),
        (lambda s: (s.expect(b"x").optional(), s.push(b"y")), "nobody knows when"),
        (lambda s: Template(b"{a b}"), "brace"),
    ],
)
def test_nonsense_is_refused_where_it_is_said(make: Callable[[Script], object], match: str) -> None:
    refuse(make, match)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda s: s.banner(b"x"), "greeted"),
        (lambda s: s.expect(b"x").close(), "datagrams"),
        (lambda s: s.expect_eof(), "datagrams"),
        (lambda s: s.expect_reset(), "datagrams"),
        (lambda s: s.expect(b"x").with_faults("slicer:1"), "datagram"),
    ],
)
def test_datagrams_have_no_connection(make: Callable[[Script], object], match: str) -> None:
    refuse(make, match, transport="datagram")


def test_messages_that_a_framing_cannot_say_are_refused() -> None:
    refuse(lambda s: s.expect(b"A\r\n"), "delimiter", framing=LINES)
    refuse(lambda s: s.expect(b"A").reply(b"a\r\n"), "delimiter", framing=LINES)
    with pytest.raises(UsageError, match="cut by chance"):
        Script(framing=Datagrams())


def test_any_order_is_for_requests() -> None:
    script = Script()
    with pytest.raises(UsageError, match="in answer to something"), script.any_order():
        script.push(b"x")
    with pytest.raises(UsageError, match="another one"), script.any_order(), script.any_order():
        pass


def test_a_variable_that_was_never_captured_is_told() -> None:
    script = Script()
    script.expect(re.compile(rb"(?P<who>\w+)!")).reply(Template(b"{what}"))
    (trouble,) = Stage(script).say(b"me!").performance.troubles
    assert "'what'" in str(trouble.error)
    assert "who" in str(trouble.error)


def test_places_and_words() -> None:
    script = Script()
    step = script.expect(b"x").reply(b"y", delay=1, pieces=2)
    assert step.place.startswith("tests/mocks/test_script.py:")
    assert repr(step) == '<Step 1: expect "x">'
    assert [str(act) for act in step.acts] == ['reply "y"  (after 1 s, in 2 pieces)']
    assert str(script.garbage(3).acts[0]) == "garbage, 3 B"
    assert [step.often for step in (step.times(3), step.at_least(2), step.optional(), step.times(1, 2))][
        -1
    ] == "1 to 2 times"
