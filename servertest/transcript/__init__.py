"""The record of what passed between clients and servers, its text form, and the exchanges that are read from it."""

from ._conversation import *
from ._events import *
from ._exchanges import *
from ._expected import *
from ._recorder import *
from ._transcript import *
from ._wire_error import *
from ._wire_form import *

__all__ = (
    "Close",
    "CloseKind",
    "Connect",
    "Conversation",
    "Data",
    "Datagram",
    "Direction",
    "Disconnect",
    "Event",
    "Exchange",
    "Expect",
    "ExpectEof",
    "ExpectReset",
    "Expected",
    "Failure",
    "FinishSending",
    "Gap",
    "HalfClose",
    "Note",
    "Place",
    "Recorder",
    "RemoteRecorder",
    "Script",
    "Send",
    "Side",
    "Step",
    "Transcript",
    "WireSyntaxError",
    "describe_error",
    "dump_wire",
    "load_exchanges",
    "matches",
    "parse_exchanges",
    "parse_wire",
    "read_wire",
    "write_wire",
)
