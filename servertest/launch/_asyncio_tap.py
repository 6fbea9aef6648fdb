"""Recording what an asyncio protocol sees and says, where the socket's own bytes are TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ..transcript import Recorder
    from ._active import ActivityBook

__all__ = ("TappedProtocol",)


class TappedProtocol(asyncio.Protocol):
    """Stands between the loop and somebody's protocol, and writes down what passes."""

    def __init__(self, protocol: asyncio.Protocol, book: ActivityBook) -> None:
        assert book.recorder is not None
        self._protocol = protocol
        self._book = book
        self._recorder: Recorder = book.recorder
        self._number = 0
        self._transport: _TappedTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        activity = self._book.by_descriptor(transport.get_extra_info("socket").fileno())
        self._number = 0 if activity is None else activity.number
        self._transport = _TappedTransport(cast("asyncio.Transport", transport), self._recorder, self._number)
        self._protocol.connection_made(cast("asyncio.BaseTransport", self._transport))

    def data_received(self, data: bytes) -> None:
        self._recorder.data(self._number, "upstream", data)
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        self._recorder.half_close(self._number, "client")
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        ended_here = self._transport is not None and self._transport.closed_here
        by = "server" if ended_here else "client"
        self._recorder.close(self._number, by, "rst" if isinstance(exc, ConnectionResetError) else "fin")  # type: ignore[arg-type]
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class _TappedTransport:
    """Somebody's transport, with what is written to it recorded."""

    def __init__(self, transport: asyncio.Transport, recorder: Recorder, number: int) -> None:
        self._transport = transport
        self._recorder = recorder
        self._number = number
        self.closed_here = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._recorder.data(self._number, "downstream", data)
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def close(self) -> None:
        self.closed_here = True
        self._transport.close()

    def abort(self) -> None:
        self.closed_here = True
        self._transport.abort()
