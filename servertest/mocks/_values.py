"""What a script is made of besides bytes: framed messages, exact bytes, templates, and the requests that came."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from .._support import UsageError, preview

if TYPE_CHECKING:
    from ..transcript import Framing

__all__ = ("Expectable", "Frame", "Raw", "Request", "Sayable", "Template")

_FIELD = re.compile(rb"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Request:
    """Something that a client has sent.

    Attributes:
        data: The bytes; of a framed message what it says, without what marks its end.
        connection: The connection's number, from 1; for datagrams the peer's.
        time: Seconds since the server began.
        step: The number of the step that had expected it; None if none had.
        variables: What has been captured on this connection so far, by the names of groups.
    """

    data: bytes
    connection: int = 1
    time: float = 0.0
    step: int | None = None
    variables: Mapping[str, bytes] = field(default_factory=dict)

    def __getitem__(self, name: str) -> bytes:
        try:
            return self.variables[name]
        except KeyError:
            raise UsageError(_unknown(name, self.variables)) from None

    def __str__(self) -> str:
        return f"{preview(self.data)} on connection {self.connection}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One message in a framing: to be expected, or to be sent.

    Attributes:
        message: What it says: bytes, a pattern or a function where it is expected; bytes, a template or a function where it is sent.
        framing: Where it ends; the server's own if left out.
    """

    message: bytes | re.Pattern[bytes] | Callable[..., object] | Template
    framing: Framing | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes as they stand, on a server whose messages have a framing: to send half a message, say, or a wrong length.

    Attributes:
        data: The bytes.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Template:
    """Bytes with names in braces, for which what was captured under these names is put in.

    ``{{`` and ``}}`` stand for braces.

    Attributes:
        text: The bytes, such as ``b"250 hello {name}"``.
    """

    text: bytes

    def __post_init__(self) -> None:
        for found in _FIELD.finditer(self.text):
            if found[0] in (b"{", b"}"):
                raise UsageError(
                    f"Template: the brace at byte {found.start()} of {preview(self.text)} encloses no name; "
                    f"write {found[0].decode() * 2} for a brace"
                )

    def fill(self, variables: Mapping[str, bytes]) -> bytes:
        """Put the variables in.

        Raises:
            UsageError: There is no variable of some name.
        """

        def value(found: re.Match[bytes]) -> bytes:
            if found[1] is None:
                return found[0][:1]
            name = found[1].decode("ascii")
            if name not in variables:
                raise UsageError(_unknown(name, variables))
            return variables[name]

        return _FIELD.sub(value, self.text)


Expectable: TypeAlias = "bytes | re.Pattern[bytes] | Callable[[bytes], object] | Frame | Raw"
"""What a step can expect. A function is given a whole message, and returns whether it is the right one, or what it captures."""

Sayable: TypeAlias = "bytes | Template | Frame | Raw | Callable[[Request], bytes]"
"""What a step can say. A function is given the request, and returns the bytes."""


def _unknown(name: str, variables: Mapping[str, bytes]) -> str:
    known = ", ".join(sorted(variables)) or "nothing"
    return f"nothing was captured under the name {name!r} on this connection; what was captured is {known}"
