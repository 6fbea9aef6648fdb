"""One fault at work on one direction of one connection."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ._actions import Abort, Action, Finish, Send
from ._seeds import derived_seed

if TYPE_CHECKING:
    from .._support import Transport
    from ..transcript import Direction

__all__ = ("Passed", "Site", "Stage")


def _unheard(time: float, what: str) -> None:
    """Decisions that nobody wants to know."""


class Passed:
    """Counts what has passed, so that something can happen at one byte however the stream is cut into chunks."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def split(self, data: bytes, place: int) -> tuple[bytes, bytes]:
        """The bytes before a place, counted from the first byte that has ever come, and those from there on."""
        cut = max(0, place - self.count)
        self.count += len(data)
        return data[:cut], data[cut:]


class Site:
    """Where a stage works, and what it draws its random numbers from.

    Args:
        seed: The seed of the plan.
        fault: What the fault is called here: part of every stream's name, so that faults do not share draws.
        connection: The connection's number, from 1; for datagrams the peer's.
        direction: "upstream" (client to server) or "downstream".
        transport: "stream" or "datagram".
        opened: When the connection was made, on the clock that drives the line.
        note: Is told each decision: the time and what was decided, in words.
    """

    __slots__ = ("_draws", "_told", "connection", "direction", "fault", "note", "opened", "seed", "transport")

    def __init__(
        self,
        seed: int | str = 0,
        fault: str = "fault",
        *,
        connection: int = 1,
        direction: Direction = "downstream",
        transport: Transport = "stream",
        opened: float = 0.0,
        note: Callable[[float, str], None] = _unheard,
    ) -> None:
        self.seed = seed
        self.fault = fault
        self.connection = connection
        self.direction = direction
        self.transport = transport
        self.opened = opened
        self.note = note
        self._draws: random.Random | None = None
        self._told = False

    def __repr__(self) -> str:
        return (
            f"<Site of {self.fault} on {self.direction} of connection {self.connection}, seed {self.seed!r}>"
        )

    @property
    def draws(self) -> random.Random:
        """The stream of this fault on this direction of this connection: for what is drawn in a fixed order."""
        if self._draws is None:
            self._draws = random.Random(self._seed())  # noqa: S311 - it has to repeat
        return self._draws

    def note_once(self, time: float, what: str) -> None:
        """Tell what the fault does, if it has not been told: for what goes on all the time."""
        if not self._told:
            self._told = True
            self.note(time, what)

    def draws_at(self, position: int) -> random.Random:
        """A stream that belongs to a place, such as the first byte of a chunk.

        The system cuts a stream into chunks as it likes. What is drawn for a place does not depend on that.

        Args:
            position: How many bytes (or datagrams) have come before.
        """
        return random.Random(derived_seed(self._seed(), position))  # noqa: S311

    def bits_at(self, position: int) -> int:
        """64 random bits that belong to a place: as `draws_at`, but cheap and without a state, for what is drawn often, or by
        very many.
        """
        return derived_seed(self._seed(), position)

    def _seed(self) -> int:
        return derived_seed(self.seed, self.connection, self.direction, self.fault)


class Stage:
    """Turns what comes at a time into actions that are due at a time. This one lets everything pass.

    A line calls it with times that never run backwards. They are the times at which things are due, not those at which
    the line got to them: a late driver does not make a fault's times drift.

    Attributes:
        wake_at: When `wake` wants to be called; None for never. The line looks at it after each call.
        held: Bytes that the stage itself keeps back.
        window: Bytes that may wait behind this stage before the line asks its source to pause.
    """

    wake_at: float | None = None
    held: int = 0
    window: int = 1 << 20

    def begin(self, now: float) -> Iterable[Action]:
        """The fault begins to work here: at the connection's start, or later on a live one."""
        return ()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        """Bytes of the stream, at least one and cut as it happens; or a datagram, which may be empty."""
        return (Send(data),)

    def end(self, now: float) -> Iterable[Action]:
        """The source has finished sending, or a fault before this one closes the connection: then the `Finish` that this gives, now or
        later, closes it. Comes once, and nothing after it.
        """
        return (Finish(),)

    def abort(self, now: float) -> Iterable[Action]:
        """The source was cut off (RST). Comes once, and nothing after it."""
        return (Abort(),)

    def bypassed(self, now: float) -> Iterable[Action]:
        """A datagram has just passed beside this stage, for the fault's trigger does not mean it: for those who count them all."""
        return ()

    def wake(self, now: float) -> Iterable[Action]:
        """It is `wake_at`. The line has set that to None already."""
        return ()

    def leave(self, now: float) -> Iterable[Action]:
        """The fault is taken away from a live connection: give back what was held, the end of the stream included."""
        return ()
