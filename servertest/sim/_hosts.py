"""Simulated machines."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import Any

__all__ = ("ANY", "VIRTUAL_PATHS", "Host")

#: Paths that exist only here; all others are made in the file system, for programs look at them.
VIRTUAL_PATHS = "/simulated/"

_FIRST_PORT = 40_000
#: Addresses that stand for all of a machine.
ANY = ("0.0.0.0", "::", "")  # noqa: S104 - looked up, not bound


class Host:
    """A simulated machine.

    Attributes:
        name: What it is called; names are looked up.
        address: Its IPv4 address, beside 127.0.0.1.
        up: Whether it runs.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.up = True
        self.bound: dict[tuple[str, int, str, int], list[Any]] = {}
        self.abstract: dict[str | bytes, Any] = {}
        self.files: dict[Any, Any] = {}
        self.next_port = _FIRST_PORT

    def __repr__(self) -> str:
        return f"<Host {self.name} at {self.address}{'' if self.up else ', down'}>"

    def owns(self, ip: str) -> bool:
        """Whether an address is its own."""
        return ip == self.address or ip.startswith("127.") or ip in ("::1", *ANY)

    def free_port(self, proto: str, family: int, ip: str) -> int:
        """A port that nobody has, in ascending order."""
        while True:
            port = self.next_port
            self.next_port = port + 1 if port < 65_000 else _FIRST_PORT
            if not any(self.conflicts(proto, family, ip, port)):
                return port

    def free_abstract_name(self) -> bytes:
        """What a socket is called that is bound to no name at all: five digits in the abstract namespace, as unix(7) has it."""
        number = next(number for number in itertools.count() if b"\0%05x" % number not in self.abstract)
        return b"\0%05x" % number

    def conflicts(self, proto: str, family: int, ip: str, port: int) -> Iterator[Any]:
        """Who is bound there."""
        for (other_proto, other_family, other_ip, other_port), ends in self.bound.items():
            same_family = other_family == family or "::" in (ip, other_ip)
            same_ip = ip == other_ip or ip in ANY or other_ip in ANY
            if (other_proto, other_port) == (proto, port) and same_family and same_ip:
                yield from ends

    def at(self, proto: str, family: int, ip: str, port: int) -> list[Any]:
        """Who is bound to an address, the most special first."""
        for key in ((proto, family, ip, port), (proto, family, ANY[family == socket.AF_INET6], port)):
            if ends := self.bound.get(key):
                return ends
        if family == socket.AF_INET:
            return [
                end
                for end in self.bound.get((proto, socket.AF_INET6, "::", port), ())
                if not end.options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
            ]
        return []
