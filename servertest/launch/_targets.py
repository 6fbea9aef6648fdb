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

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from .._support import UsageError
from ._kinds import Kind
from ._target_functions import AsyncioTarget, FunctionTarget
from ._target_handlers import HandlerTarget, WsgiTarget
from ._target_names import listed, name_of, required_parameters, takes
from ._target_servers import FactoryTarget, InstanceTarget, ServerClassTarget

if TYPE_CHECKING:
    from ._host import Target

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
            f"{target.name} takes no further arguments, but got {listed(arguments, keywords)}: only whole server "
            "classes do"
        )
    return target


def _of_class(cls: type) -> Target:
    bases = {base.__name__ for base in cls.__mro__}
    if bases & {"DatagramProtocol", "Protocol", "BufferedProtocol"} and "BaseProtocol" in bases:
        return AsyncioTarget(cls)
    if "BaseRequestHandler" not in bases and not takes(cls, 3):
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
    required = required_parameters(thing)
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
