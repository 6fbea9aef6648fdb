"""What a misbehaving handshake ends with."""

# ruff: noqa: N818 (named by what happened, as everywhere in servertest)

from __future__ import annotations

from .._support import ServertestError

__all__ = ("HandshakeEnded",)


class HandshakeEnded(ServertestError, ConnectionAbortedError):
    """A connection ended before it spoke TLS, as it was meant to: nobody has to be blamed for it.

    The profile wants it (the client refused a bad certificate, the handshake was stalled or reset), or the
    server is being stopped. A host ends the connection and reports no error. Whoever knows only `OSError` sees an
    aborted connection.

    Attributes:
        profile: Name of the profile.
        reason: What happened, in a few words.
    """

    def __init__(self, profile: str, reason: str) -> None:
        self.profile = profile
        self.reason = reason
        super().__init__(f"no TLS on this connection (profile {profile!r}): {reason}")

    def __reduce__(self) -> tuple[type[HandshakeEnded], tuple[str, str]]:
        # The inherited way would call the class with the finished message as its only argument.
        return type(self), (self.profile, self.reason)
