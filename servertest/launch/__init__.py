"""Put any server up, reach it, and take it down again without a trace.

The leak guard and the hang dump are loaded when they are first asked for.

`servertest.launch` is this package, and by that name people call the function, too. Which of the two the name stands for would depend on who has
imported what before; so the package can be called, and is then the function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._command_target import *
from ._errors import *
from ._host import *
from ._kinds import *
from ._launch import *
from ._running import *
from ._targets import *

if TYPE_CHECKING:
    from ._dump import *
    from ._leaks import *

_DUMP = (
    "describe_children",
    "describe_sockets",
    "describe_tasks",
    "describe_threads",
    "hang_dump",
    "watch_loop",
)
_LEAKS = (
    "Leak",
    "Snapshot",
    "compare",
    "no_leaks",
    "register_own_fd",
    "register_own_pid",
    "register_own_thread",
    "render_leaks",
    "trace_allocations",
    "unregister_own_fd",
    "unregister_own_pid",
    "wait_clean",
    "watch_path",
)

__all__ = (
    "AsyncioTarget",
    "CommandTarget",
    "Concurrency",
    "Errors",
    "ExpectedError",
    "FactoryTarget",
    "FunctionTarget",
    "HandlerError",
    "HandlerTarget",
    "Host",
    "HostName",
    "InstanceTarget",
    "Kind",
    "Leak",
    "Observer",
    "Plan",
    "Running",
    "Servable",
    "ServerClassTarget",
    "Setup",
    "Snapshot",
    "Target",
    "Unavailable",
    "UnknownKind",
    "WsgiTarget",
    "compare",
    "describe_children",
    "describe_sockets",
    "describe_tasks",
    "describe_threads",
    "hang_dump",
    "kinds",
    "launch",
    "no_leaks",
    "register_own_fd",
    "register_own_pid",
    "register_own_thread",
    "render_leaks",
    "target_for",
    "trace_allocations",
    "unregister_own_fd",
    "unregister_own_pid",
    "wait_clean",
    "watch_loop",
    "watch_path",
)

_LATE = dict.fromkeys(_DUMP, "_dump") | dict.fromkeys(_LEAKS, "_leaks")


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})


class _Package(ModuleType):
    def __call__(self, *arguments: Any, **keywords: Any) -> Running:
        return launch(*arguments, **keywords)


sys.modules[__name__].__class__ = _Package
