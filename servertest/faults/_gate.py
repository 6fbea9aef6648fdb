"""What stands before a fault that does not work from the first byte to the last."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import inf

from ._actions import Action, Send
from ._stage import Site, Stage
from ._triggers import Trigger, includes

__all__ = ()

# A match of a compiled expression may be this long; what is kept of the past has to end somewhere.
MEMORY = 4096


class Gate(Stage):
    """Lets everything pass until its trigger has come, and then hands it to the fault's own stage.

    Args:
        stage: The fault's own stage.
        trigger: When it works.
        site: Where.
    """

    def __init__(self, stage: Stage, trigger: Trigger, site: Site) -> None:
        self._stage = stage
        self._trigger = trigger
        self._site = site
        self._streams = site.transport == "stream"
        self._search = searcher(trigger.pattern)
        self._passed = 0
        self._datagrams = 0
        self._past = b""
        # On streams the place has to be found first; of datagrams each is looked at by itself.
        self._reached = not trigger.after_bytes and (trigger.pattern is None or not self._streams)
        self._seen = trigger.pattern is None
        start, stop = trigger.between or (0.0, inf)
        self._start = site.opened + start
        self._stop = site.opened + stop
        self._working = False
        self._over = False
        self.window = stage.window

    def begin(self, now: float) -> Iterable[Action]:
        yield from self._move(now)
        self._look()

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        if self._streams:
            yield from self._stream(data, now)
        else:
            yield from self._datagram(data, now)
        self._look()

    def end(self, now: float) -> Iterable[Action]:
        # What did not come to the fault cannot end there: the gate ends the direction itself.
        yield from self._stage.end(now) if self._working else super().end(now)
        self._look()

    def abort(self, now: float) -> Iterable[Action]:
        yield from self._stage.abort(now) if self._working else super().abort(now)
        self._look()

    def wake(self, now: float) -> Iterable[Action]:
        yield from self._ring(now)
        yield from self._move(now)
        self._look()

    def leave(self, now: float) -> Iterable[Action]:
        if self._working:
            self._working = False
            yield from self._stage.leave(now)
        self._look()

    def _look(self) -> None:
        """Say when the next thing happens, and what is held."""
        times = []
        if self._working and self._stage.wake_at is not None:
            times.append(self._stage.wake_at)
        if not self._over:
            if not self._working and self._reached:
                times.append(self._start)
            if self._working and self._stop != inf:
                times.append(self._stop)
        self.wake_at = min(times, default=None)
        self.held = self._stage.held

    def _move(self, now: float) -> Iterable[Action]:
        """Open or close, if it is time."""
        if self._over:
            return
        if now >= self._stop:
            self._over = True
            if self._working:
                self._working = False
                self._site.note(now, "ends")
                yield from self._stage.leave(now)
        elif not self._working and self._reached and now >= self._start:
            self._working = True
            # Where a time falls among the bytes differs from run to run, and so is not told.
            at_byte = self._passed and not self._trigger.between
            self._site.note(now, f"begins after {self._passed} bytes" if at_byte else "begins")
            yield from self._stage.begin(now)
            # What is to happen at once has to happen before the bytes behind the place.
            yield from self._ring(now)

    def _ring(self, now: float) -> Iterable[Action]:
        """Wake the fault's stage for all that is due."""
        stage = self._stage
        while self._working and stage.wake_at is not None and stage.wake_at <= now:
            stage.wake_at = None
            yield from stage.wake(now)

    def _stream(self, data: bytes, now: float) -> Iterable[Action]:
        yield from self._move(now)
        if not self._working and not self._reached:
            place = self._place(data)
            before, data = data[:place], data[place:]
            if before:
                self._passed += len(before)
                yield Send(before)
            yield from self._move(now)
        if data:
            self._passed += len(data)
            yield from self._stage.data(data, now) if self._working else (Send(data),)

    def _place(self, data: bytes) -> int:
        """How many of these bytes pass before the fault begins; all, if it does not begin within them."""
        earliest = max(0, (self._trigger.after_bytes or 0) - self._passed)
        found: int | None = 0
        if not self._seen:
            assert self._search is not None
            found = self._search(self._past, data)
            self._past = (self._past + data)[-MEMORY:]
            self._seen = found is not None
        if found is None or max(found, earliest) > len(data):
            return len(data)
        self._reached = True
        return max(found, earliest)

    def _datagram(self, data: bytes, now: float) -> Iterable[Action]:
        self._datagrams += 1
        if self._passed >= (self._trigger.after_bytes or 0):
            self._reached = True
        yield from self._move(now)
        self._passed += len(data)
        if not self._working:
            yield Send(data)
        elif self._picks(data):
            yield from self._stage.data(data, now)
        else:
            yield Send(data)
            yield from self._stage.bypassed(now)

    def _picks(self, data: bytes) -> bool:
        if self._trigger.datagram is not None and not includes(self._trigger.datagram, self._datagrams):
            return False
        return self._search is None or self._search(b"", data) is not None


def searcher(pattern: bytes | re.Pattern[bytes] | None) -> Callable[[bytes, bytes], int | None] | None:
    """What finds where in new bytes a match ends that may have begun in the past ones."""
    if pattern is None:
        return None
    if isinstance(pattern, bytes):
        return lambda past, new: _find(pattern, past, new)
    return lambda past, new: _match(pattern, past, new)


def _find(pattern: bytes, past: bytes, new: bytes) -> int | None:
    kept = past[len(past) - min(len(past), len(pattern) - 1) :]
    at = (kept + new).find(pattern)
    return None if at < 0 else at + len(pattern) - len(kept)


def _match(pattern: re.Pattern[bytes], past: bytes, new: bytes) -> int | None:
    text = past + new
    if pattern.search(text) is None:
        return None
    # The fewest bytes in which it is found: so it does not matter in how many chunks they come.
    low, high = len(past), len(text)
    while low < high:
        middle = (low + high) // 2
        if pattern.search(text, 0, middle) is None:
            low = middle + 1
        else:
            high = middle
    return low - len(past)
