"""Just enough of ABNF (RFC 5234) to make texts in a grammar without recursion, and to recognize them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from hypothesis import strategies as st

_RULE = re.compile(r"^([A-Za-z][\w-]*) += +(.*)$")
_TOKEN = re.compile(
    r'\s*(?:"([^"]*)"|%x([0-9A-F]+)(?:-([0-9A-F]+))?|(\d*\*\d*|\d+)(?=[A-Za-z("%])|([A-Za-z][\w-]*)|([()\[\]/]))'
)
_IN_WORDS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:-")
_CORE = {"ALPHA": "[A-Za-z]", "DIGIT": "[0-9]", "HEXDIG": "[0-9A-Fa-f]", "DQUOTE": '"'}


def rules_of(text: str) -> dict[str, str]:
    """The rules of a grammar by their names; comments go, and what is indented goes on with the line above."""
    rules: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        content = re.sub(r'("[^"]*")|;.*', lambda m: m[1] or "", line).rstrip()
        if found := _RULE.match(content):
            name = found[1]
            rules[name] = found[2]
        elif content:
            assert content.startswith(" "), line
            rules[name] += " " + content.strip()
    return rules


@dataclass
class Literal:
    """These characters."""

    text: str


@dataclass
class Characters:
    """One of a range of characters."""

    first: str
    last: str


@dataclass
class Sequence:
    """One after the other."""

    items: list[Node]


@dataclass
class Choice:
    """One of them."""

    items: list[Node]


@dataclass
class Repeated:
    """So many times."""

    item: Node
    least: int
    most: int | None


@dataclass
class Rule:
    """What another rule says."""

    name: str


Node: TypeAlias = Literal | Characters | Sequence | Choice | Repeated | Rule


@dataclass
class Grammar:
    """Rules, and which of them are words: between the parts of the others blanks may stand.

    Attributes:
        rules: By their names.
        words: The names of those that are written in one.
        used: The names of those that were asked for.
    """

    rules: dict[str, str]
    words: frozenset[str]
    used: set[str] = field(default_factory=set)

    def regex(self, name: str) -> str:
        """What a rule matches, as a regular expression."""
        return self._regex(Rule(name), blank=False)

    def strategy(self, name: str) -> st.SearchStrategy[str]:
        """What a rule matches, for Hypothesis."""
        return self._strategy(Rule(name), blank=False)

    def _regex(self, node: Node, *, blank: bool) -> str:
        between = r"[ \t]*" if blank else ""
        if isinstance(node, Literal):
            return re.escape(node.text)
        if isinstance(node, Characters):
            return f"[{re.escape(node.first)}-{re.escape(node.last)}]"
        if isinstance(node, Sequence):
            return between.join(self._regex(item, blank=blank) for item in node.items)
        if isinstance(node, Choice):
            return f"(?:{'|'.join(self._regex(item, blank=blank) for item in node.items)})"
        if isinstance(node, Repeated):
            most = "" if node.most is None else node.most
            return f"(?:{self._regex(node.item, blank=blank)}{between}){{{node.least},{most}}}"
        if node.name in _CORE:
            return _CORE[node.name]
        return f"(?:{self._regex(self._parsed(node.name), blank=node.name not in self.words)})"

    def _strategy(self, node: Node, *, blank: bool) -> st.SearchStrategy[str]:
        if isinstance(node, Literal):
            return st.just(node.text)
        if isinstance(node, Characters):
            return st.characters(min_codepoint=ord(node.first), max_codepoint=ord(node.last))
        if isinstance(node, Sequence):
            return self._joined(st.tuples(*(self._strategy(item, blank=blank) for item in node.items)), blank)
        if isinstance(node, Choice):
            return st.one_of(*(self._strategy(item, blank=blank) for item in node.items))
        if isinstance(node, Repeated):
            most = node.least + 3 if node.most is None else node.most
            items = st.lists(self._strategy(node.item, blank=blank), min_size=node.least, max_size=most)
            return self._joined(items, blank)
        if node.name in _CORE:
            return st.from_regex(_CORE[node.name], fullmatch=True)
        return self._strategy(self._parsed(node.name), blank=node.name not in self.words)

    def _joined(
        self, parts: st.SearchStrategy[tuple[str, ...]] | st.SearchStrategy[list[str]], blank: bool
    ) -> st.SearchStrategy[str]:
        if not blank:
            return parts.map("".join)
        return st.tuples(parts, st.sampled_from(["", " ", "\t "])).map(lambda drawn: _spaced(*drawn))

    def _parsed(self, name: str) -> Node:
        self.used.add(name)
        tokens = _tokens(self.rules[name])
        node = _choice(tokens)
        assert not tokens, (name, tokens)
        return node


def _spaced(parts: Iterable[str], blank: str) -> str:
    text = ""
    for part in parts:
        run_together = text[-1:] in _IN_WORDS and part[:1] in _IN_WORDS
        text += (blank or " " * run_together) * bool(text and part) + part
    return text


def _choice(tokens: list[re.Match[str]]) -> Node:
    items = [_sequence(tokens)]
    while tokens and tokens[0][6] == "/":
        del tokens[0]
        items.append(_sequence(tokens))
    return items[0] if len(items) == 1 else Choice(items)


def _sequence(tokens: list[re.Match[str]]) -> Node:
    items: list[Node] = []
    while tokens and tokens[0][6] not in ("/", ")", "]"):
        times = tokens.pop(0)[4] if tokens[0][4] else ""
        item = _element(tokens)
        if times:
            least, star, most = times.partition("*")
            count = int(least or 0)
            item = Repeated(item, count, (int(most) if most else None) if star else count)
        items.append(item)
    return items[0] if len(items) == 1 else Sequence(items)


def _element(tokens: list[re.Match[str]]) -> Node:
    _, literal, first, last, _, name, mark = (tokens[0][number] for number in range(7))
    del tokens[0]
    if literal is not None:
        return Literal(literal)
    if first is not None:
        return Characters(chr(int(first, 16)), chr(int(last or first, 16)))
    if name is not None:
        return Rule(name)
    inside = _choice(tokens)
    assert tokens.pop(0)[6] == {"(": ")", "[": "]"}[mark]
    return Repeated(inside, 0, 1) if mark == "[" else inside


def _tokens(text: str) -> list[re.Match[str]]:
    found = []
    while text:
        token = _TOKEN.match(text)
        assert token, text
        found.append(token)
        text = text[token.end() :]
    return found
