"""The `.wire` form: any events there and back, any text understood or refused with a place."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import example, given, strategies as st

from servertest._support import UsageError
from servertest.transcript import (
    Close,
    Connect,
    Data,
    Datagram,
    Event,
    Failure,
    Gap,
    HalfClose,
    Note,
    Transcript,
    WireSyntaxError,
    dump_wire,
    parse_exchanges,
    parse_wire,
    read_wire,
    write_wire,
)

from .strategies import EVENTS, RECORDED, examples

EVERYTHING = """\
wire 1
@0.000010 connect 1 127.0.0.1:50000 -> 127.0.0.1:8000
@0.000020 > "GET /\\r\\n"
            "\\r\\n"
@0.000030 connect 2 [::1]:50001 -> [::1]:8000
@0.000040 < [00 01 fe ff]                                      # ....
            "x" * 100
@0.000050 1: half-close client
gap < 1000
@0.000060 failure "handle" "ValueError" "odd \\"ö\\""
  "Traceback (most recent call last):\\n"
  "ValueError: odd\\n"
reset server
connect 3 "/run/a socket" -> @"abstract\\xff"
close nobody timeout
0: note "general"
peer 4 127.0.0.1:5353
> "ping"
<
2: close server forced
4: close client
peer 5 -
> ""
peer 6 ("::1", 80, 0, 2)
> b"""

EVENTS_OF_EVERYTHING: tuple[Event, ...] = (
    Connect(1e-5, 1, ("127.0.0.1", 50000), ("127.0.0.1", 8000)),
    Data(2e-5, 1, "upstream", b"GET /\r\n\r\n"),
    Connect(3e-5, 2, ("::1", 50001, 0, 0), ("::1", 8000, 0, 0)),
    Data(4e-5, 2, "downstream", b"\x00\x01\xfe\xff" + b"x" * 100),
    HalfClose(5e-5, 1, "client"),
    Gap(5e-5, 1, "downstream", 1000),
    Failure(
        6e-5, 1, "handle", "ValueError", 'odd "ö"', "Traceback (most recent call last):\nValueError: odd\n"
    ),
    Close(6e-5, 1, "server", "rst"),
    Connect(6e-5, 3, "/run/a socket", b"\0abstract\xff"),
    Close(6e-5, 3, None, "timeout"),
    Note(6e-5, 0, "general"),
    Datagram(6e-5, 4, "upstream", b"ping", ("127.0.0.1", 5353)),
    Datagram(6e-5, 4, "downstream", b"", ("127.0.0.1", 5353)),
    Close(6e-5, 2, "server", "forced"),
    Close(6e-5, 4, "client", "fin"),
    Datagram(6e-5, 5, "upstream", b"", None),
)


def test_every_statement_is_understood() -> None:
    text = EVERYTHING.removesuffix('peer 6 ("::1", 80, 0, 2)\n> b')
    assert parse_wire(text) == EVENTS_OF_EVERYTHING


def test_every_event_is_written_as_a_person_would() -> None:
    text = EVERYTHING.removesuffix('peer 6 ("::1", 80, 0, 2)\n> b').replace('> ""', ">")
    assert dump_wire(EVENTS_OF_EVERYTHING) == text


@examples
@given(EVENTS)
def test_any_events_come_back_as_they_were(events: list[Event]) -> None:
    assert list(parse_wire(dump_wire(events))) == events


@examples
@given(EVENTS)
def test_without_times_everything_else_comes_back(events: list[Event]) -> None:
    assert list(parse_wire(dump_wire(events, times=False))) == [replace(event, time=0.0) for event in events]


@examples
@given(RECORDED)
def test_any_transcript_comes_back_as_it_was(events: list[Event]) -> None:
    transcript = Transcript.from_events(events)
    again = Transcript.from_events(parse_wire(dump_wire(transcript.events)))
    assert again.events == transcript.events
    assert [c.upstream_total for c in again.connections] == [c.upstream_total for c in transcript.connections]
    assert [c.state for c in again.connections] == [c.state for c in transcript.connections]


@pytest.mark.parametrize("max_events", [20, 10_000])
def test_a_cut_transcript_comes_back_as_it_was(max_events: int) -> None:
    transcript = Transcript(max_bytes=100, max_events=max_events)
    number = transcript.connect(("127.0.0.1", 1), ("127.0.0.1", 2))
    for index in range(30):
        transcript.data(number, "upstream", b"%d\n" % index * 10)
        transcript.datagram("upstream", b"%d" % index * 10, ("127.0.0.1", 3))
    events = transcript.events
    assert parse_wire(dump_wire(events)) == events
    again = Transcript.from_events(events, max_bytes=100)
    assert again.events == events
    assert again.connections[0].upstream == transcript.connections[0].upstream
    assert [c.upstream_total for c in again.connections] == [c.upstream_total for c in transcript.connections]


@examples
@given(st.binary(max_size=3000))
@example(b"\n" * 200)
@example(bytes(range(256)) * 2)
@example(b"text\n" + bytes(range(128, 256)) + b"a line of text that is long enough\n")
def test_any_bytes_come_back_as_they_were(data: bytes) -> None:
    events = (Datagram(0.0, 1, "upstream", data, None),)
    text = dump_wire(events)
    assert parse_wire(text) == events
    assert text.isascii()
    assert max(map(len, text.splitlines())) < 400


def test_text_and_binary_within_one_piece_are_each_written_in_their_way() -> None:
    data = b"HTTP/1.0 200 OK\r\n\r\n" + bytes(range(128, 150)) + b"\n" + b"tail of twenty bytes"
    assert dump_wire([Data(0.0, 1, "downstream", data)]).splitlines()[1:] == [
        '< "HTTP/1.0 200 OK\\r\\n"',
        '  "\\r\\n"',
        "  [80 81 82 83 84 85 86 87 88 89 8a 8b 8c 8d 8e 8f]  # ................",
        "  [90 91 92 93 94 95 0a 74 61 69 6c 20 6f 66 20 74]  # .......tail of t",
        "  [77 65 6e 74 79 20 62 79 74 65 73]                 # wenty bytes",
    ]


def test_a_large_file_is_read_and_written_one_event_at_a_time() -> None:
    """Memory cannot be measured in milliseconds; that nothing is read ahead can be seen."""
    seen: list[int] = []

    def lines() -> Iterable[bytes]:
        for index in range(3):
            seen.append(index)
            yield b'> "%d"\r\n' % index

    reader = iter(read_wire(lines()))
    assert next(reader) == Data(0.0, 1, "upstream", b"0")
    assert seen == [0, 1]

    def events() -> Iterable[Event]:
        for index in range(3):
            yield Data(0.0, 1, "upstream", b"%d" % index)
            assert file.getvalue().count("\n") == index + 2

    file = io.StringIO()
    write_wire(events(), file)
    assert parse_wire(file.getvalue())[2] == Data(0.0, 1, "upstream", b"2")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('> "é"', "é".encode()),
        ('> "\\xe9"', b"\xe9"),
        ("> [ 68 65  78 ]", b"hex"),
        ("> [4142]", b"AB"),
        ("> []", b""),
        ('> "a" * 3 "b"', b"aaab"),
        ('> [ff]*2#no comment "x"', b"\xff\xff"),
        ('> "#" # comment', b"#"),
        ('>"a"\t"b"', b"ab"),
        ('  > "a"\n\n# comment\n"b"', b"ab"),
        ('\ufeff> "a"\r\n  "b"\r', b"ab"),
        ('> "a" * 0 "b"', b"b"),
        ('> "\\"\\\\\\n\\r\\t"', b'"\\\n\r\t'),
        ('> "/"', b"/"),
    ],
)
def test_what_people_write(text: str, data: bytes) -> None:
    events = parse_wire(text)
    assert b"".join(e.data for e in events if isinstance(e, Data)) == data


def test_numbers_and_times_go_on_until_others_are_given() -> None:
    text = """
