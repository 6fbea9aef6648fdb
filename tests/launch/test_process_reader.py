"""One thread reads for all, as long as there is something to read, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from servertest.launch import _process_reader
from servertest.launch._leaks import no_leaks
from servertest.launch._process_reader import Watch

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_a_source_is_read_in_the_reader_thread(pair: Pair) -> None:
    near, far = pair
    seen: list[tuple[bytes, str]] = []
    came = threading.Event()

    def take() -> bool:
        seen.append((near.recv(10), threading.current_thread().name))
        came.set()
        return True

    watch = Watch({near: take})
    far.send(b"hi")
    assert came.wait(10)
    watch.end()

    assert seen == [(b"hi", "servertest-process-reader")]


def test_nothing_is_called_after_the_end(pair: Pair) -> None:
    near, far = pair
    calls: list[None] = []

    def take() -> bool:
        calls.append(None)
        return True

    watch = Watch({near: take})
    watch.end()
    far.send(b"hi")
    other_near, other_far = socket.socketpair()
    with other_near, other_far:
        Watch({other_near: lambda: True}).end()

    assert calls == []


def test_what_has_come_can_be_had_at_once(pair: Pair) -> None:
    near, far = pair
    near.setblocking(False)
    seen: list[bytes] = []

    def take() -> bool:
        with contextlib.suppress(BlockingIOError):
            seen.append(near.recv(1))
        watch.look()  # does not wait for itself
        return len(seen) < 3

    watch = Watch({near: take})
    for number in range(1, 4):
        far.send(b"x")
        watch.look()
        assert len(seen) == number
    far.send(b"x")
    watch.look()
    watch.end()
    watch.look()

    assert len(seen) == 3


def test_who_does_not_want_to_be_called_again_is_not(pair: Pair) -> None:
    near, far = pair
    calls: list[None] = []
    once = threading.Event()

    def take() -> bool:
        calls.append(None)
        once.set()
        return False

    watch = Watch({near: take})
    far.send(b"never read, so always readable")
    assert once.wait(10)
    watch.end()

    assert calls == [None]


def test_the_thread_lives_as_long_as_there_is_a_watch(pair: Pair) -> None:
    near, far = pair
    assert _threads() == []
    first, second = Watch({near: lambda: True}), Watch({far: lambda: True})
    assert len(_threads()) == 1
    first.end()
    assert len(_threads()) == 1
    second.end()

    assert _threads() == []
    assert _process_reader._state.reader is None


def test_the_reader_is_nobodys_leak(pair: Pair) -> None:
    near, far = pair
    with no_leaks():
        first = Watch({near: lambda: True})
        second = Watch({far: lambda: True})  # of a server that outlives this test
        first.end()
    with no_leaks():
        second.end()


def test_an_error_in_one_call_does_not_silence_the_others(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = pair
    errors: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(str(args.exc_value)))
    came = threading.Event()

    def fail() -> bool:
        raise ValueError("broken")

    def take() -> bool:
        came.set()
        return False

    broken_near, broken_far = socket.socketpair()
    with broken_near, broken_far:
        watch = Watch({broken_near: fail})
        broken_far.send(b"x")
        other = Watch({near: take})
        far.send(b"x")
        assert came.wait(10)
        watch.end()
        other.end()

    assert errors == ["broken"]


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "servertest-process-reader"]
