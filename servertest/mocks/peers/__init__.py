"""Ready-made servers of small protocols: targets for clients, and examples of handlers that end when they should."""

from ._base import *
from ._chat import *
from ._classic import *
from ._silent import *
from ._store import *

__all__ = (
    "BlackHole",
    "Chargen",
    "Daytime",
    "Discard",
    "Echo",
    "KeyValueStore",
    "LineChat",
    "Peer",
    "Tarpit",
    "Time",
    "peers",
)
