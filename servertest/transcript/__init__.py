"""The record of what passed between clients and servers, its text form, what is read from it, and its forms for other tools.

All but the record itself is loaded when it is first asked for: most servers are put up, observed and stopped without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._conversation import *
from ._events import *
from ._recorder import *
from ._transcript import *

if TYPE_CHECKING:
    from ._diagram import *
    from ._exchanges import *
    from ._expected import *
    from ._framing import *
    from ._jsonl import *
    from ._ladder import *
    from ._pcapng import *
    from ._wire_error import *
    from ._wire_form import *

__all__ = (
    "BadFrame",
    "ByFunction",
    "Close",
    "CloseKind",
    "Connect",
    "Conversation",
    "Cut",
    "Cutter",
    "Data",
    "Datagram",
    "Datagrams",
    "Delimited",
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
    "FixedSize",
    "Framing",
    "Gap",
    "HalfClose",
    "LengthPrefixed",
    "Note",
    "Place",
    "Recorder",
    "RemoteRecorder",
    "Rung",
    "Script",
    "Send",
    "Side",
    "Step",
    "Transcript",
    "WholeStream",
    "WireSyntaxError",
    "check_framing",
    "describe_error",
    "dump_wire",
    "event_to_dict",
    "ladder",
    "load_exchanges",
    "matches",
    "parse_exchanges",
    "parse_wire",
    "quoted",
    "read_wire",
    "rungs",
    "sequence_diagram",
    "write_jsonl",
    "write_pcapng",
    "write_wire",
)

_LATER = {
    "BadFrame": "_framing",
    "ByFunction": "_framing",
    "Cut": "_framing",
    "Cutter": "_framing",
    "Datagrams": "_framing",
    "Delimited": "_framing",
    "Disconnect": "_exchanges",
    "Exchange": "_expected",
    "Expect": "_exchanges",
    "ExpectEof": "_exchanges",
    "ExpectReset": "_exchanges",
    "Expected": "_expected",
    "FinishSending": "_exchanges",
    "FixedSize": "_framing",
    "Framing": "_framing",
    "LengthPrefixed": "_framing",
    "Place": "_wire_error",
    "Rung": "_ladder",
    "Script": "_exchanges",
    "Send": "_exchanges",
    "Step": "_exchanges",
    "WholeStream": "_framing",
    "WireSyntaxError": "_wire_error",
    "check_framing": "_framing",
    "dump_wire": "_wire_form",
    "event_to_dict": "_jsonl",
    "ladder": "_ladder",
    "load_exchanges": "_exchanges",
    "matches": "_expected",
    "parse_exchanges": "_exchanges",
    "parse_wire": "_wire_form",
    "quoted": "_ladder",
    "read_wire": "_wire_form",
    "rungs": "_ladder",
    "sequence_diagram": "_diagram",
    "write_jsonl": "_jsonl",
    "write_pcapng": "_pcapng",
    "write_wire": "_wire_form",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
