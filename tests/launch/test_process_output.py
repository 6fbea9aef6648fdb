"""What a process has printed is kept at both ends, and counted in between."""

from __future__ import annotations

from servertest.launch._process_output import Output


def test_output_is_kept_whole_while_it_is_short() -> None:
    output = Output(head=4, tail=4)
    output.feed(b"abc")
    output.feed(b"defgh")

    assert output.getvalue() == b"abcdefgh"
    assert output.total == 8


def test_the_middle_is_counted_and_dropped() -> None:
    output = Output(head=4, tail=4)
    for byte in b"abcdefghijklmnop":
        output.feed(bytes([byte]))

    assert output.getvalue() == b"abcd\n... 8 bytes left out ...\nmnop"
    assert output.total == 16


def test_one_long_piece_is_cut_as_well() -> None:
    output = Output(head=2, tail=3)
    output.feed(b"x" * 100 + b"end")

    assert output.getvalue() == b"xx\n... 98 bytes left out ...\nend"


def test_memory_stays_bounded() -> None:
    output = Output(head=10, tail=1000)
    for _ in range(10_000):
        output.feed(b"0123456789")

    assert len(output.getvalue()) < 1100
    assert len(output._tail) <= 101


def test_text_shows_the_last_lines_and_any_bytes() -> None:
    output = Output()
    output.feed(b"one\ntwo\nthr\xffee\n")

    assert output.text(max_lines=2) == "... 1 lines left out ...\ntwo\nthr\\xffee"
