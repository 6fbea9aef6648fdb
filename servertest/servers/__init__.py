"""The socketserver framework: a drop-in for the standard module, and the concurrency models that its documentation only describes.

`sys.modules["socketserver"] = servertest.servers` goes unnoticed by programs written for the standard module, except that their servers stop at once and
can be stopped from anywhere. `__all__` is the standard module's, so that a star-import brings the same names; what this module has
beyond it is reached by name and loaded when it is first used.

The public classes of the standard module say that they are from `socketserver`, as their names are that module's and they may stand in its place.
"""

from __future__ import annotations

import os as os
import selectors as selectors
import socket as socket
import sys as sys
import threading as threading
from io import BufferedIOBase as BufferedIOBase
from time import monotonic as time  # noqa: F401 - programs reach these modules through this one

from . import _base
from ._base import BaseServer, serve_together as serve_together
from ._handlers import (
    BaseRequestHandler,
    DatagramRequestHandler,
    StreamRequestHandler,
    _SocketWriter as _SocketWriter,
)
from ._inet import TCPServer, TruncatedDatagramWarning as TruncatedDatagramWarning, UDPServer
from ._loop import PollSelector as _PollSelector
from ._predefined import *
from ._threading import ThreadingMixIn, _NoThreads as _NoThreads, _Threads as _Threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._collecting import *
    from ._http import *
    from ._pooling import *
    from ._preforking import *
    from ._selecting import *
    from ._tls import *

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
    from ._forking import FinishInChildMixIn as FinishInChildMixIn, ForkingMixIn

    __all__ += ["ForkingMixIn", "ForkingTCPServer", "ForkingUDPServer"]

if hasattr(socket, "AF_UNIX"):
    from ._unix import UnixDatagramServer, UnixStreamServer

    __all__ += [
        "ThreadingUnixDatagramServer",
        "ThreadingUnixStreamServer",
        "UnixDatagramServer",
        "UnixStreamServer",
    ]
    if hasattr(os, "fork"):
        __all__ += ["ForkingUnixDatagramServer", "ForkingUnixStreamServer"]

#: Makes the selector of each loop; looked up whenever one begins, so that programs may put their own here.
_ServerSelector: Any = _PollSelector if hasattr(selectors, "PollSelector") else selectors.SelectSelector

_base.public_module = sys.modules[__name__]

for _name in __all__:
    globals()[_name].__module__ = "socketserver"
del _name

#: What is beyond the standard module, and where it is: loaded when it is first asked for.
_EXTRAS = {
    "ErrorCollectorMixIn": "_collecting",
    "HTTPServer": "_http",
    "IncompleteReadError": "_selecting",
    "SelectorMixIn": "_selecting",
    "SelectorReader": "_selecting",
    "SelectorRequestHandler": "_selecting",
    "SelectorStreamRequestHandler": "_selecting",
    "SelectorTCPServer": "_selecting",
    "SelectorWriter": "_selecting",
    "TLSMixIn": "_tls",
    "ThreadPoolMixIn": "_pooling",
    "ThreadPoolTCPServer": "_pooling",
    "ThreadPoolUDPServer": "_pooling",
    "ThreadingHTTPServer": "_http",
}
if hasattr(os, "fork"):
    _EXTRAS |= dict.fromkeys(("PreForkMixIn", "PreForkTCPServer", "PreForkUDPServer"), "_preforking")
if hasattr(socket, "AF_UNIX"):
    _EXTRAS["SelectorUnixStreamServer"] = "_selecting"
    _EXTRAS |= dict.fromkeys(("ThreadPoolUnixDatagramServer", "ThreadPoolUnixStreamServer"), "_pooling")
    if hasattr(os, "fork"):
        _EXTRAS |= dict.fromkeys(("PreForkUnixDatagramServer", "PreForkUnixStreamServer"), "_preforking")


def __getattr__(name: str) -> Any:
    if name not in _EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_EXTRAS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXTRAS})
