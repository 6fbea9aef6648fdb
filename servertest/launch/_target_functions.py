"""Targets that are functions: one that gets the listening socket, or asyncio callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .._support import UsageError
from ._kinds import Kind
from ._target_names import check_callable, name_of, required_parameters

if TYPE_CHECKING:
    from .._support import Transport
    from ._host import Plan, Servable

__all__ = ("AsyncioTarget", "FunctionTarget")


@dataclass(frozen=True, slots=True)
class FunctionTarget:
    """A function that gets the socket: listening, or bound if it is for datagrams. It returns when it is done.

    Attributes:
        function: The function.
        served: "stream", "datagram", or None for both.
    """

    function: Callable[[Any], object]
    served: Transport | None = None

    binds = False
    repeatable = True

    @property
    def name(self) -> str:
        """The function's name."""
        return name_of(self.function)

    @property
    def transport(self) -> Transport | None:
        """As it was declared."""
        return self.served

    def check(self, kind: Kind) -> None:
        """Any kind goes.

        Raises:
            UsageError: It cannot be called.
        """
        check_callable(self.function, "a function: that is called with the socket")

    def build(self, plan: Plan) -> Servable:
        """Give the function its socket."""
        from ._function import FunctionServable

        return FunctionServable(self.function, plan)


@dataclass(frozen=True, slots=True)
class AsyncioTarget:
    """A ``client_connected(reader, writer)`` callback, or a class or function that makes a protocol.

    Attributes:
        callback: The callback or the factory.
        served: "stream" or "datagram"; None: a `asyncio.DatagramProtocol` subclass is for datagrams, else a stream.
    """

    callback: Callable[..., Any]
    served: Transport | None = None

    binds = False
    repeatable = True

    @property
    def name(self) -> str:
        """The callback's name."""
        return name_of(self.callback)

    @property
    def transport(self) -> Transport:
        """As it was declared, or as the protocol's class says."""
        if self.served is not None:
            return self.served
        bases = {base.__name__ for base in getattr(self.callback, "__mro__", ())}
        return "datagram" if "DatagramProtocol" in bases else "stream"

    def check(self, kind: Kind) -> None:
        """Refuse what an event loop cannot do.

        Raises:
            UsageError: It is no callback and no factory; a datagram protocol on a stream kind or the reverse; or a profile that
                needs the socket itself.
        """
        takes = required_parameters(self.callback) if callable(cast("Any", self.callback)) else -1
        if takes not in (None, 0, 2):
            raise UsageError(
                f"{self.callback!r} is nothing for asyncio: give a function client_connected(reader, writer), a class "
                "derived from asyncio.Protocol or DatagramProtocol, or a function without parameters that makes one"
            )
        if kind.transport != self.transport:
            raise UsageError(f"{self.name} is for {self.transport}s, and {kind} serves {kind.transport}s")
        if kind.tls == "handshake-reset":
            raise UsageError(
                f"{self.name}: asyncio keeps its sockets away from TLS, so no handshake can be reset there; "
                "take a threading kind for this profile"
            )

    def build(self, plan: Plan) -> Servable:
        """Make the event loop's server."""
        from ._asyncio import AsyncioServable

        if self._is_callback():
            return AsyncioServable(plan, callback=self.callback)
        return AsyncioServable(plan, factory=self.callback)

    def _is_callback(self) -> bool:
        if self.transport == "datagram" or isinstance(self.callback, type):
            return False
        return required_parameters(self.callback) != 0
