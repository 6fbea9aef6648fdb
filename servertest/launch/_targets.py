"""Whatever people have, as targets: each knows how to make a servable of it.

| what people have | target |
|---|---|
| a request handler class, or a callable that takes (request, client_address, server) | `HandlerTarget` |
| a server class of theirs, with the arguments that it wants | `ServerClassTarget` |
| a server object, bound already | `InstanceTarget` |
| a function that makes a server for an address | `FactoryTarget` |
| a function that gets the listening socket | `FunctionTarget` |
| an asyncio callback, or a protocol factory | `AsyncioTarget` |
| a WSGI application | `WsgiTarget` |
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import inspect
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from .._support import AddressInUse, UsageError, format_address
from ._instrument import is_instrumented
from ._kinds import Kind
from ._socketserver import SocketServerServable, adopt

if TYPE_CHECKING:
    from .._support import Address, Transport
    from ._host import Plan, Servable, Target

__all__ = (
    "AsyncioTarget",
    "FactoryTarget",
    "FunctionTarget",
    "HandlerTarget",
    "InstanceTarget",
    "ServerClassTarget",
    "WsgiTarget",
    "target_for",
)


def name_of(thing: object) -> str:
    """What reports call a class, a function or an object."""
    if isinstance(thing, functools.partial):
        return name_of(thing.func)
    name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    return str(name).rpartition("<locals>.")[2]


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
        return _servable(server, plan)


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
        with _explained(plan.address, self.name):
            server = self._unbound(plan) if self._can_wait() else self._construct(self._variant(plan), plan)
        _make_reusable(server)
        return _servable(server, plan)

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
                f"{self.name} cannot be made with (address, {_listed(self.arguments, self.keywords)}): {error}; "
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


def _activate(server: Any) -> None:
    """Do what was left undone by ``bind_and_activate=False``: bind the server to the address that it was given, and listen.

    Raises:
        AddressInUse: Something else holds the address.
    """
    sock = getattr(server, "socket", None)
    if not isinstance(sock, socket.socket) or not hasattr(server, "server_bind"):
        return
    with _explained(server.server_address, name_of(server)):
        if not _is_bound(sock):
            server.server_bind()
        # Not every system can say whether a socket listens; to do so twice is no harm.
        if sock.type == socket.SOCK_STREAM and not _listens(server.socket):
            server.server_activate()


def _is_bound(sock: socket.socket) -> bool:
    try:
        name = sock.getsockname()
    except OSError:
        return False  # as Windows says it
    return bool(name[1] if isinstance(name, tuple) else name)


def _listens(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except (AttributeError, OSError):
        return False


def _servable(server: Any, plan: Plan) -> Servable:
    """The servable for a server that was made here, and that nobody else would close."""
    try:
        _activate(server)
        return SocketServerServable(server, plan)
    except BaseException:
        server.server_close()
        raise


def _make_reusable(server: Any) -> None:
    """Let its connections, which may linger in TIME_WAIT, not keep a successor from the address: they inherit this."""
    sock = getattr(server, "socket", None)
    if isinstance(sock, socket.socket) and sock.type == socket.SOCK_STREAM and os.name == "posix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _identity(cls: type) -> dict[str, Any]:
    return {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}


def _listed(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
    shown = [*map(name_of, arguments), *(f"{key}=..." for key in keywords)]
    return ", ".join(shown)


def _set_family(server: Any, kind: Kind) -> None:
    """Another family than the class's own: IPv6 addresses on a class that was written for IPv4."""
    if kind.family not in ("inet6", "dual") or server.socket.family == socket.AF_INET6:
        return
    server.socket.close()
    server.address_family = socket.AF_INET6
    server.socket = socket.socket(socket.AF_INET6, server.socket_type)
    server.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, kind.family == "inet6")


class _explained:  # noqa: N801 - used as a function
    """Turns a taken address into an error that says so."""

    def __init__(self, address: Address | None, who: str) -> None:
        self._address = address
        self._who = who

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"{self._who} cannot be bound: the address {format_address(self._address)} is in use; "
                "leave the address out to get a free one"
            ) from error


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
        _activate(self.instance)
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
        _check_callable(self.factory, "a factory: that is called with an address, and returns a server")
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
            with _explained(address, self.name):
                return self._servable(self.factory(address), plan, address)

    def _servable(self, made: Any, plan: Plan, address: Address | None) -> Servable:
        for candidate in (made, getattr(made, "server", None)):
            if callable(getattr(candidate, "serve_forever", None)) and hasattr(candidate, "server_address"):
                return _servable(candidate, plan)
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
        _check_callable(self.function, "a function: that is called with the socket")

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
        takes = _required_parameters(self.callback) if callable(cast("Any", self.callback)) else -1
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
        return _required_parameters(self.callback) != 0


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
        _check_callable(self.application, "a WSGI application: that is called with (environ, start_response)")
        if kind.transport != "stream":
            raise UsageError(
                f"{self.name} is a WSGI application: HTTP needs a stream, and {kind} is for datagrams"
            )

    def build(self, plan: Plan) -> Servable:
        """Make the predefined server with wsgiref's handler."""
        from ._wsgi import wsgi_handler

        self.check(plan.kind)
        return HandlerTarget(wsgi_handler(self.application)).build(plan)


