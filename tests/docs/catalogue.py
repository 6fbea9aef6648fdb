"""The fault catalogue, made from the registry: `python -m tests.docs.catalogue` writes the page, and records pictures that are missing.

With names of faults, or with --all, it records those pictures anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from servertest.faults import PRESETS, Fault, Parameter, Plan, registry
from tests.docs._drawing import draw
from tests.docs._scenes import pictured, play
from tests.docs._snippets import ROOT

__all__ = ("PAGE", "PICTURES", "main", "page")

PAGE = ROOT / "docs" / "fault-catalogue.md"
PICTURES = ROOT / "docs" / "pictures"

INTRODUCTION = """\
# Fault catalogue

What can go wrong, from the registry of `servertest.faults`; [faults.md](faults.md) says how to use it. `servertest faults` prints the short form.

*This page is written by `python -m tests.docs.catalogue`: edit the docstrings of the faults instead.*

Each picture was recorded on real sockets. Above is what was sent, below what came of it, from left to right in milliseconds; a letter is a byte. Red is what was
lost, changed or added, and what went wrong. Bytes that came in one go are in one box; what came at the same time stands side by side.

*Anywhere* is: in a proxy, inside a server (`serve(..., faults=...)`), around a client (`connect(faults=...)`), around any socket (`faulty(sock, ...)`), with the same
results.
"""

GROUPS = (
    (
        "Streams, and some of them datagrams",
        lambda kind: kind.place == "line" and "stream" in kind.carried_by,
    ),
    ("Datagrams", lambda kind: kind.place == "line" and "stream" not in kind.carried_by),
    ("The calls of a program on its own socket", lambda kind: kind.place == "calls"),
    ("Where connections are accepted", lambda kind: kind.place == "listener"),
)

PLACES = {
    "line": "anywhere",
    "calls": "in a server, around a client, around any socket",
    "listener": "in a proxy, in a server, at a socket that listens",
}

#: What cannot be had in all places where the others of its kind are, or in more.
ELSEWHERE = {
    "fail_fork": "in a server",
    "fail_thread_start": "in a server",
    "refuse": "in a proxy, in a server, around a client, at a socket that is to connect",
}


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *_index(), *_sections(), *_presets()]) + "\n"


def _index() -> Iterator[str]:
    yield "| fault | on | what it does |"
    yield "|---|---|---|"
    for kind in _sorted():
        first = _plain(kind).partition(": ")[0].partition(". ")[0].rstrip(".")
        yield f"| [`{kind.name}`](#{kind.name}) | {_transports(kind)} | {_cell(first)} |"
    yield ""


def _sections() -> Iterator[str]:
    for title, belongs in GROUPS:
        yield f"## {title}\n"
        for kind in filter(belongs, _sorted()):
            yield from _section(kind)


def _section(kind: type[Fault]) -> Iterator[str]:
    shown = pictured(kind)
    yield f'<a id="{kind.name}"></a>\n'
    yield f"### {kind.__name__}\n"
    yield f"![{shown!r}](pictures/{kind.name}.svg)\n"
    yield f"{_plain(kind)}\n"
    facts = [f"On {_transports(kind)}; {ELSEWHERE.get(kind.name, PLACES[kind.place])}."]
    if kind.usual_direction:
        facts.append(f"Works on what goes {kind.usual_direction}, unless aimed.")
    if kind.lossless:
        facts.append("Nothing is lost.")
    if kind.why_not:
        other = next(iter({"stream", "datagram"} - kind.carried_by))
        facts.append(f"Not on {other}s: {kind.why_not}.")
    yield " ".join(facts) + "\n"
    yield f"The picture: `{shown!r}`, in text `{Plan.of(shown).text}`.\n"
    if kind.parameters():
        yield "| field | usually | may be | what it is |"
        yield "|---|---|---|---|"
        for parameter in kind.parameters():
            yield f"| `{parameter.name}` | {_usual(parameter)} | {_allowed(parameter)} | {_cell(parameter.about)} |"
        yield ""


def _presets() -> Iterator[str]:
    yield "## Networks with a name\n"
    yield "Give the name wherever faults are given as text, as in `proxy(server, '3g')`; in Python, `presets()['3g']`.\n"
    yield "| preset | on | what it is | its faults | from |"
    yield "|---|---|---|---|---|"
    for preset in PRESETS:
        text = preset.plan.text.replace("|", "\\|")
        yield f"| `{preset.name}` | {_carried(preset.carried_by)} | {_cell(preset.about)} | `{text}` | {_cell(preset.source)} |"


def _sorted() -> list[type[Fault]]:
    return [kind for _, kind in sorted(registry.items())]


def _plain(kind: type[Fault]) -> str:
    return kind.description().replace("``", "`")


def _transports(kind: type[Fault]) -> str:
    return _carried(kind.carried_by)


def _carried(transports: frozenset[Any]) -> str:
    return " and ".join(f"{transport}s" for transport in sorted(transports, reverse=True))


def _usual(parameter: Parameter) -> str:
    unit = parameter.rule.unit if parameter.rule is not None and parameter.default is not None else ""
    value = "none" if parameter.default is None else f"`{parameter.default!r}`"
    return f"{value} {unit}".strip()


def _allowed(parameter: Parameter) -> str:
    allowed = parameter.rule.allowed if parameter.rule is not None else ""
    return _cell(allowed.replace("'", "`") if parameter.rule and parameter.rule.choices else allowed)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("``", "`")


def main(arguments: list[str]) -> int:
    """Write the page, and the pictures."""
    unknown = set(arguments) - registry.keys() - {"--all"}
    if unknown:
        print(f"there is no fault {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    PICTURES.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    for kind in _sorted():
        path = PICTURES / f"{kind.name}.svg"
        if "--all" in arguments or kind.name in arguments or not path.exists():
            print(f"recording {kind.name}")
            path.write_text(draw(play(kind)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
