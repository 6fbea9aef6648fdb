"""Stream sockets as Linux has them, TCP and Unix: states, ends and errors. Nothing here waits; a call that would have to answers None.

What happens where is taken from the behaviour of the kernel, and a test compares the two: a RST does not take away what was received before it;
after a FIN it is EPIPE and no ECONNRESET; a socket whose peer sent more than was read ends with RST when it is closed.
"""

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
    from ._wire import Wire

__all__ = ("StreamEnd",)

_RCV, _SEND = 1, 2


class StreamEnd(Handle):
    """One stream socket: fresh, listening, or an end of a connection.

    Attributes:
        state: "new", "listening", "connecting", "connected" or "closed".
        down: The directions that are shut down: 1 for receiving, 2 for sending.
        fin: Whether the peer's FIN has come.
        pending: An error number that the next call is to report; 0 for none.
        incoming: What has come and was not read.
        side: "client" or "server".
        number: Of the connection.
    """

    def __init__(self, network: Network, host: Host, family: int, kind: int, proto: int) -> None:
        super().__init__()
        self.network = network
        self.host = host
        self.family = family
        self.kind = kind
        self.proto = proto
        self.options: dict[tuple[int, int], Any] = {}
        self.state = "new"
        self.local: Any = None
        self.remote: Any = None
        self.peer: StreamEnd | None = None
        self.out: Wire | None = None
        self.down = 0
        self.fin = False
        self.pending = 0
        self.in_progress = False
        self.incoming = bytearray()
        self.queue: deque[StreamEnd] = deque()
        self.arriving = 0
        self.backlog = self.wanted_backlog = 0
        self.side: Any = None
        self.number = 0
        self.gone = False
        self.bound: Any = None
        self.tls = False
        self.server: Any = None

    @property
    def inet(self) -> bool:
        """Whether it is TCP."""
        return self.family != socket.AF_UNIX

    @property
    def name(self) -> str:  # type: ignore[override]
        """What it is called where somebody waits for it."""
        if self.state == "listening":
            return f"the listener on {self.network.shown(self.local)}"
        if self.number:
            return f"connection {self.number} ({self.side} end)"
        return "a socket"

    @property
    def over(self) -> bool:
        """Whether TCP has nothing more to do for it: TCP_CLOSE."""
        if self.state in ("new", "closed"):
            return True
        peer = self.peer
        return self.inet and self.fin and bool(self.down & _SEND) and (peer is None or peer.fin)

    # -- poll(2)

    def mask(self) -> int:
        """See `Handle`."""
        if self.state == "listening":
            return IN if self.queue else 0
        down = self.down | (_RCV if self.fin else 0)
        events = 0
        if down == 3 or (self.over if self.inet else self.state == "new"):
            events |= select.POLLHUP
        if down & _RCV:
            events |= IN | RDHUP
        if self.incoming:
            events |= IN
        if self.state != "connecting" and (down & _SEND or self.writable):
            events |= OUT
        if self.pending:
            events |= select.POLLERR
        return events

    @property
    def writable(self) -> bool:
        """Whether there is so much room that it is worth while."""
        return self.out is None or self.out.room * 3 >= self.out.capacity

    # -- calls

    def receive(self, size: int, *, peek: bool = False) -> bytes | None:
        """What recv(2) does."""
        data = self._receive(size, peek=peek)
        if self.watcher is not None and data is not None and not peek and size:
            self.watcher.has_received(len(data))
        return data

    def _receive(self, size: int, *, peek: bool) -> bytes | None:
        if self.incoming:
            if not self.inet and self.state == "new":
                raise failure(errno.EINVAL)
            return self._take(size, peek=peek)
        if self.fin and self.inet:
            return b""
        if self.pending and self.state != "connecting":
            raise failure(self._report())
        if self.fin or self.down & _RCV:
            return b""
        if self.state in ("new", "closed", "listening"):
            raise failure(errno.ENOTCONN if self.inet else errno.EINVAL)
        return None if size else b""

    def _take(self, size: int, *, peek: bool) -> bytes:
        taken = bytes(self.incoming[:size])
        if not peek:
            del self.incoming[:size]
            self.kernel.progress()
            if self.peer is not None:
                self.peer.changed(OUT)
        return taken

    def transmit(self, data: memoryview) -> int | None:
        """What send(2) does."""
        if self.state == "connecting":
            return None
        if self.inet and self.pending:
            raise failure(self._report())
        if self.down & _SEND or self.state in ("closed", "listening"):
            raise failure(errno.EPIPE if self.inet or self.state != "listening" else errno.ENOTCONN)
        if self.out is None:
            raise failure(errno.EPIPE if self.inet else errno.ENOTCONN)
        if not self.inet and (self.peer is None or self.peer.gone or self.peer.down & _RCV):
            raise failure(errno.EPIPE)
        if not data:
            return 0
        room = self.out.room
        if room <= 0:
            if self.watcher is not None:
                self.watcher.is_held_back()
            return None
        part = bytes(data[:room])
        self.kernel.progress()
        self.out.send(part)
        return len(part)

    def shut(self, how: int) -> None:
        """What shutdown(2) does."""
        directions = {socket.SHUT_RD: _RCV, socket.SHUT_WR: _SEND, socket.SHUT_RDWR: 3}.get(how)
        if directions is None:
            raise failure(errno.EINVAL)
        if self.state == "listening":
            if self.inet and directions & _RCV:
                self._stop_listening()
                self.state = "new"
            else:
                self.down |= directions
            self.changed()
            return
        if self.inet and self.over:
            self.down |= directions
            raise failure(errno.ENOTCONN)
        before, self.down = self.down, self.down | directions
        if self.out is not None:
            if directions & _SEND and not before & _SEND:
                self.network.recorder.half_closes(self)
                self.out.finish()
            if directions & _RCV and not self.inet and self.peer is not None:
                self.peer.down |= _SEND
                self.peer.changed()
        self.changed()

    def take_connection(self) -> StreamEnd | None:
        """What accept(2) does."""
        if self.state != "listening" or self.down & _RCV:
            raise failure(errno.EINVAL)
        if not self.queue:
            return None
        self.kernel.progress()
        end = self.queue.popleft()
        self.network.room_in_backlog(self)
        return end

    def peer_name(self) -> Any:
        """What getpeername(2) does."""
        if self.state in ("new", "listening", "connecting") or (self.inet and self.over):
            raise failure(errno.ENOTCONN)
        return self.remote

    def report_error(self) -> int:
        """SO_ERROR: the pending error, which is then forgotten."""
        return self._report()

    def _report(self) -> int:
        code, self.pending = self.pending, 0
        if self.in_progress and self.state == "closed":
            self.in_progress = False
            self.state = "new"
            self.down = 0
        return code

    # -- what comes from the network

    def on_data(self, data: bytes) -> None:
        """Bytes have come."""
        if self.state == "crashed" and not self.host.up:
            return
        if self.gone or self.state == "closed":
            if self.inet and self.out is not None and self.state != "closed":
                self.state = "closed"
                self.out.abort()
            return
        self.incoming += data
        self.changed(IN)

    def on_fin(self) -> None:
        """The peer will send nothing more."""
        if self.state == "closed" or self.fin:
            return
        self.fin = True
        self.changed()
        if self.peer is not None:
            self.peer.changed()

    def on_reset(self, code: int = 0) -> None:
        """The connection is cut off."""
        if self.over and self.inet:
            return
        if not code:
            code = errno.ECONNRESET if not (self.inet and self.fin and not self.down & _SEND) else errno.EPIPE
        self.pending = code
        self.state = "closed"
        self.down = 3
        self.changed()

    # -- the end

    def dispose(self) -> None:
        """The last descriptor was closed."""
        if self.gone:
            return
        self.gone = True
        self.network.forget(self)
        if self.state == "listening":
            self._stop_listening()
            self.state = "closed"
        elif self.state == "connected" and self.out is not None:
            self._part()
        else:
            self.state = "closed"

    def _part(self) -> None:
        assert self.out is not None
        linger = self.options.get((socket.SOL_SOCKET, socket.SO_LINGER))
        recorder = self.network.recorder
        if self.inet and (self.incoming or linger == (1, 0)):
            recorder.closes(self, "rst")
            self.state = "closed"
            self.out.abort()
            return
        recorder.closes(self, "fin")
        if self.inet:
            if not self.down & _SEND:
                self.down |= _SEND
                self.out.finish()
            return
        unread = bool(self.incoming)
        self.state = "closed"
        peer = self.peer
        if peer is not None and peer.state == "connected":
            if unread:
                peer.pending = errno.ECONNRESET
            peer.down |= _SEND
        self.out.finish()

    def _stop_listening(self) -> None:
        self.network.unlisten(self)
        while self.queue:
            end = self.queue.popleft()
            end.gone = True
            end.state = "closed"
            if end.peer is not None:
                if end.inet:
                    end.peer.on_reset()
                else:
                    end.peer.pending = errno.ECONNRESET
                    end.peer.down |= _SEND
                    end.peer.on_fin()
