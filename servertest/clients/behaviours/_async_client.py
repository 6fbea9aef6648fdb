"""The behaving client for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._support import DEFAULT_TIMEOUT
from .._async_waiting import LoopWaiter
from .._core import hostname_of
from ._carrying import dial, make_role, poll_once, steps
from ._front import BehavingFront

if TYPE_CHECKING:
    import asyncio
    import ssl
    from types import TracebackType
    from typing import Self

    from ..._support import Address, Transport
    from .._steps import Note
    from ._behaviour import Behaving
    from ._carrying import Need
    from ._outcome import Outcome

__all__ = ("AsyncBehavingClient",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class AsyncBehavingClient(BehavingFront):
    """`BehavingClient` for asyncio: the same names, arguments and results; methods that wait are coroutines."""

    @classmethod
    async def connect(
        cls,
        address: Address,
        behaviour: Behaving,
        *,
        transport: Transport = "stream",
        timeout: float = DEFAULT_TIMEOUT,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        source: Address | None = None,
        on_deadline: Note = None,
        seed: int | str = 0,
        connection: int = 1,
    ) -> Self:
        """As `BehavingClient.connect`."""
        chosen, role = make_role(behaviour, transport, seed, tls, server_hostname or hostname_of(address))
        dialled = await LoopWaiter().run(dial(address, role, source), timeout, on_deadline)
        return cls(chosen, dialled, dialled.begin(role, connection), address, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def run(self, seconds: float | None = None) -> Outcome:
        """As `BehavingClient.run`."""
        carrying = steps(self._course, self._limit(seconds))
        need = next(carrying, None)
        while need is not None:
            try:
                need = carrying.send(await _wait(need))
            except StopIteration:
                break
        return self.outcome

    async def close(self) -> None:
        """As `BehavingClient.close`."""
        self._stop()


async def _wait(need: Need) -> tuple[bool, bool]:
    """Wait on the running loop, and look."""
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(need.seconds, _wake, future)
    # A loop tells of an end as of something to read.
    reads = need.reads or need.ends
    if reads:
        loop.add_reader(need.sock, _wake, future)
    if need.writes:
        loop.add_writer(need.sock, _wake, future)
    try:
        await future
    finally:
        timer.cancel()
        if reads:
            loop.remove_reader(need.sock)
        if need.writes:
            loop.remove_writer(need.sock)
    return poll_once(need._replace(seconds=0.0))


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
