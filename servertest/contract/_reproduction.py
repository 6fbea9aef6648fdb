"""A violation as a test that fails for its reason: to be pasted into a file beside the subject, and run by pytest."""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..launch import HandlerTarget
from ..transcript import Exchange, Framing
from ._answer import Accepts
from ._conversation import Conversation
from ._plan import DatagramPlan, Piece, Plan
from ._promises import Promises

__all__ = ("as_code", "check_test", "plan_test")


@dataclasses.dataclass
class _Module:
    """A test module that is being written.

    Attributes:
        imports: What it imports: names by modules.
        missing: What cannot be written down, and has to be put in by hand.
    """

    imports: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)

    def need(self, module: str, *names: str) -> None:
        """Import these names from there; without names, the module."""
        self.imports.setdefault(module, set()).update(names)

    def name_of(self, thing: Any, what: str) -> str:
        """How something that was defined in a module is called, and import it; a gap to be filled in, if nobody can import it."""
        if isinstance(thing, functools.partial):
            self.need("functools")
            keywords = [f"{name}={self.value(value, what)}" for name, value in thing.keywords.items()]
            inner = [self.name_of(thing.func, what), *(self.value(one, what) for one in thing.args)]
            return f"functools.partial({', '.join([*inner, *keywords])})"
        module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
        if module and name and _found(module, name) is thing:
            self.need(module, name.partition(".")[0])
            return name
        return self._gap(what, name)

    def value(self, value: Any, what: str) -> str:
        """Anything that an exchange, a promise or a server's attribute may be."""
        if isinstance(value, Exchange):
            self.need("servertest", "Exchange")
            expected = self.value(value.expected, "what is expected")
            framing = f", framing={self.value(value.framing, 'the framing')}" if value.framing else ""
            return f"Exchange({as_code(value.sent)}, {expected}{framing})"
        if isinstance(value, Accepts):
            return self.name_of(value.function, "the function that accepts answers")
        if isinstance(value, Framing):
            return self.dataclass(value, "servertest.transcript")
        if isinstance(value, re.Pattern):
            self.need("re")
            return f"re.compile({value.pattern!r}{f', {int(value.flags)}' if value.flags else ''})"
        if isinstance(value, bytes):
            return as_code(value)
        if isinstance(value, Path):
            self.need("pathlib", "Path")
            return f"Path({str(value)!r})"
        try:
            if ast.literal_eval(repr(value)) == value:
                return repr(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
        return self.name_of(value, what)

    def dataclass(self, value: Any, module: str) -> str:
        """One of a module's own values, with what differs from the default."""
        name = type(value).__name__
        if not dataclasses.is_dataclass(value):
            return self._gap("a value of the class", name)
        self.need(module, name)
        fields = [
            f"{one.name}={self.value(getattr(value, one.name), one.name)}"
            for one in dataclasses.fields(value)
            if getattr(value, one.name) != one.default
        ]
        return f"{name}({', '.join(fields)})"

    def subject(self, target: Any) -> str:
        """What is checked."""
        if not isinstance(target, HandlerTarget):
            cls = getattr(target, "cls", None)
            given = (getattr(target, "arguments", ()), getattr(target, "keywords", {}))
            if cls is not None and not any(given):
                return self.name_of(cls, "the server class")
            return self.dataclass(target, "servertest.launch")
        handler = self.name_of(target.handler, "the handler")
        if not target.attributes:
            return handler
        self.need("servertest.launch", "HandlerTarget")
        attributes = [
            f"{name!r}: {self.value(value, f'the attribute {name} of the server')}"
            for name, value in target.attributes.items()
        ]
        return f"HandlerTarget({handler}, {{{', '.join(attributes)}}})"

    def text(self, name: str, why: str, body: list[str]) -> str:
        """The whole module."""
        plain = [f"import {module}" for module, names in sorted(self.imports.items()) if not names]
        named = [
            f"from {module} import {', '.join(sorted(names))}"
            for module, names in sorted(self.imports.items())
            if names
        ]
        gaps = [f"# put in by hand: {what}" for what in dict.fromkeys(self.missing)]
        lines = [*plain, *named, *gaps, "", "", f"def test_{name}():", f"    # {why.splitlines()[0]}"]
        return "\n".join([*lines, *(f"    {line}" for line in body)])

    def _gap(self, what: str, name: str) -> str:
        self.missing.append(f"{what}{f' ({name})' if name else ''}, which cannot be imported by its name")
        return "..."


def _found(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def plan_test(case: Any, explanation: str, proof: str, plan: Plan | DatagramPlan) -> str:
    """The plan, and what should hold of what comes of it.

    Args:
        case: The case; it says what is checked, and where conversations are held.
        explanation: What is wrong.
        proof: An expression about `record` that should be true and is not.
        plan: What the client does.
    """
    module = _Module()
    module.need("servertest.contract", type(plan).__name__)
    if "Piece(" in (code := as_code(plan)):
        module.need("servertest.contract", "Piece")
    module.need(case.module, "rehearse")
    # Where it can do no harm, as when it was found.
    apart = ", apart=True" if case.module == "servertest.contract" else ""
    body = [
        f"plan = {code}",
        f"record = rehearse({module.subject(case.target)}, plan{apart})",
        f"assert {proof}, record",
    ]
    return module.text(case.check, explanation, body)


def check_test(case: Any, explanation: str) -> str:
    """The check itself, with all that it was given."""
    module = _Module()
    module.need("servertest", "check")
    subject = module.subject(case.target)
    exchanges = ", ".join(_conversation(module, one) for one in case.conversations)
    options = [f"checks=[{case.check!r}]"]
    if isinstance(case.target, HandlerTarget):
        options.insert(0, f"kinds=[{str(case.kind)!r}]")
    if promises := _promises(module, case.promises):
        options.append(f"promises={{{', '.join(promises)}}}")
    for name, default in (("profile", "quick"), ("seed", 0)):
        if (value := getattr(case, name)) != default:
            options.append(f"{name}={value!r}")
    if case.module != "servertest.contract":
        module.need(case.module, "Simulated")
        options.append(f"ground=Simulated({case.seed!r})")
    body = [
        f"exchanges = [{exchanges}]",
        f"report = check({subject}, exchanges, {', '.join(options)})",
        "assert not report.findings, report.findings[0].what",
        "assert not report.violations, report.violations[0].explanation",
    ]
    return module.text(case.check, explanation, body)


def _conversation(module: _Module, conversation: Conversation) -> str:
    exchanges = ", ".join(module.value(one, "an exchange") for one in conversation.exchanges)
    if not (conversation.half_close or conversation.server_closes or conversation.transport == "datagram"):
        return f"[{exchanges}]"
    module.need("servertest.contract", "Conversation")
    named = [
        f"{name}={getattr(conversation, name)!r}"
        for name in ("half_close", "server_closes", "transport")
        if getattr(conversation, name) not in (False, "stream")
    ]
    return f"Conversation({conversation.number}, ({exchanges},), {', '.join(named)})"


def _promises(module: _Module, promises: Promises | Mapping[str, Any]) -> list[str]:
    given = Promises.of(promises)
    return [
        f"{one.name!r}: {module.value(value, f'the promise {one.name}')}"
        for one in dataclasses.fields(given)
        if (value := getattr(given, one.name)) is not None
    ]


def as_code(value: Any) -> str:
    """Bytes, plans, and tuples of them, as Python writes them; what is long and alike is written as a product."""
    if isinstance(value, Plan | DatagramPlan | Piece):
        fields = [
            one
            for one in dataclasses.fields(value)
            if one.name != "due" and getattr(value, one.name) != one.default
        ]
        shown = [f"{one.name}={as_code(getattr(value, one.name))}" for one in fields]
        return f"{type(value).__name__}({', '.join(shown)})"
    if isinstance(value, tuple):
        runs = [(one, len(list(same))) for one, same in itertools.groupby(value)]
        shown = [
            f"*({as_code(one)},) * {count}" if count > 3 else ", ".join([as_code(one)] * count)
            for one, count in runs
        ]
        return f"({', '.join(shown)}{',' * (len(shown) == 1)})"
    if isinstance(value, bytes) and len(value) > 200:
        return _compressed(value)
    return repr(value)


_RUN = re.compile(rb"(.)\1{63,}", re.DOTALL)


def _compressed(data: bytes) -> str:
    """Long bytes, in which the longest run of one byte is written as a product."""
    runs = [found.span() for found in _RUN.finditer(data)]
    place, end = max(runs, key=lambda run: run[1] - run[0], default=(0, 0))
    best = end - place
    if best < 64:
        return repr(data)
    head, byte, tail = data[:place], data[place : place + 1], data[place + best :]
    parts = [*([as_code(head)] if head else []), f"{byte!r} * {best}", *([as_code(tail)] if tail else [])]
    return " + ".join(parts)
