"""Plays a performance for each peer of a datagram socket, all in the one thread that the server runs in."""

from __future__ import annotations

import math
import select
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..servers._loop import Waker
from ._acts import Ending
from ._bridge import Ferry

if TYPE_CHECKING:
    from ._performance import Performance

__all__ = ("DatagramActor",)

_LARGEST = 65_536


class DatagramActor:
    """What a launched function target calls with its socket.

    Args:
        begin: Makes the performance for a new peer, given its address and the socket.
        progressed: Called after anything has happened.
    """

    def __init__(
        self, begin: Callable[[Any, Any], Performance | Ferry], progressed: Callable[[], object]
    ) -> None:
        self.settled = False
        self._begin = begin
        self._progressed = progressed
        self._performances: dict[Any, Performance | Ferry] = {}
        self._ferries: list[Ferry] = []
        self._waker = Waker()
        self._stopping = False
        self._sock: Any = None

    def __call__(self, sock: Any) -> None:
        self._sock = sock
        sock.setblocking(False)
        while not self._stopping:
            self._await()
            self._waker.clear()
            self._take()
            for performance in self._performances.values():
                performance.refresh(monotonic())
            self._give()
            self._progressed()
        self._take()
        self._give()
        self.settled = True
        self._progressed()
        # What ends this function is the server, which has this socket fail.
        sock.setblocking(True)
        while True:
            sock.recvfrom(1)

    def wake(self) -> None:
        """Have it look at the script again; from any thread."""
        self._waker.wake()

    def stop(self) -> None:
        """Have it take in what has come, and wait for its end; from any thread."""
        self._stopping = True
        self._waker.wake()

    def close(self) -> None:
        """Give back what it holds, once the server has ended."""
        self._waker.close()
        for ferry in self._ferries:
            ferry.close()

    def _await(self) -> None:
        dues = [due for performance in self._performances.values() if (due := performance.due) is not None]
        seconds = max(0.0, min(dues) - monotonic()) if dues else None
        sources = [self._waker.fileno(), self._sock, *(ferry.far for ferry in self._ferries)]
        if not hasattr(select, "poll"):
            select.select(sources, [], [], seconds)
            return
        poll = select.poll()
        for source in sources:
            poll.register(source, select.POLLIN)
        poll.poll(None if seconds is None else math.ceil(seconds * 1000))

    def _take(self) -> None:
        while True:
            try:
                data, address = self._sock.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # an answer found nobody (ICMP), which is the client's affair
            performance = self._performances.get(address)
            if performance is None:
                performance = self._enter(address)
            performance.receive(data, monotonic())
            self._give_to(address, performance)

    def _enter(self, address: Any) -> Performance | Ferry:
        performance = self._performances[address] = self._begin(address, self._sock)
        if isinstance(performance, Ferry):
            self._ferries.append(performance)
        performance.open(monotonic())
        return performance

    def _give(self) -> None:
        for address, performance in self._performances.items():
            self._give_to(address, performance)

    def _give_to(self, address: Any, performance: Performance | Ferry) -> None:
        for what in performance.take(monotonic()):
            # A peer without a name cannot be answered.
            if not isinstance(what, Ending) and address:
                try:
                    self._sock.sendto(what, address)
                except OSError:
                    pass  # it has gone, as datagram peers do
