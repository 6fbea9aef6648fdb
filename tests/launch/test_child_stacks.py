"""An answer about stacks is taken only when it is whole, and from who was asked."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from servertest.launch import _child_stacks
from servertest.launch._child_stacks import answer_in, frame

WHOLE = frame(12, b"Thread 0x1:\n  a place")


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_a_part_is_no_answer(size: int) -> None:
    assert answer_in(WHOLE[:size], 12) is None
    assert answer_in(WHOLE[-size:] if size else b"", 12) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"the end of a late one\n#12.\n", b""),
        (frame(1, b"of another"), frame(2, b"of another")),
        (frame(12, b"the last time"), b""),
        (b"Stack (most recent call first):\n", b"#12\nthe beginning of a second"),
    ],
)
def test_the_last_whole_one_is_it(before: bytes, after: bytes) -> None:
    assert answer_in(before + WHOLE + after, 12) == b"Thread 0x1:\n  a place"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_what_is_longer_than_the_pipe_is_written_as_it_is_read(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    size, came = 300_000, bytearray()

    def read() -> None:
        while len(came) < size:
            came.extend(os.read(reader, 65_536))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    _child_stacks._write(writer, b"x" * size)
    thread.join(10)
    assert len(came) == size


def test_nobody_waits_long_for_a_reader_who_has_gone_away(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_child_stacks, "_PATIENCE", 0.05)
    began = time.monotonic()
    _child_stacks._write(pipe[1], b"x" * 300_000)
    assert time.monotonic() - began < 5
