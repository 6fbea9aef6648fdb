"""Clients for every kind of server, for threads and for asyncio, with a deadline on each wait."""

from ._async_datagram import *
from ._async_stream import *
from ._buffer import *
from ._connect import *
from ._datagram import *
from ._stream import *

__all__ = (
    "AsyncDatagramClient",
    "AsyncStreamClient",
    "DatagramClient",
    "ReceiveBuffer",
    "StreamClient",
    "connect",
    "connect_async",
)
