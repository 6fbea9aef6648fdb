"""Conversations as scripts for one side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from servertest.transcript import (
    Disconnect,
    Exchange,
    Expect,
    ExpectEof,
    ExpectReset,
    FinishSending,
    Send,
    Transcript,
    WireSyntaxError,
    dump_wire,
    load_exchanges,
    matches,
    parse_exchanges,
)

GREETING = """\
# A server that speaks first, and a client that says when it has finished.
connect 1 127.0.0.1:50000 -> 127.0.0.1:25
< "220 " /[a-z.]+/ " ready\\r\\n"
> "HELO "
> "me\\r\\n"
< "250 ok\\r\\n"
  "250 done\\r\\n"
< "250 " /(?P<id>[0-9]+)/ "\\r\\n"
half-close client
@2.5 close server
"""


def test_a_script_for_the_client() -> None:
    (script,) = parse_exchanges(GREETING)
    greeting, helo, me, answer, finish, eof = script.steps
    assert isinstance(greeting, Expect)
    assert isinstance(greeting.expected, re.Pattern)
    assert greeting.expected.fullmatch(b"220 mail.example ready\r\n")
    assert not greeting.expected.fullmatch(b"220 mail.example ready\r\n250")
    assert (helo, me) == (Send(b"HELO ", None, 4), Send(b"me\r\n", None, 5))
    assert isinstance(answer, Expect)
    assert matches(answer.expected, b"250 ok\r\n250 done\r\n250 42\r\n")
    assert (finish, eof) == (FinishSending(None, 9), ExpectEof(2.5, 10))
    assert (script.number, script.transport, script.line) == (1, "stream", 2)
    assert (script.client, script.server) == (("127.0.0.1", 50000), ("127.0.0.1", 25))


def test_a_script_for_the_server() -> None:
    text = '> "HELO " /[a-z]+/ "\\r\\n"\n< "250 ok\\r\\n"\nclose client\n'
    (script,) = parse_exchanges(text, side="server")
    expect, send, eof = script.steps
    assert isinstance(expect, Expect)
    assert matches(expect.expected, b"HELO me\r\n")
    assert send == Send(b"250 ok\r\n", None, 2)
    assert eof == ExpectEof(None, 3)


def test_the_exchanges_of_a_script() -> None:
    (script,) = parse_exchanges(GREETING)
    greeting, helo = script.exchanges
    assert (greeting.sent, greeting.line) == (b"", 3)
    assert greeting.answered_by(b"220 x ready\r\n")
    assert (helo.sent, helo.line) == (b"HELO me\r\n", 4)
    (script,) = parse_exchanges('> "a"\n< "b"\n> "c"\n> "d"\n')
    assert script.exchanges == (Exchange(b"a", b"b", 1), Exchange(b"cd", b"", 3))


@pytest.mark.parametrize(
    ("ending", "client", "server"),
    [
        ("half-close client", [FinishSending(None, 2)], [ExpectEof(None, 2)]),
        ("half-close server", [ExpectEof(None, 2)], [FinishSending(None, 2)]),
        ("close client", [Disconnect(False, None, 2)], [ExpectEof(None, 2)]),
        ("close server forced", [ExpectEof(None, 2)], [Disconnect(False, None, 2)]),
        ("reset client", [Disconnect(True, None, 2)], [ExpectReset(None, 2)]),
        ("reset server", [ExpectReset(None, 2)], [Disconnect(True, None, 2)]),
        ("reset nobody", [ExpectReset(None, 2)], [ExpectReset(None, 2)]),
        ("close nobody timeout", [], []),
        (
            "half-close server\nclose server",
            [ExpectEof(None, 2)],
            [FinishSending(None, 2), Disconnect(False, None, 3)],
        ),
        (
            "half-close client\nclose server",
            [FinishSending(None, 2), ExpectEof(None, 3)],
            [ExpectEof(None, 2), Disconnect(False, None, 3)],
        ),
        ("half-close server\nreset server", [ExpectEof(None, 2), ExpectReset(None, 3)], None),
    ],
)
def test_every_end_is_somebodys_act(ending: str, client: list[object], server: list[object] | None) -> None:
    text = f'> "x"\n{ending}\n'
    assert list(parse_exchanges(text)[0].steps[1:]) == client
    if server is not None:
        assert list(parse_exchanges(text, side="server")[0].steps[1:]) == server


def test_datagrams_are_sent_and_expected_one_by_one() -> None:
    text = """
