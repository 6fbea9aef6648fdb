"""Certificates and keys as plain data, from which any process makes its own contexts.

An `ssl.SSLContext` cannot be pickled. These can; and the process that makes a context from them imports `ssl`, but
neither trustme nor cryptography, which take longer to import than to do their work.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from .._support import UsageError
from ._private import readable_path
from ._profile import Profile

if TYPE_CHECKING:
    import ssl

__all__ = ("ClientCredential", "ServerCredential")


@final
@dataclass(frozen=True, slots=True, repr=False)
class ServerCredential:
    """What a server needs to speak TLS. Holds a private key, and does not show it.

    Attributes:
        profile: How it (mis)behaves.
        names: The names it was asked for; with profile ``wrong-host`` they are not the ones in the certificate.
        certificate: PEM of its certificate, followed by the intermediates that it sends along.
        private_key: PEM of its key, not encrypted.
        trusted: PEM of the authority that signs client certificates.
    """

    profile: Profile
    names: tuple[str, ...]
    certificate: bytes
    private_key: bytes
    trusted: bytes

    def __repr__(self) -> str:
        return f"ServerCredential(profile={self.profile.name!r}, names={self.names!r})"

    def server_context(self) -> ssl.SSLContext:
        """A new context for the server's side. It carries the profile's behaviour with it.

        It sends no session tickets (``num_tickets`` is 0; set it to 2 to have OpenSSL's default back). A client that
        only writes and closes leaves them unread, and to close with unread data is a RST: the server would see
        ``ECONNRESET`` where it now sees the end of the data.

        Raises:
            UsageError: The profile is ``old-version``, and this OpenSSL cannot speak TLS 1.1.
        """
        import ssl

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        _load(context, self.certificate, self.private_key)
        context.num_tickets = 0
        if self.profile.requires_client_certificate:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.trusted.decode("ascii"))
        if self.profile.behaviour == "old-version":
            _speak_nothing_newer_than_tls_1_1(context)
        _behave(context, self.profile.behaviour)
        return context


@final
@dataclass(frozen=True, slots=True, repr=False)
class ClientCredential:
    """What a client needs to speak TLS. May hold a private key, and does not show it.

    Attributes:
        profile: The profile it was made for.
        trusted: PEM of the authority that it trusts.
        certificate: PEM of its own certificate; empty if it has none.
        private_key: PEM of its key, not encrypted; empty if it has none.
    """

    profile: Profile
    trusted: bytes
    certificate: bytes = b""
    private_key: bytes = b""

    def __repr__(self) -> str:
        own = "with" if self.certificate else "without"
        return f"ClientCredential(profile={self.profile.name!r}, {own} a certificate)"

    def client_context(self) -> ssl.SSLContext:
        """A new context for the client's side: it trusts this authority only, and checks the server's name."""
        import ssl

        context = ssl.create_default_context(cadata=self.trusted.decode("ascii"))
        if self.certificate:
            _load(context, self.certificate, self.private_key)
        _behave(context, "polite")
        return context


def _load(context: ssl.SSLContext, certificate: bytes, private_key: bytes) -> None:
    with readable_path(private_key + certificate) as path:
        context.load_cert_chain(path)


def _behave(context: ssl.SSLContext, behaviour: str) -> None:
    """Have the context make sockets that behave as the profile says."""
    import ssl

    from . import _sockets

    sockets: dict[str, tuple[type[ssl.SSLSocket], type[ssl.SSLObject]]] = {
        "ragged": (_sockets.RaggedSocket, _sockets.RaggedObject),
        "stall": (_sockets.StallingSocket, _sockets.StallingObject),
        "reset": (_sockets.ResettingSocket, _sockets.ResettingObject),
    }
    context.sslsocket_class, context.sslobject_class = sockets.get(
        behaviour, (_sockets.PoliteSocket, ssl.SSLObject)
    )


def _speak_nothing_newer_than_tls_1_1(context: ssl.SSLContext) -> None:
    import ssl

    if not ssl.HAS_TLSv1_1:
        raise UsageError(
            "profile 'old-version': this OpenSSL was built without TLS 1.1, so no server here can speak it"
        )
    # Without security level 0, OpenSSL 3 would refuse the signatures of TLS 1.1 and fail for a reason of its own.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings():
        # Old on purpose. The filter is as narrow as can be, for other threads may see it for a moment.
        warnings.filterwarnings("ignore", r"ssl\.TLSVersion\.TLSv1_1", DeprecationWarning)
        context.maximum_version = ssl.TLSVersion.TLSv1_1
