"""The socketserver framework: a drop-in for the standard module, and the concurrency models that its documentation only describes.

`sys.modules["socketserver"] = servertest.servers` goes unnoticed by programs written for the standard module, except that their servers stop at once and
can be stopped from anywhere. `__all__` is the standard module's, so that a star-import brings the same names; what this module has
beyond it is reached by name and loaded when it is first used.

The public classes of the standard module say that they are from `socketserver`, as their names are that module's and they may stand in its place.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import threading
from io import BufferedIOBase
from time import monotonic as time

from ._base import BaseServer, serve_together
from ._handlers import BaseRequestHandler, DatagramRequestHandler, StreamRequestHandler, _SocketWriter
from ._inet import TCPServer, TruncatedDatagramWarning, UDPServer
from ._loop import PollSelector as _PollSelector
from ._predefined import *
from ._threading import ThreadingMixIn, _NoThreads, _Threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.4"

__all__ = [
    "BaseRequestHandler",
    "BaseServer",
    "DatagramRequestHandler",
    "StreamRequestHandler",
    "TCPServer",
    "ThreadingMixIn",
    "ThreadingTCPServer",
    "ThreadingUDPServer",
    "UDPServer",
]

if hasattr(os, "fork"):
    from ._forking import FinishInChildMixIn, ForkingMixIn

    __all__ += ["ForkingMixIn", "ForkingTCPServer", "ForkingUDPServer"]

if hasattr(socket, "AF_UNIX"):
    from ._unix import UnixDatagramServer, UnixStreamServer

    __all__ += ["ThreadingUnixDatagramServer", "ThreadingUnixStreamServer", "UnixDatagramServer", "UnixStreamServer"]
    if hasattr(os, "fork"):
        __all__ += ["ForkingUnixDatagramServer", "ForkingUnixStreamServer"]

#: Makes the selector of each loop; looked up whenever one begins, so that programs may put their own here.
_ServerSelector: Any = _PollSelector if hasattr(selectors, "PollSelector") else selectors.SelectSelector

for _name in __all__:
    globals()[_name].__module__ = "socketserver"
del _name
