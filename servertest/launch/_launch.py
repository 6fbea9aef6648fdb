"""`launch`: the one way to put something up, below all fixtures and the command line."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from .._support import (
    STOP_TIMEOUT,
    AddressError,
    UnknownKeyword,
    UsageError,
    check_pair,
    check_path,
    family_of,
    format_address,
    refuse_unknown_keywords,
)
from ._kinds import Kind, Unavailable
from ._running import Running, Setup
from ._targets import HandlerTarget, InstanceTarget, ServerClassTarget, target_for

if TYPE_CHECKING:
    from .._support import Address, Family
    from ..faults import Faults
    from ..tls import Profile
    from ._host import Host, Target
    from ._kinds import HostName

__all__ = ("launch",)


def launch(
    target: Any,
    *arguments: Any,
    kind: Kind | str | type | None = None,
    host: HostName | None = None,
    address: Address | Family | os.PathLike[str] | None = None,
    tls: bool | str | Profile | None = None,
    timeout: float = STOP_TIMEOUT,
    transcript: bool = True,
    attributes: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    faults: Faults = None,
    seed: int | str = 0,
    **keywords: Any,
) -> Running:
    """Put a server up. It serves when this returns, and until `Running.stop` is called or its ``with`` block ends.

    Args:
        target: What to serve: a request handler class; a whole server class; a server object; a function that gets
            the socket; an asyncio callback or protocol; or one of the target classes.
        arguments: For a handler: its kind. For a server class: what follows the address.
        kind: What kind of server; ThreadingTCPServer if nothing is said (ThreadingUDPServer for a datagram handler). A
            server class of one's own is taken as it is.
        host: "thread" or "process"; by default as the kind says, which means a thread unless it forks.
        address: Where: a (host, port) pair, a path, an abstract name, "127.0.0.1", "::1", or a family's name ("inet",
            "inet6", "dual", "unix", "abstract"). A free loopback address of the kind's family by default.
        tls: True, "mutual", a profile or the name of one, such as "expired".
        timeout: Seconds that stopping it may take before it is forced.
        transcript: Whether to record what passes.
        attributes: For a handler: what to set on its server.
        options: What only the host understands: ``{"leak_check": False}`` keeps a server process from being looked at for what the
            server has left behind in it.
        faults: What goes wrong at the server's own sockets, as its handlers see the network. `Running.faults` can change that
            only if something is given here: ``plan(None)``, if nothing is to go wrong at first.
        seed: Where faults have their random numbers from.
        keywords: For a server class: further arguments by name.

    Raises:
        UsageError: What was asked for cannot be; the message says what to do. `UnknownKind`, `UnknownKeyword`, `Unavailable` and
            `AddressError` among it.
        AddressInUse: Something else holds the address.
        OSError: The address could not be bound for another reason.
    """
    _refuse_in_server_process()
    seconds: Any = timeout
    if not isinstance(seconds, int | float) or not 0 < timeout < float("inf"):
        raise UsageError(f"timeout is a number of seconds above 0, not {timeout!r}")
    if isinstance(address, os.PathLike):
        address = os.fspath(address)
    what, kind = _target(target, arguments, kind, attributes, keywords)
    chosen = _kind(what, kind, host, address, tls)
    if (reason := chosen.reason) is not None:
        raise Unavailable(f"{chosen} cannot be had: {reason}")
    _check(what, chosen)
    refuses = False
    if faults is not None:
        from ._faults import check_faults, takes_down

        faults = check_faults(faults, what, chosen)
        refuses = any(map(takes_down, faults))
        if refuses and all(map(takes_down, faults)):
            faults = None  # nothing is to get into the server
    setup = Setup(
        target=what,
        kind=chosen,
        make_host=_host_maker(what, chosen),
        address=_place(address),
        timeout=timeout,
        recording=transcript,
        options=options or {},
        faults=faults,
        seed=seed,
        refuses=refuses,
    )
    return Running(setup).start()


def _refuse_in_server_process() -> None:
    # Nothing but a server process has loaded this and is loading a plan.
    pickling = sys.modules.get(f"{__package__}._process_pickle")
    if pickling is not None:
        pickling.refuse_while_loading()


#: What `launch` knows by name.
KEYWORDS = tuple(launch.__kwdefaults__ or ())


def _target(
    target: Any,
    arguments: tuple[Any, ...],
    kind: Any,
    attributes: Mapping[str, Any] | None,
    keywords: Mapping[str, Any],
) -> tuple[Target, Any]:
    if kind is None and _says_kind(target, arguments):
        kind, arguments = arguments[0], ()
    if not _takes_keywords(target, kind):
        _refuse_keywords("launch", target, kind, keywords)
    elif not _is_server_class(target):
        # A handler on a server class of one's own.
        return ServerClassTarget(kind, (target, *arguments), keywords), None
    what = target_for(target, arguments, keywords)
    if attributes:
        if not isinstance(what, HandlerTarget):
            raise UsageError(f"attributes= is for handlers on a predefined server, and {what.name} is none")
        what = dataclasses.replace(what, attributes=dict(attributes))
    return what, kind


def check_keywords(caller: str, target: Any, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Refuse keywords that `launch` would refuse, by the name under which it was called.

    Raises:
        UnknownKeyword: It names the one that was probably meant.
    """
    kind = options.get("kind")
    if kind is None and _says_kind(target, arguments):
        kind = arguments[0]
    if not _takes_keywords(target, kind):
        _refuse_keywords(caller, target, kind, options)


