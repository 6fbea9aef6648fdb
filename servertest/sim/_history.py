"""What happened in a simulation, line by line: the same for the same seed, to the byte."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any

__all__ = ("EventLog",)


class EventLog:
    """An endless list of lines, of which the last ones are kept; all of them count for the digest.

    Args:
        keep: How many lines.
    """

    def __init__(self, keep: int = 100_000) -> None:
        self._keep = keep
        self._lines: deque[tuple[int, str, str]] = deque()
        self._hash = hashlib.sha256()
        self.dropped = 0

    def __len__(self) -> int:
        return self.dropped + len(self._lines)

    def add(self, now: int, who: str, what: str) -> None:
        """Somebody did something at a time."""
        lines = self._lines
        lines.append((now, who, what))
        if len(lines) > self._keep:
            self._hash.update(_line(lines.popleft()).encode(errors="surrogatepass"))
            self.dropped += 1

    @property
    def lines(self) -> list[str]:
        """The lines that are kept: time in seconds, who, and what."""
        return [_line(entry).rstrip("\n") for entry in self._lines]

    @property
    def entries(self) -> list[tuple[int, str, str]]:
        """The same as nanoseconds, who, and what."""
        return list(self._lines)

    @property
    def digest(self) -> str:
        """A number for the whole: equal histories have equal ones."""
        whole = self._hash.copy()
        for entry in self._lines:
            whole.update(_line(entry).encode(errors="surrogatepass"))
        return whole.hexdigest()


def _line(entry: tuple[int, str, Any]) -> str:
    return f"{entry[0] / 1e9:14.9f} {entry[1]:<24} {entry[2]}\n"
