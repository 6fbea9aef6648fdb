"""Which connections a script is for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from .._support import UsageError

__all__ = ("Numbers",)

#: Numbers that are looked at one by one.
_FEW = 10_000


@dataclass(frozen=True, slots=True)
class Numbers:
    """Connections, or peers of datagrams, counted from 1; ``str()`` of them stands in reports.

    Attributes:
        chosen: Their numbers.
    """

    chosen: range | frozenset[int]

    @classmethod
    def of(cls, connection: int | range | Iterable[int]) -> Self:
        """What a caller has said.

        Raises:
            UsageError: It is no number, nor several, nor a range of them.
        """
        numbers: Any = connection
        if isinstance(numbers, range) and len(numbers) and min(numbers[0], numbers[-1]) > 0:
            return cls(numbers if numbers.step > 0 else numbers[::-1])
        if isinstance(numbers, int) and not isinstance(numbers, bool) and numbers > 0:
            return cls(range(numbers, numbers + 1))
        if isinstance(numbers, Iterable) and not isinstance(numbers, (str, bytes, range)):
            several = frozenset(numbers)
            if several and all(isinstance(number, int) and number > 0 for number in several):
                return cls.of(next(iter(several))) if len(several) == 1 else cls(several)
        raise UsageError(
            f"on: connections are counted from 1: a number, several, or a range, not {connection!r}"
        )

    def meets(self, other: Numbers) -> bool:
        """Whether some are in both."""
        fewer, more = sorted((self.chosen, other.chosen), key=len)
        if len(fewer) <= _FEW or not (isinstance(fewer, range) and isinstance(more, range)):
            return any(number in more for number in fewer)
        # Ranges that go on for ever.
        return (fewer.start - more.start) % math.gcd(fewer.step, more.step) == 0

    def __str__(self) -> str:
        if len(self.chosen) == 1:
            return f"connection {next(iter(self.chosen))}"
        if isinstance(self.chosen, range) and self.chosen.step == 1 and len(self.chosen) <= _FEW:
            return f"connections {self.chosen[0]} to {self.chosen[-1]}"
        first = self.chosen[:5] if isinstance(self.chosen, range) else sorted(self.chosen)[:5]
        more = " ..." if len(self.chosen) > len(first) else ""
        return f"connections {', '.join(map(str, first))}{more}"
