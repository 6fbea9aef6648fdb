"""Where the transcript meets the sockets."""

from ._datagrams import *
from ._observed import *

__all__ = (
    "ObservedDatagramSocket",
    "ObservedListener",
    "ObservedSocket",
    "observe",
    "observe_context",
    "observe_datagrams",
    "observe_listener",
    "observed_number",
)
