"""What a failure says: it has to be enough at three in the morning."""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from servertest._support import DeadlineExceeded
from servertest.faults import ResetPeer
from servertest.mocks import MockFailed, MockServer, Request
from servertest.transcript import Delimited


def even(message: bytes) -> bool:
    return len(message) % 2 == 0


def in_any_order(mock: MockServer) -> None:
    with mock.any_order():
        mock.expect(b"A").reply(b"a")
        mock.expect(b"B")
        mock.expect(b"C")
    mock.expect(b"PING\n").reply(b"PONG\n").forever()


def complaint(
    write: Callable[[MockServer], object], *said: bytes, clients: int = 1, reset: bool = False, **options: Any
) -> str:
    """What a mock server complains of after clients have said this and have finished sending."""
    mock = MockServer(**options)
    write(mock)
    for _ in range(clients):
        with mock.connect() as client:
            for data in said:
                (client.send if mock.setting.transport == "datagram" else client.send_all)(data)
            if reset:
                mock.wait_for(requests=1)
                client.reset()
            elif mock.setting.transport == "stream":
                with contextlib.suppress(OSError, DeadlineExceeded):
                    client.half_close()
                    client.read_eof(timeout=0.1)
    with pytest.raises(MockFailed) as caught:
        mock.stop()
    return str(caught.value)


CASES: list[tuple[str, Callable[..., Any], tuple[bytes, ...], dict[str, Any], list[str]]] = [
    (
        "reset by the client",
        lambda m: (m.expect(b"A").reply(b"a"), m.expect(b"B")),
        (b"A",),
        {"reset": True},
        [
            'connection 1: step 2 expects "B"; the client cut the connection off instead',
            "reset by the client (RST)",
            "resets (RST) ",
        ],
    ),
    (
        "closed by the server",
        lambda m: (m.expect(b"A").close(), m.expect(b"B")),
        (b"A",),
        {},
        ['step 2 expects "B"; the server had closed the connection before', "✓ close"],
    ),
    (
        "closed by the server, after the client had ended",
        lambda m: (m.expect(b"A"), m.expect(b"B"), m.expect(b"C")),
        (b"A",),
        {},
        ['step 2 expects "B" (and 1 more); the client ended instead'],
    ),
    (
        "hanging",
        lambda m: (m.expect(b"A").hang(), m.expect(b"B")),
        (b"A",),
        {},
        ["the server hangs, and takes no notice of anything", "✓ hang"],
    ),
    (
        "the beginning of something",
        lambda m: m.expect(re.compile(rb"HELO (\w+)\r\n")),
        (b"HELO me",),
        {},
        [
            r'the client ended after "HELO me", and step 1 expects /HELO (\w+)\r\n/',
            "received b'HELO me'\n                      ^ fits, and something is missing",
        ],
    ),
    (
        "not often enough",
        lambda m: (m.expect(b"A").times(3).reply(b"a"), m.expect(b"Z").optional()),
        (b"A",),
        {},
        [
            'step 1 expects "A", and it came 1 of 3 times',
            '✗  1  expect "A"  (3 times, came 1 time)',
            '·  2  expect "Z"  (optional)',
        ],
    ),
    (
        "any order",
        in_any_order,
        (b"PING\nPING\nBA",),
        {},
        ['✓  2  expect "B"', '✗  3  expect "C"', r'✓  4  expect "PING\n"  (any time, came 2 times)'],
    ),
    ("nothing expected", lambda m: None, (b"hello",), {}, ['"hello" came, and the script expects nothing']),
    (
        "another state",
        lambda m: m.expect(b"A").when("in", outage="over").forever(),
        (b"A",),
        {},
        [
            "step 1 expects this in the state 'in', and the state is 'start'",
            "(in state 'in', while outage is 'over', any time)",
        ],
    ),
    (
        "a state in which nothing is expected",
        lambda m: m.expect(b"A").when("in"),
        (b"A",),
        {},
        ["nothing is expected in the state 'start'"],
    ),
    (
        "a function",
        lambda m: m.expect(even),
        (b"abc\n",),
        {"framing": Delimited()},
        ['"abc" came, and step 1 expects what even() accepts'],
    ),
    (
        "datagrams",
        lambda m: m.expect(b"x").reply(b"y"),
        (b"a", b"b", b"c", b"", b"x"),
        {"kind": "udp"},
        [
            'peer 1: "b" came, and step 1 expects "x"',
            "1 more request came",
            "an empty datagram",
            '✓  1  expect "x"',
        ],
    ),
    (
        "binary",
        lambda m: m.expect(bytes(range(256))),
        (bytes(range(200)) + b"zz",),
        {},
        ["[00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f] ... 240 more bytes", "^^ byte 200"],
    ),
    (
        "faults",
        lambda m: (m.expect(b"A").reply(b"0123456789").with_faults(ResetPeer(after_bytes=5)), m.expect(b"B")),
        (b"A",),
        {},
        [
            "the server had cut the connection off before",
            "ResetPeer(after_bytes=5)",
            "* reset_peer: ",
            "their seed is 0",
        ],
    ),
    (
        "many of the same",
        lambda m: m.expect(b"A"),
        (b"B",),
        {"clients": 12},
        ['connections 1, 2, 3, 4, 5, 6, 7, 8 and 4 more: "B" came, and step 1 expects "A"'],
    ),
    (
        "several candidates",
        lambda m: (
            m.expect(b"hello\n").optional(),
            m.expect(b"help\n"),
            m.expect(re.compile(rb"\d+\n")).forever(),
        ),
        (b"helo\n",),
        {},
        ['step 1 expects "hello\\n"', 'also possible: step 2, "help\\n"; step 3, /\\d+\\n/'],
    ),
    (
        "an earlier step",
        lambda m: (m.expect(b"A").optional(), m.expect(b"B"), m.expect(b"C")),
        (b"BA",),
        {},
        ["step 1 expects this, but comes before", "~  1"],
    ),
]


