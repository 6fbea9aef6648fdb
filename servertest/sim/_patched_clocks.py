"""The simulation's clocks and its randomness."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._active import participant
from ._locks import nanoseconds
from ._replacing import either

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("EPOCH", "MONOTONIC", "clocks")

#: What time.time() says at the beginning: 1 January 2030, a Tuesday, 00:00 UTC.
EPOCH = 1_893_456_000

#: What time.monotonic() says then. Not 0, which programs take for "never".
MONOTONIC = 1_000

_Function = Callable[..., Any]


def clocks() -> list[tuple[Any, Any]]:
    """Clocks, calendars and randomness of the system, each with what replaces it."""
    pairs: list[tuple[Any, Any]] = [(time.sleep, either(time.sleep, _sleep))]
    for name, start in (("monotonic", MONOTONIC), ("perf_counter", MONOTONIC), ("time", EPOCH)):
        for suffix in ("", "_ns"):
            real = getattr(time, name + suffix)
            pairs.append((real, _clock(real, start, suffix)))
    for name in ("localtime", "gmtime", "ctime"):
        real = getattr(time, name)
        pairs.append((real, _calendar(real)))
    for name, places in (("strftime", 1), ("asctime", 0)):
        pairs.append((getattr(time, name), _formatter(getattr(time, name), places)))
    pairs.append((os.urandom, either(os.urandom, lambda kernel, size: random.randbytes(size))))  # noqa: S311 - it has to repeat
    return pairs


def _sleep(kernel: Kernel, seconds: float, /) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    kernel.sleep(nanoseconds(seconds))


def _clock(real: _Function, start: int, suffix: str) -> _Function:
    base = start * 1_000_000_000

    def clock() -> Any:
        kernel = participant()
        if kernel is None:
            return real()
        kernel.looked()
        return base + kernel.now if suffix else start + kernel.now / 1e9

    clock.__name__ = real.__name__
    return clock


def _calendar(real: _Function) -> _Function:
    def calendar(seconds: float | None = None, /) -> Any:
        kernel = participant()
        if seconds is None and kernel is not None:
            seconds = EPOCH + kernel.now / 1e9
        return real(seconds)

    calendar.__name__ = real.__name__
    return calendar


def _formatter(real: _Function, places: int) -> _Function:
    def formatter(*args: Any) -> Any:
        kernel = participant()
        if len(args) == places and kernel is not None:
            args = (*args, time.localtime())
        return real(*args)

    formatter.__name__ = real.__name__
    return formatter
