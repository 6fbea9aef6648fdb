"""What a stream client does, written once for both twins: as steps over a socket that never blocks."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from typing import TYPE_CHECKING, NoReturn, TypeAlias, TypeVar

from .._support import (
    PeerClosed,
    PeerReset,
    UsageError,
    count_bytes,
    format_address,
    hard_reset,
    preview,
    what_came,
)
from ._buffer import ReceiveBuffer
from ._shared import SharedSocket
from ._steps import Operation, Wait, ready

if TYPE_CHECKING:
    import ssl

    from .._support import Address
    from ._steps import Steps
    from ._tls import TlsSession
    from ._wants import Want

__all__ = ("Data", "StreamCore", "hostname_of", "would_block")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")

Data: TypeAlias = bytes | bytearray | memoryview
"""What can be sent."""

_CHUNK = 65536

# How many chunks close() throws away at most: a peer that never pauses must not keep it from closing.
_DRAIN_LIMIT = 64


class StreamCore:
    """A connected stream socket, what has come over it, and TLS if that was begun.

    Args:
        sock: Connected; it is made non-blocking and belongs to the core from now on.
        address: The peer's, if the socket cannot tell it.
    """

    def __init__(self, sock: socket.socket, address: Address | None) -> None:
        _refuse_wrapped(sock)
        self.is_inet = sock.family in (socket.AF_INET, socket.AF_INET6)
        if self.is_inet:
            # Each send goes out as it is, instead of waiting for the peer to acknowledge the one before (Nagle).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address: Address = _peer_of(sock) if address is None else address
        self.local_address: Address = sock.getsockname()
        self.peer = format_address(self.address)
        self.shared = SharedSocket(sock, self.peer)
        self.sock = sock
        self.buffer = ReceiveBuffer(self.peer)
        self.tls: TlsSession | None = None
        self.sent = 0
        self.half_closed = False
        self._was_reset = False

    @property
    def received(self) -> int:
        """How many bytes have come in all; of plain text with TLS."""
        return self.buffer.total

    # Reading

    def read(self, want: Want[T]) -> Operation[T]:
        """Read until the want is satisfied."""
        return Operation(self._read(want), f"{want} from {self.peer}", lambda: bytes(self.buffer.data))

    def _read(self, want: Want[T]) -> Steps[T]:
        with self.shared.alone("reads"):
            while (result := want.take(self.buffer)) is None:
                if self.buffer.eof:
                    return self._at_end(want)
                yield from self._receive(_CHUNK if self.tls else want.hint(self.buffer))
            return result

    def _at_end(self, want: Want[T]) -> T:
        result = want.at_end(self.buffer)
        if result is None:
            so_far = bytes(self.buffer.data)
            raise PeerClosed(
                f"{self.peer} closed the connection before {want} had come; {what_came(so_far)}", so_far
            )
        return result

    def _receive(self, size: int) -> Steps[None]:
        records = yield from self._recv(size)
        if records is None:
            return
        if self.tls is None:
            self.buffer.feed(records)
            self.buffer.eof = not records
        elif records:
            self.tls.feed(records)
            self._decrypt(self.tls)
        else:
            self.tls.end_of_stream(self.buffer)

    def _recv(self, size: int) -> Steps[bytes | None]:
        """One recv(2): None if it was a false alarm, empty at the end of the stream."""
        if self._was_reset:
            # The system tells of a RST once; after that it would look like the end of the stream.
            self._lost(ConnectionResetError())
        yield Wait(self.sock, write=False)
        self.shared.require_open()
        try:
            return self.sock.recv(size)
        except OSError as error:
            if would_block(error):
                return None
            self._lost(error)

    def _decrypt(self, tls: TlsSession) -> None:
        try:
            tls.decrypt_into(self.buffer)
        except OSError as error:
            error.add_note(f"from {self.peer}")
            raise
        finally:
            # TLS 1.3 may want to answer (a key update); what does not fit now goes out before the next data.
            self._send_what_fits(tls)

    # Writing

    def send(self, data: Data) -> Operation[int]:
        """Hand over what the system takes at once, at most a record with TLS."""
        view = memoryview(data).cast("B")
        return Operation(self._send(view), _Sending(self, len(view)))

    def send_all(self, data: Data) -> Operation[None]:
        """Hand over everything."""
        view = memoryview(data).cast("B")
        return Operation(self._send_all(view), _Sending(self, len(view)))

    def half_close(self) -> Operation[None]:
        """Tell the peer that nothing more will come."""
        return Operation(self._half_close(), f"{self.peer} to take what was sent before the half-close")

    def _send(self, view: memoryview) -> Steps[int]:
        with self.shared.alone("writes"):
            return (yield from self._send_some(view))

    def _send_all(self, view: memoryview) -> Steps[None]:
        with self.shared.alone("writes"):
            while view:
                view = view[(yield from self._send_some(view)) :]

    def _send_some(self, view: memoryview) -> Steps[int]:
        self._require_writable()
        if not view:
            return 0
        if self.tls is None:
            count = yield from self._send_once(view)
            self.sent += count
            return count
        yield from self._flush(self.tls)
        count = self.tls.encrypt(view)
        # Counted before they are flushed: if the deadline passes in the middle, the next call sends the rest of them.
        self.sent += count
        yield from self._flush(self.tls)
        return count

    def _send_once(self, view: memoryview | bytearray) -> Steps[int]:
        while True:
            yield Wait(self.sock, write=True)
            self.shared.require_open()
            try:
                return self.sock.send(view)
            except OSError as error:
                if not would_block(error):
                    self._lost(error)

    def _flush(self, tls: TlsSession) -> Steps[None]:
        while tls.unsent:
            yield Wait(self.sock, write=True)
            self.shared.require_open()
            try:
                with tls.lock:
                    del tls.unsent[: self.sock.send(tls.unsent)]
            except OSError as error:
                if not would_block(error):
                    self._lost(error)

    def _half_close(self) -> Steps[None]:
        with self.shared.alone("writes"):
            if self.half_closed:
                return
            if self.tls is not None:
                self.tls.close_notify()
                yield from self._flush(self.tls)
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lost(error)
            self.half_closed = True

    # TLS

    def start_tls(self, context: ssl.SSLContext, server_hostname: str | None) -> Operation[None]:
        """Begin TLS on the connection as it is."""
        return Operation(self._handshake(context, server_hostname), f"the TLS handshake with {self.peer}")

    def _handshake(self, context: ssl.SSLContext, server_hostname: str | None) -> Steps[None]:
        from ._tls import TlsSession

        with self.shared.alone("reads", "writes"):
            self._require_writable()
            if self.tls is not None or self.buffer:
                state = "TLS already" if self.tls else f"unread: {preview(self.buffer.data)}"
                raise UsageError(f"TLS cannot begin here: the connection to {self.peer} has {state}")
            session = TlsSession(context, server_hostname)
            try:
                yield from self._shake_hands(session)
            except OSError as error:
                error.add_note(f"in the TLS handshake with {self.peer}")
                # The alert tells the server what we did not like about it.
                self._send_what_fits(session)
                raise
            self.tls = session
            self._acknowledge()
            # A server that speaks first sends its greeting along with the end of the handshake.
            self._decrypt(session)

    def _shake_hands(self, session: TlsSession) -> Steps[None]:
        while not session.handshake():
            yield from self._flush(session)
            records = yield from self._recv(_CHUNK)
            if records:
                session.feed(records)
            elif records is not None:
                raise PeerClosed(f"{self.peer} closed the connection in the middle of the TLS handshake")
        yield from self._flush(session)

    def _acknowledge(self) -> None:
        """Acknowledge now what has come. A TLS 1.3 server has just sent session tickets; on a plain socket.socket it would
        hold back its greeting until they are acknowledged, which the kernel delays by 40 ms (Nagle and delayed ACK).
        """
        if self.is_inet and hasattr(socket, "TCP_QUICKACK"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _send_what_fits(self, tls: TlsSession) -> None:
        """Send waiting records as far as that goes without waiting. An error will meet the next read or write."""
        with contextlib.suppress(OSError), tls.lock:
            while tls.unsent and ready(Wait(self.sock, write=True), 0):
                del tls.unsent[: self.sock.send(tls.unsent)]

    # Ending

    def reset(self) -> None:
        """Close with a RST."""
        self.shared.end(lambda: hard_reset(self.sock))

    def close(self) -> None:
        """Close with a FIN; with TLS, ``close_notify`` goes before it if there is room for it."""
        self.shared.end(self._finish)

    def _finish(self) -> None:
        try:
            if self.tls is not None:
                self._part_politely(self.tls)
        finally:
            self.sock.close()

    def _part_politely(self, tls: TlsSession) -> None:
        tls.close_notify()
        self._send_what_fits(tls)
        # A TLS 1.3 server sends session tickets on its own account. Closing with them unread would turn the FIN into a
        # RST, and that might overtake the last data we sent.
        with contextlib.suppress(OSError):
            for _ in range(_DRAIN_LIMIT):
                if not self.sock.recv(_CHUNK):
                    break

    # States and errors

    def _require_writable(self) -> None:
        self.shared.require_open()
        if self.half_closed:
            raise UsageError(f"nothing can be sent to {self.peer} after half_close()")

    def _lost(self, error: OSError) -> NoReturn:
        so_far = bytes(self.buffer.data)
        # EPIPE on TCP means that a RST came before; Unix sockets give it when the peer has closed. ENOTCONN is what
        # shutdown(2) has to say in either case.
        gone = isinstance(error, BrokenPipeError) or error.errno == errno.ENOTCONN
        if gone and not self.is_inet:
            raise PeerClosed(
                f"{self.peer} has closed the connection and takes nothing more", so_far
            ) from error
        if gone or isinstance(error, (ConnectionResetError, ConnectionAbortedError)):
            self._was_reset = True
            raise PeerReset(f"{self.peer} reset the connection{_after(so_far)}", so_far) from error
        error.add_note(f"on the connection to {self.peer}")
        raise error


class _Sending:
    """How far sending has come, in words, at the time of asking."""

    def __init__(self, core: StreamCore, size: int) -> None:
        self._core = core
        self._size = size
        self._before = core.sent

    def __str__(self) -> str:
        return f"{self._core.peer} to take {count_bytes(self._size)} ({self._core.sent - self._before} are on their way)"


def hostname_of(address: Address) -> str | None:
    """The name that a certificate for this address must carry, or None for a Unix address."""
    return address[0].partition("%")[0] if isinstance(address, tuple) else None


def _after(so_far: bytes) -> str:
    return f"; unread before that: {preview(so_far)}" if so_far else ""


def _peer_of(sock: socket.socket) -> Address:
    try:
        peer: Address = sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        raise UsageError(f"a stream client needs a connected socket, not {sock!r}") from error
    return peer


def _refuse_wrapped(sock: socket.socket) -> None:
    # ssl is looked up, not imported: nobody can have made such a socket without it.
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise UsageError("hand over the plain socket and call start_tls(): an SSLSocket cannot half-close")
    if sock.type != socket.SOCK_STREAM:
        raise UsageError(f"a stream client needs a stream socket, not {sock!r}")


def would_block(error: OSError) -> bool:
    """Whether the socket was merely not ready."""
    # A socket whose owner has set a timeout on it raises TimeoutError; the one from the network has a number.
    return isinstance(error, BlockingIOError) or (isinstance(error, TimeoutError) and error.errno is None)
