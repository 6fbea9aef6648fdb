"""Beginnings of what a pattern matches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings, strategies as st

from servertest.mocks._partial import could_become, fits_up_to

PATTERNS = [
    rb"HELO .*\r\n",
    rb"(?i:helo|ehlo) (?P<name>[^\r\n]+)\r\n",
    rb"\d{3,5}[- ]?x+",
    rb"a*?b",
    rb"(?:ab)+c",
    rb"(a|bc|bcd)e\Z",
    rb"(?s:.{4})end",
    rb"^GET /(\w+)? HTTP/1\.[01]\r\n$",
    rb"[^\x00-\x1f]+\x00",
    rb"",
]


@pytest.mark.parametrize("source", PATTERNS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_beginning_of_what_matches_may_become_it(source: bytes, data: st.DataObject) -> None:
    pattern = re.compile(source)
    whole = data.draw(st.from_regex(pattern, fullmatch=True))
    for size in range(len(whole)):
        assert could_become(pattern, whole[:size]) is True, (pattern, whole[:size])


@pytest.mark.parametrize(
    ("source", "data", "fits"),
    [
        (rb"HELO .*\r\n", b"EHLO me\r\n", 0),
        (rb"HELO .*\r\n", b"HELP\r\n", 3),
        (rb"\d{3}\n", b"12345", 3),
        (rb"(?i:quit)\r\n", b"qUiT\n", 4),
        (rb"(ab|cd)e", b"cf", 1),
    ],
)
def test_what_cannot_become_it_is_known_and_where(source: bytes, data: bytes, fits: int) -> None:
    assert could_become(re.compile(source), data) is False
    assert fits_up_to(re.compile(source), data) == fits


@pytest.mark.parametrize("source", [rb"(a)\1b", rb"(?=x)..", rb"a\b.", rb"(?:a*)*b"])
def test_of_some_patterns_nothing_can_be_said(source: bytes) -> None:
    assert could_become(re.compile(source), b"zzz") is None
    assert fits_up_to(re.compile(source), b"zzz") is None


def test_a_verbose_pattern() -> None:
    pattern = re.compile(
        rb"""HELO \s \w+  # who
                              \r\n""",
        re.VERBOSE,
    )
    assert could_become(pattern, b"HELO m") is True
    assert could_become(pattern, b"HELOm") is False


def test_it_is_quick_about_long_data() -> None:
    pattern = re.compile(rb"[a-z ]+[0-9]+\n")
    assert could_become(pattern, b"a" * 60_000) is True
    assert could_become(pattern, b"a" * 100_000) is None
