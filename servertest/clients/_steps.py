"""How the clients share one body of logic between threads and asyncio.

What a client does is written once, as a generator that makes its system calls without blocking and *yields* what it has
to wait for: a `Wait` for a socket, or a `Call` for the few things that the system offers only in a blocking form. Who runs
the generator decides how to wait: `run` with poll(2), `run_async` with the event loop. Both keep one deadline for the
whole of it.
"""

from __future__ import annotations

import contextlib
import math
import select
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from .._support import Deadline, UsageError

if TYPE_CHECKING:
    import socket

    from .._support import DeadlineExceeded

__all__ = ("Call", "Note", "Operation", "Steps", "Wait", "ready", "run", "run_async")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")

Note: TypeAlias = Callable[[], str] | None
"""Gives more to say when a deadline passes, such as a dump of the server."""

_LONGEST_POLL = 2**31 - 1


class Wait(NamedTuple):
    """Until a socket can be read from, or written to."""

    sock: socket.socket
    write: bool


class Call(NamedTuple):
    """Until a blocking function is done. It gets the seconds that it may take and tells whether they sufficed."""

    function: Callable[[float], bool]


Steps: TypeAlias = Generator[Wait | Call, None, T]


@dataclass(slots=True)
class Operation(Generic[T]):
    """Something that a client does and that may take time.

    Attributes:
        steps: The doing of it.
        what: ``str()`` of it completes "waited 5 s for ...". Asked when the deadline has passed, so that it can tell
            how far things have come.
        so_far: Tells which bytes have come, where bytes are awaited.
    """

    steps: Steps[T]
    what: object
    so_far: Callable[[], bytes] | None = None

    def exceeded(self, deadline: Deadline, note: Note) -> DeadlineExceeded:
        """The error to raise when the deadline has passed."""
        deadline.what = str(self.what)
        so_far = None if self.so_far is None else self.so_far()
        return deadline.exceeded(so_far, "" if note is None else note())


class AsyncWaiter(Protocol):
    """Waits for a socket on an event loop; tells whether it became ready in time."""

    async def __call__(self, wait: Wait, seconds: float) -> bool: ...


def run(operation: Operation[T], seconds: float, note: Note = None) -> T:
    """Do it in this thread.

    Raises:
        DeadlineExceeded: It took longer than ``seconds``.
    """
    deadline = _limit(seconds)
    with contextlib.closing(operation.steps):
        need = _next(operation)
        late = False
        while not isinstance(need, _Done):
            left = deadline.remaining() or 0.0
            # What is ready at the deadline still counts, once: a peer that never pauses must not make us stay for ever.
            if late or not (ready(need, left) if isinstance(need, Wait) else need.function(left)):
                raise operation.exceeded(deadline, note)
            late = deadline.expired
            need = _next(operation)
        return need.result  # type: ignore[no-any-return] # the generator's own type is lost in StopIteration


async def run_async(operation: Operation[T], seconds: float, waiter: AsyncWaiter, note: Note = None) -> T:
    """Do it on the running event loop.

    Raises:
        DeadlineExceeded: It took longer than ``seconds``.
    """
    deadline = _limit(seconds)
    with contextlib.closing(operation.steps):
        need = _next(operation)
        late = False
        while not isinstance(need, _Done):
            left = deadline.remaining() or 0.0
            if late or not await (waiter(need, left) if isinstance(need, Wait) else _in_thread(need, left)):
                raise operation.exceeded(deadline, note)
            late = deadline.expired
            need = _next(operation)
        return need.result  # type: ignore[no-any-return] # as in run()


def ready(wait: Wait, seconds: float) -> bool:
    """Whether the socket is, or becomes within ``seconds``, ready; an error on it counts as ready, to be found by the
    next call.
    """
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(wait.sock, select.POLLOUT if wait.write else select.POLLIN)
        # Rounded up: a wait that ends too early would be taken for a deadline that has passed.
        return bool(poller.poll(min(math.ceil(seconds * 1000), _LONGEST_POLL)))
    # Windows, where a failed connect shows in the third set only.
    socks = [wait.sock]
    readers, writers = ([], socks) if wait.write else (socks, [])
    return any(select.select(readers, writers, writers, seconds))


def _limit(seconds: float | None) -> Deadline:
    if seconds is None:
        raise UsageError("a client waits for a number of seconds, never without a limit")
    return Deadline(seconds, "a client")


class _Done(NamedTuple):
    result: Any


def _next(operation: Operation[Any]) -> Wait | Call | _Done:
    try:
        return next(operation.steps)
    except StopIteration as end:
        return _Done(end.value)


async def _in_thread(call: Call, seconds: float) -> bool:
    import asyncio

    return await asyncio.to_thread(call.function, seconds)
