"""Faults: what a network, a system or a peer can do wrong, as values that can be composed, written down and repeated.

A fault knows no socket, no clock and no thread: it makes a `Stage`, which turns bytes that come at a time into actions that
are due at a time. The clock and the random numbers are handed in, so that proxies, wrapped sockets, clients and
simulations give the same results.
"""

from ._actions import *
from ._fault import *
from ._latency import *
from ._reset_peer import *
from ._seeds import *
from ._slicer import *
from ._stage import *

__all__ = (
    "Abort",
    "Action",
    "Close",
    "Entry",
    "Fault",
    "Finish",
    "Latency",
    "Plan",
    "ResetPeer",
    "Send",
    "Site",
    "Slicer",
    "Stage",
    "derived_seed",
    "downstream",
    "plan",
    "registry",
    "upstream",
)
