"""A TLS profile: how a server, or its client, behaves, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

from .._support import Deadline
from ._symptoms import Symptoms

if TYPE_CHECKING:
    import socket
    import ssl

__all__ = ("HANDSHAKE_TIMEOUT", "Profile")

HANDSHAKE_TIMEOUT = 5.0
"""Seconds that a handshake may take at the server where nothing else was said."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a server, or its client, (mis)behaves in TLS.

    Attributes:
        name: What it is called.
        summary: What is wrong, in a sentence.
        culprit: Which side misbehaves; None if none does.
        certificate: What the server presents: "good", "expired", "not-yet-valid", "wrong-host", "untrusted",
            "self-signed" or "incomplete-chain".
        requires_client_certificate: Whether the server asks for a certificate, and insists.
        client_certificate: What the client presents: "good", "expired" or nothing.
        behaviour: How the server behaves: "polite", "old-version", "stall", "reset" or "ragged".
        symptoms: What each side gets to see.
    """

    name: str
    summary: str
    culprit: Literal["server", "client"] | None
    certificate: str = "good"
    requires_client_certificate: bool = False
    client_certificate: str | None = None
    behaviour: Literal["polite", "old-version", "stall", "reset", "ragged"] = "polite"
    symptoms: Symptoms

    def __str__(self) -> str:
        return self.name

    @property
    def refusal_is_the_point(self) -> bool:
        """Whether a handshake that fails is what this profile is for, and no error of the server's."""
        return self.culprit is not None and self.behaviour != "ragged"

    def wrap(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        deadline: Deadline | float = HANDSHAKE_TIMEOUT,
        *,
        cancelled: int | None = None,
    ) -> ssl.SSLSocket:
        """Do (or refuse, or spoil) the server's handshake on a connection that was accepted.

        It waits for the client, so it belongs into the worker of that connection and never into the loop that accepts.
        A handshake in which certificates are refused ends only when the client has hung up, up to a second later: so
        that it reads why, instead of a reset that overtakes the alert.

        Args:
            sock: The plain socket. It is used up: on success the socket returned takes its place, else it is closed.
            context: From `Authority.server_context` or `ServerCredential.server_context`, for this profile.
            deadline: When to give up, or seconds from now.
            cancelled: A descriptor that becomes readable when the handshake should be given up, because the server
                is being stopped. Only watched, never read.

        Returns:
            A connection that speaks TLS, with the timeout that the plain socket had.

        Raises:
            HandshakeEnded: There is no connection any more, and that is as it should be: it is what the profile is
                for, or it was cancelled.
            DeadlineExceeded: The client did not do its part in time (profile ``handshake-stall`` apart).
            ssl.SSLError: The handshake failed, and this profile does not ask for that.
            OSError: The connection broke.
        """
        from ._handshake import accept_tls

        return accept_tls(self, sock, context, deadline, cancelled)

    def shake_hands(
        self,
        tls: ssl.SSLSocket,
        deadline: Deadline | float = HANDSHAKE_TIMEOUT,
        *,
        cancelled: int | None = None,
    ) -> None:
        """Do what `wrap` does for a connection that is wrapped already, with ``do_handshake_on_connect=False``.

        Takes the same arguments and raises the same errors, but leaves it to the caller to close the connection.
        """
        from ._handshake import shake_hands

        shake_hands(self, tls, deadline, cancelled)
