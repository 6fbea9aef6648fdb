"""Simulation: unmodified handlers, servers and clients on a simulated network in one process, where time jumps when everybody waits.

The threads are real and pass a baton: one runs at a time, and the seed decides which. Sockets, clocks, locks and pollers are the simulation's, for
the threads that belong to it.
"""

from __future__ import annotations

from ._errors import *
from ._exploring import *
from ._route import *
from ._simulation import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._ground import *

__all__ = (
    "CannotSimulate",
    "Deadlock",
    "FailingSeed",
    "Link",
    "Livelock",
    "NotDeterministic",
    "Route",
    "Simulated",
    "Simulation",
    "SimulationError",
    "Spawned",
    "Stalled",
    "check_deterministic",
    "explore",
    "rehearse",
    "simulate",
)


def __getattr__(name: str) -> object:
    # Most simulations have nothing to do with contracts, and need not wait until those are loaded.
    if name in ("Simulated", "rehearse"):
        from . import _ground

        return getattr(_ground, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
