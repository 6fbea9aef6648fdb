"""Which descriptors have come."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from servertest.launch._kernel import descriptors

__all__ = ("new_descriptors", "open_descriptors")


def open_descriptors() -> AbstractSet[tuple[int, str]]:
    """The descriptors of this process that are open now, and what they refer to."""
    return descriptors().items()


def new_descriptors(before: AbstractSet[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those that are open now and are not among `before`. To count them would not do: what an earlier test left may be closed meanwhile."""
    return set(open_descriptors() - before)
