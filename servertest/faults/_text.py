"""The text form of plans: ``latency:0.05,jitter:0.01 | upstream(slicer:3@connection:1)``.

A fault is its name, then after a colon its fields: ``field:value`` with commas between; the first value may stand without its
name. After ``@`` stand triggers in the same way. ``upstream(...)`` and ``downstream(...)`` aim. Times may have ``s``, ``ms`` or
``us``, sizes ``B``, ``kB``, ``MB``, ``GB`` or ``KiB``, ``MiB``, ``GiB``, rates also ``kbit``, ``Mbit``, ``Gbit``, all with or without ``/s``, probabilities ``%``.
Bytes stand in double quotes, with the escapes of Python; expressions as ``re"..."`` with their flags behind (``bre"..."`` if
the expression itself has to be escaped as bytes are). Numbers of
connections and datagrams: ``3``, ``1+3``, ``1..5``, ``1..9/2``; times: ``0.5..2``, or ``0.5..`` for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import inf
from typing import Any, NoReturn, TypeVar

from .._support import UsageError
from ._declared import Declared
from ._fault import Plan, downstream, registry, upstream
from ._fields import Rule
from ._writing import FLAGS

__all__ = ("read", "read_value")

T = TypeVar("T")
D = TypeVar("D", bound=Declared)

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_WORD = re.compile(r'[^\s,|()@:="]+')
_STRING = re.compile(r'(b?re)?"((?:[^"\\]|\\.)*)"(?(1)([A-Za-z]*))', re.DOTALL)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[abfnrtv0\\\"'])|(\\)", re.DOTALL)
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([a-zA-Z%]*(?:/s)?)")
_ESCAPES = dict(zip("abfnrtv0\\\"'", b"\a\b\f\n\r\t\v\0\\\"'", strict=True))
_TIMES = {"": 1, "s": 1, "ms": 1e-3, "us": 1e-6, "min": 60}
_SIZES = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_BITS = {"bit": 1 / 8, "kbit": 125, "Mbit": 125_000, "Gbit": 125_000_000}
_UNITS: dict[str, dict[str, float]] = {
    "seconds": _TIMES,
    "bytes": {**_SIZES},
    "bytes per second": {
        f"{unit}{s}": by for unit, by in (_SIZES | _BITS).items() for s in ("", "/s") if unit + s != "/s"
    },
    "probability": {"": 1, "%": 0.01},
}
_TRIGGERS = {
    "every": Rule("count"),
    "first": Rule("count"),
    "probability": Rule("probability"),
    "after_bytes": Rule("bytes"),
}
# What other tools call them.
_OTHER_WORDS = {
    "black_hole": "blackhole",
    "delay": "latency",
    "drop": "loss",
    "gemodel": "gilbert_elliott",
    "packet_loss": "loss",
    "rate": "bandwidth",
    "reset": "reset_peer",
    "rst": "reset_peer",
    "throttle": "bandwidth",
}
_TRIGGER_NAMES = (
    "connection",
    "every",
    "first",
    "probability",
    "after_bytes",
    "pattern",
    "between",
    "datagram",
)


def read(text: str) -> Plan:
    """The plan that a text stands for.

    Raises:
        UsageError: It is malformed; the message shows where.
    """
    return _Reader(text).whole()


def read_value(text: str, known: Mapping[str, type[D]], what: str) -> D:
    """The one value that a text stands for, of the kinds that are known.

    Args:
        text: A name, and after a colon fields, as in a plan.
        known: The kinds by name.
        what: What such a value is called in messages.

    Raises:
        UsageError: It is malformed; the message shows where.
    """
    return _Reader(text, f"{what}s").single(known, what)


class _Reader:
    """Goes through a text from left to right."""

    def __init__(self, text: str, subject: str = "faults") -> None:
        self._text = text
        self._subject = subject
        self._at = 0

    def single(self, known: Mapping[str, type[D]], what: str) -> D:
        self._space()
        start = self._at
        name = self._name(f"the name of a {what}")
        kind = known.get(_known_as(name))
        if kind is None:
            self._unknown(what, name, known, start)
        value = self._arguments(kind, start)
        if self._at < len(self._text):
            self._fail(f"nothing goes on here: {self._text[self._at]!r} is unexpected")
        return value

    def whole(self) -> Plan:
        self._space()
        if self._at == len(self._text):
            return Plan()
        plan = self._plan()
        if self._at < len(self._text):
            self._fail(f"nothing closes here: {self._text[self._at]!r} is unexpected")
        return plan

    def _plan(self) -> Plan:
        plan = self._term()
        while self._take("|"):
            plan |= self._term()
        return plan

    def _term(self) -> Plan:
        start = self._at
        if self._take("("):
            plan = self._group()
        else:
            name = self._name("the name of a fault")
            if name in ("upstream", "downstream") and self._take("("):
                plan = self._aim(name, start)
            else:
                plan = self._fault(name, start)
        return self._triggers(plan) if self._take("@") else plan

    def _group(self) -> Plan:
        plan = self._plan()
        if not self._take(")"):
            self._fail("a parenthesis is not closed: ) is missing")
        return plan

    def _aim(self, name: str, start: int) -> Plan:
        plan = self._group()
        return self._built(start, lambda: (upstream if name == "upstream" else downstream)(plan))

    def _fault(self, name: str, start: int) -> Plan:
        from ._presets import presets  # made of faults

        if name == "preset" and self._take(":"):
            start = self._at
            name = self._name("the name of a preset")
            if _known_as(name) not in presets():
                self._unknown("preset", name, presets(), start)
        kind = registry.get(_known_as(name))
        if kind is not None:
            return Plan.of(self._arguments(kind, start))
        if _known_as(name) not in presets():
            self._unknown("fault", name, [*registry, *presets()], start)
        return presets()[_known_as(name)]

    def _arguments(self, kind: type[D], start: int) -> D:
        rules = {parameter.name: parameter.rule for parameter in kind.parameters()}
        values: dict[str, Any] = {}
        if self._take(":"):
            first = next(iter(rules), None)
            while True:
                name = self._field(kind.__name__, list(rules), values, None if values else first)
                values[name] = self._value(rules[name])
                if not self._take(","):
                    break
        return self._built(start, lambda: kind(**values))

    def _triggers(self, plan: Plan) -> Plan:
        values: dict[str, Any] = {}
        start = self._at
        while True:
            name = self._field("a trigger", list(_TRIGGER_NAMES), values, None)
            values[name] = self._condition(name)
            if not self._take(","):
                break
        return self._built(start, lambda: plan.on(**values))

    def _field(self, owner: str, names: list[str], values: dict[str, Any], first: str | None) -> str:
        """The name of the field that comes next; the first one's may be left out."""
        start = self._at
        match = re.compile(r"\s*([A-Za-z_]\w*)\s*[:=]").match(self._text, self._at)
        if match is None:
            if first is None:
                self._fail(
                    f"{owner}: here stands field:value, with one of {', '.join(names)}"
                    if names
                    else f"{owner} has no fields"
                )
            return first
        name = match[1]
        if name not in names:
            self._unknown(f"field of {owner}", name, names, match.start(1))
        if name in values:
            self._fail(f"{owner}: {name} is given twice", start)
        self._at = match.end()
        self._space()
        return name

    def _value(self, rule: Rule | None) -> Any:
        start = self._at
        if (string := _STRING.match(self._text, self._at)) and not string[1]:
            return self._bytes(string)
        word = self._word()
        if rule is not None and rule.kind == "data":
            self._fail(f'bytes stand in double quotes, as in "{word}"', start)
        if word == "none" and (rule is None or rule.optional):
            return None
        if rule is not None and rule.kind == "name":
            return word
        return self._number(word, rule, start)

    def _condition(self, name: str) -> Any:
        start = self._at
        if name == "pattern":
            string = _STRING.match(self._text, self._at)
            if string is None:
                self._fail('a pattern stands in double quotes, as in "QUIT" or re"[A-Z]+"')
            return self._expression(string, start) if string[1] else self._bytes(string)
        word = self._word()
        if name in _TRIGGERS:
            return self._number(word, _TRIGGERS[name], start)
        if name == "between":
            return self._between(word, start)
        return self._numbers(word, start)

    def _between(self, word: str, start: int) -> tuple[float, float]:
        since, dots, until = word.partition("..")
        if not dots:
            self._fail("two times are written 0.5..2, or 0.5.. for ever", start)
        rule = Rule("seconds")
        return (
            self._number(since, rule, start) if since else 0.0,
            self._number(until, rule, start) if until else inf,
        )

    def _numbers(self, word: str, start: int) -> Any:
        match = re.fullmatch(r"(\d+)\.\.(\d+)(?:/(\d+))?", word)
        if match and (match[3] is None or int(match[3])):
            return range(int(match[1]), int(match[2]) + 1, int(match[3] or 1))
        if not re.fullmatch(r"\d+(\+\d+)*", word):
            self._fail(f"numbers are written 3, 1+3, 1..5 or 1..9/2, not {word}", start)
        return tuple(map(int, word.split("+")))

    def _number(self, word: str, rule: Rule | None, start: int) -> Any:
        match = _NUMBER.fullmatch(word)
        if match is None:
            self._fail(f"here stands a number, not {word!r}", start)
        units = _UNITS.get(rule.kind if rule else "", {"": 1})
        if match[2] not in units:
            known = ", ".join(unit for unit in units if unit)
            self._fail(
                f"unknown unit {match[2]!r}: " + (f"there are {known}" if known else "none is wanted"), start
            )
        by = units[match[2]]
        if by == 1 and match[1].lstrip("+-").isdigit():
            return int(match[1])
        value = float(match[1])
        # A unit below one is divided by: 50ms is 0.05, not 0.05 and a bit.
        value = value * by if by >= 1 else value / round(1 / by)
        return int(value) if rule and rule.kind in ("bytes", "count") and value.is_integer() else value

    def _bytes(self, string: re.Match[str]) -> bytes:
        body, offset = string[2], string.start(2)
        self._at = string.end()
        self._space()
        made = bytearray()
        at = 0
        for escape in _ESCAPE.finditer(body):
            made += self._plain(body[at : escape.start()], offset + at)
            if escape[2]:
                self._fail(
                    r"this escape is not known: there are \n, \r, \t, \\, \" and \x00 to \xff",
                    offset + escape.start(),
                )
            code = escape[1]
            made.append(int(code[1:], 16) if code[0] == "x" else _ESCAPES[code])
            at = escape.end()
        return bytes(made + self._plain(body[at:], offset + at))

    def _plain(self, text: str, start: int) -> bytes:
        try:
            return text.encode("ascii")
        except UnicodeEncodeError as error:
            self._fail(r"only ASCII stands for bytes; write others as \x00 to \xff", start + error.start)

    def _expression(self, string: re.Match[str], start: int) -> re.Pattern[bytes]:
        flags = 0
        for letter in string[3]:
            if letter not in FLAGS:
                self._fail(f"unknown flag {letter!r}: there are {', '.join(FLAGS)}", start)
            flags |= FLAGS[letter]
        if string[1] == "bre":
            source = self._bytes(string)
        else:
            source = self._plain(string[2].replace('\\"', '"'), string.start(2))
            self._at = string.end()
            self._space()
        try:
            return re.compile(source, flags)
        except re.error as error:
            self._fail(f"the expression is malformed: {error}", start)

    def _name(self, what: str) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            self._fail(f"here stands {what}")
        self._at = match.end()
        self._space()
        return match[0]

    def _word(self) -> str:
        match = _WORD.match(self._text, self._at)
        if match is None:
            self._fail("here a value is missing")
        self._at = match.end()
        self._space()
        return match[0]

    def _take(self, mark: str) -> bool:
        if not self._text.startswith(mark, self._at):
            return False
        self._at += 1
        self._space()
        return True

    def _space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _built(self, start: int, build: Callable[[], T]) -> T:
        try:
            return build()
        except UsageError as error:
            self._fail(str(error), start)

    def _unknown(self, what: str, name: str, known: Any, start: int) -> NoReturn:
        meant = _OTHER_WORDS.get(_known_as(name), "") if what == "fault" else ""
        close = [meant] if meant else get_close_matches(name.lower(), list(known), 1, 0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
        self._fail(f"there is no {what} {name!r}; {hint}", start)

    def _fail(self, problem: str, at: int | None = None) -> NoReturn:
        at = self._at if at is None else at
        line = re.sub(r"\s", " ", self._text)
        raise UsageError(
            f"{self._subject}, at character {at + 1}: {problem}\n  {line}\n  {' ' * at}^"
        ) from None


def _known_as(name: str) -> str:
    """As faults and presets are called: they are also written 3G, lossy-wifi, reset-peer ..."""
    return name.lower().replace("-", "_")
