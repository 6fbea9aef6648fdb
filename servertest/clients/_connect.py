"""The client that fits, by transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from .._support import UsageError, refuse_unknown_keywords
from ._async_datagram import AsyncDatagramClient
from ._async_stream import AsyncStreamClient
from ._datagram import DatagramClient
from ._stream import StreamClient

if TYPE_CHECKING:
    from .._support import Address, Transport
    from .behaviours import AsyncBehavingClient, Behaving, BehavingClient

__all__ = ("connect", "connect_async")


@overload
def connect(
    address: Address, behaviour: Behaving, *, transport: Transport = "stream", **options: Any
) -> BehavingClient: ...
@overload
def connect(address: Address, *, transport: Literal["stream"] = "stream", **options: Any) -> StreamClient: ...
@overload
def connect(address: Address, *, transport: Literal["datagram"], **options: Any) -> DatagramClient: ...
@overload
def connect(address: Address, *, transport: Transport, **options: Any) -> StreamClient | DatagramClient: ...
def connect(
    address: Address, behaviour: Behaving | None = None, *, transport: Transport = "stream", **options: Any
) -> StreamClient | DatagramClient | BehavingClient:
    """A connected client: `StreamClient.connect` or `DatagramClient.connect`, with that method's options; or, if a behaviour is
    given, `BehavingClient.connect`.

    Raises:
        UsageError: The transport is neither ``"stream"`` nor ``"datagram"``.
        UnknownKeyword: An option that this transport's client does not have.
    """
    if behaviour is not None:
        from .behaviours import BehavingClient

        _check("connect", BehavingClient.connect, options)
        return BehavingClient.connect(address, behaviour, transport=transport, **options)
    if transport == "stream":
        _check("connect", StreamClient.connect, options)
        return StreamClient.connect(address, **options)
    if transport == "datagram":
        _check("connect", DatagramClient.connect, options)
        return DatagramClient.connect(address, **options)
    raise _unknown(transport)


@overload
async def connect_async(
    address: Address, behaviour: Behaving, *, transport: Transport = "stream", **options: Any
) -> AsyncBehavingClient: ...
@overload
async def connect_async(
    address: Address, *, transport: Literal["stream"] = "stream", **options: Any
) -> AsyncStreamClient: ...
@overload
async def connect_async(
    address: Address, *, transport: Literal["datagram"], **options: Any
) -> AsyncDatagramClient: ...
@overload
async def connect_async(
    address: Address, *, transport: Transport, **options: Any
) -> AsyncStreamClient | AsyncDatagramClient: ...
async def connect_async(
    address: Address, behaviour: Behaving | None = None, *, transport: Transport = "stream", **options: Any
) -> AsyncStreamClient | AsyncDatagramClient | AsyncBehavingClient:
    """As `connect`, for asyncio."""
    if behaviour is not None:
        from .behaviours import AsyncBehavingClient

        _check("connect_async", AsyncBehavingClient.connect, options)
        return await AsyncBehavingClient.connect(address, behaviour, transport=transport, **options)
    if transport == "stream":
        _check("connect_async", AsyncStreamClient.connect, options)
        return await AsyncStreamClient.connect(address, **options)
    if transport == "datagram":
        _check("connect_async", AsyncDatagramClient.connect, options)
        return await AsyncDatagramClient.connect(address, **options)
    raise _unknown(transport)


def _check(name: str, method: Any, options: dict[str, Any]) -> None:
    refuse_unknown_keywords(name, options, method.__func__.__kwdefaults__)


def _unknown(transport: object) -> UsageError:
    return UsageError(f"a transport is 'stream' or 'datagram', not {transport!r}")
