"""Receivers that take little of what is sent to them, or nothing: the sender is held up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, cast

from ._actions import Action, Send
from ._fault import Fault
from ._fields import byte_count, seconds
from ._holding import Holding
from ._stage import Passed, Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("Drip", "ZeroWindow")

_HALF = 1 << 32

# The drop that most slow clients send is a single byte: there are no two kinds of the same one.
_SINGLE = {bytes([byte]): Send(bytes([byte])) for byte in range(256)}


@dataclass(frozen=True)
class Drip(Fault):
    """The stream passes drop by drop, with a pause after each, and nothing is taken from the sender meanwhile: he is held up by the
    first drop. As slowloris writes and slow readers read. Of datagrams each is a drop.

    Attributes:
        size: Bytes of a drop, on average.
        variation: Bytes by which a drop may be smaller or larger; less than ``size``.
        pause: Seconds after a drop, on average.
        jitter: Seconds by which a pause may be shorter or longer; no more than ``pause``.
    """

    size: int = byte_count(1, least=1)
    variation: int = byte_count(0)
    pause: float = seconds(1.0)
    jitter: float = seconds(0.0)

    lossless: ClassVar = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variation >= self.size:
            raise self.refuse("variation", f"less than size, {self.size}")
        if self.jitter > self.pause:
            raise self.refuse("jitter", f"no more than pause, {self.pause:g}")

    @classmethod
    def example(cls) -> Drip:
        """Fast enough to be looked at."""
        return cls(size=128, variation=64, pause=0.005, jitter=0.002)

    def stage(self, site: Site) -> Stage:
        """Begin to drip."""
        return _Dripping(self, site)


class _Dripping(Holding):
    window = 0

    def __init__(self, fault: Drip, site: Site) -> None:
        super().__init__(site)
        self._fault = fault
        # What is the same for every drop is not asked for again: there may be ten thousand of these.
        self._even_size = 0 if fault.variation or site.transport == "datagram" else fault.size
        self._even_pause = None if fault.jitter else fault.pause
        self._drops = 0
        self._left = 0
        self._at = 0
        self._next_at = -inf

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._site.note_once(now, "drips")
        self._kept.append(Send(data))
        self.held += len(data)
        return self._flow(now)

    def end(self, now: float) -> Iterable[Action]:
        super().end(now)
        return self._flow(now)

    def abort(self, now: float) -> Iterable[Action]:
        super().abort(now)
        return self._flow(now)

    def wake(self, now: float) -> Iterable[Action]:
        return self._flow(now)

    def leave(self, now: float) -> Iterable[Action]:
        self.wake_at = None
        if self._at:
            self._kept[0] = Send(cast("Send", self._kept[0]).data[self._at :])
        return self._released()

    def _flow(self, now: float) -> list[Action]:
        """What may pass by now: rarely more than a drop."""
        out: list[Action] = []
        kept = self._kept
        while kept and (self._next_at <= now or not isinstance(kept[0], Send)):
            first = kept[0]
            if isinstance(first, Send):
                out.append(self._drop(first, now))
            else:
                out.append(kept.pop(0))
        self.wake_at = self._next_at if kept else None
        return out

    def _drop(self, first: Send, now: float) -> Send:
        """The next drop, or what there is of it, from what was kept first."""
        whole, at = first.data, self._at
        left = self._left or self._even_size or self._size(len(whole))
        data = whole[at : at + left]
        size = len(data)
        if at + size == len(whole):
            del self._kept[0]
            self._at = 0
        else:
            self._at = at + size
        self.held -= size
        self._left = left = left - (size or 1)
        if not left:
            self._next_at = now + (self._pause() if self._even_pause is None else self._even_pause)
            self._drops += 1
        return _SINGLE.get(data) or Send(data)

    def _size(self, whole: int) -> int:
        fault = self._fault
        if self._site.transport == "datagram":
            return max(whole, 1)
        span = 2 * fault.variation + 1
        return fault.size - fault.variation + (self._site.bits_at(self._drops) >> 32) * span // _HALF

    def _pause(self) -> float:
        fault = self._fault
        share = (self._site.bits_at(self._drops) & (_HALF - 1)) / _HALF
        return fault.pause + fault.jitter * (2 * share - 1)


@dataclass(frozen=True)
class ZeroWindow(Fault):
    """Nothing more is taken from the sender: his buffers fill, and then he has to wait, as for a peer that never reads (the zero
    window of RFC 9293, 3.8.6.1). What was taken already waits too.

    Attributes:
        after_bytes: Bytes that are taken first.
    """

    after_bytes: int = byte_count(0)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "nobody waits until a datagram is taken: use Partition"
    lossless: ClassVar = True

    def stage(self, site: Site) -> Stage:
        """Begin to count."""
        return _Refusing(self, site)


class _Refusing(Holding):
    def __init__(self, fault: ZeroWindow, site: Site) -> None:
        super().__init__(site)
        self._limit = fault.after_bytes
        self._passed = Passed()

    def begin(self, now: float) -> Iterable[Action]:
        self._look(now)
        return ()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        before, behind = self._passed.split(data, self._limit)
        self._look(now)
        if behind:
            super().data(behind, now)
        return (Send(before),) if before else ()

    def end(self, now: float) -> Iterable[Action]:
        return super().end(now) if self._kept else Stage.end(self, now)

    def abort(self, now: float) -> Iterable[Action]:
        return super().abort(now) if self._kept else Stage.abort(self, now)

    def _look(self, now: float) -> None:
        if self._passed.count >= self._limit:
            # Full even while it holds nothing.
            self.window = -1
            self._site.note_once(now, "takes nothing more")
