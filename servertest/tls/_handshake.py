"""The server's side of a handshake: with an end in time, and with a last word that arrives."""

from __future__ import annotations

import selectors
import socket
import ssl
from typing import TYPE_CHECKING

from .._support import Deadline, DeadlineExceeded, format_address
from ._errors import HandshakeEnded
from ._sockets import wait_ready

if TYPE_CHECKING:
    from ._profile import Profile

__all__ = ("accept_tls", "close_half_made", "shake_hands")

_LINGER_SECONDS = 1.0
_CHUNK = 65536

_HINTS = {
    "HTTP_REQUEST": "the client spoke plain HTTP: it needs an https:// URL",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "this profile asks for a client certificate: "
    'authority.client_context("mutual") presents one',
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust this certificate: give it "
    "authority.client_context(), or the file that authority.write_files() names",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
}


def accept_tls(
    profile: Profile,
    sock: socket.socket,
    context: ssl.SSLContext,
    deadline: Deadline | float,
    cancelled: int | None,
) -> ssl.SSLSocket:
    """See `Profile.wrap`."""
    try:
        tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
    except BaseException as error:
        sock.close()
        close_half_made(error)
        raise
    try:
        shake_hands(profile, tls, deadline, cancelled)
    except BaseException:
        tls.close()
        raise
    return tls


def shake_hands(
    profile: Profile, tls: ssl.SSLSocket, deadline: Deadline | float, cancelled: int | None
) -> None:
    """See `Profile.shake_hands`. Tells what the profile is for from what is an error."""
    if not isinstance(deadline, Deadline):
        deadline = Deadline(deadline, f"the TLS handshake with {_peer(tls)} (profile {profile.name!r})")
    timeout = tls.gettimeout()
    tls.settimeout(0)
    try:
        if not _until_done(tls, deadline, cancelled):
            raise HandshakeEnded(profile.name, "cancelled while the handshake was going on")
    except HandshakeEnded:
        raise
    except DeadlineExceeded as error:
        if profile.behaviour != "stall":
            raise
        raise HandshakeEnded(profile.name, "stalled until the deadline") from error
    except OSError as error:
        if isinstance(error, ssl.SSLError):
            _let_alert_arrive(tls, deadline, cancelled)
        if profile.refusal_is_the_point:
            raise HandshakeEnded(profile.name, f"the handshake failed, as it should: {error}") from error
        if hint := _HINTS.get(getattr(error, "reason", None) or ""):
            error.add_note(hint)
        raise
    tls.settimeout(timeout)


def _until_done(tls: ssl.SSLSocket, deadline: Deadline, cancelled: int | None) -> bool:
    """Go on with the handshake whenever the socket allows; False if it was cancelled."""
    wanted = selectors.EVENT_READ
    while wait_ready(tls, wanted, deadline, cancelled):
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            wanted = selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            wanted = selectors.EVENT_WRITE
        else:
            return True
    return False


def close_half_made(error: BaseException) -> None:
    """Close the TLS socket that `ssl.SSLContext.wrap_socket` has begun to make and lost hold of.

    It takes over the descriptor before it looks whether the peer is still there, and older versions of CPython leave it open
    when the peer has reset the connection (CPython issue 113280). Only the traceback still knows it.
    """
    trace = error.__traceback__
    while trace is not None:
        half_made = trace.tb_frame.f_locals.get("self")
        if isinstance(half_made, ssl.SSLSocket):
            half_made.close()
        trace = trace.tb_next


def _let_alert_arrive(tls: ssl.SSLSocket, deadline: Deadline, cancelled: int | None) -> None:
    """Wait until the client has hung up, so that it reads the alert which says what is wrong.

    With TLS 1.3 the client may be sending already when its certificate is refused. To close with its data unread
    would be a RST, and a RST throws away the alert if the client has not read it yet: whether it saw the reason or
    "connection reset" would be a matter of luck.
    """
    remaining = deadline.remaining()
    seconds = _LINGER_SECONDS if remaining is None else min(remaining, _LINGER_SECONDS)
    patience = Deadline(seconds, "the client to hang up")
    try:
        socket.socket.shutdown(tls, socket.SHUT_WR)
        while wait_ready(tls, selectors.EVENT_READ, patience, cancelled):
            if not socket.socket.recv(tls, _CHUNK):
                return
    except OSError:
        return  # out of patience (DeadlineExceeded is one, too), or there is no connection any more


def _peer(sock: socket.socket) -> str:
    try:
        return format_address(sock.getpeername())
    except OSError:
        return "a client that is gone"
