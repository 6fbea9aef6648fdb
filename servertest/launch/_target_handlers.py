"""Targets that are served by predefined classes: request handlers, and WSGI applications."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ._activating import servable
from ._kinds import Kind
from ._socketserver import adopt
from ._target_names import check_callable, name_of

if TYPE_CHECKING:
    from .._support import Transport
    from ._host import Plan, Servable

__all__ = ("HandlerTarget", "WsgiTarget")


@dataclass(frozen=True, slots=True)
class HandlerTarget:
    """A request handler, on the predefined server of whatever kind is asked for.

    Attributes:
        handler: A class, or anything that is called with (request, client_address, server).
        attributes: What to set on the server, for handlers that look there.
    """

    handler: Callable[..., Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    binds = False
    repeatable = True

    @property
    def name(self) -> str:
        """The handler's name."""
        return name_of(self.handler)

    @property
    def transport(self) -> Transport | None:
        """What the handler is written for, if its class says so."""
        bases = {base.__name__ for base in getattr(self.handler, "__mro__", ())}
        if "DatagramRequestHandler" in bases:
            return "datagram"
        return "stream" if "StreamRequestHandler" in bases else None

    def check(self, kind: Kind) -> None:
        """Refuse a kind that the handler is not written for.

        Raises:
            UsageError: It says which kinds are.
        """
        if self.transport not in (None, kind.transport):
            right = dataclasses.replace(kind, transport=self.transport, tls=False)
            raise UsageError(
                f"{self.name} is a {self.transport} handler, and {kind} serves {kind.transport}s: take {right}"
            )

    def build(self, plan: Plan) -> Servable:
        """Make the predefined server, on the listener of the plan."""
        self.check(plan.kind)
        assert plan.listener is not None
        try:
            server = plan.kind.server_class(
                plan.listener.getsockname(), self.handler, bind_and_activate=False
            )
        except TypeError as error:  # a selector server refuses handlers that would block its loop
            raise UsageError(f"{self.name} cannot be served by {plan.kind}: {error}") from error
        adopt(server, plan.listener)
        for name, value in self.attributes.items():
            setattr(server, name, value)
        if "request_queue_size" in self.attributes and plan.kind.transport == "stream":
            server.socket.listen(server.request_queue_size)  # again: the listener was there before the server
        return servable(server, plan)


@dataclass(frozen=True, slots=True)
class WsgiTarget:
    """A WSGI application, on wsgiref's handler and whatever stream kind is asked for.

    Attributes:
        application: Called with (environ, start_response).
    """

    application: Callable[..., Any]

    binds = False
    repeatable = True
    transport = "stream"

    @property
    def name(self) -> str:
        """The application's name."""
        return name_of(self.application)

    def check(self, kind: Kind) -> None:
        """Refuse datagrams, and what cannot be called.

        Raises:
            UsageError: It is no WSGI application; or HTTP needs a stream.
        """
        check_callable(self.application, "a WSGI application: that is called with (environ, start_response)")
        if kind.transport != "stream":
            raise UsageError(
                f"{self.name} is a WSGI application: HTTP needs a stream, and {kind} is for datagrams"
            )

    def build(self, plan: Plan) -> Servable:
        """Make the predefined server with wsgiref's handler."""
        from ._wsgi import wsgi_handler

        self.check(plan.kind)
        return HandlerTarget(wsgi_handler(self.application)).build(plan)
