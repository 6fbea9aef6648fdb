"""An authority for tests: made when first asked, kept in memory."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Literal, NoReturn, final

from .._support import UsageError
from ._credentials import ClientCredential, ServerCredential
from ._files import CertificateFiles, write_certificate_files
from ._names import Names, names_for
from ._profile import Profile
from ._profiles import profile_for

if TYPE_CHECKING:
    import ssl

    from ._issuer import Issued, Issuer

__all__ = ("Authority", "shared_authority")

_CLIENT = ("client@servertest.invalid",)
_CLIENT_COMMON_NAME = "servertest client"


@final
class Authority:
    """A certificate authority that tests trust and nobody else does.

    Nothing is made before it is needed, and each certificate only once: all contexts for the same names and profile
    present the same one. Keys stay in the memory of this process. Safe to use from several threads.

    Args:
        key_type: "ecdsa" (P-256; made in a fraction of a millisecond) or "rsa" (2048 bits, for clients that know
            nothing else; each key takes some ten milliseconds).

    Raises:
        UsageError: There is no such type of key.
    """

    def __init__(self, *, key_type: Literal["ecdsa", "rsa"] = "ecdsa") -> None:
        if key_type not in ("ecdsa", "rsa"):
            raise UsageError(f"key_type is 'ecdsa' or 'rsa', not {key_type!r}")
        self._key_type = key_type
        self._lock = threading.RLock()
        self._made: Issuer | None = None
        self._issued: dict[tuple[str, tuple[str, ...]], Issued] = {}

    def __repr__(self) -> str:
        made = "not made yet" if self._made is None else f"{len(self._issued)} certificates"
        return f"<Authority {self._key_type}, {made}>"

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "an Authority stays in its process: send what server_credential() or client_credential() return"
        )

    @property
    def certificate(self) -> bytes:
        """PEM of the certificate that clients have to trust."""
        return self._issuer().root

    @property
    def intermediate(self) -> bytes:
        """PEM of the certificate that a server with profile ``incomplete-chain`` fails to send."""
        with self._lock:
            return self._issuer().intermediate

    def server_context(self, address: Names = None, profile: str | Profile = "good") -> ssl.SSLContext:
        """A new context for the server's side.

        Args:
            address: Where the server is, or the names it answers to; see `names_for`.
            profile: What is wrong with it; see `profiles`.

        Raises:
            UsageError: There is no such profile, or no name in the address.
        """
        return self.server_credential(address, profile).server_context()

    def client_context(
        self, profile: str | Profile = "good", with_certificate: bool | None = None
    ) -> ssl.SSLContext:
        """A new context for the client's side, which trusts this authority only and checks the server's name.

        Args:
            profile: The profile of the server; it says whether this client has a certificate, and which.
            with_certificate: True: present a good certificate; False: none; None: as the profile says.

        Raises:
            UsageError: There is no such profile.
        """
        return self.client_credential(profile, with_certificate).client_context()

    def server_credential(self, address: Names = None, profile: str | Profile = "good") -> ServerCredential:
        """What `server_context` is made from, as plain data for another process; takes the same arguments."""
        chosen, names = profile_for(profile), names_for(address)
        certificate, key = self._issue(chosen.certificate, names)
        return ServerCredential(chosen, names, certificate, key, self.certificate)

    def client_credential(
        self, profile: str | Profile = "good", with_certificate: bool | None = None
    ) -> ClientCredential:
        """What `client_context` is made from, as plain data for another process; takes the same arguments."""
        chosen = profile_for(profile)
        flaw = chosen.client_certificate if with_certificate is None else "good" if with_certificate else None
        certificate, key = self._issue(flaw, _CLIENT, _CLIENT_COMMON_NAME) if flaw else (b"", b"")
        return ClientCredential(chosen, self.certificate, certificate, key)

    def write_files(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        address: Names = None,
        profile: str | Profile = "good",
    ) -> CertificateFiles:
        """Write certificates and keys to files, for programs that take nothing else. All have mode 0600.

        Args:
            directory: Where to write; made (mode 0700) if it does not exist. None: a new private directory.
            address: Where the server is, or the names it answers to; see `names_for`.
            profile: What is wrong with its certificate. Behaviours (a stall, a reset, ...) do not fit in files.

        Returns:
            The paths. The files are removed by `CertificateFiles.remove`, by the end of a with block, or at last
            together with the authority or by the end of the process.

        Raises:
            UsageError: There is no such profile, no name in the address, or one of the files exists.
        """
        server = self.server_credential(address, profile)
        presents_one = server.profile.client_certificate is not None
        client = self.client_credential(profile, with_certificate=None if presents_one else True)
        return write_certificate_files(self, directory, server, client)

    def _issuer(self) -> Issuer:
        with self._lock:
            if self._made is None:
                from ._issuer import Issuer

                self._made = Issuer(self._key_type)
            return self._made

    def _issue(self, flaw: str, names: tuple[str, ...], common_name: str | None = None) -> Issued:
        with self._lock:
            if (flaw, names) not in self._issued:
                self._issued[flaw, names] = self._issuer().issue(flaw, names, common_name)
            return self._issued[flaw, names]


@functools.cache
def shared_authority() -> Authority:
    """The authority that all tests of this process share, so that its certificates are made only once."""
    return Authority()
