"""The combinations of the standard module, ready to use."""

from __future__ import annotations

import os
import socket

from ._inet import TCPServer, UDPServer
from ._threading import ThreadingMixIn

__all__: tuple[str, ...] = (
    "ThreadingTCPServer",
    "ThreadingUDPServer",
)


class ThreadingUDPServer(ThreadingMixIn, UDPServer):
    """A thread for each datagram."""


class ThreadingTCPServer(ThreadingMixIn, TCPServer):
    """A thread for each connection."""


if hasattr(os, "fork"):
    from ._forking import ForkingMixIn

    class ForkingUDPServer(ForkingMixIn, UDPServer):
        """A process for each datagram."""

    class ForkingTCPServer(ForkingMixIn, TCPServer):
        """A process for each connection."""

    __all__ += (
        "ForkingTCPServer",
        "ForkingUDPServer",
    )

if hasattr(socket, "AF_UNIX"):
    from ._unix import UnixDatagramServer, UnixStreamServer

    class ThreadingUnixStreamServer(ThreadingMixIn, UnixStreamServer):
        """A thread for each connection."""

    class ThreadingUnixDatagramServer(ThreadingMixIn, UnixDatagramServer):
        """A thread for each datagram."""

    __all__ += (
        "ThreadingUnixDatagramServer",
        "ThreadingUnixStreamServer",
    )

    if hasattr(os, "fork"):
        # From Python 3.12 in the standard module; here on each version.

        class ForkingUnixStreamServer(ForkingMixIn, UnixStreamServer):
            """A process for each connection."""

        class ForkingUnixDatagramServer(ForkingMixIn, UnixDatagramServer):
            """A process for each datagram."""

        __all__ += (
            "ForkingUnixDatagramServer",
            "ForkingUnixStreamServer",
        )
