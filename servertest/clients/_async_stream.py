"""The stream client for asyncio."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .._support import DEFAULT_TIMEOUT, Deadline
from ._async_waiting import LoopWaiter
from ._core import hostname_of
from ._dial import dial_stream
from ._faults import before_connect
from ._fronts import StreamFront
from ._messages import Message, framed
from ._wants import Everything, Exactly, Line, Some, Until, wanted

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from typing import Self

    from .._support import Address
    from ..faults import Faults
    from ..transcript import Framing
    from ._core import Data
    from ._steps import Note, Operation

__all__ = ("AsyncStreamClient",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")


class AsyncStreamClient(StreamFront):
    """`StreamClient` for asyncio: the same names, arguments, results and errors; each method is a coroutine.

    A cancelled call loses no bytes, nor does one whose deadline has passed. One task may read while another one writes.

    Args:
        sock: A connected stream socket. It becomes non-blocking and is closed with the client.
        timeout: Seconds that each call may take.
        address: The peer's address for messages, where the socket cannot tell it.
        on_deadline: Called when a deadline passes; what it returns is added to the error's message.
        faults: What goes wrong between this client and the server: `faulty` says what can.
        seed: Where faults have their random numbers from.
        connection: The number of the connection for faults, from 1.
    """

    @cached_property
    def _waiter(self) -> LoopWaiter:
        return LoopWaiter()

    @classmethod
    async def connect(
        cls,
        address: Address,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        source: Address | None = None,
        on_deadline: Note = None,
        faults: Faults = None,
        seed: int | str = 0,
        connection: int = 1,
    ) -> Self:
        """As `StreamClient.connect`. Host names are looked up in place, which may hold the loop up; numbers do not."""
        deadline = Deadline(timeout, "")
        more: dict[str, Any] = {}
        if faults is not None:
            more = {"faults": faults, "seed": seed, "connection": connection}
            before_connect(faults, seed, connection, "stream", address)
        sock = await LoopWaiter().run(dial_stream(address, source), timeout, on_deadline)
        try:
            client = cls(sock, timeout=timeout, address=address, on_deadline=on_deadline, **more)
            if tls is not None:
                await client.start_tls(tls, server_hostname, timeout=deadline.remaining())
        except BaseException:
            sock.close()
            raise
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def start_tls(
        self, context: ssl.SSLContext, server_hostname: str | None = None, *, timeout: float | None = None
    ) -> None:
        """As `StreamClient.start_tls`."""
        name = server_hostname or hostname_of(self.address)
        await self._run(self._core.start_tls(context, name), timeout)

    async def send(self, data: Data, *, timeout: float | None = None) -> int:
        """As `StreamClient.send`."""
        return await self._run(self._core.send(data), timeout)

    async def send_all(self, data: Data, *, timeout: float | None = None) -> None:
        """As `StreamClient.send_all`."""
        await self._run(self._core.send_all(data), timeout)

    async def send_message(self, message: Data, framing: Framing, *, timeout: float | None = None) -> None:
        """As `StreamClient.send_message`."""
        await self._run(self._core.send_all(framed(message, framing)), timeout)

    async def read_some(self, n: int = 65536, *, timeout: float | None = None) -> bytes:
        """As `StreamClient.read_some`."""
        return await self._run(self._core.read(Some(n)), timeout)

    async def read_exactly(self, n: int, *, timeout: float | None = None) -> bytes:
        """As `StreamClient.read_exactly`."""
        return await self._run(self._core.read(Exactly(n)), timeout)

    async def read_until(
        self, separator: bytes, *, max_bytes: int = 1 << 20, timeout: float | None = None
    ) -> bytes:
        """As `StreamClient.read_until`."""
        return await self._run(self._core.read(Until(separator, max_bytes)), timeout)

    async def readline(self, *, max_bytes: int = 1 << 20, timeout: float | None = None) -> bytes:
        """As `StreamClient.readline`."""
        return await self._run(self._core.read(Line(max_bytes)), timeout)

    async def read_eof(self, *, timeout: float | None = None) -> bytes:
        """As `StreamClient.read_eof`."""
        return await self._run(self._core.read(Everything()), timeout)

    async def read_message(self, framing: Framing, *, timeout: float | None = None) -> bytes:
        """As `StreamClient.read_message`."""
        return await self._run(self._core.read(Message(framing)), timeout)

    @overload
    async def expect(self, expected: bytes, *, timeout: float | None = None) -> bytes: ...
    @overload
    async def expect(
        self, expected: re.Pattern[bytes], *, timeout: float | None = None
    ) -> re.Match[bytes]: ...
    async def expect(
        self, expected: bytes | re.Pattern[bytes], *, timeout: float | None = None
    ) -> bytes | re.Match[bytes]:
        """As `StreamClient.expect`."""
        result: bytes | re.Match[bytes] = await self._run(self._core.read(wanted(expected)), timeout)
        return result

    async def half_close(self, *, timeout: float | None = None) -> None:
        """As `StreamClient.half_close`."""
        await self._run(self._core.half_close(), timeout)

    async def reset(self) -> None:
        """As `StreamClient.reset`."""
        self._core.reset()
        self._waiter.wake()

    async def close(self) -> None:
        """As `StreamClient.close`."""
        self._core.close()
        self._waiter.wake()

    async def _run(self, operation: Operation[T], timeout: float | None) -> T:
        return await self._waiter.run(
            operation, self.timeout if timeout is None else timeout, self.on_deadline
        )
