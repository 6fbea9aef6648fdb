"""Large files stream: what is read or written one by one needs no more memory for many events than for a few."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servertest.transcript import (
    Connect,
    Data,
    Datagram,
    Event,
    read_wire,
    write_jsonl,
    write_pcapng,
    write_wire,
)

#: Bytes of one event.
SIZE = 2000


class Nowhere(io.TextIOBase):
    """Takes text, and keeps none of it."""

    def write(self, text: str, /) -> int:
        return len(text)


class NowhereBinary(io.RawIOBase):
    """Takes bytes, and keeps none of them."""

    def write(self, data: Any, /) -> int:
        return len(data)


def events(count: int) -> Iterator[Event]:
    yield Connect(0.0, 1, ("127.0.0.1", 1), ("127.0.0.1", 2))
    for number in range(count // 2):
        data = b"%d " % number * (SIZE // 10)
        yield Data(float(number), 1, "upstream", data)
        yield Datagram(float(number), 2, "downstream", data, ("127.0.0.1", 3))


def lines(count: int) -> Iterator[bytes]:
    yield b"connect 1\n"
    for number in range(count):
        yield b'@%d > "%s"\n' % (number, b"x" * SIZE)


def peak(work: Callable[[], object]) -> int:
    """Bytes of memory that it holds at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read(count: int) -> None:
    assert sum(isinstance(event, Data) for event in read_wire(lines(count))) == count


WAYS: dict[str, Callable[[int], object]] = {
    "read_wire": read,
    "write_wire": lambda count: write_wire(events(count), Nowhere()),  # type: ignore[arg-type]
    "write_jsonl": lambda count: write_jsonl(events(count), Nowhere()),  # type: ignore[arg-type]
    "write_pcapng": lambda count: write_pcapng(events(count), NowhereBinary()),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("way", WAYS)
def test_memory_does_not_grow_with_the_file(way: str) -> None:
    WAYS[way](10)  # whatever is loaded and kept by the first one
    few = peak(lambda: WAYS[way](20))
    # The lesser of two: a table of the interpreter's own may grow at any time, but it does so once.
    many = min(peak(lambda: WAYS[way](2000)) for _ in range(2))
    # A hundred times as much passed: 4 MB.
    assert many < few + 50 * SIZE
