"""The datagram client for asyncio."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, overload

from .._support import DEFAULT_TIMEOUT
from ._async_waiting import LoopWaiter
from ._datagram_core import open_datagram
from ._faults import faults_of
from ._fronts import DatagramFront

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .._support import Address
    from ..faults import Faults
    from ._core import Data
    from ._steps import Note, Operation

__all__ = ("AsyncDatagramClient",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")


class AsyncDatagramClient(DatagramFront):
    """`DatagramClient` for asyncio: the same names, arguments, results and errors; each method is a coroutine."""

    @cached_property
    def _waiter(self) -> LoopWaiter:
        return LoopWaiter()

    @classmethod
    async def connect(
        cls,
        address: Address,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        bind: bool = True,
        connected: bool = True,
        source: Address | None = None,
        on_deadline: Note = None,
        faults: Faults = None,
        seed: int | str = 0,
        connection: int = 1,
    ) -> Self:
        """As `DatagramClient.connect`. Host names are looked up in place, which may hold the loop up; numbers do not."""
        operation = open_datagram(
            address,
            bind=bind,
            connected=connected,
            source=source,
            faults=faults_of(faults, seed, connection),
        )
        core = await LoopWaiter().run(operation, timeout, on_deadline)
        return cls(core, timeout=timeout, on_deadline=on_deadline)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, data: Data, *, timeout: float | None = None) -> int:
        """As `DatagramClient.send`."""
        return await self._run(self._core.send(data), timeout)

    async def send_to(self, data: Data, address: Address, *, timeout: float | None = None) -> int:
        """As `DatagramClient.send_to`."""
        return await self._run(self._core.send_to(data, address), timeout)

    async def receive(self, max_bytes: int = 65536, *, timeout: float | None = None) -> bytes:
        """As `DatagramClient.receive`."""
        return await self._run(self._core.receive(max_bytes), timeout)

    async def receive_from(
        self, max_bytes: int = 65536, *, timeout: float | None = None
    ) -> tuple[bytes, Address]:
        """As `DatagramClient.receive_from`."""
        return await self._run(self._core.receive_from(max_bytes), timeout)

    @overload
    async def expect(self, expected: bytes, *, timeout: float | None = None) -> bytes: ...
    @overload
    async def expect(
        self, expected: re.Pattern[bytes], *, timeout: float | None = None
    ) -> re.Match[bytes]: ...
    async def expect(
        self, expected: bytes | re.Pattern[bytes], *, timeout: float | None = None
    ) -> bytes | re.Match[bytes]:
        """As `DatagramClient.expect`."""
        return await self._run(self._core.expect(expected), timeout)

    async def close(self) -> None:
        """As `DatagramClient.close`."""
        self._core.close()
        self._waiter.wake()

    async def _run(self, operation: Operation[T], timeout: float | None) -> T:
        return await self._waiter.run(
            operation, self.timeout if timeout is None else timeout, self.on_deadline
        )
