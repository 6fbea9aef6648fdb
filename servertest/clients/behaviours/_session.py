"""One connection of a behaving client, without socket or clock: a script that goes over two lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ...faults import start
from ...wire._line import ABORTED, CLOSED, FINISHED, Line

if TYPE_CHECKING:
    from ..._support import Transport
    from ...wire._line import Output
    from ._script import Script

__all__ = ("Session",)

# What is handed to a line without faults at a time; the rest follows once that is sent.
_BLOCK = 1 << 16


class Session:
    """Turns times and what the server sends into what the client sends, and when.

    Args:
        script: What is done.
        seed: Where random numbers come from.
        connection: The client's number, from 1: its random streams are its own.
        transport: "stream" or "datagram".
        now: When the connection was made.
    """

    __slots__ = ("_at", "_down", "_handed", "_left", "_script", "_up", "received")

    def __init__(
        self, script: Script, seed: int | str, connection: int, transport: Transport, now: float
    ) -> None:
        self._script = script
        # The head counts as one payload more: it goes first.
        self._left = -1 if script.repeat is None else script.repeat + bool(script.head)
        self._handed = False
        self._at = now
        self.received = 0
        ordered = transport == "stream"
        self._up = Line(ordered=ordered)
        self._down: Line | None = None
        if script.faults:
            begin = partial(
                start, script.faults, seed=seed, connection=connection, transport=transport, opened=now
            )
            if up := begin(direction="upstream"):
                self._up.set_stages(up, now)
            if down := begin(direction="downstream"):
                self._down = Line(ordered=ordered)
                self._down.set_stages(down, now)

    @property
    def wants(self) -> int:
        """How many bytes may be read from the server now; 0 while it has to wait."""
        return 0 if self._down is not None and self._down.full else self._script.read_size

    @property
    def deaf(self) -> bool:
        """Whether nothing will ever be read again."""
        return self._down is not None and self._down.full and self._down.due is None

    @property
    def sent_all(self) -> bool:
        """Whether everything has left the line."""
        return self._handed and not self._up.waiting

    @property
    def done(self) -> bool:
        """Whether the client has done what it wanted, and got what it wanted."""
        enough = self._script.enough
        return enough is not None and self.received >= enough and self.sent_all

    @property
    def due(self) -> float | None:
        """When `take` has to be called next."""
        up = self._up.due
        if self._down is None or (down := self._down.due) is None:
            return up
        return down if up is None or down < up else up

    def take(self, now: float) -> Sequence[Output]:
        """What the client sends by now. After FINISHED come at most CLOSED or ABORTED, which end the connection."""
        out: Sequence[Output] = self._take(now) if self._left else self._up.take(now)
        if not self._left and not self._handed:
            self._hand_over(now)
            out = [*out, *self._up.take(now)]
        if self._down is not None:
            out = [*out, *(each for each in self._down.take(now) if each is CLOSED or each is ABORTED)]
        if self._script.ending == "close" and FINISHED in out:
            out = [CLOSED if each is FINISHED else each for each in out]
        return out

    def push(self, data: bytes, now: float) -> None:
        """Put something else on the client's line, such as a record of TLS."""
        self._up.put(data, now)

    def feed(self, data: bytes, now: float) -> None:
        """The server has sent bytes, or a datagram."""
        self.received += len(data)
        if self._down is not None:
            self._down.put(data, now)

    def end(self, now: float) -> bool:
        """The server has finished sending. Tells whether the client closes now, as an honest one does.

        It does not if a fault conceals its end. What it has not sent yet has no reader any more, and keeps it from nothing.
        """
        self._left = 0
        self._handed = True
        up = self._up
        up.finish(now)
        return up.ended is not None or up.waiting > 0 or up.due is not None

    @property
    def content(self) -> bool:
        """Whether it is time to close, for a client that does so with its reply."""
        return self._script.ending == "reply" and self.done

    def _take(self, now: float) -> list[Output]:
        """What is sent while there is more to hand over: each payload as of the moment at which there is room for it."""
        up = self._up
        out: list[Output] = []
        while True:
            self._pump()
            due = up.due
            if due is None or due > now:
                break
            self._at = max(due, self._at)
            out += up.take(due)
        self._at = max(now, self._at)
        out += up.take(now)
        return out

    def _pump(self) -> None:
        up, block = self._up, _BLOCK
        while self._left and not up.full and block > 0:
            script = self._script
            data = script.payload
            if script.head:
                first = (script.repeat is None and self._left == -1) or self._left == (script.repeat or 0) + 1
                data = script.head if first else data
            self._left -= 1
            up.put(data, self._at)
            block -= len(data) + 1

    def _hand_over(self, now: float) -> None:
        self._handed = True
        if self._script.ending in ("finish", "close"):
            self._up.finish(now)