def _check_callable(thing: object, what: str) -> None:
    if not callable(thing):
        raise UsageError(f"{thing!r} is not {what}")


def title_of(target: Target, kind: Kind) -> str:
    """What a running one is called: "ThreadingTCPServer serving Upper"; "asyncio server of greet+tls"."""
    if isinstance(target, HandlerTarget):
        return f"{kind} serving {target.name}"
    if isinstance(target, WsgiTarget):
        return f"{kind} serving the WSGI application {target.name}"
    sorts: dict[type, str] = {
        FactoryTarget: "server made by ",
        FunctionTarget: "function ",
        AsyncioTarget: "asyncio server of ",
    }
    # What of the kind applies to a target that brings its own server: +ipv6, +tls, +process, ...
    _, plus, marks = str(kind).partition("+")
    return f"{sorts.get(type(target), '')}{target.name}{plus}{marks}"


def target_for(
    thing: Any, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] | None = None
) -> Target:
    """The target for whatever this is.

    Classes, objects and coroutine functions say what they are. Of plain functions, one with three parameters is
    taken for a handler, one with a single one for a function that gets the socket; for others there are the targets by name.

    Raises:
        UsageError: It is nothing that can be served.
    """
    keywords = keywords or {}
    if callable(getattr(thing, "build", None)) and hasattr(thing, "binds"):
        return cast("Target", _without_arguments(thing, arguments, keywords))
    if isinstance(thing, type):
        if _is_server(thing):
            return ServerClassTarget(thing, arguments, keywords)
        return cast("Target", _without_arguments(_of_class(thing), arguments, keywords))
    found = _of_object(thing)
    if found is None:
        raise UsageError(
            f"{thing!r} cannot be served: give a request handler class, a server class with its arguments, a server "
            "object, a function that gets the socket; for others there are serve.factory, serve.asyncio, serve.wsgi and "
            "serve.command, and outside of pytest FactoryTarget, AsyncioTarget, WsgiTarget and CommandTarget"
        )
    return cast("Target", _without_arguments(found, arguments, keywords))


def _without_arguments(target: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    if arguments or keywords:
        raise UsageError(
            f"{target.name} takes no further arguments, but got {_listed(arguments, keywords)}: only whole server "
            "classes do"
        )
    return target


def _of_class(cls: type) -> Target:
    bases = {base.__name__ for base in cls.__mro__}
    if bases & {"DatagramProtocol", "Protocol", "BufferedProtocol"} and "BaseProtocol" in bases:
        return AsyncioTarget(cls)
    if "BaseRequestHandler" not in bases and not _takes(cls, 3):
        raise UsageError(
            f"{cls.__qualname__} is no request handler: its class takes no (request, client_address, server). "
            "Derive it from BaseRequestHandler, or give a factory"
        )
    return HandlerTarget(cls)


def _of_object(thing: Any) -> Target | None:
    if callable(getattr(thing, "serve_forever", None)) and hasattr(thing, "server_address"):
        return InstanceTarget(thing)
    if not callable(thing):
        return None
    if isinstance(thing, functools.partial) and isinstance(thing.func, type):
        return HandlerTarget(thing)
    if inspect.iscoroutinefunction(thing):
        return AsyncioTarget(thing)
    required = _required_parameters(thing)
    if required == 3:
        return HandlerTarget(thing)
    if required == 1:
        return FunctionTarget(thing)
    raise UsageError(
        f"{name_of(thing)}() takes {required} arguments, so nobody can tell what it is: a handler takes 3 (request, "
        "client_address, server), a function that gets the socket 1; for others say serve.wsgi(...), serve.asyncio(...) or "
        "serve.factory(...); outside of pytest WsgiTarget(...), AsyncioTarget(...) or FactoryTarget(...)"
    )


def _is_server(cls: type) -> bool:
    return any(base.__name__ == "BaseServer" for base in cls.__mro__) or hasattr(cls, "serve_forever")


def _takes(thing: Any, count: int) -> bool:
    try:
        inspect.signature(thing).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _required_parameters(function: Any) -> int | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters)