> "first needs no connect"
connect
@1 > "second"
1: < "back to the first"
< "still"
connect 7
@2.5e0 connect
9: half-close client
@-1 close client
"""
    told = [(e.time, e.connection) for e in parse_wire(text)]
    assert told == [(0, 1), (0, 2), (1, 2), (1, 1), (1, 1), (1, 7), (2.5, 8), (2.5, 9), (-1, 9)]


# Each text has a caret in the line below where the error is.
REFUSED = {
    "no statement": ("hello", "v", "'hello' is no statement: there are close, connect"),
    "a near miss": ('halfclose client', "v", "did you mean half-close?"),
    "no word": ("= 1", "v", "a statement was expected"),
    "an open string": ('> "abc', "  v", 'the closing " is missing'),
    "an unknown escape": ('> "ab\\qc"', "     v", "an escape is one of"),
    "an escape cut short": ('> "\\x0"', "   v", "an escape is one of"),
    "an invisible character": ('> "a\u200eb\u202ec"', "       v"[1:], "write it as \\xe2\\x80\\xae"),
    "a tab in a string": ('> "a\tb"', "    v", "write it as \\x09"),
    "a surrogate": ('> "\ud800"', "   v", "write it as \\xed\\xa0\\x80"),
    "odd hex": ("> [00 1]", "      v", "two digits each"),
    "no hex": ("> [ 0g]", "    v", "two digits each"),
    "open hex": ("> [00", "  v", "the closing ] is missing"),
    "no bytes": (">", " v", "bytes were expected"),
    "something else than bytes": ("> hello", "  v", "bytes were expected"),
    "bytes of nothing": ('"x"', "v", "belong to no statement"),
    "bytes after a close": ('close client\n"x"', "v", "belong to no statement"),
    "something after the end": ("close client fin now", "                 v", "nothing more was expected"),
    "no number of repetitions": ('> "a" * b', "        v", "a number of repetitions was expected"),
    "too many repetitions": ('> "a" * 999999999', "  v", "more than 256 MiB"),
    "no side": ("half-close me", "           v", "client or server was expected"),
    "no closer": ("close me", "      v", "client, server or nobody"),
    "no resetter": ("reset", "     v", "client, server or nobody"),
    "no way to close": ("close client gently", "             v", "fin, rst, timeout or forced"),
    "no time": ('@x > "a"', " v", "a time was expected"),
    "a time without end": ('@1e999 > "a"', "v", "too far away"),
    "no address": ("connect 1 here", "          v", "an address was expected"),
    "one address": ("connect 1 127.0.0.1:1", "                     v", "-> and the server's address"),
    "no first address": ("connect -> 127.0.0.1:1", "        v", "before the arrow"),
    "no port": ("peer 127.0.0.1:65536", "               v", "from 0 to 65535"),
    "an open tuple": ('peer ("a" "b")', "          v", ", or ) was expected"),
    "a tuple of words": ("peer (a)", "      v", "an address was expected"),
    "connection 0": ('0: > "a"', "v", "numbered from 1"),
    "connect 0": ("connect 0", "        v", "numbered from 1"),
    "a number before connect": ("2: connect", "v", "behind the word: connect 2"),
    "no gap": ("gap 7", "    v", "> or < was expected"),
    "an empty gap": ("gap > 0", "      v", "at least 1 byte"),
    "a gap of no number": ("gap > many", "      v", "a number of bytes was expected"),
    "a failure without a message": ('failure "a" "b"', "               v", "a string in double quotes"),
    "text that is no text": ('note "\\xff"', "     v", "no UTF-8"),
    "a pattern in a traceback": ('failure "a" "b" "c"\n  /x/', "  v", "a traceback is text"),
    "a traceback that is no text": ('failure "a" "b" "c"\n"\\xff"', "", "no UTF-8"),
    "another version": ("wire 2", "     v", "version 2 of the form; this program reads 1"),
    "no version": ("wire one", "     v", "the version was expected"),
    "a late version": ('> "a"\nwire 1', "v", "it must come first"),
    "a pattern in a transcript": ("< /a/", "  v", "those that passed"),
    "an open pattern": ("< /a", "  v", "the closing / is missing"),
    "a broken pattern": ("< /ab(/", "     v", "missing ), unterminated subpattern"),
    "a pattern with flags for all": ("< /(?i)a/", "   v", "global flags"),
    "a pattern that counts groups": ("< /(a)\\1/", "      v", "groups cannot be referred to by number"),
    "a pattern that asks for a group": ("< /(a)?(?(1)b|c)/", "       v", "by number"),
    "a pattern that is no ASCII": ("< /é/", "   v", "printable ASCII only"),
    "a pattern that repeats for ever": ("< /a{99999999999}/", "  v", "not a usable regular expression"),
    "a pattern too deep": (f"< /{'(' * 9000}{')' * 9000}/", "  v", "not a usable regular expression"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "mark", "reason"), REFUSED.values(), ids=list(REFUSED))
def test_mistakes_are_refused_where_they_are(text: str, mark: str, reason: str) -> None:
    with pytest.raises(WireSyntaxError) as caught:
        parse_wire(text)
    error = caught.value
    assert reason in error.reason
    if mark:
        assert (error.line, error.column) == (text.count("\n") + 1, len(mark))
        assert str(error).endswith("\n" + " " * (4 + error.column - 1) + "^") or len(text) > 100
    assert f"line {error.line}, column {error.column}: " in str(error)


def test_the_message_shows_the_line_and_the_place() -> None:
    with pytest.raises(WireSyntaxError) as caught:
        list(read_wire(['> "fine"\n', '  > "wr\\ong"\n'], path="some.wire"))
    assert str(caught.value) == (
        'some.wire:2:8: an escape is one of \\n \\r \\t \\\\ \\" and \\xHH\n      > "wr\\ong"\n           ^'
    )
    assert (caught.value.path, caught.value.line, caught.value.column) == ("some.wire", 2, 8)


def test_a_long_line_is_shown_around_the_place() -> None:
    with pytest.raises(WireSyntaxError) as caught:
        parse_wire(f'> "{"x" * 300}\\q{"y" * 300}"')
    line, caret = str(caught.value).splitlines()[1:]
    assert len(line) < 120
    assert line[caret.index("^")] == "\\"
    assert line.strip().startswith("... x")
    assert line.endswith("y ...")


def test_bytes_that_are_no_utf8_are_refused_where_they_are() -> None:
    with pytest.raises(WireSyntaxError, match="the byte ff is no UTF-8: write it as") as caught:
        list(read_wire([b"# \xc3\xa9\n", b'> "\xc3\xa9\xff"\n']))
    assert (caught.value.line, caught.value.column) == (2, 5)


def test_the_error_is_a_value_error_and_can_be_pickled() -> None:
    with pytest.raises(WireSyntaxError) as caught:
        parse_wire("x")
    assert isinstance(caught.value, ValueError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.line, again.column) == (str(caught.value), 1, 1)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Note(float("nan"), 0, ""), "a number of seconds"),
        (Note(float("inf"), 0, ""), "a number of seconds"),
        (Note(0.0, -1, ""), "from 0 to"),
        (Note(0.0, 10**18, ""), "from 0 to"),
        (Connect(0.0, 1, 3.5, None), "no words for the address 3.5"),
        (Connect(0.0, 1, (3.5,), None), "no words for 3.5"),
        (Connect(0.0, 1, (10**18,), None), "no words for"),
    ],
)
def test_what_the_form_has_no_words_for(event: Event, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        dump_wire([event])


def test_a_number_is_for_a_stream_or_for_datagrams() -> None:
    datagram, data = Datagram(0.0, 1, "upstream", b"", None), Data(0.0, 1, "upstream", b"x")
    with pytest.raises(UsageError, match="both datagrams and a stream"):
        dump_wire([datagram, data])
    begun_anew: list[Event] = [datagram, Connect(0.0, 1, None, None), data]
    assert list(parse_wire(dump_wire(begun_anew))) == begun_anew


def test_repetition_is_not_written_where_it_would_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servertest.transcript._wire_writer.MOST_REPEATED", 150)
    events = [Data(0.0, 1, "upstream", b"x" * 100)] * 2
    text = dump_wire(events)
    assert text.count("*") == 1
    assert list(parse_wire(text)) == events


def test_the_allowance_for_repetitions_is_one_for_the_file() -> None:
    with pytest.raises(WireSyntaxError, match="more than 256 MiB") as caught:
        parse_wire(f'> "a" * {200 << 20}\n> "a" * {100 << 20}')
    assert caught.value.line == 2


# Made of what the form is made of, so that most of it is nearly right.
WORDS = st.sampled_from(
    """wire 1|connect|peer|>|<|"|\\|\\x4|[|]|/|(|)|*|->|-|@|@"|b"|:|#|\n|\r\n| |\t|0|1|2|9999999999999999999|client
