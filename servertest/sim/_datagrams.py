"""Datagram sockets, of UDP and Unix."""

from __future__ import annotations

import errno
import select
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from ._handles import IN, OUT, RDHUP, Handle, failure

if TYPE_CHECKING:
    from ._hosts import Host
    from ._network import Network

__all__ = ("DatagramEnd",)

#: The longest datagram of UDP over IPv4: 65,535 less the headers.
_LONGEST = 65_507

#: Bytes that a socket keeps for its reader, and for each datagram a share of bookkeeping.
_BUFFER, _EACH = 212_992, 768

#: net.unix.max_dgram_qlen: so many wait for the reader, and one more.
_QUEUE = 10


class DatagramEnd(Handle):
    """One datagram socket.

    Attributes:
        local: Its address, if it has one.
        remote: The peer's, if it is connected.
        queue: What has come: bytes and the sender's address.
        pending: An error number that the next call is to report.
    """

    def __init__(self, network: Network, host: Host, family: int, kind: int, proto: int) -> None:
        super().__init__()
        self.network = network
        self.host = host
        self.family = family
        self.kind = kind
        self.proto = proto
        self.options: dict[tuple[int, int], Any] = {}
        self.local: Any = None
        self.remote: Any = None
        self.partner: DatagramEnd | None = None
        self.queue: deque[tuple[bytes, Any]] = deque()
        self.held = 0
        self.pending = 0
        self.down = 0
        self.bound: Any = None
        self.gone = False
        self.state = "new"
        self.side: Any = None

    @property
    def inet(self) -> bool:
        """Whether it is UDP."""
        return self.family != socket.AF_UNIX

    @property
    def name(self) -> str:  # type: ignore[override]
        """What it is called where somebody waits for it."""
        return f"the datagram socket {self.network.shown(self.local)}"

    def mask(self) -> int:
        """See `Handle`."""
        events = 0
        if self.queue:
            events |= IN
        if self.down & 1:
            events |= IN | RDHUP
        if self.down == 3:
            events |= select.POLLHUP
        if self.pending:
            events |= select.POLLERR
        if self.inet or self.partner is None or len(self.partner.queue) <= _QUEUE:
            events |= OUT
        return events

    def receive(self, *, peek: bool = False) -> tuple[bytes, Any] | None:
        """The next datagram, whole, and its sender."""
        if self.pending and (self.inet or not self.queue):
            raise failure(self.report_error())
        if not self.queue:
            return (b"", None) if self.down & 1 else None
        if peek:
            return self.queue[0]
        data, sender = self.queue.popleft()
        self.held -= len(data) + _EACH
        self.kernel.progress()
        self.network.room_for_datagrams(self)
        return data, sender

    def transmit(self, data: bytes, address: Any) -> bool:
        """Send a datagram; False if its receiver has no room and one has to wait."""
        if self.pending and self.inet:
            raise failure(self.report_error())
        if self.down & 2:
            raise failure(errno.EPIPE)
        if len(data) > (_LONGEST if self.inet else _BUFFER - 32):
            raise failure(errno.EMSGSIZE)
        if address is None:
            if self.remote is None and self.partner is None:
                raise failure(errno.EDESTADDRREQ if self.inet else errno.ENOTCONN)
            address = self.remote
        if self.inet:
            self.network.send_packet(self, data, address)
            self.kernel.progress()
            return True
        return self._hand_over(data, address)

    def _hand_over(self, data: bytes, address: Any) -> bool:
        if self.partner is not None and address == self.remote:
            target: DatagramEnd | None = self.partner
            if target is not None and target.gone:
                self.partner = self.remote = None
                raise failure(errno.ECONNREFUSED)
        else:
            target = self.network.unix_datagrams_at(address)
        assert target is not None
        if target.partner is not None and target.partner is not self:
            raise failure(errno.EPERM)
        if target.down & 1:
            raise failure(errno.EPIPE)
        if target is not self and len(target.queue) > _QUEUE:
            return False
        self.network.recorder.datagram(self, target, data)
        target.on_datagram(data, self.local)
        self.kernel.progress()
        return True

    def on_datagram(self, data: bytes, sender: Any) -> None:
        """A datagram has come; without room for it, it is lost."""
        if self.gone or (self.inet and self.held >= _BUFFER):
            return
        self.held += len(data) + _EACH
        self.queue.append((data, sender))
        self.changed()

    def report_error(self) -> int:
        """SO_ERROR."""
        code, self.pending = self.pending, 0
        return code

    def shut(self, how: int) -> None:
        """What shutdown(2) does."""
        if self.inet and self.remote is None:
            raise failure(errno.ENOTCONN)
        self.down |= {socket.SHUT_RD: 1, socket.SHUT_WR: 2, socket.SHUT_RDWR: 3}[how]
        self.changed()

    def peer_name(self) -> Any:
        """What getpeername(2) does."""
        if self.remote is None and self.partner is None:
            raise failure(errno.ENOTCONN)
        return self.remote

    def dispose(self) -> None:
        """The last descriptor was closed."""
        if not self.gone:
            self.gone = True
            self.network.forget(self)
            self.network.room_for_datagrams(self)
