"""Virtual time: a handler that waits for a silent client has waited at once.

While `virtual_time` lasts, the clocks of the `time` module run ahead by what was waited for, and so do those that the subject's modules have
imported by name. `time.sleep` in the handler's thread takes no time; other threads sleep as ever.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ("Clock", "virtual_time")

_CLOCKS = ("monotonic", "time", "perf_counter")
#: Seconds that a sleep really takes if there are other threads: they may have something to do that the sleeper waits for.
_BREATH = 0.0005

_real_sleep = time.sleep


class Clock:
    """How far virtual time is ahead, in seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._lock = threading.Lock()

    def advance(self, seconds: float) -> None:
        """Let so much time have passed."""
        with self._lock:
            self.ahead += seconds


@contextmanager
def virtual_time(clock: Clock, modules: Iterable[str] = ()) -> Iterator[None]:
    """Have the clocks show virtual time.

    Args:
        clock: How far they are ahead.
        modules: Names of modules that may have imported a clock by its name.
    """
    sleepers = {threading.get_ident()}
    originals = {name: getattr(time, name) for name in (*_CLOCKS, "sleep")}
    replaced: dict[str, Any] = {name: _shifted(originals[name], clock) for name in _CLOCKS}
    replaced["sleep"] = _shortened(clock, sleepers)
    undo = list(_replace(originals, replaced, modules))
    try:
        yield
    finally:
        for place, name, value in undo:
            place[name] = value


def _shifted(original: Callable[[], float], clock: Clock) -> Callable[[], float]:
    def now() -> float:
        return original() + clock.ahead

    return now


def _shortened(clock: Clock, sleepers: set[int]) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        if threading.get_ident() in sleepers and seconds > 0:
            clock.advance(seconds)
            seconds = min(seconds, _BREATH) if threading.active_count() > 1 else 0.0
        _real_sleep(seconds)

    return sleep


def _replace(
    originals: dict[str, Any], replaced: dict[str, Any], modules: Iterable[str]
) -> Iterator[tuple[dict[str, Any], str, Any]]:
    by_identity = {id(original): replaced[name] for name, original in originals.items()}
    places = [vars(time)]
    places += [vars(sys.modules[name]) for name in modules if name in sys.modules]
    for place in places:
        for name, value in list(place.items()):
            if id(value) in by_identity:
                yield place, name, value
                place[name] = by_identity[id(value)]
