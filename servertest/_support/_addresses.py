"""Socket addresses as text and back."""

from __future__ import annotations

import os
import socket
from typing import Any, TypeAlias

from ._errors import AddressError, UsageError

__all__ = ("Address", "Addressed", "family_of", "format_address", "parse_address", "reachable")

Address: TypeAlias = tuple[Any, ...] | str | bytes
"""``(host, port, ...)``, a Unix path, or an abstract Unix name, which begins with a NUL."""

_UNNAMED = "(unnamed)"


#: Where to reach what listens on all addresses.
_REACHABLE = {"::": "::1", "0.0.0.0": "127.0.0.1"}  # noqa: S104 - looked up, not bound


class Addressed:
    """What can be reached at one address: its parts, by name."""

    @property
    def address(self) -> Address:
        """Where it is: a pair, a path, or an abstract name."""
        raise NotImplementedError

    @property
    def host(self) -> str:
        """The host of its address.

        Raises:
            UsageError: It has none: it is a Unix socket.
        """
        return str(self._pair("host")[0])

    @property
    def port(self) -> int:
        """The port of its address.

        Raises:
            UsageError: It has none: it is a Unix socket.
        """
        return int(self._pair("port")[1])

    @property
    def path(self) -> str:
        """The path of its Unix socket.

        Raises:
            UsageError: It has none: it is not a Unix socket, or an abstract one.
        """
        address = self.address
        if isinstance(address, tuple) or os.fsencode(address)[:1] == b"\0":
            raise UsageError(f"{self} has no path; its address is {format_address(address)}")
        return os.fsdecode(address)

    def _pair(self, what: str) -> tuple[Any, ...]:
        address = self.address
        if not isinstance(address, tuple):
            raise UsageError(f"{self} has no {what}; its address is {format_address(address)}")
        return address


def format_address(address: object) -> str:
    """An address for people: ``127.0.0.1:80``, ``[::1]:80``, ``/path``, ``@abstract``, ``(unnamed)``.

    Anything that a socket function returns is accepted: an unbound Unix socket's name is ``""``, the sender of a
    datagram from one is None.
    """
    if isinstance(address, tuple):
        return _format_pair(address)
    if isinstance(address, (bytes, bytearray)):
        address = os.fsdecode(bytes(address))
    if not address:
        return _UNNAMED
    if isinstance(address, str):
        return _printable(f"@{address[1:]}" if address.startswith("\0") else address)
    return repr(address)


def parse_address(text: str) -> Address:
    """What `format_address` wrote, or a person typed.

    ``host:port`` and ``[host]:port`` give a pair; ``@name`` an abstract Unix name (as bytes, as the system reports
    it); what holds a slash is a Unix path.

    Raises:
        AddressError: The text is none of these, or the port is not a number from 0 to 65535.
    """
    if text.startswith("@") and len(text) > 1:
        return b"\0" + os.fsencode(text[1:])
    if "/" not in text.partition("://")[0] and "://" in text:
        raise AddressError(f"{text!r} is a URL, not an address: write host:port, or a path with a slash")
    if "/" in text:
        return text
    host, colon, port = text.rpartition(":")
    if not colon:
        raise AddressError(
            f"{text!r} is no address: write host:port, [::1]:port, a path with a slash, or @name"
        )
    return _bare_host(host, text), _port(port, text)


def family_of(address: Address) -> socket.AddressFamily:
    """The address family that a socket for this address needs. A host name counts as IPv4.

    Raises:
        AddressError: It is no address, or this platform has no Unix sockets.
    """
    if isinstance(address, tuple) and len(address) >= 2 and isinstance(address[0], str):
        return socket.AF_INET6 if ":" in address[0] or len(address) == 4 else socket.AF_INET
    if not isinstance(address, (str, bytes)):
        raise AddressError(f"{address!r} is no address: a (host, port) pair, a path or an abstract name is")
    if not hasattr(socket, "AF_UNIX"):
        raise AddressError(
            f"{format_address(address)} is a Unix address, and this platform has no Unix sockets"
        )
    return socket.AF_UNIX


def reachable(address: Address) -> Address:
    """Where this machine reaches what listens there: on the loopback interface, if that is on all of them."""
    if isinstance(address, tuple) and address[0] in _REACHABLE:
        return (_REACHABLE[address[0]], *address[1:])
    return address


def _format_pair(address: tuple[Any, ...]) -> str:
    if len(address) < 2 or not isinstance(address[0], str):
        return repr(address)
    host = address[0]
    if ":" not in host:
        return f"{host}:{address[1]}"
    scope = f"%{address[3]}" if len(address) == 4 and address[3] and "%" not in host else ""
    return f"[{host}{scope}]:{address[1]}"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return text.encode("unicode_escape", "backslashreplace").decode("ascii")


def _bare_host(host: str, text: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"{text!r} is ambiguous: write an IPv6 address in brackets, as in [::1]:80")
    if not host:
        raise AddressError(f"{text!r} names no host: write 127.0.0.1:port to mean this machine")
    return host


def _port(port: str, text: str) -> int:
    # isdecimal alone lets other scripts' digits pass.
    number = int(port) if port.isascii() and port.isdecimal() else -1
    if not 0 <= number <= 65535:
        raise AddressError(f"{text!r}: the port must be a number from 0 to 65535, not {port!r}")
    return number
