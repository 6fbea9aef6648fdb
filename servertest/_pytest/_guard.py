"""The leak guard around a test: outermost, so that what fixtures take and give back is not blamed on anybody."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..launch._leak_origins import watch_binds
from ..launch._leaks import Snapshot, render_leaks, wait_clean

if TYPE_CHECKING:
    import pytest

__all__ = ("Guard", "is_excused")

MARKER = "servertest_no_leak_check"


class Guard:
    """Compares what the process holds before and after one test."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        watch_binds()
        self._before = Snapshot.take()

    @contextlib.contextmanager
    def adopting(self) -> Iterator[None]:
        """What appears in this block belongs to a wider scope than the test, and stays when the test is over."""
        start = Snapshot.take()
        try:
            yield
        finally:
            self._before = self._before.adopt(start, Snapshot.take())

    def complaint(self) -> str:
        """Compare, and say what the test has left behind; nothing if all is well."""
        leaks = wait_clean(self._before)
        if not leaks:
            return ""
        return (
            f"{self._item.nodeid} left something behind:\n{render_leaks(leaks)}\n"
            f'If it has to be so: @pytest.mark.{MARKER}(reason="...").'
        )


def is_excused(item: pytest.Item) -> bool:
    """Whether the test carries the marker.

    Raises:
        pytest.UsageError: The marker gives no reason.
    """
    import pytest

    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return False
    if not (marker.kwargs.get("reason") or marker.args):
        raise pytest.UsageError(f'{item.nodeid}: @pytest.mark.{MARKER} needs a reason="..."')
    return True
