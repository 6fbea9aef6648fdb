"""Targets that are servers of their own, or make one."""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ._activating import activate, explained, servable
from ._instrument import is_instrumented
from ._kinds import Kind
from ._socketserver import SocketServerServable
from ._target_names import check_callable, listed, name_of

if TYPE_CHECKING:
    from .._support import Address, Transport
    from ._host import Plan, Servable

__all__ = ("FactoryTarget", "InstanceTarget", "ServerClassTarget")


@dataclass(frozen=True, slots=True)
class ServerClassTarget:
    """A whole server class, called with an address and then with whatever it wants.

    Attributes:
        cls: A class in the style of `socketserver`.
        arguments: What follows the address: a handler class, and more if the class takes more.
        keywords: The same by name.
    """

    cls: type[Any]
    arguments: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    binds = True
    repeatable = True

    @property
    def name(self) -> str:
        """The class's name."""
        return name_of(self.cls)

    @property
    def transport(self) -> Transport:
        """What the class serves."""
        return Kind.parse(self.cls).transport

    def check(self, kind: Kind) -> None:
        """Anything goes: the kind was read from the class."""

    def build(self, plan: Plan) -> Servable:
        """Make the server at the plan's address.

        It is made before it is bound where the class can do that, so that it can come back to an address
        which connections of a moment ago still occupy (TIME_WAIT), and use a family that is not the class's own.

        Raises:
            AddressInUse: Something else holds the address.
            UsageError: The arguments are not what the class takes.
        """
        with explained(plan.address, self.name):
            server = self._unbound(plan) if self._can_wait() else self._construct(self._variant(plan), plan)
        _make_reusable(server)
        return servable(server, plan)

    def _variant(self, plan: Plan) -> type[Any]:
        """The class, or a subclass that differs in what it takes to be bound there."""
        changes: dict[str, Any] = {}
        if plan.kind.transport == "stream" and isinstance(plan.address, tuple) and plan.address[1] != 0:
            changes["allow_reuse_address"] = True
        if plan.kind.family in ("inet6", "dual"):
            changes["address_family"] = socket.AF_INET6
        same = all(getattr(self.cls, name, None) == value for name, value in changes.items())
        return self.cls if same else type(self.cls.__name__, (self.cls,), {**_identity(self.cls), **changes})

    def _can_wait(self) -> bool:
        try:
            parameters = inspect.signature(self.cls).parameters
        except (TypeError, ValueError):
            return False
        return "bind_and_activate" in parameters and "bind_and_activate" not in self.keywords

    def _construct(self, cls: type[Any], plan: Plan, **more: Any) -> Any:
        try:
            inspect.signature(self.cls).bind(plan.address, *self.arguments, **self.keywords, **more)
        except TypeError as error:
            raise UsageError(
                f"{self.name} cannot be made with (address, {listed(self.arguments, self.keywords)}): {error}; "
                "give what it takes after the address"
            ) from None
        except ValueError:
            pass  # a class whose signature nobody knows
        return cls(plan.address, *self.arguments, **self.keywords, **more)

    def _unbound(self, plan: Plan) -> Any:
        server = self._construct(self.cls, plan, bind_and_activate=False)
        try:
            _set_family(server, plan.kind)
            if plan.kind.transport == "stream":
                server.allow_reuse_address = True
            server.server_bind()
            server.server_activate()
        except BaseException:
            server.server_close()
            raise
        return server


def _make_reusable(server: Any) -> None:
    """Let its connections, which may linger in TIME_WAIT, not keep a successor from the address: they inherit this."""
    sock = getattr(server, "socket", None)
    if isinstance(sock, socket.socket) and sock.type == socket.SOCK_STREAM and os.name == "posix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _identity(cls: type) -> dict[str, Any]:
    return {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}


def _set_family(server: Any, kind: Kind) -> None:
    """Another family than the class's own: IPv6 addresses on a class that was written for IPv4."""
    if kind.family not in ("inet6", "dual") or server.socket.family == socket.AF_INET6:
        return
    server.socket.close()
    server.address_family = socket.AF_INET6
    server.socket = socket.socket(socket.AF_INET6, server.socket_type)
    server.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, kind.family == "inet6")