|server|nobody|fin|rst|half-close|close|reset|gap|failure|note|"a"|[00 ff]|/a+/|/(?P<n>a)/|/(?i:a)/|127.0.0.1:80
|[::1]:80|@0.5|1:|\u00e9|\ud800|\u202e|\x00|e5|.""".split("|")  # noqa: SIM905 (a list would take a page)
)
NEARLY = st.lists(WORDS, max_size=30).map("".join) | st.lists(WORDS, max_size=30).map(" ".join)


def refused(read: Callable[[], object]) -> WireSyntaxError | None:
    """The error; nothing else may be raised."""
    try:
        read()
    except WireSyntaxError as error:
        return error
    return None


@examples
@given(NEARLY | st.text(max_size=60))
@example("> /[[a]/")
@example("> /(?u:a)/")
@example("> /(?L:a)/")
@example("\ufeff")
@example('> "a" * 9999999999999999999')
def test_any_text_is_understood_or_refused(text: str) -> None:
    lines = text.split("\n")
    for error in (refused(lambda: parse_wire(text)), refused(lambda: parse_exchanges(text))):
        assert error is None or 1 <= error.line <= len(lines)
        assert error is None or 1 <= error.column <= len(lines[error.line - 1]) + 1


@examples
@given(st.binary(max_size=80) | NEARLY.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    error = refused(lambda: list(read_wire(data.split(b"\n"))))
    assert error is None or 1 <= error.line <= data.count(b"\n") + 1


@examples
@given(EVENTS, st.data())
def test_a_damaged_file_is_understood_or_refused(events: list[Event], data: st.DataObject) -> None:
    text = dump_wire(events)
    position = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 5))
    damaged = text[:position] + data.draw(st.text(max_size=3) | WORDS) + text[position + length :]
    refused(lambda: parse_wire(damaged))
    refused(lambda: parse_exchanges(damaged))
