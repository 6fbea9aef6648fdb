"""Where clients come in: an address, and whether anybody is let in at the moment."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from ._accepting import Accepting
from ._gates import DatagramGate, StreamGate

if TYPE_CHECKING:
    from ..faults import Plan
    from ..faults._standing import Standing
    from ._listening import Place
    from ._traffic import Traffic

__all__ = ("Door",)


class Door:
    """Opens and shuts a link's address, as faults and its owner have it. Its methods are for the relay's thread.

    Args:
        place: The address.
        traffic: Whom it lets in.
        up: Whether it is open from the beginning.

    Attributes:
        accepting: The faults at work here.
    """

    def __init__(self, place: Place, traffic: Traffic, *, up: bool) -> None:
        self.accepting = Accepting(traffic.settings.seed, lambda: traffic.count, traffic.tell)
        self._place = place
        self._traffic = traffic
        self._streams = traffic.settings.transport == "stream"
        self._down = not up
        self._stopped = False
        self._gate: StreamGate | DatagramGate | None = None

    @property
    def is_open(self) -> bool:
        """Whether clients are let in."""
        return self._gate is not None

    @property
    def is_down(self) -> bool:
        """Whether its owner has shut it."""
        return self._down

    def begin(self, standing: Standing) -> None:
        """Let clients in from now on, unless these faults or the owner are against it."""
        for key, group in standing:
            self.accepting.put(key, group, monotonic())
        if self._down or self.accepting.refuses:
            self._place.down()
        else:
            self._open()
            self.set_backlog()

    def put(self, key: str, faults: Plan | None) -> None:
        """Let the faults of this group that work where connections are accepted be these; None for none."""
        self.accepting.put(key, faults, monotonic())
        self._settle()

    def shut(self) -> None:
        """Let nobody in until `open`."""
        self._down = True
        self._settle()

    def open(self) -> None:
        """Let clients in again."""
        self._down = False
        self._settle()

    def close(self) -> None:
        """Let nobody in any more; datagrams that have come are taken first."""
        self._stopped = True
        if isinstance(self._gate, DatagramGate):
            self._gate.take_all()
        self._close()

    def set_backlog(self) -> None:
        """Let the queue of clients be as long as faults let it be."""
        if self._streams:
            self._place.set_backlog(self.accepting.backlog)

    def _settle(self) -> None:
        if self._stopped:
            return
        gate = self._gate
        if self._down or self.accepting.refuses:
            if isinstance(gate, StreamGate) and not (self._down or self.accepting.hesitates):
                gate.take_all()  # they are connected, as far as they know
            self._close()
            self._place.down()
        elif gate is None:
            self._place.up()
            self._open()
        elif isinstance(gate, StreamGate):
            gate.due(monotonic())  # who was let wait may come in now
        self.set_backlog()

    def _open(self) -> None:
        sock = self._place.sock
        assert sock is not None
        self._gate = (
            StreamGate(self, self._traffic, sock) if self._streams else DatagramGate(self._traffic, sock)
        )

    def _close(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.close()
