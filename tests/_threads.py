"""Which threads have come."""

from __future__ import annotations

import threading
from collections.abc import Iterable

__all__ = ("new_threads",)


def new_threads(before: Iterable[threading.Thread]) -> set[threading.Thread]:
    """The threads that live now and are not among `before`. To count them would not do: one that an earlier test left may end meanwhile."""
    return set(threading.enumerate()) - set(before)