peer 127.0.0.1:5353
> "a" "b"
>
< "c"
< /d+/
peer "/run/client"
> "other"
"""
    first, second = parse_exchanges(text)
    assert (first.transport, first.client) == ("datagram", ("127.0.0.1", 5353))
    assert first.steps[:3] == (Send(b"ab", None, 3), Send(b"", None, 4), Expect(b"c", None, 5))
    assert isinstance(first.steps[3], Expect)
    assert matches(first.steps[3].expected, b"ddd")
    assert (second.number, second.steps) == (2, (Send(b"other", None, 8),))


def test_conversations_may_be_mixed() -> None:
    text = 'connect\n> "a"\nconnect\n> "b"\n1: < "A"\n2: < "B"\n0: note "x"\nfailure "a" "b" "c"\n'
    first, second = parse_exchanges(text)
    assert first.exchanges == (Exchange(b"a", b"A", 2),)
    assert second.exchanges == (Exchange(b"b", b"B", 4),)


def test_what_was_not_kept_may_be_anything_of_that_size() -> None:
    (script,) = parse_exchanges('> "x"\n< "a"\ngap < 3\n< "b"\n')
    ((exchange),) = script.exchanges
    assert exchange.answered_by(b"a\n\x00\xffb")
    assert not exchange.answered_by(b"a\n\x00b")


def test_a_recorded_transcript_can_be_played() -> None:
    transcript = Transcript()
    number = transcript.connect(("127.0.0.1", 1), ("127.0.0.1", 2))
    transcript.data(number, "upstream", b"hi\n")
    transcript.data(number, "downstream", b"H")
    transcript.data(number, "downstream", b"I\n")
    transcript.half_close(number, "client")
    transcript.close(number, "server", "fin")
    (script,) = parse_exchanges(dump_wire(transcript.events, times=False))
    assert script.steps == (
        Send(b"hi\n", None, 3),
        Expect(b"HI\n", None, 4),
        FinishSending(None, 6),
        ExpectEof(None, 7),
    )


def test_a_conversation_in_which_nothing_is_said() -> None:
    (script,) = parse_exchanges("connect\nclose client")
    assert script.exchanges == ()
    assert parse_exchanges("") == []


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ('> "a"\n> /b/', 2, 3, "these bytes are to be sent"),
        ("gap > 3", 1, 1, "cannot be sent"),
        ('connect\nclose client\n> "a"', 3, 1, "connection 1 has ended: write connect"),
        ("connect 1\nconnect 1", 2, 1, "connection 1 has begun already"),
        ("< /(?P<a>x)/\n< /(?P<a>y)/\nclose client", 1, 3, "cannot stand together: redefinition"),
        ("gap < 99999999999", 1, 1, "cannot stand together"),
        ("> x", 1, 3, "bytes were expected"),
    ],
)
def test_what_cannot_be_played_is_refused(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(WireSyntaxError, match=reason) as caught:
        parse_exchanges(text)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_file_is_loaded_and_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "upper.wire"
    path.write_bytes(b'> "hi\\n"\r\n< "HI\\n"\r\n')
    assert load_exchanges(path)[0].exchanges == (Exchange(b"hi\n", b"HI\n", 1),)
    assert load_exchanges(str(path), side="server")[0].steps[1] == Send(b"HI\n", None, 2)
    path.write_bytes(b"\xff")
    with pytest.raises(WireSyntaxError, match=f"{re.escape(str(path))}:1:1: the byte ff"):
        load_exchanges(path)
    with pytest.raises(FileNotFoundError):
        load_exchanges(tmp_path / "none.wire")


@pytest.mark.parametrize("text", ["", "wire 1\n# nothing yet\n", 'note "nothing happened"\n'])
def test_a_file_without_a_conversation_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.wire"
    path.write_text(text)
    with pytest.raises(WireSyntaxError) as caught:
        load_exchanges(path)
    assert str(caught.value).startswith(f"{path}:1:1: the file holds no conversation: ")
    assert "\n" not in str(caught.value)


def test_a_regular_expression_alone_is_expected_as_it_was_written() -> None:
    (script,) = parse_exchanges('> "a"\n< /x|y+/\n')
    assert script.exchanges[0].expected == re.compile(b"x|y+")


def test_what_is_expected_may_be_bytes_a_pattern_or_a_function() -> None:
    assert matches(b"a", b"a")
    assert not matches(b"a", b"ab")
    assert matches(re.compile(b"a+"), b"aa")
    assert not matches(re.compile(b"a+"), b"aab")
    assert matches(lambda data: len(data) == 2, b"xy")
    assert not Exchange(b"", bytes.isdigit).answered_by(b"x")


def test_an_expectation_says_when_it_was_complete() -> None:
    (script,) = parse_exchanges('@1 > "a"\n@2 > "b"\n@3 < "c"\n', side="server")
    expected, answer = script.steps
    assert isinstance(expected, Expect)
    assert (expected.time, expected.until, answer.time) == (1.0, 2.0, 3.0)