@pytest.mark.parametrize(
    ("write", "said", "options", "lines"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_it_says(write: Any, said: tuple[bytes, ...], options: dict[str, Any], lines: list[str]) -> None:
    text = complaint(write, *said, **options)
    for line in lines:
        assert line in text, text
    assert "did not get what its script expects" in text
    assert "what passed:" in text
    assert text.count("what passed:") == 1
    assert "test_report.py:" in text or not options or "nothing" in text


def careless(request: Request) -> bytes:
    raise KeyError("no such thing:\nneither here nor there")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def unspeakable(message: bytes) -> bool:
    raise Unspeakable


def test_a_function_that_raises_is_shown_from_where_the_tests_own_code_begins() -> None:
    text = complaint(lambda m: m.expect(b"A").reply(careless), b"A")
    assert "connection 1: step 1 raised KeyError: 'no such thing:\\nneither here nor there'\n" in text
    _, _, raised = text.partition("raised:\n")
    assert raised.splitlines()[0] == "    Traceback (most recent call last):"
    assert re.match(r'      File ".*test_report\.py", line \d+, in careless', raised.splitlines()[1])
    assert "_acts.py" not in text

    text = complaint(lambda m: m.expect(unspeakable), b"A\n", framing=Delimited())
    assert "step 1 raised Unspeakable: (its message cannot be shown" in text


def test_a_message_of_several_lines_is_one_problem() -> None:
    def judge(message: bytes) -> bool:
        raise ValueError("one\ntwo")

    text = complaint(lambda m: m.expect(judge), b"A\n", framing=Delimited())
    assert text.splitlines()[1:3] == ["  connection 1: step 1 raised ValueError: one", ""]
    assert "    ValueError: one\n    two\n" in text


@pytest.mark.parametrize(
    ("write", "clients", "says"),
    [
        (lambda m: m.expect(b"A"), 1, 'connection 1: "B" came, and step 1 expects "A"'),
        (
            lambda m: m.expect(b"B") and m.on(3).banner(b"x"),
            1,
            "no connection came that plays the script for connection 3; there were 1",
        ),
        (
            lambda m: m.on(1).expect(b"A") and m.on(2).expect(b"C"),
            2,
            'connection 1: "B" came, and step 1 expects "A" (and 1 more)',
        ),
    ],
)
def test_the_headline_says_what_is_wrong_in_one_line(write: Any, clients: int, says: str) -> None:
    mock = MockServer()
    write(mock)
    for _ in range(clients):
        with mock.connect() as client:
            client.send_all(b"B")
            client.half_close()
            client.read_eof()
    with pytest.raises(MockFailed) as caught:
        mock.stop()
    assert caught.value.servertest_headline == says
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.servertest_headline) == (str(caught.value), says)


def test_many_different_ones() -> None:
    mock = MockServer()
    mock.expect(b"A")
    for number in range(5):
        with mock.connect() as client:
            client.send_all(b"%d" % number)
            client.read_eof()
    with pytest.raises(MockFailed) as caught:
        mock.stop()
    assert "... and 2 more conversations that went wrong" in str(caught.value)
    assert str(caught.value).count("what passed:") == 3
