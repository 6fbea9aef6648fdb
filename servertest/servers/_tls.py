"""TLSMixIn: TLS whose handshake never holds up the loop."""

from __future__ import annotations

import select
import socket
import ssl
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("TLSMixIn",)

# The first byte of a record that is an alert; in TLS 1.3, of one that does not say what it is, and the size of an alert then (RFC 8446, 5.2: 5 + 2 + 1 + 16 bytes).
_ALERT = b"\x15"
_HIDDEN = b"\x17"
_HIDDEN_ALERT = 24


class TLSMixIn:
    """Speaks TLS with its clients. It goes between the mix-in for concurrency and the server class: `(ThreadingMixIn, TLSMixIn, TCPServer)`.

    The listening socket stays plain. A connection is wrapped when it is accepted, but the handshake is done where the request is handled (the thread, the child), so that a
    client that is silent or slow holds up nobody but itself (CVE-2023-38200 is what happens otherwise). On a synchronous server it holds up the others, for
    `handshake_timeout` seconds at most.

    Class attributes: `tls_context` (an ssl.SSLContext for the server side; it has to be set), `handshake_timeout` (seconds for the handshake as a whole).

    A handshake that fails goes to handle_error(), as an ssl.SSLError, another OSError, or a TimeoutError.
    """

    tls_context: ssl.SSLContext | None = None
    handshake_timeout: float = 10.0

    def server_activate(self) -> None:
        """Listen, if there is a context to serve with.

        Raises:
            ValueError: `tls_context` is not set, or the server is for datagrams.
        """
        self.__check()
        super().server_activate()  # type: ignore[misc]

    def get_request(self) -> Any:
        """Accept a connection and wrap it, without a handshake."""
        context = self.__check()
        request, client_address = super().get_request()  # type: ignore[misc]
        try:
            return (
                context.wrap_socket(request, server_side=True, do_handshake_on_connect=False),
                client_address,
            )
        except BaseException as error:
            _close_half_made(error)
            request.close()
            raise

    def __check(self) -> ssl.SSLContext:
        if getattr(self, "socket_type", socket.SOCK_STREAM) != socket.SOCK_STREAM:
            raise ValueError(f"{type(self).__name__} serves datagrams, and TLS is for streams")
        if self.tls_context is None:
            raise ValueError(
                f"{type(self).__name__} has no tls_context: set it to an ssl.SSLContext for the server side"
            )
        return self.tls_context

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Do the handshake, then make the request handler."""
        self.do_handshake(request)
        super().finish_request(request, client_address)  # type: ignore[misc]

    def do_handshake(self, request: ssl.SSLSocket) -> None:
        """Do the handshake within handshake_timeout. May be overridden.

        Raises:
            TimeoutError: the client took too long.
            OSError: the handshake failed, or the client went away.
        """
        deadline = monotonic() + self.handshake_timeout
        timeout = request.gettimeout()
        request.settimeout(0)
        while True:
            try:
                request.do_handshake()
                break
            except ssl.SSLWantReadError:
                ready = _wait(request, for_reading=True, timeout=deadline - monotonic())
            except ssl.SSLWantWriteError:
                ready = _wait(request, for_reading=False, timeout=deadline - monotonic())
            if not ready:
                raise TimeoutError(
                    f"the TLS handshake was not done after handshake_timeout={self.handshake_timeout} s"
                )
        request.settimeout(timeout)

    def shutdown_request(self, request: Any) -> None:
        """Say goodbye in TLS (close_notify, RFC 8446 section 6.1) without waiting for an answer, then end the connection."""
        try:
            request.settimeout(0)
            request.unwrap()
        except ssl.SSLWantReadError:
            request.unanswered_goodbye = True
        except (OSError, ValueError):
            pass  # the handshake never took place, or the peer has gone
        super().shutdown_request(request)  # type: ignore[misc]

    def close_request(self, request: Any) -> None:
        """Close the connection, after having taken the answer to our goodbye if there is one by now."""
        if getattr(request, "unanswered_goodbye", False):
            take_goodbye(request)
        super().close_request(request)  # type: ignore[misc]


def _close_half_made(error: BaseException) -> None:
    """Close the SSLSocket whose making has failed: it has taken the descriptor over, and nobody else holds it (CPython issue 113280)."""
    traceback = error.__traceback__
    while traceback is not None:
        sock = traceback.tb_frame.f_locals.get("self")
        if isinstance(sock, ssl.SSLSocket):
            sock.close()
        traceback = traceback.tb_next


def take_goodbye(sock: ssl.SSLSocket) -> None:
    """Take the peer's goodbye out of the system, if it has come since ours was said and nobody has read it.

    To close with bytes unread sends RST (RFC 1122, 4.2.2.13), and the peer may still be reading. Nothing else is taken, and nothing is waited for.
    """
    try:
        if not _is_ready(sock, for_reading=True, timeout=0):
            return
        record = socket.socket.recv(sock, 64, socket.MSG_PEEK)
        if record[:1] == _ALERT or (record[:1] == _HIDDEN and len(record) == _HIDDEN_ALERT):
            socket.socket.recv(sock, len(record))
    except (OSError, ValueError):
        pass  # there is nothing to be taken from it any more


def _wait(sock: ssl.SSLSocket, *, for_reading: bool, timeout: float) -> bool:
    return timeout > 0 and _is_ready(sock, for_reading=for_reading, timeout=timeout + 0.001)


def _is_ready(sock: ssl.SSLSocket, *, for_reading: bool, timeout: float) -> bool:
    if not hasattr(select, "poll"):
        readers, writers = ([sock], []) if for_reading else ([], [sock])
        return any(select.select(readers, writers, [], timeout))
    poll = select.poll()
    poll.register(sock, select.POLLIN if for_reading else select.POLLOUT)
    return bool(poll.poll(timeout * 1000))
