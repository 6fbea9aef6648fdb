"""The values of faults and triggers as JSON writes them."""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Any

from ..._support import UsageError
from ...faults import Trigger
from ._problem import ApiProblem, bad_body
from ._reading import Fields

if TYPE_CHECKING:
    from ...faults import Rule

__all__ = ("field_value", "read_trigger")


def field_value(rule: Rule | None, fields: Fields, name: str) -> Any:
    """What a fault's field is given; the fault itself checks its range.

    Bytes are a text, or ``{"hex": "00ff"}``.

    Raises:
        ApiProblem: It cannot be read.
    """
    value = fields.take(name)
    if rule is not None and rule.kind == "data":
        return _bytes(fields, name, value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int | float | str):
        fields.refuse(name, rule.allowed if rule else "a number or a text", value)
    return value


def read_trigger(value: Any) -> Trigger | None:
    """The conditions in an object such as ``{"connection": [1, 3], "between": [0.5, null]}``.

    Raises:
        ApiProblem: It cannot be read, or the conditions contradict each other.
    """
    fields = Fields(value, "triggers")
    conditions = {
        "connection": _numbers(fields, "connection"),
        "every": fields.take("every"),
        "first": fields.take("first"),
        "probability": fields.take("probability"),
        "after_bytes": fields.take("after_bytes"),
        "pattern": _pattern(fields),
        "between": _between(fields),
        "datagram": _numbers(fields, "datagram"),
    }
    fields.done()
    try:
        trigger = Trigger(**conditions)
    except UsageError as error:
        raise bad_body(f"triggers: {str(error).removeprefix('on: ')}") from None
    return trigger if trigger else None


def _bytes(fields: Fields, name: str, value: Any) -> bytes:
    wanted = 'a text, or bytes as {"hex": "00ff"}'
    try:
        if isinstance(value, str):
            return value.encode()
        if not isinstance(value, dict):
            fields.refuse(name, wanted, value)
        inner = Fields(value, name)
        digits = inner.text("hex")
        inner.done()
        return bytes.fromhex(digits or "")
    except (UnicodeEncodeError, ValueError) as error:
        if isinstance(error, ApiProblem):
            raise
        fields.refuse(name, wanted, value)


def _numbers(fields: Fields, name: str) -> Any:
    """A number, several in a list, or ``{"from": 1, "to": 9, "step": 2}``."""
    value = fields.take(name)
    if not isinstance(value, dict):
        return value
    inner = Fields(value, name)
    start, stop, step = inner.take("from", 1), inner.take("to"), inner.take("step", 1)
    inner.done()
    if not all(type(each) is int and each > 0 for each in (start, stop, step)):
        fields.refuse(name, 'a number, a list of them, or {"from": 1, "to": 9}', value)
    return range(start, stop + 1, step)


def _between(fields: Fields) -> Any:
    value = fields.take("between")
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2):
        fields.refuse("between", "two times in seconds, the second null for ever", value)
    start, stop = value
    return (start or 0, inf if stop is None else stop)


def _pattern(fields: Fields) -> Any:
    """A text, or ``{"hex": "00ff"}``, or ``{"regex": "[A-Z]+"}``."""
    value = fields.take("pattern")
    if value is None:
        return None
    if isinstance(value, dict) and "regex" in value:
        inner = Fields(value, "pattern")
        source = inner.text("regex")
        inner.done()
        return _expression(fields, source or "", value)
    return _bytes(fields, "pattern", value)


def _expression(fields: Fields, source: str, value: Any) -> re.Pattern[bytes]:
    try:
        return re.compile(source.encode())
    # A doubtful expression gives a warning, which may be made an error.
    except (re.error, UnicodeEncodeError, OverflowError, RecursionError, Warning) as error:
        fields.refuse("pattern", f"an expression ({error})", value)
