"""Put any server up, reach it, and take it down again without a trace."""

from ._errors import *
from ._host import *
from ._kinds import *
from ._launch import *
from ._running import *
from ._targets import *

__all__ = (
    "AsyncioTarget",
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
    "Observer",
    "Plan",
    "Running",
    "Servable",
    "ServerClassTarget",
    "Setup",
    "Target",
    "Unavailable",
    "UnknownKind",
    "WsgiTarget",
    "kinds",
    "launch",
)
