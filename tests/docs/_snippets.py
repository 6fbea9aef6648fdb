"""The snippets of a page: what stands between fences, and how it is made to run.

* ```python: a module. Functions named test_* run as tests with the fixtures of the plugin; a module without any has to run through. A
  first line `# file: NAME` stores it under that name, beside all other snippets of the page, for them to import and for commands to use.
* ```console: commands after `$ `, run by a shell in the directory of the page; the lines below a command are what it prints, in which `...` stands for
  anything. A line `[exit status N]` says that it does not end with 0; a line `^C`, that it is interrupted as soon as what stands above it has been printed.
* ```wire, ```toml, ```ini and others with a first line `# file: NAME`: stored, for commands and tests to use. Without it they are shown only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ("ROOT", "Command", "Snippet", "commands", "matches", "pages", "snippets")

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]*)[^\n]*\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_FILE = re.compile(r"^(?:#|//|;) file: (\S+)\n")
_STATUS = re.compile(r"^\[exit status (\d+)\]$")


@dataclass(frozen=True, slots=True)
class Snippet:
    """One fenced block: its language, the line on which it begins, and what it says."""

    language: str
    line: int
    body: str

    @property
    def file(self) -> str | None:
        """The name under which it is stored, if it says one."""
        found = _FILE.match(self.body)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block, and what the page says that it does; `until` is what it prints before it is interrupted."""

    text: str
    output: str
    status: int
    until: str | None = None


def pages() -> list[Path]:
    """README and everything below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        indent = match["indent"]
        body = "".join(line.removeprefix(indent) for line in match["body"].splitlines(keepends=True))
        found.append(Snippet(match["language"], text.count("\n", 0, match.start()) + 1, body))
    return found


def commands(body: str) -> list[Command]:
    found: list[Command] = []
    text, status = "", 0
    until: str | None = None
    output: list[str] = []

    def close() -> None:
        if text:
            found.append(Command(text, "\n".join(output).strip("\n"), status, until))

    for line in body.splitlines():
        announced = _STATUS.match(line)
        if line.startswith("$ "):
            close()
            text, output, status, until = line[2:], [], 0, None
        elif line.startswith("> ") and not output:
            text += "\n" + line[2:]
        elif announced:
            status = int(announced[1])
        elif line == "^C":
            until = "\n".join(output)
        else:
            output.append(line)
    close()
    return found


def matches(expected: str, printed: str) -> bool:
    """Whether `printed` is what the page shows. Spaces count as one, for tables are as wide as their contents."""
    pattern = r"[\s\S]*?".join(re.escape(part) for part in _folded(expected).split("..."))
    return re.fullmatch(pattern + r"\s*", _folded(printed)) is not None


def _folded(text: str) -> str:
    lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.strip().splitlines())
    return "\n".join(re.sub(r"-{2,}", "--", line) for line in lines)
