"""What kind of server a mock server is, and what it gives it to serve."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from .._support import UsageError
from ..launch import Kind

__all__ = ()

_SHORT = {
    "tcp": "ThreadingTCPServer",
    "udp": "UDPServer",
    "unix": "ThreadingUnixStreamServer",
    "unix-datagram": "UnixDatagramServer",
}


class Named:
    """Something to be called, with a name for reports."""

    def __init__(self, name: str, function: Callable[..., object]) -> None:
        self.__qualname__ = self.__name__ = name
        self._function = function

    def __call__(self, *arguments: Any) -> None:
        self._function(*arguments)


def kind_for(kind: str | Kind) -> Kind:
    """The kind of server that a caller has asked for.

    Raises:
        UsageError: It is none, or none that can follow a script.
    """
    chosen = Kind.parse(_SHORT.get(kind, kind) if isinstance(kind, str) else kind)
    if chosen.host != "thread" or chosen.forks or chosen.concurrency == "selector":
        threaded = dataclasses.replace(chosen, host="thread", concurrency="threading")
        raise UsageError(
            f"a mock server cannot be a {chosen}: it follows its script in threads of the test's process, where the test can see and change "
            f"it; take {threaded}, which no client can tell from it"
        )
    if chosen.transport == "datagram":
        return dataclasses.replace(chosen, concurrency="sync")
    return chosen
