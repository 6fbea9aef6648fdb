"""Waiting for sockets on an event loop.

Readiness is awaited, not data: ``loop.sock_recv`` may have taken bytes out of the kernel when its task is cancelled, and
they are lost then. Here the bytes are read by the steps themselves, after the wait, with no ``await`` in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .._support import UsageError
from ._steps import ready, run_async

if TYPE_CHECKING:
    import asyncio

    from ._steps import Note, Operation, Wait

__all__ = ("LoopWaiter",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")


class LoopWaiter:
    """Runs a client's operations on whatever loop is running, and ends their waits when the client is closed."""

    def __init__(self) -> None:
        self._waits: list[asyncio.Future[None]] = []

    async def run(self, operation: Operation[T], seconds: float, note: Note = None) -> T:
        """Do it on the running event loop; see `run_async`."""
        return await run_async(operation, seconds, self.until_ready, note)

    async def until_ready(self, wait: Wait, seconds: float) -> bool:
        """Wait for a socket; tells whether it became ready in time."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        try:
            (loop.add_writer if wait.write else loop.add_reader)(wait.sock, _wake, future)
        except NotImplementedError as error:
            raise UsageError(
                "the asyncio clients need a loop that watches sockets: on Windows take asyncio.SelectorEventLoop"
            ) from error
        self._waits.append(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            # The loop may have come to the timer first although the socket was ready as well.
            return ready(wait, 0)
        finally:
            self._waits.remove(future)
            (loop.remove_writer if wait.write else loop.remove_reader)(wait.sock)
        return True

    def wake(self) -> None:
        """End all waits: the client is closed."""
        for future in self._waits:
            _wake(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
