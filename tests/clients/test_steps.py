"""The two ways to run what a client does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servertest._support import DeadlineExceeded, UsageError
from servertest.clients._async_waiting import LoopWaiter
from servertest.clients._steps import Call, Operation, Steps, Wait, run

Run = Callable[..., Any]


def run_on_a_loop(operation: Operation[Any], seconds: float, note: Any = None) -> Any:
    return asyncio.run(LoopWaiter().run(operation, seconds, note))


ways = pytest.mark.parametrize("run_it", [run, run_on_a_loop], ids=["threads", "asyncio"])


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """Can be written to and not be read from."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours


@ways
def test_the_result_is_what_the_steps_return(run_it: Run, sock: socket.socket) -> None:
    def steps() -> Steps[str]:
        yield Wait(sock, write=True)
        yield Call(lambda seconds: seconds > 0)
        return "done"

    assert run_it(Operation(steps(), "nothing"), 5) == "done"


@ways
def test_steps_that_never_have_to_wait_end_all_the_same(run_it: Run, sock: socket.socket) -> None:
    ended = []

    def steps() -> Steps[None]:
        try:
            for _ in range(10_000_000):  # a minute's worth, if nobody looks at the clock
                yield Wait(sock, write=True)
        finally:
            ended.append(True)

    with pytest.raises(DeadlineExceeded, match=r"^waited 0.02 s for the end$"):
        run_it(Operation(steps(), "the end"), 0.02)
    assert ended


@ways
def test_a_call_that_takes_too_long_is_a_deadline(run_it: Run) -> None:
    def steps() -> Steps[None]:
        yield Call(lambda seconds: False)

    with pytest.raises(DeadlineExceeded, match=r"^waited 5 s for room; 2 bytes came: b'ab'\nhe sleeps$"):
        run_it(Operation(steps(), "room", lambda: b"ab"), 5, lambda: "he sleeps")


@ways
def test_errors_come_through(run_it: Run, sock: socket.socket) -> None:
    def steps() -> Steps[None]:
        yield Wait(sock, write=True)
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_it(Operation(steps(), "nothing"), 5)


@ways
def test_a_limit_is_a_must(run_it: Run, sock: socket.socket) -> None:
    def steps() -> Steps[None]:
        yield Wait(sock, write=True)

    with pytest.raises(UsageError, match="never without a limit"):
        run_it(Operation(steps(), "nothing"), None)
