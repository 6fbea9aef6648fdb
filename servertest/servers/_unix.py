"""The Unix servers. Whatever is particular about Unix sockets stands in TCPServer.server_bind().

It must not stand here: programs combine `UnixStreamServer` with `http.server.HTTPServer`, whose server_bind() has to stay the next in line.
"""

from __future__ import annotations

import socket

from ._base import standard
from ._inet import TCPServer, UDPServer
from ._threading import ThreadingMixIn

__all__ = (
    "ThreadingUnixDatagramServer",
    "ThreadingUnixStreamServer",
    "UnixDatagramServer",
    "UnixStreamServer",
)


@standard
class UnixStreamServer(TCPServer):
    """A server of stream connections on a Unix path (or, on Linux, an abstract name)."""

    address_family: int = socket.AF_UNIX


@standard
class UnixDatagramServer(UDPServer):
    """A server of datagrams on a Unix path. A client that has bound no path of its own cannot be answered: its address is None."""

    address_family: int = socket.AF_UNIX


@standard
class ThreadingUnixStreamServer(ThreadingMixIn, UnixStreamServer):
    """A thread for each connection."""


@standard
class ThreadingUnixDatagramServer(ThreadingMixIn, UnixDatagramServer):
    """A thread for each datagram."""