def _refuse_keywords(caller: str, target: Any, kind: Any, given: Mapping[str, Any]) -> None:
    """Refuse keywords that `launch` does not know; one that a handler's server has as an attribute can be set on it."""
    if isinstance(target, type):
        server = (Kind() if kind is None else Kind.parse(kind)).server_class
        for name in given:
            if name not in KEYWORDS and hasattr(server, name) and not callable(getattr(server, name)):
                raise UnknownKeyword(
                    f"{caller}() knows no {name}=; it is an attribute of {server.__name__}: say attributes={{{name!r}: {given[name]!r}}}"
                )
    refuse_unknown_keywords(caller, given, KEYWORDS)


def _says_kind(target: Any, arguments: tuple[Any, ...]) -> bool:
    return len(arguments) == 1 and _is_kind(arguments[0]) and not _is_server_class(target)


def _takes_keywords(target: Any, kind: Any) -> bool:
    """Whether further keywords are for a server class of the caller's own."""
    return _is_server_class(target) or (_is_server_class(kind) and not _is_predefined(kind))


def _is_kind(thing: object) -> bool:
    return isinstance(thing, (str, Kind)) or _is_server_class(thing)


def _is_server_class(thing: object) -> bool:
    return isinstance(thing, type) and any(base.__name__ == "BaseServer" for base in thing.__mro__)


def _is_predefined(cls: type) -> bool:
    """Whether a kind says all that there is to say about a server class."""
    import socketserver

    from .. import servers

    return any(getattr(module, cls.__name__, None) is cls for module in (servers, socketserver))


def _kind(target: Any, kind: Any, host: Any, address: Any, tls: Any) -> Kind:
    chosen = _default_kind(target) if kind is None else Kind.parse(kind)
    changes: dict[str, Any] = {}
    if (family := _family(address)) is not None and family != chosen.family:
        if kind is not None:
            _refuse_contradiction(chosen, family, address)
        changes["family"] = family
    if tls is not None:
        changes["tls"] = tls if isinstance(tls, bool) else str(tls)
    if host is not None:
        if host == "thread" and chosen.forks:
            raise UsageError(
                f"{chosen} cannot run in a thread: a forked child would inherit the test's own connections, and nobody "
                "would see them closed"
            )
        changes["host"] = host
    return dataclasses.replace(chosen, **changes) if changes else chosen


def _refuse_contradiction(kind: Kind, family: Family, address: Any) -> None:
    """A kind that says nothing of its family goes with any of its sort; what it does say is not overruled."""
    local = family in ("unix", "abstract")
    if kind.local != local or kind.family in ("inet6", "dual", "abstract"):
        raise UsageError(
            f"{kind} cannot be at {address!r}, which is of the family {family}: change one of the two"
        )


def _default_kind(target: Any) -> Kind:
    if isinstance(target, ServerClassTarget):
        return Kind.parse(target.cls)
    if isinstance(target, InstanceTarget):
        return dataclasses.replace(Kind.parse(type(target.instance)), host="thread")
    # A program that is told a path and no port serves on a Unix socket.
    only_path = getattr(target, "only_path", False)
    return Kind(
        transport=getattr(target, "transport", None) or "stream", family="unix" if only_path else "inet"
    )


_HOSTS: dict[Any, Family] = {"127.0.0.1": "inet", "localhost": "inet", "::1": "inet6", "::": "dual"}
_FAMILIES: tuple[Family, ...] = ("inet", "inet6", "dual", "unix", "abstract")


def _family(address: Any) -> Family | None:
    """The family that an address, or what stands for one, is of."""
    if address is None:
        return None
    if address in _FAMILIES:
        return address  # type: ignore[no-any-return]
    host = address[0] if isinstance(address, tuple) and address else address
    if host in _HOSTS:
        return _HOSTS[host]
    if isinstance(address, tuple):
        return "inet6" if ":" in str(host) else "inet"
    family_of(address)  # refuses what is no address
    check_path(address)
    if isinstance(address, str) and os.sep not in address and address[:1] not in ("\0", "@"):
        raise UsageError(
            f"address={address!r} may be a host or a file: write ({address!r}, 0) for the host, './{address}' for a Unix socket"
        )
    return "abstract" if address[:1] in ("\0", b"\0") else "unix"


def _place(address: Any) -> Address | None:
    """The address itself; None where only its family was said.

    It is looked at here, as others would put it to the system as it is.

    Raises:
        AddressError: It cannot be bound to.
    """
    if address is None or address in _FAMILIES:
        return None
    if address in _HOSTS:
        return address, 0
    if isinstance(address, tuple):
        check_pair(address, cast("str", _family(address)))
    else:
        _check_directory(address)
    return cast("Address", address)


def _check_directory(path: str | bytes) -> None:
    check_path(path)
    name = os.fsdecode(path)
    if name[0] != "\0" and not os.path.isdir(os.path.dirname(name) or "."):
        raise AddressError(
            f"{format_address(name)} cannot be made: there is no such directory; make it first, or leave the address out to "
            "get a short temporary path"
        )


def _check(target: Target, kind: Kind) -> None:
    target.check(kind)
    if kind.tls:
        from ..tls import profile_for

        profile_for("good" if kind.tls is True else kind.tls)


def _host_maker(target: Target, kind: Kind) -> Callable[[], Host]:
    if type(target).__name__ == "CommandTarget":
        from ._command import CommandHost

        return CommandHost
    if kind.host == "process":
        from ._process import ProcessHost

        return ProcessHost
    from ._thread import ThreadHost

    return ThreadHost
