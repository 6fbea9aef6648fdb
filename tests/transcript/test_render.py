"""What people get to see."""

from __future__ import annotations

from hypothesis import given, strategies as st

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
)
from servertest.transcript._hexdump import hexdump

from .strategies import EVENTS, examples

CLIENT = ("127.0.0.1", 50000)
SERVER = ("127.0.0.1", 8000)

CONVERSATION: list[Event] = [
    Connect(0.000027, 1, CLIENT, SERVER),
    Data(0.00003, 1, "upstream", b"GET / HTTP/1.0\r\nHost: example\r\n"),
    Data(0.000032, 1, "upstream", b"\r\n"),
    Data(0.00004, 1, "downstream", b"\x00\x01hello"),
    Gap(0.00005, 1, "downstream", 5000),
    HalfClose(0.0001, 1, "client"),
    Note(0.0002, 1, "latency 0.2 s"),
    Failure(0.0003, 1, "handle", "ValueError", "odd", "Traceback ..."),
    Close(0.002, 1, "server", "rst"),
]

RENDERED = """\
1 connection, 1 failure
#1 127.0.0.1:50000 -> 127.0.0.1:8000
   reset by the server (RST) after 0.001973 s; 33 B up, 5,007 B down
  0.000030 --> 47 45 54 20 2f 20 48 54  54 50 2f 31 2e 30 0d 0a  GET / HTTP/1.0..
               48 6f 73 74 3a 20 65 78  61 6d 70 6c 65 0d 0a     Host: example..
               0d 0a                                             ..
               (33 B in 2 pieces until 0.000032)
  0.000040 <-- 00 01 68 65 6c 6c 6f                              ..hello
  0.000050 <-- ... 5,000 B not kept ...
  0.000100 --| client: finished sending (FIN)
  0.000200  *  latency 0.2 s
  0.000300 !!! handle: ValueError: odd
  0.002000 X-- server: reset (RST)"""


def test_a_conversation_from_beginning_to_end() -> None:
    assert Transcript.from_events(CONVERSATION).render(width=90) == RENDERED


def test_what_does_not_fit_a_line_is_put_below() -> None:
    lines = Transcript.from_events(CONVERSATION).render(width=110).splitlines()
    assert lines[1] == " ".join([RENDERED.splitlines()[1], RENDERED.splitlines()[2][2:]])


def test_text_of_several_lines_is_shown_on_one() -> None:
    lines = Transcript.from_events([Note(0.0, 0, "two\nlines\x1b")]).render().splitlines()
    assert lines[1] == "  0.000000  *  two\\nlines\\x1b"


def test_every_end_has_its_mark() -> None:
    ends: list[Event] = [
        Close(1.0, 1, "client", "fin"),
        Close(1.0, 2, "server", "fin"),
        Close(1.0, 3, "client", "rst"),
        Close(1.0, 4, None, "rst"),
        Close(1.0, 5, None, "timeout"),
        Close(1.0, 6, "server", "forced"),
        HalfClose(1.0, 7, "server"),
    ]
    lines = Transcript.from_events(ends).render().splitlines()
    assert [line for line in lines if line.startswith("  1.000000")] == [
        "  1.000000 --| client: closed (FIN)",
        "  1.000000 |-- server: closed (FIN)",
        "  1.000000 --X client: reset (RST)",
        "  1.000000 -X- system: reset (RST)",
        "  1.000000 -X- system: given up (timeout)",
        "  1.000000 -X- server: closed by force",
        "  1.000000 |-- server: finished sending (FIN)",
    ]
    assert lines[0] == "7 connections, 1 open"


def test_datagrams_are_not_run_together() -> None:
    events = [Datagram(0.0, 1, "upstream", data, CLIENT) for data in (b"a", b"", b"b")]
    assert Transcript.from_events(events).render().splitlines()[2:] == [
        "  0.000000 --> 61                                                a",
        "  0.000000 --> (an empty datagram)",
        "  0.000000 --> 62                                                b",
    ]


def test_what_concerns_no_connection_comes_first() -> None:
    events: list[Event] = [Failure(0.5, 0, "serve_forever", "OSError", "", ""), *CONVERSATION]
    lines = Transcript.from_events(events).render().splitlines()
    assert lines[:2] == ["1 connection, 2 failures", "  0.500000 !!! serve_forever: OSError"]


def test_of_many_lines_the_end_is_shown_rather_than_the_beginning() -> None:
    events = CONVERSATION[:1] + [Note(0.0, 1, str(index)) for index in range(100)] + CONVERSATION[-2:]
    lines = Transcript.from_events(events).render(max_lines=16, width=90).splitlines()
    assert len(lines) == 16
    assert lines[-2:] == RENDERED.splitlines()[-2:]
    assert lines[1] == RENDERED.splitlines()[1]
    (gap,) = [line for line in lines if "lines left out" in line]
    assert gap == "  ... 90 lines left out ..."


def test_of_many_connections_the_telling_ones_are_shown() -> None:
    transcript = Transcript()
    for _ in range(100):
        number = transcript.connect(CLIENT, SERVER)
        transcript.data(number, "upstream", b"x")
        transcript.data(number, "downstream", b"y")
        transcript.data(number, "upstream", b"z")
        if number == 30:
            transcript.failure(number, "handle", ValueError("odd"))
        if number == 40:
            continue
        transcript.close(number, "client", "rst" if number == 50 else "fin")
    lines = transcript.render(max_lines=24).splitlines()
    assert len(lines) <= 24
    assert [line.split()[0] for line in lines if line.startswith("#")] == ["#30", "#40", "#50", "#99", "#100"]
    assert lines[-1] == "and 95 more (95 closed by the client (FIN))"
    for most in range(10, 80):
        assert len(transcript.render(max_lines=most).splitlines()) <= most


def test_large_data_is_cut_in_the_middle() -> None:
    events = [Data(0.0, 1, "upstream", bytes(10_000))]
    lines = Transcript.from_events(events).render().splitlines()
    assert "               ... 9,872 B left out ..." in lines
    assert lines[-1] == "               (10,000 B)"
    assert len(lines) < 15


@examples
@given(EVENTS, st.integers(1, 60), st.integers(40, 120))
def test_any_transcript_fits_the_room_it_is_given(events: list[Event], max_lines: int, width: int) -> None:
    lines = Transcript.from_events(events).render(max_lines=max_lines, width=width).split("\n")
    assert len(lines) <= max(max_lines, 10)
    assert max(map(len, lines)) <= width
    assert all(line.isprintable() for line in lines)


def test_nothing_is_rendered_too() -> None:
    assert Transcript().render() == "0 connections"


class TestHexdump:
    def test_text_begins_a_line_where_its_lines_begin(self) -> None:
        assert hexdump(b"ab\nc\n\n", width=40) == [
            "61 62 0a                     ab.",
            "63 0a                        c.",
            "0a                           .",
        ]

    def test_binary_fills_its_lines(self) -> None:
        lines = hexdump(bytes(range(40)))
        assert [line.count(" ") > 0 for line in lines] == [True] * 3
        assert lines[0] == "00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  ................"

    def test_the_middle_is_left_out(self) -> None:
        lines = hexdump(bytes(160), max_lines=4)
        assert len(lines) == 4
        assert lines[2] == "... 112 B left out ..."

    def test_nothing_is_one_line(self) -> None:
        assert hexdump(b"") == [""]
