"""Ways between simulated hosts: how long they take, what they lose, and whether they are open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ..faults import Action, Bandwidth, Duplicate, Latency, Loss, Plan, Reorder, Send, Site, Stage

if TYPE_CHECKING:
    from ._wire import Wire

__all__ = ("Link", "Route")

#: Bytes that may be under way in one direction, or lie unread with the receiver.
_WINDOW = 262_144

#: Seconds until a segment that was lost is sent again, the first time: RFC 6298's lower bound is 1 s, Linux takes 0.2 s.
_RESEND = 0.2


@dataclass(frozen=True, slots=True)
class Link:
    """What the network between two hosts is like, in each direction.

    Attributes:
        latency: Seconds from one to the other; a connection takes two of them to be made.
        jitter: Up to how many seconds more or less.
        bandwidth: Bytes per second; None for any number.
        loss: The share of datagrams that are lost. On streams, the share of segments that are sent again, which delays them and all that follow.
        duplicate: The share of datagrams that come twice.
        reorder: The share of datagrams that are overtaken.
        window: Bytes that may be under way, or unread, in one direction of a connection.

    Raises:
        UsageError: A number is out of its range.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float | None = None
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    window: int = _WINDOW

    def __post_init__(self) -> None:
        for name in ("latency", "jitter"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: a number of seconds from 0 up, not {getattr(self, name)!r}")
        for name in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name}: a share from 0 to 1, not {getattr(self, name)!r}")
        if self.window < 1:
            raise UsageError(f"window: at least one byte, not {self.window!r}")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise UsageError(f"bandwidth: bytes per second above 0, not {self.bandwidth!r}")

    def plan(self, transport: str) -> Plan:
        """The same as faults."""
        plan = Plan()
        if transport == "datagram":
            plan |= Loss(self.loss) if self.loss else None
            plan |= Duplicate(self.duplicate) if self.duplicate else None
            plan |= Reorder(self.reorder) if self.reorder else None
        if self.bandwidth is not None:
            plan |= Bandwidth(self.bandwidth)
        if self.latency or self.jitter:
            plan |= Latency(
                self.latency, jitter=min(self.jitter, self.latency) if not self.jitter else self.jitter
            )
        return plan


class Resending(Stage):
    """Segments that are lost come later, and hold up all behind them."""

    def __init__(self, site: Site, share: float) -> None:
        self._site = site
        self._share = share
        self._passed = 0

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        """See `Stage`."""
        draws = self._site.draws_at(self._passed)
        self._passed += len(data)
        delay, wait = 0.0, _RESEND
        while draws.random() < self._share and delay < 60:
            delay += wait
            wait *= 2
        return (Send(data, delay),)


class Route:
    """One direction from one host to another.

    Attributes:
        link: What it is like.
        barriers: What closes it: partitions and holds, by name.
        wires: The streams that take it.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.barriers: dict[object, str] = {}
        self.wires: dict[Wire, None] = {}
        self.kept: list[Any] = []

    @property
    def window(self) -> int:
        """Bytes that a stream may have under way."""
        return self.link.window

    @property
    def closed(self) -> bool:
        """Whether nothing comes through."""
        return bool(self.barriers)

    @property
    def drops(self) -> bool:
        """Whether what comes meanwhile is lost: then streams send it again."""
        return "partition" in self.barriers.values()

    def join(self, wire: Wire) -> None:
        """A stream takes this way."""
        self.wires[wire] = None

    def close(self, key: object, how: str) -> None:
        """Let nothing through."""
        self.barriers[key] = how

    def open(self, key: object) -> None:
        """Take one barrier away."""
        self.barriers.pop(key, None)
        if not self.barriers:
            for wire in list(self.wires):
                wire.let_go()
            kept, self.kept = self.kept, []
            for deliver in kept:
                deliver()
