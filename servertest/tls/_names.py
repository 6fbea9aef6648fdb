"""Which names a certificate has to carry, and which one a client checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from .._support import UsageError

__all__ = ("Names", "hostname_for", "names_for")

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, never bound

Names: TypeAlias = Sequence[Any] | str | bytes | None
"""An address as `socket.getsockname` gives it, one host name, several of them, or None for this machine."""


def names_for(address: Names = None) -> tuple[str, ...]:
    """The names that the certificate of a server at this address needs.

    Every address of this machine, and every Unix path, is given the same three names: all servers of a test run can
    share one certificate, and a client may call them localhost, 127.0.0.1 or ::1. Names that are listed are taken as
    they are.

    Args:
        address: ``("127.0.0.1", 80)``, ``("::1", 80, 0, 0)``, a Unix path, an abstract name, a host name, or a
            list of host names and IP addresses.

    Raises:
        UsageError: There is no name in it.
    """
    listed = _listed(address)
    if listed is not None:
        return listed
    host = _host(address)
    return _LOOPBACK if host is None or host in _LOOPBACK else (host,)


def hostname_for(address: Names = None) -> str:
    """The name that a client should check (``server_hostname``) when it connects to this address.

    Raises:
        UsageError: There is no name in it.
    """
    listed = _listed(address)
    return listed[0] if listed else _host(address) or _LOOPBACK[0]


def _listed(address: Names) -> tuple[str, ...] | None:
    """The names in a list of names; None if it is an address."""
    if address is None or isinstance(address, str | bytes) or _inet_host(address) is not None:
        return None
    names = tuple(address)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UsageError(
            f"cannot tell the names for a certificate from {address!r}: give an address such as "
            "('127.0.0.1', 8443), or names such as ['example.org', '192.0.2.1']"
        )
    return names


def _host(address: Names) -> str | None:
    """The host that an address names; None for Unix addresses and wildcards, which name none."""
    host = address if isinstance(address, str) else _inet_host(address) or ""
    if host in _WILDCARDS or "/" in host or host[0] in "\0@":
        return None
    return host.partition("%")[0]  # an IPv6 scope ("%eth0") is no part of the name


def _inet_host(address: Names) -> str | None:
    """The host of a socket address (host, port, ...)."""
    if isinstance(address, tuple) and len(address) > 1 and isinstance(address[1], int):
        return str(address[0])
    return None
