"""Plans as text: what is written here, `_text` reads."""

from __future__ import annotations

import re
from itertools import groupby
from math import inf
from typing import TYPE_CHECKING, Any

from .._support import UsageError

if TYPE_CHECKING:
    from ._declared import Declared
    from ._fault import Entry, Plan
    from ._triggers import Trigger

__all__ = ("FLAGS", "spelled", "written")

FLAGS = {
    "a": re.ASCII,
    "i": re.IGNORECASE,
    "L": re.LOCALE,
    "m": re.MULTILINE,
    "s": re.DOTALL,
    "x": re.VERBOSE,
}


def written(plan: Plan) -> str:
    """The text that stands for a plan.

    Raises:
        UsageError: A trigger calls a function.
    """
    groups = []
    for direction, entries in groupby(plan.entries, key=lambda entry: entry.direction):
        text = "|".join(map(_entry, entries))
        groups.append(f"{direction}({text})" if direction else text)
    return "|".join(groups)


def _entry(entry: Entry) -> str:
    text = spelled(entry.fault)
    return f"{text}@{_trigger(entry.trigger)}" if entry.trigger else text


def spelled(value: Declared) -> str:
    """A value's name, and its fields that are not as usual."""
    given = {name: _value(each) for name, each in value.given.items()}
    if not given:
        return value.name
    first = next(parameter.name for parameter in value.parameters())
    fields = (text if name == first else f"{name}:{text}" for name, text in given.items())
    return f"{value.name}:{','.join(fields)}"


def _trigger(trigger: Trigger) -> str:
    if trigger.when is not None:
        raise UsageError(f"on: when={trigger.when!r} has no text form: a function cannot be written down")
    return ",".join(f"{name}:{_condition(name, value)}" for name, value in trigger.given.items())


def _condition(name: str, value: Any) -> str:
    if isinstance(value, re.Pattern):
        return _expression(value)
    if name == "between":
        return f"{value[0]!r}..{'' if value[1] == inf else repr(value[1])}"
    if isinstance(value, range):
        return f"{value[0]}..{value[-1]}" + (f"/{value.step}" if value.step != 1 else "")
    return "+".join(map(str, value)) if isinstance(value, tuple) else _value(value)


def _expression(pattern: re.Pattern[bytes]) -> str:
    flags = "".join(letter for letter, flag in FLAGS.items() if pattern.flags & flag)
    source: bytes = pattern.pattern
    if all(32 <= byte < 127 and byte != 0x22 for byte in source):
        return f're"{source.decode()}"{flags}'
    return f"bre{_value(source)}{flags}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bytes):
        return f'"{"".join(map(_byte, value))}"'
    return value if isinstance(value, str) else repr(value)


def _byte(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{chr(byte)}"
    if 32 <= byte < 127:
        return chr(byte)
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(byte, f"\\x{byte:02x}")
