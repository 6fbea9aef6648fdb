"""What a datagram client does, written once for both twins: as steps over a socket that never blocks."""

from __future__ import annotations

import contextlib
import re
import socket
from collections import deque
from typing import TYPE_CHECKING

from .._support import Mismatch, UsageError, byte_diff, first_difference, format_address, preview
from ._core import would_block
from ._dial import dial_datagram, fail_with, send_blocking
from ._own_name import OwnName
from ._steps import Operation, Wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._support import Address
    from ._core import Data
    from ._steps import Steps

__all__ = ("DatagramCore", "open_datagram")

# More than any datagram has: 64 KiB for UDP, the sender's buffer (a few hundred KiB) for Unix sockets.
_LARGEST = 1 << 20


class DatagramCore:
    """A datagram socket with a peer, and the datagrams that were received and given back.

    Args:
        sock: Made non-blocking; it belongs to the core from now on.
        address: The peer's, as the caller gave it.
        place: The same, resolved: where `send` sends to if the socket is not connected.
        connected: Whether the socket is connected to it.
        name: What the socket is bound to.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        place: Address,
        connected: bool,
        name: OwnName | None = None,
    ) -> None:
        if sock.type != socket.SOCK_DGRAM:
            raise UsageError(f"a datagram client needs a datagram socket, not {sock!r}")
        sock.setblocking(False)
        self.sock = sock
        self.address = address
        self.peer = format_address(address)
        self.connected = connected
        self.received = 0
        self.sent = 0
        self.closed = False
        self._local_address: Address = sock.getsockname()
        self._place = place
        self._name = name or OwnName()
        self._kept: deque[tuple[bytes, Address]] = deque()
        self._busy: set[str] = set()

    @property
    def local_address(self) -> Address:
        """The socket's own, which UDP may get with the first send only."""
        if not self.closed:
            self._local_address = self.sock.getsockname()
        return self._local_address

    # Sending

    def send(self, data: Data) -> Operation[int]:
        """Send one datagram to the peer."""
        view = memoryview(data).cast("B")
        steps = self._send(view, None if self.connected else self._place)
        return Operation(steps, f"{self.peer} to take a datagram of {len(view)} bytes")

    def send_to(self, data: Data, address: Address) -> Operation[int]:
        """Send one datagram to anybody."""
        view = memoryview(data).cast("B")
        return Operation(
            self._send(view, address), f"{format_address(address)} to take a datagram of {len(view)} bytes"
        )

    def _send(self, view: memoryview, address: Address | None) -> Steps[int]:
        with self._alone("sends"):
            while True:
                yield Wait(self.sock, write=True)
                self._require_open()
                try:
                    count = self.sock.send(view) if address is None else self.sock.sendto(view, address)
                    self.sent += count
                    return count
                except OSError as error:
                    if not would_block(error):
                        fail_with(error, self.address if address is None else address)
                if address is not None and isinstance(address, (str, bytes)):
                    yield send_blocking(self.sock, view, address)
                    self.sent += len(view)
                    return len(view)

    # Receiving

    def receive(self, max_bytes: int) -> Operation[bytes]:
        """Receive one datagram."""
        return Operation(self._receive(max_bytes), f"a datagram from {self._from}", bytes)

    def receive_from(self, max_bytes: int) -> Operation[tuple[bytes, Address]]:
        """Receive one datagram and tell who sent it."""
        return Operation(self._receive_from(max_bytes), f"a datagram from {self._from}", bytes)

    def expect(self, expected: bytes | re.Pattern[bytes]) -> Operation[bytes | re.Match[bytes]]:
        """Receive one datagram and compare the whole of it."""
        shown = expected.pattern if isinstance(expected, re.Pattern) else expected
        if not isinstance(shown, (bytes, bytearray, memoryview)):
            raise UsageError(f"expect() takes bytes or a compiled pattern over bytes, not {expected!r}")
        verb = "that matches" if isinstance(expected, re.Pattern) else "with"
        what = f"a datagram {verb} {preview(bytes(shown))} from {self._from}"
        return Operation(self._expect(expected), what, bytes)

    @property
    def _from(self) -> str:
        return self.peer if self.connected else "anybody"

    def _receive(self, max_bytes: int) -> Steps[bytes]:
        return (yield from self._receive_from(max_bytes))[0]

    def _receive_from(self, max_bytes: int) -> Steps[tuple[bytes, Address]]:
        if max_bytes < 0:
            raise UsageError(f"max_bytes is a number of bytes, not {max_bytes}")
        with self._alone("receives"):
            data, sender = yield from self._next()
            if len(data) > max_bytes:
                self._kept.appendleft((data, sender))
                raise Mismatch(
                    f"{format_address(sender)} sent a datagram of {len(data)} bytes, more than max_bytes={max_bytes};"
                    f" it is still there to be received: {preview(data)}"
                )
            return data, sender

    def _expect(self, expected: bytes | re.Pattern[bytes]) -> Steps[bytes | re.Match[bytes]]:
        with self._alone("receives"):
            data, sender = yield from self._next()
            result = _compare(expected, data)
            if isinstance(result, str):
                self._kept.appendleft((data, sender))
                raise Mismatch(f"{format_address(sender)} sent something else than was expected\n{result}")
            return result

    def _next(self) -> Steps[tuple[bytes, Address]]:
        while not self._kept:
            yield Wait(self.sock, write=False)
            self._require_open()
            try:
                data, sender = self.sock.recvfrom(_LARGEST)
            except OSError as error:
                if not would_block(error):
                    fail_with(error, self.address)
                continue
            self.received += len(data)
            # A connected Unix socket is told the sender only if the sender has a name.
            self._kept.append((data, sender))
        return self._kept.popleft()

    # Ending

    def close(self) -> None:
        """Close the socket and remove its path."""
        if self.closed:
            return
        self.closed = True
        try:
            if self._busy:
                # As for streams: wakes a thread that waits in poll(2). UDP wants to be connected for it.
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RDWR)
            self.sock.close()
        finally:
            self._name.take_back()

    @contextlib.contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        self._require_open()
        if what in self._busy:
            raise UsageError(f"another call already {what} for the client of {self.peer}: one at a time")
        self._busy.add(what)
        try:
            yield
        finally:
            self._busy.discard(what)

    def _require_open(self) -> None:
        if self.closed:
            raise UsageError(f"the client of {self.peer} is closed")


def open_datagram(
    address: Address, *, bind: bool, connected: bool, source: Address | None
) -> Operation[DatagramCore]:
    """Make the core for a peer's address; see `DatagramClient.connect` for the arguments."""
    is_inet = isinstance(address, tuple)
    name = OwnName(source, reachable=not connected if is_inet else bind)
    return Operation(_open(address, name, connected), f"a datagram socket for {format_address(address)}")


def _open(address: Address, name: OwnName, connected: bool) -> Steps[DatagramCore]:
    try:
        sock, place = yield from dial_datagram(address, name, connected)
    except BaseException:
        name.take_back()
        raise
    return DatagramCore(sock, address, place, connected, name)


def _compare(expected: bytes | re.Pattern[bytes], data: bytes) -> bytes | re.Match[bytes] | str:
    """What expect() is to return, or the text that shows the difference."""
    if not isinstance(expected, re.Pattern):
        return data if first_difference(expected, data) is None else byte_diff(expected, data)
    match = expected.fullmatch(data)
    return (
        match or f"  expected a match of: {preview(expected.pattern)}\n  received:            {preview(data)}"
    )
