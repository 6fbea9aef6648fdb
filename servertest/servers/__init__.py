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
from ._threading import (
    ThreadingMixIn,
    ThreadingTCPServer,
    ThreadingUDPServer,
    _NoThreads as _NoThreads,
    _Threads as _Threads,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._collecting import *
    from ._forking import *
    from ._http import *
    from ._pooling import *
    from ._preforking import *
    from ._selecting import *
    from ._tls import *
    from ._unix import *

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

#: What is loaded when it is first asked for, and where it is: the less usual names of the standard module, and all that is beyond it.
_LATER = {
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


def _offer(module: str, *names: str, standard: bool = False) -> None:
    _LATER.update(dict.fromkeys(names, module))
    if standard:
        __all__.extend(names)  # noqa: PYI056 - type checkers read the imports above


# Names that a platform cannot have are absent, for programs ask by name.
_UNIX = hasattr(socket, "AF_UNIX")
if _UNIX:
    _offer("_unix", "UnixDatagramServer", "UnixStreamServer", standard=True)
    _offer("_unix", "ThreadingUnixDatagramServer", "ThreadingUnixStreamServer", standard=True)
    _offer("_pooling", "ThreadPoolUnixDatagramServer", "ThreadPoolUnixStreamServer")
    _offer("_selecting", "SelectorUnixStreamServer")
if hasattr(os, "fork"):
    _offer("_forking", "ForkingMixIn", "ForkingTCPServer", "ForkingUDPServer", standard=True)
    _offer("_forking", "FinishInChildMixIn")
    _offer("_preforking", "PreForkMixIn", "PreForkTCPServer", "PreForkUDPServer")
    if _UNIX:
        _offer("_forking", "ForkingUnixDatagramServer", "ForkingUnixStreamServer", standard=True)
        _offer("_preforking", "PreForkUnixDatagramServer", "PreForkUnixStreamServer")

#: Makes the selector of each loop; looked up whenever one begins, so that programs may put their own here.
_ServerSelector: Any = _PollSelector if hasattr(selectors, "PollSelector") else selectors.SelectSelector

_base.public_module = sys.modules[__name__]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
