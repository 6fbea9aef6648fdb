"""Faults: what a network, a system or a peer can do wrong, as values that can be composed, written down and repeated.

A fault knows no socket, no clock and no thread: it makes a `Stage`, which turns bytes that come at a time into actions that
are due at a time. The clock and the random numbers are handed in, so that proxies, wrapped sockets, clients and
simulations give the same results.
"""

from ._actions import *
from ._calls import *
from ._fault import *
from ._fields import *
from ._gate import *
from ._latency import *
from ._presets import *
from ._reset_peer import *
from ._seeds import *
from ._slicer import *
from ._stage import *
from ._start import *
from ._trace import *
from ._triggers import *

__all__ = (
    "PASS",
    "Abort",
    "Action",
    "Calls",
    "Close",
    "Decision",
    "Entry",
    "Fault",
    "Faults",
    "Finish",
    "Gate",
    "Kind",
    "Latency",
    "Numbers",
    "Parameter",
    "Place",
    "Plan",
    "ResetPeer",
    "Rule",
    "Send",
    "Site",
    "Slicer",
    "Stage",
    "Trace",
    "Trigger",
    "Verdict",
    "derived_seed",
    "downstream",
    "plan",
    "presets",
    "registry",
    "start",
    "upstream",
)
