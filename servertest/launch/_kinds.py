"""Kinds: which transport, which family, which concurrency, plain or TLS, and where."""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, cast, get_args

from .._support import Family, Transport, UsageError, have_ipv6

__all__ = ("Concurrency", "HostName", "Kind", "Unavailable", "UnknownKind", "kinds")

Concurrency = Literal["sync", "threading", "forking", "pool", "prefork", "selector"]
HostName = Literal["thread", "process"]

_PREFIXES: dict[str, str] = {
    "sync": "",
    "threading": "Threading",
    "forking": "Forking",
    "pool": "ThreadPool",
    "prefork": "PreFork",
    "selector": "Selector",
}
_BASES: dict[tuple[str, bool], str] = {
    ("stream", False): "TCPServer",
    ("datagram", False): "UDPServer",
    ("stream", True): "UnixStreamServer",
    ("datagram", True): "UnixDatagramServer",
}
_FAMILY_SUFFIXES: dict[str, str] = {
    "inet": "",
    "inet6": "+ipv6",
    "dual": "+dual",
    "unix": "",
    "abstract": "+abstract",
}
_FORKS = ("forking", "prefork")
_LOCAL = ("unix", "abstract")


class UnknownKind(UsageError):  # noqa: N818 - named by what is wrong, as the other errors are
    """A kind that does not exist was asked for; the message names the nearest ones that do."""


class Unavailable(UsageError):  # noqa: N818
    """This machine cannot have such a server: no fork, no Unix sockets or no IPv6. A test may skip for it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind of server: a value with a readable id.

    Its text is the name of the predefined class, followed by what the class does not say:
    ``ForkingUnixStreamServer``, ``ThreadingTCPServer+ipv6``, ``TCPServer+tls:expired``, ``UDPServer+process``.

    Attributes:
        transport: "stream" or "datagram".
        family: "inet" (127.0.0.1), "inet6" (::1), "dual" (both at once), "unix" (a path), "abstract" (a name of
            Linux's abstract namespace).
        concurrency: "sync", "threading", "forking", "pool", "prefork" or "selector".
        tls: Whether it speaks TLS: False, True, or the name of a profile such as "mutual" or "expired".
        host: "thread" or "process". Servers that fork are always in a process of their own: a forked child would
            inherit the test's own end of the connection, and nobody would ever see it closed.
    """

    transport: Transport = "stream"
    family: Family = "inet"
    concurrency: Concurrency = "threading"
    tls: bool | str = False
    host: HostName = "thread"

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(f"Kind: {name} must be one of {', '.join(allowed)}, not {value!r}")
        if self.transport == "datagram" and self.tls:
            raise UsageError("Kind: TLS needs a stream; DTLS is not offered")
        if self.transport == "datagram" and self.concurrency == "selector":
            raise UsageError(
                "Kind: a selector server holds connections, and datagrams have none; use 'sync' for them"
            )
        if self.concurrency in _FORKS:
            object.__setattr__(self, "host", "process")

    def __str__(self) -> str:
        tls = f"+tls:{self.tls}" if isinstance(self.tls, str) else "+tls" * self.tls
        process = "+process" * (self.host == "process" and not self.forks)
        return f"{self.class_name}{_FAMILY_SUFFIXES[self.family]}{tls}{process}"

    @property
    def class_name(self) -> str:
        """Name of the predefined class in `servertest.servers`."""
        return _PREFIXES[self.concurrency] + _BASES[self.transport, self.local]

    @property
    def fixture_name(self) -> str:
        """The class's name as fixtures spell it: ``forking_unix_stream_server``."""
        return _snake(self.class_name)

    @property
    def server_class(self) -> type[Any]:
        """The predefined class; Unavailable if this platform has none."""
        from .. import servers

        found = getattr(servers, self.class_name, None)
        if found is None:
            raise Unavailable(f"{self}: {self.reason or 'servertest.servers has no ' + self.class_name}")
        return cast("type[Any]", found)

    @property
    def local(self) -> bool:
        """Whether it is a Unix socket, by path or by abstract name."""
        return self.family in _LOCAL

    @property
    def forks(self) -> bool:
        """Whether the server forks."""
        return self.concurrency in _FORKS

    @property
    def reason(self) -> str | None:
        """Why this machine cannot have such a server, or None if it can."""
        if self.forks and not hasattr(os, "fork"):
            return "this platform has no fork"
        if self.local and not hasattr(socket, "AF_UNIX"):
            return "this platform has no Unix sockets"
        if self.family == "abstract" and not os.path.exists("/proc/self"):
            return "only Linux has abstract Unix names"
        if self.family in ("inet6", "dual") and not have_ipv6():
            return "this machine has no IPv6 on its loopback"
        return None

    @property
    def available(self) -> bool:
        """Whether this machine can have such a server."""
        return self.reason is None

    @classmethod
    def parse(cls, text: str | Kind | type) -> Kind:
        """Read a kind: its text, a fixture's name, a server class (predefined or not), or a kind as it is.

        Raises:
            UnknownKind: With the nearest kinds that exist.
        """
        if isinstance(text, Kind):
            return text
        if isinstance(text, type):
            return _of_class(text)
        if not isinstance(text, str):
            raise UnknownKind(f"a kind is a name, a Kind or a server class, not {text!r}")
        return _of_text(text)


_ALLOWED: dict[str, tuple[str, ...]] = {
    "transport": get_args(Transport),
    "family": get_args(Family),
    "concurrency": get_args(Concurrency),
    "host": get_args(HostName),
}


def _snake(name: str) -> str:
    words = name.replace("TCP", "Tcp").replace("UDP", "Udp")
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in words).lstrip("_")


