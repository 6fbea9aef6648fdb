"""The stream client for threads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .._support import DEFAULT_TIMEOUT, Deadline
from ._core import hostname_of
from ._dial import dial_stream
from ._faults import before_connect
from ._fronts import StreamFront
from ._messages import Message, framed
from ._steps import run
from ._wants import Everything, Exactly, Line, Some, Until, wanted

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from typing import Self

    from .._support import Address
    from ..faults import Faults
    from ..transcript import Framing
    from ._core import Data
    from ._steps import Note, Operation

__all__ = ("StreamClient",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")


class StreamClient(StreamFront):
    """A client for stream servers: TCP, Unix, with or without TLS. Every wait has a deadline.

    A method that waits takes ``timeout``, in seconds, for the whole of what it does; the client's own holds where it is
    left out. When it passes, `DeadlineExceeded` says what was awaited, from whom, and what has come; those bytes are
    still there for the next read. One thread may read while another one writes.

    Args:
        sock: A connected stream socket. It becomes non-blocking and is closed with the client.
        timeout: Seconds that each call may take.
        address: The peer's address for messages, where the socket cannot tell it.
        on_deadline: Called when a deadline passes; what it returns is added to the error's message.
        faults: What goes wrong between this client and the server: `faulty` says what can.
        seed: Where faults have their random numbers from.
        connection: The number of the connection for faults, from 1.
    """

    @classmethod
    def connect(
        cls,
        address: Address,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        source: Address | None = None,
        on_deadline: Note = None,
        faults: Faults = None,
        seed: int | str = 0,
        connection: int = 1,
    ) -> Self:
        """Connect to a server.

        Args:
            address: A ``(host, port)`` pair, a Unix path, or an abstract name (leading NUL).
            timeout: Seconds for connecting and for the TLS handshake, and then for each call.
            tls: Speak TLS, trusting what this context trusts.
            server_hostname: The name or IP address that the certificate must be for; the address's host by default.
            source: The client's own address. A Unix path is removed again at once.
            on_deadline: As for the class.
            faults: As for the class; also what goes wrong with connect(2) itself.
            seed: As for the class.
            connection: As for the class.

        Raises:
            PeerRefused: Nobody listens there.
            AddressError: It is no address, or a host name that cannot be resolved.
            DeadlineExceeded: The server did not answer in time, or stalled the handshake.
            ssl.SSLError: The handshake failed; its subclass tells why, as with the standard library.
            OSError: As from connect(2).
        """
        deadline = Deadline(timeout, "")
        more: dict[str, Any] = {}
        if faults is not None:
            more = {"faults": faults, "seed": seed, "connection": connection}
            before_connect(faults, seed, connection, "stream", address)
        sock = run(dial_stream(address, source), timeout, on_deadline)
        try:
            client = cls(sock, timeout=timeout, address=address, on_deadline=on_deadline, **more)
            if tls is not None:
                client.start_tls(tls, server_hostname, timeout=deadline.remaining())
        except BaseException:
            sock.close()
            raise
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start_tls(
        self, context: ssl.SSLContext, server_hostname: str | None = None, *, timeout: float | None = None
    ) -> None:
        """Begin TLS on this connection, as protocols with STARTTLS do.

        Args:
            context: Whom to trust.
            server_hostname: As for `connect`.
            timeout: Seconds for the handshake.

        Raises:
            UsageError: Bytes are unread (they would be taken for TLS), or it is TLS already.
            PeerClosed, PeerReset, DeadlineExceeded, ssl.SSLError: The handshake failed.
        """
        name = server_hostname or hostname_of(self.address)
        self._run(self._core.start_tls(context, name), timeout)

    def send(self, data: Data, *, timeout: float | None = None) -> int:
        """Send as much as the system takes in one call, which may be less than all; with TLS, at most one record.

        Returns:
            How many bytes were taken.

        Raises:
            PeerReset, PeerClosed, DeadlineExceeded: The peer is gone, or reads nothing.
            UsageError: The client is closed, or half closed.
        """
        return self._run(self._core.send(data), timeout)

    def send_all(self, data: Data, *, timeout: float | None = None) -> None:
        """Send everything.

        Raises:
            PeerReset, PeerClosed: The peer is gone.
            DeadlineExceeded: The peer did not read fast enough; the message tells how much is on its way.
            UsageError: The client is closed, or half closed.
        """
        self._run(self._core.send_all(data), timeout)

    def send_message(self, message: Data, framing: Framing, *, timeout: float | None = None) -> None:
        r"""Send a whole message: the bytes, and what marks its end. That of a `WholeStream` is `half_close`.

        Args:
            message: What it says.
            framing: Where messages end, such as ``Delimited(b"\r\n")``.
            timeout: Seconds.

        Raises:
            PeerReset, PeerClosed, DeadlineExceeded: As for `send_all`.
            UsageError: The message cannot be said in this framing; or as for `send_all`.
        """
        self._run(self._core.send_all(framed(message, framing)), timeout)

    def read_some(self, n: int = 65536, *, timeout: float | None = None) -> bytes:
        """Read what comes first, from 1 to ``n`` bytes; ``b""`` at the end of the stream.

        Raises:
            PeerReset, DeadlineExceeded: Nothing came.
        """
        return self._run(self._core.read(Some(n)), timeout)

    def read_exactly(self, n: int, *, timeout: float | None = None) -> bytes:
        """Read ``n`` bytes.

        Raises:
            PeerClosed, PeerReset, DeadlineExceeded: Fewer came; ``so_far`` has them.
        """
        return self._run(self._core.read(Exactly(n)), timeout)

    def read_until(
        self, separator: bytes, *, max_bytes: int = 1 << 20, timeout: float | None = None
    ) -> bytes:
        """Read up to and including ``separator``.

        Raises:
            Mismatch: It is not within the first ``max_bytes`` bytes.
            PeerClosed, PeerReset, DeadlineExceeded: It did not come; ``so_far`` has what did.
        """
        return self._run(self._core.read(Until(separator, max_bytes)), timeout)

    def readline(self, *, max_bytes: int = 1 << 20, timeout: float | None = None) -> bytes:
        """Read a line with its line feed. At the end of the stream it is what is left, in the end ``b""``, as with files.

        Raises:
            Mismatch: The line is longer than ``max_bytes`` bytes.
            PeerReset, DeadlineExceeded: No whole line came; ``so_far`` has what did.
        """
        return self._run(self._core.read(Line(max_bytes)), timeout)

    def read_eof(self, *, timeout: float | None = None) -> bytes:
        """Read everything until the peer closes its side.

        Raises:
            PeerReset, DeadlineExceeded: It did not; ``so_far`` has what came.
        """
        return self._run(self._core.read(Everything()), timeout)

    def read_message(self, framing: Framing, *, timeout: float | None = None) -> bytes:
        """Read one whole message, however the network has cut it, and nothing beyond.

        Args:
            framing: Where messages end, such as ``LengthPrefixed(4)``.
            timeout: Seconds.

        Returns:
            What it says, without what marks its end.

        Raises:
            BadFrame: What came is no message, and will not become one. Everything is still there to be read.
            PeerClosed, PeerReset, DeadlineExceeded: No whole message came; ``so_far`` has what did.
            UsageError: The framing is none for streams.
        """
        return self._run(self._core.read(Message(framing)), timeout)

    @overload
    def expect(self, expected: bytes, *, timeout: float | None = None) -> bytes: ...
    @overload
    def expect(self, expected: re.Pattern[bytes], *, timeout: float | None = None) -> re.Match[bytes]: ...
    def expect(
        self, expected: bytes | re.Pattern[bytes], *, timeout: float | None = None
    ) -> bytes | re.Match[bytes]:
        r"""Read these bytes, or what a pattern matches, and nothing beyond.

        Bytes are compared as they come: the first wrong one fails the call at once. A pattern is matched from the
        next unread byte on and gets *the shortest* beginning of the stream that it matches, however the network cut it;
        so end it with what ends the message: ``rb"\d+"`` matches one digit, ``rb"\d+\r\n"`` the number.

        Returns:
            The bytes, or the match.

        Raises:
            Mismatch: Another byte came; the message shows where. Everything is still there to be read.
            PeerClosed, PeerReset, DeadlineExceeded: Not enough came; ``so_far`` has what did.
        """
        result: bytes | re.Match[bytes] = self._run(self._core.read(wanted(expected)), timeout)
        return result

    def half_close(self, *, timeout: float | None = None) -> None:
        """Tell the peer that nothing more comes, and go on reading. Twice is once.

        On TCP and Unix sockets this is ``shutdown(SHUT_WR)``. With TLS, ``close_notify`` goes before it (RFC 8446, 6.1), which
        ends the peer's reading of plain text; whether the peer then still answers is up to it: OpenSSL servers can,
        asyncio's streams close instead.

        Raises:
            PeerReset, PeerClosed, DeadlineExceeded: The peer is gone, or does not read what was sent before.
        """
        self._run(self._core.half_close(), timeout)

    def reset(self) -> None:
        """Cut the connection off with a TCP RST (``SO_LINGER`` of 0 s) and close the client; unsent data is dropped.

        Unix sockets have no RST: the server gets ``ECONNRESET`` if it sent bytes that were left unread, and EOF otherwise.
        """
        self._core.reset()

    def close(self) -> None:
        """Close the connection, without waiting. Twice is once.

        With TLS, ``close_notify`` is sent first. As always with TCP, the peer gets a RST instead of a FIN if bytes that it sent
        have arrived and were not read.
        """
        self._core.close()

    def _run(self, operation: Operation[T], timeout: float | None) -> T:
        return run(operation, self.timeout if timeout is None else timeout, self.on_deadline)
