"""Test socket servers, and the clients that talk to them.

What tests use most is reached from here and loaded when it is first asked for: `launch`, `Kind`, `kinds`, the clients, `faulty`, the proxy, and the errors. The framework itself is
`servertest.servers`. The pytest fixtures come with the plugin and need no import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._pytest._contract import DatagramContract, StreamContract
    from ._support import (
        AddressError,
        AddressInUse,
        DeadlineExceeded,
        HandlerFailed,
        LeakFound,
        Mismatch,
        PeerClosed,
        PeerRefused,
        PeerReset,
        RemoteError,
        ServertestError,
        StillRunning,
        UnknownKeyword,
        UsageError,
    )
    from .clients import AsyncDatagramClient, AsyncStreamClient, DatagramClient, StreamClient
    from .contract import Promises, Report, check
    from .launch import Kind, Running, Unavailable, UnknownKind, kinds, launch
    from .mocks import MockServer, record, replay
    from .proxy import Link, Proxy, link
    from .transcript import Exchange, Transcript, load_exchanges
    from .wire import change_faults, faulty

__all__ = (
    "AddressError",
    "AddressInUse",
    "AsyncDatagramClient",
    "AsyncStreamClient",
    "DatagramClient",
    "DatagramContract",
    "DeadlineExceeded",
    "Exchange",
    "HandlerFailed",
    "Kind",
    "LeakFound",
    "Link",
    "Mismatch",
    "MockServer",
    "PeerClosed",
    "PeerRefused",
    "PeerReset",
    "Promises",
    "Proxy",
    "RemoteError",
    "Report",
    "Running",
    "ServertestError",
    "StillRunning",
    "StreamClient",
    "StreamContract",
    "Transcript",
    "Unavailable",
    "UnknownKeyword",
    "UnknownKind",
    "UsageError",
    "change_faults",
    "check",
    "faulty",
    "kinds",
    "launch",
    "link",
    "load_exchanges",
    "record",
    "replay",
)

__version__ = "0.1.0"

_HOMES = {
    "_pytest._contract": ("DatagramContract", "StreamContract"),
    "_support": (
        "AddressError",
        "AddressInUse",
        "DeadlineExceeded",
        "HandlerFailed",
        "LeakFound",
        "Mismatch",
        "PeerClosed",
        "PeerRefused",
        "PeerReset",
        "RemoteError",
        "ServertestError",
        "StillRunning",
        "UnknownKeyword",
        "UsageError",
    ),
    "clients": ("AsyncDatagramClient", "AsyncStreamClient", "DatagramClient", "StreamClient"),
    "contract": ("Promises", "Report", "check"),
    "launch": ("Kind", "Running", "Unavailable", "UnknownKind", "kinds", "launch"),
    "mocks": ("MockServer", "record", "replay"),
    "proxy": ("Link", "Proxy", "link"),
    "transcript": ("Exchange", "Transcript", "load_exchanges"),
    "wire": ("change_faults", "faulty"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
