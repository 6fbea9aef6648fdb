"""Lines that carry only so many bytes a second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Send
from ._fault import Fault
from ._fields import byte_rate
from ._holding import Holding
from ._stage import Stage

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("Bandwidth",)

# A stream is sent in slices of this time, so that it flows; but not in larger ones than a driver reads at once.
_SLICE = 0.01
_LARGEST = 1 << 16


@dataclass(frozen=True)
class Bandwidth(Fault):
    """The line carries so many bytes a second: what is sent faster has to wait, and then the sender. A stream flows evenly, in
    slices of a hundredth of a second; a datagram arrives once all of it has been sent. As netem's ``rate`` and Toxiproxy's
    ``bandwidth``. Nothing is saved up while nothing is sent.

    Attributes:
        rate: Bytes per second; 0 lets nothing pass.
    """

    rate: float = byte_rate(100_000)

    lossless: ClassVar = True

    def stage(self, site: Site) -> Stage:
        """Begin to limit."""
        return _Limiting(self.rate, site) if self.rate else Holding(site, "lets nothing pass")


class _Limiting(Stage):
    def __init__(self, rate: float, site: Site) -> None:
        self._site = site
        self._rate = rate
        self._streams = site.transport == "stream"
        self._slice = max(1, min(int(rate * _SLICE), _LARGEST))
        # Some time's worth may wait; more would hide from the sender that the line is slow.
        self.window = int(min(max(rate / 4, _LARGEST), 4 << 20))

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        self._site.note_once(now, "limits the rate")
        size = len(data)
        if not self._streams or size <= self._slice:
            return (Send(data, takes=size / self._rate),)
        slices = (data[start : start + self._slice] for start in range(0, size, self._slice))
        return [Send(each, takes=len(each) / self._rate) for each in slices]
