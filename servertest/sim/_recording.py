"""What passes in a simulation, written down: for the transcript as a server sees it, for the history line by line."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from ..transcript import Close, Connect, Data, Datagram, Event, HalfClose, Note

if TYPE_CHECKING:
    from ..faults import Decision
    from ..transcript import Transcript
    from ._datagrams import DatagramEnd
    from ._kernel import Kernel
    from ._streams import StreamEnd

__all__ = ("NetworkRecorder",)


class NetworkRecorder:
    """Writes to a transcript, and to the history of the kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.transcript: Transcript | None = None
        self.decisions: list[Decision] = []
        self.connections = 0
        self._closed: set[int] = set()

    @property
    def now(self) -> float:
        """Seconds, to the microsecond."""
        return (self._kernel.now // 1000) / 1e6

    def log(self, what: str) -> None:
        """The current task does something."""
        kernel = self._kernel
        kernel.log.add(kernel.now, "network" if kernel.inside else kernel.current.title, what)

    def _add(self, event: Event) -> None:
        transcript = self.transcript
        if transcript is None:
            return
        # Nobody may be made to wait in the middle of it: it is also written to when it is nobody's turn.
        kernel = self._kernel
        before, kernel.inside = kernel.inside, True
        try:
            transcript.add(event)
        finally:
            kernel.inside = before

    def connects(self, client: Any, server: Any) -> int:
        """A connection is made; returns its number."""
        self.connections += 1
        self._add(Connect(self.now, self.connections, client, server))
        return self.connections

    def stream(self, end: StreamEnd, data: bytes, *, sends: bool) -> None:
        """A call has sent or received these bytes."""
        if not end.number:
            return
        # How long a record of TLS is differs from run to run.
        size = "records" if end.tls else len(data)
        self.log(f"{'sends' if sends else 'receives'} {size} on {end.number} ({end.side})")
        if end.side == "server" and data and not end.tls:
            self._add(Data(self.now, end.number, "downstream" if sends else "upstream", data))

    def plain(self, end: StreamEnd, data: bytes, *, sends: bool) -> None:
        """Plain text that TLS has carried."""
        if end.side == "server" and data and end.number:
            self._add(Data(self.now, end.number, "downstream" if sends else "upstream", data))

    def half_closes(self, end: StreamEnd) -> None:
        """An end has shut down sending."""
        if end.number:
            self.log(f"finishes sending on {end.number} ({end.side})")
            self._add(HalfClose(self.now, end.number, end.side))

    def closes(self, end: StreamEnd, how: Any) -> None:
        """An end was closed."""
        if not end.number:
            return
        self.log(f"closes {end.number} ({end.side}), {how}")
        if end.number not in self._closed:
            self._closed.add(end.number)
            self._add(Close(self.now, end.number, end.side, how))

    def datagram(self, source: DatagramEnd, target: DatagramEnd, data: bytes) -> None:
        """A datagram has come."""
        if source.side is None:
            source.side = "client"
        if target.side is None:
            target.side = "server"
        upstream = source.side == "client"
        peer = source.local if upstream else target.local
        network = source.network
        self.log(
            f"datagram of {len(data)} from {network.shown(source.local)} to {network.shown(target.local)}"
        )
        if source.family == socket.AF_UNIX:
            peer = network.shown(peer)
        self._add(Datagram(self.now, self._peer(peer), "upstream" if upstream else "downstream", data, peer))

    def _peer(self, address: Any) -> int:
        transcript = self.transcript
        return transcript._peer(address) if transcript is not None else 1

    def decided(self, decision: Decision) -> None:
        """A fault has decided something."""
        self.decisions.append(decision)
        self.log(f"{decision.fault} on {decision.connection} {decision.direction}: {decision.what}")
        self._add(Note(self.now, decision.connection, f"{decision.fault}: {decision.what}"))
