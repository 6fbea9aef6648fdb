"""The wake-up descriptor: nobody writes to a number that has come to somebody else."""

from __future__ import annotations

import os
import select
from typing import Any

import pytest

from servertest.servers._loop import Waker

pytestmark = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="the descriptor is a socket pair here")


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_waking_makes_it_readable_and_clearing_takes_that_back() -> None:
    waker = Waker()
    waker.wake()
    waker.wake()
    assert readable(waker.fileno())
    waker.clear()
    assert not readable(waker.fileno())
    waker.close()


def test_closing_while_somebody_writes_leaves_the_descriptor_to_the_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waker = Waker()
    fd = waker.fileno()
    write = os.eventfd_write

    def close_first(number: int, value: int) -> None:
        waker.close()  # what another thread may do here
        os.fstat(number)  # still ours
        write(number, value)

    monkeypatch.setattr(os, "eventfd_write", close_first)
    waker.wake()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_wake_up_that_comes_too_late_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    waker = Waker()
    waker.close()
    written: list[Any] = []
    monkeypatch.setattr(os, "eventfd_write", lambda *args: written.append(args))
    waker.wake()
    waker.close()
    assert written == []