@dataclass(frozen=True, slots=True)
class InstanceTarget:
    """A server object, which its maker has bound. It belongs to the launcher from now on, and is closed at the end.

    Attributes:
        instance: The server object.
    """

    instance: Any

    binds = True
    repeatable = False

    @property
    def name(self) -> str:
        """The class's name."""
        return name_of(self.instance)

    @property
    def transport(self) -> Transport:
        """What its class serves."""
        return Kind.parse(type(self.instance)).transport

    def check(self, kind: Kind) -> None:
        """It cannot go elsewhere.

        Raises:
            UsageError: It is to run in a process of its own.
        """
        if kind.host != "thread":
            raise UsageError(
                f"{self.name}: a server object cannot leave this process; give its class, or a factory"
            )

    def build(self, plan: Plan) -> Servable:
        """Take the server as it is."""
        sock = getattr(self.instance, "socket", None)
        if isinstance(sock, socket.socket) and sock.fileno() == -1:
            raise UsageError(f"{self.name}: this server object is closed already; make a new one")
        if vars(self.instance).get("_BaseServer__serving") or is_instrumented(self.instance):
            raise UsageError(
                f"{self.name}: this server object serves already, and two loops would take each other's clients; "
                "stop the other one first, or make a new server"
            )
        activate(self.instance)
        return SocketServerServable(self.instance, plan)


@dataclass(frozen=True, slots=True)
class FactoryTarget:
    """A function that makes a server, given an address with port 0 or a path that does not exist yet.

    What it returns may be a server object in the style of `socketserver`, an object that has one (as ``server``), or one with
    ``start()`` and ``stop()``.

    Attributes:
        factory: The function.
        served: "stream" or "datagram".
        held_port: Give it a port number instead of 0, for servers that cannot say which one they got. The port is held
            meanwhile by a socket that does not listen, beside which a server with SO_REUSEADDR can be bound.
    """

    factory: Callable[[Any], Any]
    served: Transport = "stream"
    held_port: bool = False

    binds = True
    repeatable = True

    @property
    def name(self) -> str:
        """The function's name."""
        return name_of(self.factory)

    @property
    def transport(self) -> Transport:
        """As it was declared."""
        return self.served

    def check(self, kind: Kind) -> None:
        """Any kind goes: what it makes is up to the factory.

        Raises:
            UsageError: It cannot be called.
        """
        check_callable(self.factory, "a factory: that is called with an address, and returns a server")
        try:
            inspect.signature(self.factory).bind(None)
        except TypeError as error:
            raise UsageError(
                f"{self.name}() cannot be a factory ({error}): that is called with one argument, the address, and returns a server"
            ) from None
        except ValueError:
            pass  # written in C, and does not say

    def build(self, plan: Plan) -> Servable:
        """Call the factory.

        Raises:
            UsageError: It returns something that cannot be served.
            AddressInUse: Something else holds the address.
        """
        with contextlib.ExitStack() as held:
            address = held.enter_context(_held(plan.address)) if self.held_port else plan.address
            with explained(address, self.name):
                return self._servable(self.factory(address), plan, address)

    def _servable(self, made: Any, plan: Plan, address: Address | None) -> Servable:
        for candidate in (made, getattr(made, "server", None)):
            if callable(getattr(candidate, "serve_forever", None)) and hasattr(candidate, "server_address"):
                return servable(candidate, plan)
        if callable(getattr(made, "start", None)) and callable(getattr(made, "stop", None)):
            from ._startstop import StartStopServable

            return StartStopServable(made, plan, address)
        raise UsageError(
            f"{self.name} returned {made!r}; a factory returns a server: an object with serve_forever(), "
            "or one with start() and stop()"
        )


@contextlib.contextmanager
def _held(address: Address | None) -> Iterator[Address | None]:
    """The address with a port that nobody else gets."""
    if not isinstance(address, tuple) or address[1] != 0:
        yield address
        return
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(address)
        yield holder.getsockname()
