"""What a datagram client does, written once for both twins: as steps over a socket that never blocks."""

from __future__ import annotations

import contextlib
import re
import socket
from collections import deque
from typing import TYPE_CHECKING

from .._support import Mismatch, UsageError, byte_diff, count_bytes, first_difference, format_address, preview
from ._core import would_block
from ._dial import dial_datagram, fail_with, send_blocking
from ._own_name import OwnName
from ._shared import SharedSocket
from ._steps import Operation, Wait
from ._wants import require_bytes, show_pattern

if TYPE_CHECKING:
    from .._support import Address
    from ._core import Data
    from ._faults import ClientFaults
    from ._steps import Steps

__all__ = ("DatagramCore", "open_datagram")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

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
        faults: What goes wrong around it.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        place: Address,
        connected: bool,
        name: OwnName | None = None,
        faults: ClientFaults | None = None,
    ) -> None:
        if sock.type != socket.SOCK_DGRAM:
            raise UsageError(f"a datagram client needs a datagram socket, not {sock!r}")
        self.faults = faults
        self.address = address
        self.peer = format_address(address)
        self.shared = SharedSocket(sock, self.peer)
        self.sock = sock
        self.connected = connected
        self.received = 0
        self.sent = 0
        self._local_address: Address = sock.getsockname()
        self._place = place
        self._name = name or OwnName()
        self._kept: deque[tuple[bytes, Address]] = deque()

    @property
    def local_address(self) -> Address:
        """The socket's own, which UDP may get with the first send only."""
        if not self.shared.closed:
            self._local_address = self.sock.getsockname()
        return self._local_address

    # Sending

    def send(self, data: Data) -> Operation[int]:
        """Send one datagram to the peer."""
        view = memoryview(data).cast("B")
        steps = self._send(view, None if self.connected else self._place)
        return Operation(steps, f"{self.peer} to take a datagram of {count_bytes(len(view))}")

    def send_to(self, data: Data, address: Address) -> Operation[int]:
        """Send one datagram to anybody."""
        view = memoryview(data).cast("B")
        return Operation(
            self._send(view, address),
            f"{format_address(address)} to take a datagram of {count_bytes(len(view))}",
        )

    def _send(self, view: memoryview, address: Address | None) -> Steps[int]:
        with self.shared.alone("writes"):
            try:
                while not (yield from self._send_once(view, address)):
                    pass
            except OSError as error:
                fail_with(error, self.address if address is None else address)
            self.sent += len(view)
            return len(view)

    def _send_once(self, view: memoryview, address: Address | None) -> Steps[bool]:
        """Tells whether it was sent; if not, there was no room for it."""
        yield Wait(self.sock, write=True)
        self.shared.require_open()
        try:
            if address is None:
                self.sock.send(view)
            else:
                self.sock.sendto(view, address)
        except OSError as error:
            if not would_block(error):
                raise
            if not isinstance(address, (str, bytes)):
                return False
            yield from send_blocking(self.sock, view, address)
        return True

    # Receiving

    def receive(self, max_bytes: int) -> Operation[bytes]:
        """Receive one datagram."""
        return Operation(self._receive(max_bytes), f"a datagram from {self._from}", bytes)

    def receive_from(self, max_bytes: int) -> Operation[tuple[bytes, Address]]:
        """Receive one datagram and tell who sent it."""
        return Operation(self._receive_from(max_bytes), f"a datagram from {self._from}", bytes)

    def expect(self, expected: bytes | re.Pattern[bytes]) -> Operation[bytes | re.Match[bytes]]:
        """Receive one datagram and compare the whole of it."""
        require_bytes(expected)
        shown = show_pattern(expected) if isinstance(expected, re.Pattern) else preview(expected)
        return Operation(self._expect(expected), f"a datagram {shown} from {self._from}", bytes)

    @property
    def _from(self) -> str:
        return self.peer if self.connected else "anybody"

    def _receive(self, max_bytes: int) -> Steps[bytes]:
        return (yield from self._receive_from(max_bytes))[0]

    def _receive_from(self, max_bytes: int) -> Steps[tuple[bytes, Address]]:
        if max_bytes < 0:
            raise UsageError(f"max_bytes is a number of bytes, not {max_bytes}")
        with self.shared.alone("reads"):
            data, sender = yield from self._next()
            if len(data) > max_bytes:
                self._kept.appendleft((data, sender))
                raise Mismatch(
                    f"{format_address(sender)} sent a datagram of {count_bytes(len(data))}, more than max_bytes={max_bytes};"
                    f" it is still there to be received: {preview(data)}"
                )
            return data, sender

    def _expect(self, expected: bytes | re.Pattern[bytes]) -> Steps[bytes | re.Match[bytes]]:
        with self.shared.alone("reads"):
            data, sender = yield from self._next()
            result = _compare(expected, data)
            if isinstance(result, str):
                self._kept.appendleft((data, sender))
                raise Mismatch(f"{format_address(sender)} sent something else than was expected\n{result}")
            return result

    def _next(self) -> Steps[tuple[bytes, Address]]:
        while not self._kept:
            yield Wait(self.sock, write=False)
            self.shared.require_open()
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
        self.shared.end(self._finish)

    def _finish(self) -> None:
        self.sock.close()
        self._name.take_back()


def open_datagram(
    address: Address,
    *,
    bind: bool,
    connected: bool,
    source: Address | None,
    faults: ClientFaults | None = None,
) -> Operation[DatagramCore]:
    """Make the core for a peer's address; see `DatagramClient.connect` for the arguments."""
    is_inet = isinstance(address, tuple)
    name = OwnName(source, reachable=not connected if is_inet else bind)
    return Operation(
        _open(address, name, connected, faults), f"a datagram socket for {format_address(address)}"
    )


def _open(
    address: Address, name: OwnName, connected: bool, faults: ClientFaults | None
) -> Steps[DatagramCore]:
    with contextlib.ExitStack() as undo:
        undo.callback(name.take_back)
        if faults is not None:
            faults.before_connect("datagram")
        sock, place = yield from dial_datagram(address, name, connected)
        undo.callback(sock.close)
        if faults is not None:
            sock = faults.around(sock)
            undo.callback(sock.close)
        core = DatagramCore(sock, address, place, connected, name, faults)
        undo.pop_all()
        return core


def _compare(expected: bytes | re.Pattern[bytes], data: bytes) -> bytes | re.Match[bytes] | str:
    """What expect() is to return, or the text that shows the difference."""
    if not isinstance(expected, re.Pattern):
        return data if first_difference(expected, data) is None else byte_diff(expected, data)
    match = expected.fullmatch(data)
    return match or f"  expected a match of: {show_pattern(expected)}\n  received:            {preview(data)}"
