"""What the fields of faults may hold: each says its unit and its range, and refuses what is outside."""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from math import isfinite
from typing import Any, Literal, TypeAlias

from .._support import UsageError

__all__ = ("Rule",)

Kind: TypeAlias = Literal[
    "seconds", "bytes", "bytes per second", "count", "probability", "number", "data", "name"
]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field may hold.

    Attributes:
        kind: What it measures; for "seconds", "bytes" and "bytes per second" that is the unit too.
        least: The smallest value.
        most: The largest value; None for no limit.
        choices: All values, where only these are allowed.
        optional: Whether None is allowed.
    """

    kind: Kind
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def unit(self) -> str:
        """The unit, for tables: "s", "B", "B/s", or nothing."""
        return {"seconds": "s", "bytes": "B", "bytes per second": "B/s"}.get(self.kind, "")

    @property
    def allowed(self) -> str:
        """The allowed values, as the end of a sentence."""
        if self.choices:
            text = "one of " + ", ".join(map(repr, self.choices))
        elif self.kind == "data":
            text = "bytes, at least one" if self.least else "bytes"
        else:
            text = self._range()
        return f"{text}, or None" if self.optional else text

    def _range(self) -> str:
        whole = "a whole number" if self.kind in ("bytes", "count") else "a number"
        unit = f" of {self.kind}" if self.unit else ""
        if self.most is not None:
            return f"{whole}{unit} from {self.least:g} to {self.most:g}"
        return f"{whole}{unit}" + ("" if self.least is None else f", at least {self.least:g}")

    def accept(self, owner: str, name: str, value: Any) -> Any:
        """The value as the field keeps it.

        Raises:
            UsageError: It is not allowed; the message names the owner, the field, what is allowed and the value.
        """
        if value is None and self.optional:
            return None
        if self.kind == "data":
            fits = isinstance(value, bytes | bytearray | memoryview) and len(value) >= (self.least or 0)
            value = bytes(value) if fits else value
        elif self.choices:
            fits = isinstance(value, str) and value in self.choices
        else:
            fits = self._holds(value)
        if not fits:
            raise UsageError(f"{owner}: {name} is {self.allowed}, not {value!r}")
        # Equal values are written alike: 1.0 as 1.
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def _holds(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            return False
        if self.kind in ("bytes", "count") and not isinstance(value, int):
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def _rule(default: Any, rule: Rule) -> Any:
    made: Field[Any] = field(default=default, metadata={"rule": rule})
    return made


def seconds(default: float) -> Any:
    """A field for a time in seconds."""
    return _rule(default, Rule("seconds", 0))


def optional_seconds(default: float | None) -> Any:
    """A field for a time in seconds, or None."""
    return _rule(default, Rule("seconds", 0, optional=True))


def byte_count(default: int | None, *, least: int = 0) -> Any:
    """A field for a number of bytes; where the default is None, None is allowed."""
    return _rule(default, Rule("bytes", least, optional=default is None))


def byte_rate(default: float) -> Any:
    """A field for bytes per second."""
    return _rule(default, Rule("bytes per second", 0))


def count(default: int, *, most: int | None = None) -> Any:
    """A field for how many, or which; at least one."""
    return _rule(default, Rule("count", 1, most))


def optional_count(default: int | None) -> Any:
    """A field for how many, or None."""
    return _rule(default, Rule("count", 1, optional=True))


def share(default: float) -> Any:
    """A field for a probability, from 0 to 1."""
    return _rule(default, Rule("probability", 0, 1))


def number(default: float, *, least: float, most: float | None = None) -> Any:
    """A field for a bare number."""
    return _rule(default, Rule("number", least, most))


def byte_string(default: bytes, *, least: int = 0) -> Any:
    """A field for bytes."""
    return _rule(default, Rule("data", least))


def one_of(default: str, *choices: str) -> Any:
    """A field that takes one of these words."""
    return _rule(default, Rule("name", choices=choices))
