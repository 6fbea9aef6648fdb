"""TLS for servers that know nothing of it: the handshake is done where the request is handled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..tls import HandshakeEnded
from ..tls._handshake import close_half_made
from ._wakeup import Wakeup

if TYPE_CHECKING:
    import socket

    from ..tls import ServerCredential
    from ..transcript import CloseKind
    from ._active import Activity, ActivityBook

__all__ = ("Handshake",)


class Handshake:
    """Turns accepted connections into TLS ones, in the thread or child that handles them.

    A client that is silent in its handshake holds up nobody but itself (on a synchronous server: the others for the
    time that a handshake may take).

    Attributes:
        cancelled: Ends handshakes that are going on, once it is fired; to be closed by whoever fires it.
    """

    def __init__(self, credential: ServerCredential) -> None:
        self._profile = credential.profile
        self._context = credential.server_context()
        self.cancelled = Wakeup()  # last, as nobody would close it if the others failed

    def prepare(self, plain: socket.socket) -> socket.socket:
        """Wrap a connection, for a server whose own loop does the handshakes."""
        try:
            return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        except BaseException as error:
            plain.close()
            close_half_made(error)
            raise

    def pardons(self, error: BaseException) -> bool:
        """Whether a handshake that failed like this has done what the profile is for."""
        refused = self._profile.refusal_is_the_point and isinstance(error, OSError)
        return refused or isinstance(error, HandshakeEnded)

    def secure(self, book: ActivityBook, activity: Activity) -> socket.socket | None:
        """Do the handshake.

        Returns:
            The connection, now speaking TLS; None if it has ended as the profile wants, or because of the stop.

        Raises:
            OSError: The handshake failed.
        """
        plain = activity.request
        activity.request = None  # wrapping uses the socket up: for a moment there is none to be shut down
        try:
            secured = self._profile.wrap(plain, self._context, cancelled=self.cancelled.fileno())
        except HandshakeEnded as end:
            activity.request = plain
            book.note(activity.number, str(end))
            self._record_end(book, activity)
            return None
        except BaseException:
            activity.request = plain
            self._record_end(book, activity)
            raise
        if hasattr(plain, "servertest_guise"):
            from ..wire._faulty_stream import disguise

            disguise(secured, plain)
        activity.request = secured
        activity.request = book.observe(secured, activity.number)
        if book.stopping:
            activity.end_input()  # the stop came while there was no socket
        return activity.request  # type: ignore[no-any-return]

    def _record_end(self, book: ActivityBook, activity: Activity) -> None:
        """Nobody observed the socket yet, so nobody else records that it is closed."""
        if book.recorder is not None:
            how: CloseKind = "rst" if self._profile.behaviour == "reset" else "fin"
            book.recorder.close(activity.number, "server", how)
