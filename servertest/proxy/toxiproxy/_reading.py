"""JSON from outside: every field is asked for by name and type, and what nobody has asked for is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any, NoReturn

from ._problem import ApiProblem, bad_body

__all__ = ("Fields", "parse_json")

_LARGEST = 2**63 - 1
_LONGEST_NAME = 1024


def parse_json(body: bytes) -> Any:
    """The value that a body holds.

    Raises:
        ApiProblem: It is no JSON, nests too deeply, or holds a number that is none.
    """
    if not body.strip():
        raise bad_body("EOF")
    try:
        return json.loads(body, parse_constant=_no_number, parse_int=_whole, parse_float=_real)
    except RecursionError:
        raise bad_body("it nests too deeply") from None
    except ValueError as error:
        raise bad_body(error) from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")


def _whole(digits: str) -> int:
    number = int(digits) if len(digits) < 30 else _LARGEST + 1
    if abs(number) > _LARGEST:
        raise ValueError(f"a number of {len(digits)} digits is too large")
    return number


def _real(text: str) -> float:
    number = float(text)
    if not isfinite(number) or abs(number) > _LARGEST:
        raise ValueError(f"{text[:30]} is too large")
    return number


class Fields:
    """An object of JSON.

    Fields that are null count as absent, as in Toxiproxy.

    Args:
        value: What was read.
        what: What it is, as an error says it: "the body", "proxy 2".

    Raises:
        ApiProblem: It is no object.
    """

    def __init__(self, value: Any, what: str = "the body") -> None:
        if not isinstance(value, Mapping):
            raise bad_body(f"{what} is an object, not {shown(value)}")
        self._what = what
        self._left = {name: each for name, each in value.items() if each is not None}
        self._known: list[str] = []
        self._unset = set(value) - set(self._left)

    def take(self, name: str, default: Any = None) -> Any:
        """The value of a field, whatever it is."""
        self._known.append(name)
        return self._left.pop(name, default)

    @property
    def raw(self) -> dict[str, Any]:
        """All fields that there are, those that are null included."""
        return {**self._left, **dict.fromkeys(self._unset)}

    def nulled(self, name: str) -> bool:
        """Whether the field is there, and null."""
        return name in self._unset

    def text(self, name: str) -> str | None:
        """A text.

        Raises:
            ApiProblem: It is something else.
        """
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            self.refuse(name, "a text", value)
        return value

    def name(self, name: str) -> str | None:
        """A text that may be a name.

        Raises:
            ApiProblem: It is something else, too long, or cannot be printed.
        """
        value = self.text(name)
        if value is not None and not (value.isprintable() and len(value) <= _LONGEST_NAME):
            self.refuse(name, f"a text of printable characters, {_LONGEST_NAME} at most", value)
        return value

    def flag(self, name: str) -> bool | None:
        """True or false.

        Raises:
            ApiProblem: It is something else.
        """
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            self.refuse(name, "true or false", value)
        return value

    def number(self, name: str, *, least: float = 0, most: float | None = None) -> float | None:
        """A number.

        Raises:
            ApiProblem: It is something else, or outside the limits.
        """
        value = self.take(name)
        if value is None:
            return None
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        if not fits or value < least or (most is not None and value > most):
            limits = f"from {least:g} up" if most is None else f"from {least:g} to {most:g}"
            self.refuse(name, f"a number {limits}", value)
        number: float = value
        return number

    def refuse(self, name: str, wanted: str, value: Any) -> NoReturn:
        """Say that a field holds something else than it may.

        Raises:
            ApiProblem: Always.
        """
        raise bad_body(f"{self._place(name)} is {wanted}, not {shown(value)}")

    def done(self) -> None:
        """All fields were asked for.

        Raises:
            ApiProblem: There is one that nobody has asked for; the message says which was probably meant.
        """
        for name in (*self._left, *sorted(self._unset - set(self._known))):
            close = get_close_matches(name, self._known, 1, 0.6)
            known = ", ".join(self._known) or "none"
            hint = f"did you mean {close[0]}?" if close else f"there are {known}"
            raise bad_body(f"unknown field {shown(name)} in {self._what}; {hint}")

    def _place(self, name: str) -> str:
        return name if self._what == "the body" else f"{self._what}: {name}"


def shown(value: Any) -> str:
    """A value as an error shows it, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def within(place: str, problem: ApiProblem) -> ApiProblem:
    """The same problem, with its place before it."""
    return ApiProblem(f"{place}: {problem.message}", problem.status)
