"""Commands that run until they are told to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ("told_to_stop",)


@contextlib.contextmanager
def told_to_stop() -> Iterator[threading.Event]:
    """A block in which SIGINT and SIGTERM set an event, instead of what they do otherwise.

    It should hold the stop as well: a signal often comes twice (to the process and to its group), and the second one has nothing to add to a
    stop that has its own deadline.
    """
    told = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: told.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield told
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
