"""Slow and rude clients: values that say how a client behaves, and clients that behave so.

Each is an honest client with faults on its line. `SlowWriter` and its like are plain data, known by name, with a text form;
a single one goes to `connect`, thousands to `servertest.swarm`.
"""

from ._async_client import *
from ._behaviour import *
from ._client import *
from ._enders import *
from ._outcome import *
from ._readers import *
from ._script import *
from ._stayers import *
from ._writers import *

__all__ = (
    "HOWS",
    "AsyncBehavingClient",
    "Behaving",
    "BehavingClient",
    "Behaviour",
    "ConnectAndDrop",
    "DribbledHandshake",
    "Ending",
    "Flooder",
    "HalfCloser",
    "HalfOpen",
    "Honest",
    "How",
    "IdleAfterConnect",
    "IdleMidRequest",
    "NeverCloses",
    "NeverReads",
    "Outcome",
    "Pipeliner",
    "Resetter",
    "Script",
    "SlowBody",
    "SlowReader",
    "SlowWriter",
    "StalledHandshake",
    "behaviour",
    "behaviours",
)
