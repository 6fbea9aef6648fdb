"""A program as a target: what to call, and how to know that it serves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._support import UsageError
from ._command_ready import LineSearch, Ready

if TYPE_CHECKING:
    from .._support import Transport
    from ._host import Plan, Servable
    from ._kinds import Kind

__all__ = ("CommandTarget",)


@dataclass(frozen=True, slots=True)
class CommandTarget:
    """A program that serves.

    Attributes:
        arguments: The program and its arguments. In each of them ``{host}``, ``{port}``, ``{path}`` (of a Unix
            socket) and ``{fd}`` (the number of a descriptor that it inherits: a socket that is bound, and listening
            if it is a stream) are replaced; other braces are left alone.
        ready: A part of the line that it prints when it serves, or a pattern that is found in it. If the pattern has
            a group, its first group is the port on which the program serves, and ``{port}`` is 0. Without `ready`
            it serves as soon as it takes a connection.
        served: "stream" or "datagram".
        directory: Its current directory; ours if not given.
        environment: Variables to be added to ours, with the same replacements. ``PYTHONUNBUFFERED=1`` is added unless
            it is set: what a Python program prints would otherwise not come until it ends.
        seconds: How long it may take until it serves.
    """

    arguments: Sequence[str | os.PathLike[str]]
    ready: Ready = None
    served: Transport = "stream"
    directory: str | os.PathLike[str] | None = None
    environment: Mapping[str, str] | None = None
    seconds: float = 10.0

    repeatable = True

    def __post_init__(self) -> None:
        if isinstance(self.arguments, str | bytes) or not self.arguments:
            raise UsageError(
                f"a command is a sequence of arguments, the program first, not {self.arguments!r}; "
                "shlex.split() makes one of a string"
            )
        if not (self.names_address or LineSearch(self.ready).has_group):
            raise UsageError(
                f"{self.name} is not told where to serve: put {{port}}, {{path}} or {{fd}} into its arguments or its "
                "environment, or give a ready= pattern whose first group is the port"
            )

    @property
    def words(self) -> list[str]:
        """The arguments as text."""
        return [os.fspath(argument) for argument in self.arguments]

    @property
    def name(self) -> str:
        """The program's name."""
        return os.path.basename(self.words[0])

    @property
    def binds(self) -> bool:
        """Whether the program makes its own socket: always, unless it inherits one."""
        return not self.mentions("{fd}")

    @property
    def transport(self) -> Transport:
        """As it was declared."""
        return self.served

    def mentions(self, placeholder: str) -> bool:
        """Whether some argument, or a variable of the environment, has this placeholder."""
        return any(placeholder in text for text in (*self.words, *(self.environment or {}).values()))

    @property
    def only_path(self) -> bool:
        """Whether a path is all that the program is told of where to serve."""
        return self.mentions("{path}") and not (self.mentions("{port}") or self.mentions("{fd}"))

    @property
    def names_address(self) -> bool:
        """Whether the program is told where to serve."""
        return any(self.mentions(placeholder) for placeholder in ("{port}", "{path}", "{fd}"))

    def check(self, kind: Kind) -> None:
        """Refuse kinds of which the program cannot be told.

        Raises:
            UsageError: The arguments do not go with the kind.
        """
        if os.name == "nt":
            raise UsageError(
                f"{self.name}: commands need process groups and signals, which Windows does not have"
            )
        if self.served != kind.transport:
            raise UsageError(f"{self.name} serves {self.served}s, and {kind} is for {kind.transport}s")
        if kind.family == "abstract" and self.binds:
            raise UsageError(
                f"{self.name}: programs spell abstract names each in their own way; use a path, or {{fd}}"
            )
        if kind.tls:
            raise UsageError(
                f"{self.name} is a program: its TLS is its own affair, and {kind} would have no effect"
            )
        if kind.family == "unix" and not (self.mentions("{path}") or self.mentions("{fd}")):
            raise UsageError(f"{self.name} is to serve on a Unix socket: put {{path}} into its arguments")
        if not kind.local and self.mentions("{path}"):
            raise UsageError(
                f'{self.name} wants a {{path}}, which {kind} does not have; take a Unix kind, or address="unix"'
            )

    def build(self, plan: Plan) -> Servable:
        """A program is not built, but run.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{self.name} is a program, and runs as a command, not as {plan.kind}")
