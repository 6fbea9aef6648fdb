"""The beginning and the end of a stream of bytes, in bounded memory."""

from __future__ import annotations

from collections import deque

__all__ = ("Kept",)

# Smaller pieces are gathered in blocks, or a stream of single bytes would cost fifty times its size.
_SMALL = 512
_BLOCK = 4096

# What each direction may still keep at either end when the transcript as a whole has used up its allowance.
_FLOOR = 2048


class Kept:
    """Half of ``limit`` bytes from the beginning and half from the end; what lies between is only counted.

    Offsets are positions in the whole stream, whether the bytes there are kept or not.
    """

    __slots__ = ("_head", "_head_limit", "_tail", "_tail_limit", "_tail_size", "total")

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._head = bytearray()
        self._head_limit = limit - limit // 2
        # Made when something first comes so far: of most streams nothing does, and there may be thousands.
        self._tail: deque[bytes | bytearray] | tuple[()] = ()
        self._tail_limit = limit // 2
        self._tail_size = 0

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return len(self._head) + self._tail_size

    @property
    def gap(self) -> tuple[int, int]:
        """The offsets between which nothing is kept; equal where everything is."""
        start = len(self._head)
        end = self.total - min(self._tail_size, self._tail_limit)
        return start, max(start, end)

    @property
    def missing(self) -> int:
        """How many bytes were not kept."""
        start, end = self.gap
        return end - start

    def append(self, data: bytes) -> int:
        """Take the next bytes of the stream; returns by how many bytes the memory in use has grown."""
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if len(data) <= room:
            self._head += data
            return len(data)
        before = self.held
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._append_to_tail(data)
        return self.held - before

    def skip(self, size: int) -> int:
        """Count bytes that passed without being seen; returns by how much the memory in use has grown (never up).

        There is one gap at most, so whatever followed an earlier one falls into it.
        """
        freed = self._tail_size
        self.total += size
        self._head_limit = len(self._head)
        self._tail = ()
        self._tail_size = 0
        return -freed

    def tighten(self) -> int:
        """Keep no more than a little at either end from now on; returns by how much the memory in use has grown."""
        before = self._tail_size
        self._head_limit = min(self._head_limit, max(len(self._head), _FLOOR))
        self._tail_limit = min(self._tail_limit, _FLOOR)
        self._drop_old()
        return self._tail_size - before

    def slice(self, start: int, stop: int) -> bytes:
        """The bytes from one offset to another, without those that fall into the gap."""
        gap_start, gap_end = self.gap
        head = bytes(self._head[start : min(stop, gap_start)])
        if stop <= gap_end:
            return head
        return head + self._slice_tail(max(start, gap_end), stop)

    def __bytes__(self) -> bytes:
        return self.slice(0, self.total)

    def _append_to_tail(self, data: bytes) -> None:
        if len(data) >= self._tail_limit:
            # Slicing keeps no reference to a huge buffer whose end alone is wanted.
            data = data[len(data) - self._tail_limit :]
            self._tail = ()
            self._tail_size = 0
        if data:
            tail = self._tail = self._tail or deque()
            if len(data) >= _SMALL:
                tail.append(data)
            else:
                _gather(tail, data)
        self._tail_size += len(data)
        self._drop_old()

    def _drop_old(self) -> None:
        while self._tail and self._tail_size - len(self._tail[0]) >= self._tail_limit:
            self._tail_size -= len(self._tail.popleft())

    def _slice_tail(self, start: int, stop: int) -> bytes:
        wanted = []
        offset = self.total - self._tail_size
        for block in self._tail:
            end = offset + len(block)
            if end > start:
                wanted.append(block[max(0, start - offset) : max(0, stop - offset)])
            if end >= stop:
                break
            offset = end
        return b"".join(wanted)


def _gather(tail: deque[bytes | bytearray], data: bytes) -> None:
    last = tail[-1] if tail else None
    if isinstance(last, bytearray) and len(last) < _BLOCK:
        last += data
    else:
        tail.append(bytearray(data))
