"""What a link is asked for, checked before anything is opened."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, get_args

from .._support import (
    STOP_TIMEOUT,
    AddressError,
    Family,
    UsageError,
    family_of,
    format_address,
    parse_address,
    refuse_unknown_keywords,
)
from ..faults import Plan, plan
from ._accepting import check_faults

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from .._support import Address, Transport
    from ..faults import Decision, Faults
    from ..transcript import Transcript
    from ._record import LinkConnection

__all__ = ("LINK_KEYWORDS", "LinkOptions", "Settings", "is_loopback", "settings_for")

_FAMILIES = get_args(Family)


@dataclass(frozen=True, slots=True)
class Settings:
    """A link's settings.

    Attributes:
        upstream: Where the server is.
        server: The running server, if it is one of ours; None otherwise.
        transport: "stream" or "datagram".
        family: The family of the address on which the link listens.
        listen: Where the link listens; None for a free address.
        faults: What goes wrong from the beginning.
        seed: Where random numbers come from.
        recording: Whether there are transcripts; or the one that what clients say goes into.
        tls: What the client's side of TLS ends in: True, a profile, its name, a credential or a context; None if TLS passes.
        upstream_tls: Likewise for the server's side: True, a context or a credential.
        server_hostname: The name to check at the server.
        connect_timeout: Seconds until an upstream that does not answer is given up, and for each handshake.
        idle_timeout: Seconds after which a datagram peer that says nothing is forgotten.
        max_peers: Datagram peers at the same time; the one that was idle longest makes way.
        timeout: Seconds that `Link.stop` may take.
        up: Whether it takes clients from the beginning.
        watch: Is told what becomes of connections, and what faults decide; None if nobody wants to know.
    """

    upstream: Address
    server: Any
    transport: Transport
    family: Family
    listen: Address | None
    faults: Plan
    seed: int | str
    recording: bool | Transcript
    tls: Any
    upstream_tls: Any
    server_hostname: str | None = None
    connect_timeout: float = 5.0
    idle_timeout: float = 60.0
    max_peers: int = 1024
    timeout: float = STOP_TIMEOUT
    up: bool = True
    watch: Callable[[LinkConnection | Decision], object] | None = None


class LinkOptions(TypedDict, total=False):
    """What may be said of a link beside its upstream and its faults; see `Proxy.link`."""

    seed: int | str | None
    listen: Any
    transport: Transport | None
    expose: bool
    transcript: bool | Transcript
    tls: Any
    upstream_tls: Any
    server_hostname: str | None
    connect_timeout: float
    idle_timeout: float
    max_peers: int
    timeout: float
    up: bool
    watch: Callable[[LinkConnection | Decision], object] | None


LINK_KEYWORDS = tuple(LinkOptions.__annotations__)


def settings_for(upstream: Any, faults: Faults = None, **options: Unpack[LinkOptions]) -> Settings:
    """Check what a link is asked for. See `Proxy.link` for the arguments.

    Raises:
        UsageError: Something cannot be; the message names the argument.
    """
    refuse_unknown_keywords("link", options, LINK_KEYWORDS)
    rest: dict[str, Any] = {**options}
    for name in ("connect_timeout", "idle_timeout", "timeout"):
        _check_seconds(name, rest.get(name, 1.0))
    _check_count("max_peers", rest.get("max_peers", 1))
    seed = rest.pop("seed", None)
    _check_seed(seed)
    address, server = _upstream(upstream)
    transport = _transport(server, rest.pop("transport", None))
    if transport == "datagram" and (rest.get("tls") or rest.get("upstream_tls")):
        raise UsageError("tls: TLS is for streams, and this upstream serves datagrams")
    place, family = _listen(rest.pop("listen", None), address, expose=rest.pop("expose", False))
    return Settings(
        upstream=_resolved(address, transport),
        server=server,
        transport=transport,
        family=family,
        listen=place,
        faults=_checked(faults, transport),
        seed=secrets.randbits(32) if seed is None else seed,
        recording=rest.pop("transcript", True),
        tls=_tls("tls", rest.pop("tls", None)),
        upstream_tls=_tls("upstream_tls", rest.pop("upstream_tls", None)),
        **rest,
    )


def _check_count(name: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UsageError(f"{name} is a number from 1 up, not {count!r}")


def _check_seconds(name: str, seconds: Any) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise UsageError(f"{name} is a number of seconds above 0, not {seconds!r}")


def _check_seed(seed: Any) -> None:
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | str)):
        raise UsageError(f"seed is a number or a text, not {seed!r}")


def _checked(faults: Faults, transport: Transport) -> Plan:
    made = plan(faults)
    check_faults(made, transport)
    return made


def _upstream(upstream: Any) -> tuple[Address, Any]:
    """The address of an upstream, and the server if it is an object that has one."""
    if hasattr(upstream, "address"):
        return upstream.address, upstream
    return _address("upstream", upstream), None


def _address(name: str, given: Any) -> Address:
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if isinstance(given, str) and given[:1] != "\0":
        try:
            return parse_address(given)
        except AddressError as error:
            raise AddressError(f"{name}: {error}") from None
    try:
        family_of(given)
    except AddressError as error:
        raise AddressError(f"{name}: {error}") from None
    address: Address = given
    return address


def _transport(server: Any, wanted: Any) -> Transport:
    kind = getattr(server, "kind", server)
    known: Transport | None = getattr(kind, "transport", None)
    if wanted not in (None, "stream", "datagram"):
        raise UsageError(f"transport is 'stream' or 'datagram', not {wanted!r}")
    if known and wanted and known != wanted:
        raise UsageError(f"transport: {server} is a {known} server, and cannot be reached by {wanted}")
    chosen: Transport = wanted or known or "stream"
    return chosen


def _listen(listen: Any, upstream: Address, *, expose: bool) -> tuple[Address | None, Family]:
    """Where to listen, and on which family."""
    if listen is None:
        return None, _family(upstream)
    if isinstance(listen, str) and listen in _FAMILIES:
        family: Family = listen  # type: ignore[assignment] # it is one of them
        return None, family
    address = _address("listen", listen)
    if isinstance(address, tuple) and not expose and not is_loopback(address[0]):
        raise UsageError(
            f"listen: {format_address(address)} can be reached from other machines: take 127.0.0.1, or say expose=True"
        )
    return address, _family(address)


def _family(address: Address) -> Family:
    family = family_of(address)
    if family == socket.AF_INET6:
        return "inet6"
    if family == socket.AF_INET:
        return "inet"
    return "abstract" if os.fsencode(address)[:1] == b"\0" else "unix"  # type: ignore[arg-type] # no tuple is left


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and nobody else can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _resolved(address: Address, transport: Transport) -> Address:
    """With a number in place of a host name, so that nobody waits for a name server later."""
    if not isinstance(address, tuple):
        return address
    host, port, *_ = address
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - a server that listens everywhere is reached here
        return ("::1" if ":" in host else "127.0.0.1", port)
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        kind = socket.SOCK_STREAM if transport == "stream" else socket.SOCK_DGRAM
        try:
            found = socket.getaddrinfo(host, port, type=kind)
        except (OSError, UnicodeError) as error:
            raise AddressError(f"upstream: {format_address(address)} cannot be resolved: {error}") from None
        # As everywhere here, a name is an IPv4 address first.
        return min(found, key=lambda one: one[0] != socket.AF_INET)[4]
    return address


def _tls(name: str, value: Any) -> Any:
    if value is None or value is False:
        return None
    if value is True or isinstance(value, str):
        return value
    if any(
        hasattr(value, attribute)
        for attribute in ("wrap_socket", "behaviour", "server_context", "client_context")
    ):
        return value
    raise UsageError(
        f"{name} is True, a profile, a credential, an Authority or an ssl.SSLContext, not {value!r}"
    )


def context_for_clients(settings: Settings, address: Address) -> tuple[ssl.SSLContext | None, Any]:
    """The context with which the link answers clients, and the credential of clients that trust it, if it is known."""
    wanted = settings.tls
    if wanted is None:
        return None, None
    _load_tls()
    if hasattr(wanted, "wrap_socket"):
        return wanted, None
    if hasattr(wanted, "server_context") and not hasattr(wanted, "server_credential"):
        return wanted.server_context(), None
    from ..tls import shared_authority

    authority = wanted if hasattr(wanted, "server_credential") else shared_authority()
    profile = "good" if wanted is True or authority is wanted else wanted
    context = authority.server_credential(address, profile).server_context()
    return context, authority.client_credential(profile)


def _load_tls() -> None:
    """Load now what the link's thread will need: up to Python 3.11, two threads that load modules at once under pytest can hinder each
    other (its rewriting of assertions parses them, which fails with "AST constructor recursion depth mismatch": gh-106905).
    """
    from ..wire import _relay_tls  # noqa: F401


def context_for_server(settings: Settings) -> tuple[ssl.SSLContext | None, str | None]:
    """The context with which the link talks to the server, and the name to check there."""
    wanted = settings.upstream_tls
    if wanted is None:
        return None, None
    _load_tls()
    context: ssl.SSLContext = _server_context(settings, wanted)
    name = settings.server_hostname
    if name is None and context.check_hostname:
        from ..tls import hostname_for

        name = hostname_for(settings.upstream if settings.server is None else settings.server.address)
    return context, name


def _server_context(settings: Settings, wanted: Any) -> Any:
    if hasattr(wanted, "wrap_socket"):
        return wanted
    if hasattr(wanted, "client_context"):
        return wanted.client_context()
    if settings.server is not None and hasattr(settings.server, "client_context"):
        return settings.server.client_context()
    from ..tls import shared_authority

    return shared_authority().client_context("good" if wanted is True else wanted)
