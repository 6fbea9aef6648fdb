"""One thing that is wrong with a subject, with all that is needed to see it oneself."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from .._support import preview

__all__ = ("Violation",)

_FRAME = re.compile(r'^  File "(.*)", line (\d+), in ', re.MULTILINE)
_NOT_THE_SUBJECT = ("/socketserver.py", "/socket.py", "/ssl.py", "/shutil.py", "/codecs.py", "/_handlers.py")
# Of bytes as long as this all is told; what a handler was sent to see how much it takes goes into tens of megabytes.
_TOLD = 2000
_SERVERTEST = __file__.rpartition("/contract/")[0]


@dataclass(frozen=True, slots=True, repr=False)
class Violation:
    """Something that a subject does and should not.

    Attributes:
        check: The check that found it.
        kind: On which kind of server; "in memory" where no server was needed.
        explanation: What is wrong, in a sentence.
        sent: What the client sent.
        came: What it got.
        expected: What it should have got; None if that is not about bytes.
        seed: What repeats the search that found it.
        details: Traceback, stacks, figures.
        transcript: What passed.
        reproduction: A program that shows it.
        also: How many more examples of the same were seen.
    """

    check: str
    kind: str
    explanation: str
    sent: bytes = b""
    came: bytes = b""
    expected: bytes | None = None
    seed: int = 0
    details: str = ""
    transcript: str = ""
    reproduction: str = ""
    also: int = 0

    @property
    def place(self) -> str:
        """Where an exception left the subject's own code: "file:line"; nothing if there was none, or it is not known.

        It is the last place that is neither of servertest nor of the modules that do a socket's work.
        """
        found = [one for one in _FRAME.findall(self.details) if not one[0].endswith(_NOT_THE_SUBJECT)]
        own = [one for one in found if f"{_SERVERTEST}/" not in one[0]]
        return f"{own[-1][0]}:{own[-1][1]}" if own else ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; bytes as Python writes them, without the middle where there are more than 2000."""
        return {
            name: preview(value, _TOLD) if isinstance(value, bytes) else value
            for name, value in asdict(self).items()
        }

    def __repr__(self) -> str:
        values = ((one.name, getattr(self, one.name)) for one in fields(self))
        shown = (
            f"{name}={preview(value) if isinstance(value, bytes) else repr(value)}" for name, value in values
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def __str__(self) -> str:
        more = f" (and {self.also} more like it)" if self.also else ""
        return f"{self.check} ({self.kind}): {self.explanation}{more}"
