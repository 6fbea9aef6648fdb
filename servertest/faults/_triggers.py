"""When a fault works: on which connections, from which byte, at which time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from math import inf, isnan
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from .._support import UsageError
from ._seeds import derived_seed

if TYPE_CHECKING:
    from .._support import Transport
    from ._fault import Fault
    from ._stage import Site

__all__ = ("Trigger",)

Numbers: TypeAlias = "int | range | Iterable[int]"
"""One number, several, or a range of them; counted from 1."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Trigger:
    """The conditions under which a fault works; all of them have to hold.

    For faults of calls that passes which calls have moved, each way by itself.

    Attributes:
        connection: On which connections, counted from 1: a number, several, or a range. (With datagrams: which peers.)
        every: On every nth connection.
        first: On the first so many connections (of every nth, if that is given too), and then never again.
        probability: How likely a connection is hit; drawn once for each, for both directions together.
        after_bytes: From the byte on before which so many have passed in its direction.
        pattern: From the byte on that follows the first match, which may lie across chunks. Of a compiled expression the
            shortest match counts, and at most 4096 bytes long. Of datagrams those are hit that contain it.
        between: From so many seconds after the connection was made until so many; the end may be infinite.
        datagram: Which datagrams of a direction, counted from 1.
        when: Is given the `Site` at the start of each direction, and says whether the fault works there.
    """

    connection: Numbers | None = None
    every: int | None = None
    first: int | None = None
    probability: float | None = None
    after_bytes: int | None = None
    pattern: bytes | re.Pattern[bytes] | None = None
    between: tuple[float, float] | None = None
    datagram: Numbers | None = None
    when: Callable[[Site], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("connection", "datagram"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        for name, least in (("every", 1), ("first", 1), ("after_bytes", 0)):
            _check_count(name, getattr(self, name), least)
        _check_probability(self.probability)
        _check_pattern(self.pattern)
        object.__setattr__(self, "between", _window(self.between))
        if self.when is not None and not callable(self.when):
            raise UsageError(f"on: when is something to call with the site, not {self.when!r}")
        if self.connection is not None:
            for name in ("every", "first"):
                if getattr(self, name) is not None:
                    raise UsageError(f"on: connection says which ones already; {name} contradicts it")

    def __bool__(self) -> bool:
        return any(value is not None for value in self.given.values())

    def __repr__(self) -> str:
        return f"Trigger({self.arguments})"

    @property
    def given(self) -> dict[str, Any]:
        """The conditions that there are, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def arguments(self) -> str:
        """The conditions as Python writes them between parentheses."""
        return ", ".join(f"{name}={_source(value)}" for name, value in self.given.items())

    @property
    def dynamic(self) -> bool:
        """Whether it depends on what passes, or on time, so that a gate has to stand before the fault."""
        return self.counts or self.between is not None

    @property
    def counts(self) -> bool:
        """Whether it depends on what passes, other than on time."""
        return any(value is not None for value in (self.after_bytes, self.pattern, self.datagram))

    def joined(self, other: Trigger) -> Trigger:
        """Both conditions together.

        Raises:
            UsageError: Both say something about the same, or they contradict each other.
        """
        for name in other.given:
            if name in self.given:
                raise UsageError(f"on: {name} is given twice: {self.given[name]!r} and {other.given[name]!r}")
        return Trigger(**self.given, **other.given)

    def check(self, transport: Transport, fault: Fault) -> None:
        """Refuse what makes no sense on this transport, or for this fault.

        Raises:
            UsageError: It counts datagrams where there are none, or bytes where none pass.
        """
        call = getattr(fault, "call", "")
        for name in ("after_bytes", "pattern", "datagram"):
            if name in self.given and fault.place == "listener":
                raise UsageError(
                    f"on: {name} is for what passes; {type(fault).__name__} works on listener calls"
                )
            if name in self.given and call in ("accept", "connect"):
                raise UsageError(f"on: {name} is for what passes, and nothing passes before {call}")
        if transport == "stream" and self.datagram is not None:
            raise UsageError(
                "on: datagram is for datagrams; a stream has only bytes: use after_bytes or pattern"
            )
        if transport == "datagram" and self.pattern is not None and fault.place == "calls":
            raise UsageError(
                "on: pattern looks into a datagram, and a call is made before it is there: use datagram"
            )

    def meets(self, site: Site) -> bool:
        """Whether the fault works on this connection at all. The same for both directions, but for ``when``."""
        number = site.connection
        if self.connection is not None and not includes(self.connection, number):
            return False
        if self.every is not None and number % self.every:
            return False
        if self.first is not None and number > self.first * (self.every or 1):
            return False
        if self.probability is not None and self.drawn(site) >= self.probability:
            return False
        return self.when is None or bool(self.when(site))

    def drawn(self, site: Site) -> float:
        """What was drawn for the connection: below ``probability`` it is hit."""
        seed = derived_seed(site.seed, site.connection, site.fault, "probability")
        return random.Random(seed).random()  # noqa: S311 - it has to repeat


def includes(numbers: Numbers, number: int) -> bool:
    """Whether a number is the one, or among those, that were asked for."""
    return number == numbers if isinstance(numbers, int) else number in numbers


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(name: str, value: Any) -> int | range | tuple[int, ...] | None:
    """As it is kept: one number, a range, or sorted numbers."""
    if value is None:
        return None
    wanted = f"on: {name} is a number from 1 on, several, or a range of them, not {value!r}"
    if _is_whole(value):
        value = (value,)
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise UsageError(wanted)
    numbers = _upwards(value) if isinstance(value, range) else tuple(value)
    if not numbers or not all(map(_is_whole, _some(numbers))) or min(_some(numbers)) < 1:
        raise UsageError(wanted)
    if not isinstance(numbers, range):
        numbers = tuple(sorted(set(numbers)))
    return numbers[0] if len(numbers) == 1 else numbers


def _some(numbers: range | tuple[Any, ...]) -> range | tuple[Any, ...]:
    """Those that have to be looked at: of a range that goes upwards the first, however long it is."""
    return numbers[:1] if isinstance(numbers, range) else numbers


def _upwards(numbers: range) -> range:
    """The same numbers, in the one way in which they are written: upwards, and the end next to the last."""
    numbers = numbers if numbers.step > 0 else numbers[::-1]
    return range(numbers[0], numbers[-1] + 1, numbers.step) if numbers else numbers


def _check_count(name: str, value: object, least: int) -> None:
    if value is not None and not (_is_whole(value) and value >= least):
        raise UsageError(f"on: {name} is a whole number, at least {least}, not {value!r}")


def _check_probability(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(f"on: probability is a number from 0 to 1, not {value!r}")


def _check_pattern(value: object) -> None:
    if value is None:
        return
    pattern = value.pattern if isinstance(value, re.Pattern) else value
    if not isinstance(pattern, bytes) or not pattern:
        raise UsageError(
            f"on: pattern is bytes, at least one, or an expression compiled from bytes, not {value!r}"
        )


def _window(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    wanted = f"on: between is two times in seconds, from 0 on, the first before the second, not {value!r}"
    try:
        start, stop = value
        if isnan(start) or isnan(stop) or not 0 <= start < stop or start == inf:
            raise UsageError(wanted)
    except (TypeError, ValueError):
        raise UsageError(wanted) from None
    return (start, stop)


def _source(value: Any) -> str:
    """As Python reads it again."""
    if isinstance(value, tuple) and inf in value:
        return f"({value[0]!r}, float('inf'))"
    if callable(value):
        return str(getattr(value, "__qualname__", repr(value)))
    return repr(value)