def _predefined() -> Iterator[Kind]:
    """Every predefined class as a kind, whether or not this platform has it."""
    transports = cast("tuple[Transport, ...]", get_args(Transport))
    concurrencies = cast("tuple[Concurrency, ...]", get_args(Concurrency))
    families: tuple[Family, ...] = ("inet", "unix")
    for concurrency, transport, family in product(concurrencies, transports, families):
        if (concurrency, transport) != ("selector", "datagram"):
            yield Kind(transport, family, concurrency)


def _of_text(text: str) -> Kind:
    name, *suffixes = text.strip().split("+")
    known = {kind.class_name: kind for kind in _predefined()}
    known |= {kind.fixture_name: kind for kind in known.values()}
    if name not in known:
        raise UnknownKind(_no_such_kind(text, name, known))
    kind = known[name]
    for suffix in suffixes:
        kind = _with_suffix(kind, suffix, text)
    return kind


def _with_suffix(kind: Kind, suffix: str, text: str) -> Kind:
    if suffix == "process":
        return replace(kind, host="process")
    if suffix == "tls":
        return replace(kind, tls=True)
    if suffix.startswith("tls:") and suffix != "tls:":
        return replace(kind, tls=suffix.removeprefix("tls:"))
    if suffix in ("ipv6", "dual") and not kind.local:
        return replace(kind, family="dual" if suffix == "dual" else "inet6")
    if suffix == "abstract" and kind.local:
        return replace(kind, family="abstract")
    offered = ("abstract",) if kind.local else ("ipv6", "dual")
    every = [*offered, "tls", "tls:PROFILE", "process"]
    raise UnknownKind(
        f"{text!r}: {kind.class_name} has no '+{suffix}'; it has {', '.join('+' + s for s in every)}"
    )


def _no_such_kind(text: str, name: str, known: dict[str, Kind]) -> str:
    lowered = {kind.class_name.lower(): kind.class_name for kind in known.values()}
    wanted = name.lower().replace("_", "")
    begun = [candidate for candidate in lowered if wanted and candidate.startswith(wanted)]
    close = begun[:2] or difflib.get_close_matches(wanted, lowered, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(lowered[c] for c in close)}?" if close else "see servertest.kinds()"
    return f"there is no kind {text!r}; {hint}"


def _of_class(cls: type) -> Kind:
    """What a server class is, told by its ancestors: by name, so that ours and the standard ones count alike."""
    names = {base.__name__ for base in cls.__mro__}
    if "BaseServer" not in names:
        raise UnknownKind(f"{cls.__qualname__} is not a server class: it does not derive from BaseServer")
    mixins: dict[str, Concurrency] = {
        "PreForkMixIn": "prefork",
        "ThreadPoolMixIn": "pool",
        "SelectorMixIn": "selector",
        "ForkingMixIn": "forking",
        "ThreadingMixIn": "threading",
    }
    concurrency: Concurrency = next((mixins[mixin] for mixin in mixins if mixin in names), "sync")
    stream = getattr(cls, "socket_type", socket.SOCK_STREAM) == socket.SOCK_STREAM
    family = _family_name(getattr(cls, "address_family", socket.AF_INET))
    return Kind("stream" if stream else "datagram", family, concurrency, tls="TLSMixIn" in names)


def _family_name(family: int) -> Family:
    if family == getattr(socket, "AF_UNIX", None):
        return "unix"
    return "inet6" if family == socket.AF_INET6 else "inet"


def kinds(
    *,
    transport: Transport | Iterable[Transport] | None = None,
    family: Family | Iterable[Family] | None = ("inet", "unix"),
    concurrency: Concurrency | Iterable[Concurrency] | None = None,
    tls: bool | str | Iterable[bool | str] | None = False,
    host: HostName | Iterable[HostName] | None = None,
) -> list[Kind]:
    """Every kind that fits, to parametrise a test with (``ids=str`` makes them readable).

    Each argument is one value, several, or None for all. Kinds that the platform lacks altogether (fork, Unix
    sockets) are absent, as the classes are. IPv6 may be switched off on one machine and on at the next: those kinds
    stay in the list, and `Kind.reason` says why a test should skip.

    Args:
        transport: "stream", "datagram".
        family: "inet", "inet6", "dual", "unix", "abstract"; all but the predefined families must be asked for.
        concurrency: "sync", "threading", "forking", "pool", "prefork", "selector". Unless asked for, selector
            kinds are left out: their handlers are written for them (generators or coroutines).
        tls: False, True, or names of profiles. None: plain and TLS.
        host: "thread", "process". None: wherever a kind lives by default.
    """
    rows = product(
        _several(transport, get_args(Transport)),
        _several(family, get_args(Family)),
        _several(concurrency, [name for name in _PREFIXES if name != "selector"]),
        _several(tls, (False, True)),
        _several(host, (None,)),
    )
    found = (_kind_or_none(*row) for row in rows)
    return list(dict.fromkeys(kind for kind in found if kind is not None))


def _several(value: Any, every: Iterable[Any]) -> tuple[Any, ...]:
    if value is None:
        return tuple(every)
    return (value,) if isinstance(value, str | bool) else tuple(value)


def _kind_or_none(transport: Any, family: Any, concurrency: Any, tls: Any, host: Any) -> Kind | None:
    if transport == "datagram" and (tls or concurrency == "selector"):
        return None
    kind = Kind(transport, family, concurrency, tls, host or "thread")
    if host == "thread" and kind.host != "thread":
        return None
    lacking = (kind.forks and not hasattr(os, "fork")) or (kind.local and not hasattr(socket, "AF_UNIX"))
    return None if lacking else kind
