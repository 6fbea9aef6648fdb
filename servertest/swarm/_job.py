"""What an engine is asked to do, as plain data that any process on any machine understands."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._support import AddressError, check_path, family_of, format_address
from ._profile import Profile, profile

if TYPE_CHECKING:
    import ssl

    from .._support import Address

__all__ = ("Job",)

_FAMILIES = {None: socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Job:
    """A profile, an address, and which of the clients are this engine's.

    Attributes:
        profile: Who comes.
        address: Where the server is.
        first: The first client of this engine; clients are numbered from 1.
        step: From one of its clients to the next: 1 if it has all of them.
        server_hostname: The name that TLS clients ask for.
        certificate: PEM of a certificate and key with which clients identify themselves; or nothing.
        names: Whether the clients' own addresses are to be told.
    """

    profile: Profile
    address: Address
    first: int = 1
    step: int = 1
    server_hostname: str | None = None
    certificate: str = ""
    names: bool = False

    @property
    def numbers(self) -> range:
        """The numbers of this engine's clients."""
        return range(self.first, self.profile.clients + 1, self.step)

    def roles(self) -> Sequence[int]:
        """For each of them the number of its part."""
        return self.profile.roles()[self.first - 1 :: self.step]

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "profile": self.profile.as_dict(),
            "address": _plain(self.address),
            "first": self.first,
            "step": self.step,
            "server_hostname": self.server_hostname,
            "certificate": self.certificate,
            "names": self.names,
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Job:
        """What `as_dict` has written."""
        values = dict(plain)
        return cls(profile(values.pop("profile")), _address(values.pop("address")), **values)

    def places(self) -> list[tuple[socket.AddressFamily, Address]]:
        """The families and addresses to connect to: a name may stand for several, of which the first that answers is taken.

        Raises:
            AddressError: The host is not known, or has no address of the profile's family.
        """
        address = self.address
        if not isinstance(address, tuple):
            check_path(address)
            return [(family_of(address), address)]
        kind = socket.SOCK_STREAM if self.profile.transport == "stream" else socket.SOCK_DGRAM
        wanted = _FAMILIES[self.profile.family]
        try:
            found = socket.getaddrinfo(address[0], address[1], family=wanted, type=kind)
        except socket.gaierror as error:
            which = f" as {self.profile.family}" if wanted else ""
            raise AddressError(
                f"{format_address(address)} cannot be resolved{which}: {error.strerror}"
            ) from error
        # A scope that the caller gave is kept: getaddrinfo saw only the first two items.
        return [
            (family, address if len(address) == len(place) == 4 else place)
            for family, _, _, _, place in found
        ]

    def context(self) -> ssl.SSLContext | None:
        """How to speak TLS: with whoever is there."""
        if not self.profile.tls:
            return None
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            from ..tls._private import readable_path

            with readable_path(self.certificate.encode()) as path:
                context.load_cert_chain(path)
        return context


def _plain(address: Address) -> list[Any] | str:
    """An address as JSON has it: paths are bytes, of any kind."""
    return list(address) if isinstance(address, tuple) else os.fsencode(address).decode("latin-1")


def _address(plain: list[Any] | str) -> Address:
    """What `_plain` has made."""
    return tuple(plain) if isinstance(plain, list) else plain.encode("latin-1")
