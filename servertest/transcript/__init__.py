"""The record of what passed between clients and servers, its text form, and the exchanges that are read from it."""

from ._conversation import *
from ._events import *
from ._recorder import *
from ._transcript import *

__all__ = (
    "Close",
    "CloseKind",
    "Connect",
    "Conversation",
    "Data",
    "Datagram",
    "Direction",
    "Event",
    "Failure",
    "Gap",
    "HalfClose",
    "Note",
    "Recorder",
    "RemoteRecorder",
    "Side",
    "Transcript",
    "describe_error",
)
