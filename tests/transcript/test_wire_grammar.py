"""The grammar in the docs and the parser agree: what the one makes the other takes, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from servertest.transcript import Event, WireSyntaxError, dump_wire
from servertest.transcript._wire_reader import read_statements
from tests.transcript._abnf import Grammar, rules_of
from tests.transcript.strategies import EVENTS, examples
from tests.transcript.test_wire_form import EVERYTHING, NEARLY, WORDS

PAGE = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text("utf-8")
TEXT = PAGE.partition("## Grammar")[2].split("```")[1].removeprefix("text\n")
GRAMMAR = Grammar(rules_of(TEXT), frozenset(rules_of(TEXT.split("\n\n")[1])))
LINE = re.compile(rf"[ \t]*{GRAMMAR.regex('line')}[ \t]*")

#: What a text in the grammar may be refused for all the same.
MEANING = re.compile(
    "these bytes belong to no statement|bytes were expected|connections are numbered from 1|this says which version"
    "|the file is in version|a gap has at least 1 byte|a port is a number from|this is text, and its bytes are no UTF-8"
    "|a traceback is text|the traceback below is no UTF-8|the repetitions of this file|this time is too far away"
    "|(not a|not a usable) regular expression|groups cannot be referred to by number|an invisible character"
)

#: What stands before a line so that it can go on with something.
BEFORE = ["", "peer 7\n<\n", 'failure "a" "b" "c"\n']


def refusal(text: str) -> str:
    """Why a text is refused; nothing if it is not."""
    try:
        list(read_statements(text.split("\n")))
    except WireSyntaxError as error:
        return error.reason
    return ""


def test_every_rule_is_used() -> None:
    assert GRAMMAR.used == set(GRAMMAR.rules)


@examples
@given(GRAMMAR.strategy("line"), st.sampled_from(BEFORE))
@example('connect 1 127.0.0.1:80 -> ("a", -5, -, b"\\xff", @"x")', "")
@example("2: close nobody forced # so be it", "")
@example("@-1.5E+3 gap > 7", "")
def test_what_the_grammar_makes_is_understood_or_has_no_meaning(line: str, before: str) -> None:
    reason = refusal(before + line)
    assert not reason or MEANING.match(reason), (line, reason)


@examples
@given(EVENTS)
def test_what_is_written_is_in_the_grammar(events: list[Event]) -> None:
    for line in dump_wire(events).split("\n"):
        assert LINE.fullmatch(line), line


@examples
@given(NEARLY | st.lists(WORDS, max_size=6).map(" ".join))
@example(EVERYTHING)
def test_what_is_understood_is_in_the_grammar(text: str) -> None:
    if refusal(text):
        return
    for line in text.removeprefix("\ufeff").split("\n"):
        assert LINE.fullmatch(line.removesuffix("\r")), line


@pytest.mark.parametrize(
    "line",
    [
        "CLOSE client",
        "close client gently",
        '> "\\q"',
        "> [0]",
        "peer a-:80",
        "wire one",
        "gap 7",
        "> /a",
        '"',
    ],
)
def test_what_is_not_in_the_grammar_is_refused(line: str) -> None:
    assert not LINE.fullmatch(line)
    assert refusal(line)
