"""Faults: what a network, a system or a peer can do wrong, as values that can be composed, written down and repeated.

A fault knows no socket, no clock and no thread: it makes a `Stage`, which turns bytes that come at a time into actions that
are due at a time. The clock and the random numbers are handed in, so that proxies, wrapped sockets, clients and
simulations give the same results.
"""

from ._actions import *
from ._bandwidth import *
from ._call_faults import *
from ._calls import *
from ._closing import *
from ._coalesce import *
from ._corrupt import *
from ._declared import *
from ._duplicate import *
from ._editing import *
from ._fault import *
from ._fields import *
from ._garbage import *
from ._history import *
from ._latency import *
from ._listener_faults import *
from ._loss import *
from ._presets import *
from ._reorder import *
from ._repeatable import *
from ._reset_peer import *
from ._seeds import *
from ._slicer import *
from ._stage import *
from ._stall import *
from ._start import *
from ._start_calls import *
from ._taking import *
from ._trace import *
from ._triggers import *
from ._truncate_datagram import *

__all__ = (
    "PASS",
    "PRESETS",
    "Abort",
    "AcceptError",
    "Action",
    "Bandwidth",
    "Blackhole",
    "Calls",
    "Close",
    "Coalesce",
    "Corrupt",
    "Decision",
    "Declared",
    "Drip",
    "Duplicate",
    "DuplicateBytes",
    "EmptyReply",
    "Entry",
    "FailCall",
    "FailFork",
    "FailThreadStart",
    "Fault",
    "Faults",
    "Finish",
    "FullBacklog",
    "Garbage",
    "GilbertElliott",
    "HalfClose",
    "History",
    "InsertBytes",
    "Interrupt",
    "Latency",
    "LimitData",
    "Loss",
    "MissingClose",
    "Parameter",
    "Partition",
    "Passed",
    "Place",
    "Plan",
    "Preset",
    "RandomDataThenClose",
    "Refuse",
    "Reorder",
    "ResetPeer",
    "Rule",
    "Send",
    "ShortReads",
    "ShortWrites",
    "Site",
    "Slicer",
    "SlowAccept",
    "SlowClose",
    "SpuriousReadiness",
    "Stage",
    "Stall",
    "Timeout",
    "Trace",
    "Trigger",
    "Truncate",
    "TruncateDatagram",
    "Verdict",
    "ZeroWindow",
    "check_repeatable",
    "derived_seed",
    "downstream",
    "plan",
    "presets",
    "registry",
    "start",
    "start_calls",
    "start_listener",
    "upstream",
)
