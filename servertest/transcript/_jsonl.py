"""A transcript as JSON lines, for programs: one object for each event."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, TextIO

from ._events import Close, Connect, Data, Datagram, Event, Failure, Gap, HalfClose, Note

__all__ = ("event_to_dict", "write_jsonl")

_NAMES: dict[type, str] = {
    Connect: "connect",
    Data: "data",
    Datagram: "datagram",
    Gap: "gap",
    HalfClose: "half-close",
    Close: "close",
    Failure: "failure",
    Note: "note",
}


def write_jsonl(events: Iterable[Event], file: TextIO) -> None:
    """Write a line for each event; see `event_to_dict`."""
    for event in events:
        file.write(f"{_line(event_to_dict(event))}\n")


def _line(found: dict[str, Any]) -> str:
    line = json.dumps(found, ensure_ascii=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(found)  # a Unix path need not be UTF-8
    return line


def event_to_dict(event: Event) -> dict[str, Any]:
    """An event as plain data.

    ``event`` is its sort, the other keys are its fields. Bytes are a text under ``text`` if they are UTF-8 without control
    characters beside line ends and tabs, else base64 under ``base64``; addresses are lists, texts or null.
    """
    found: dict[str, Any] = {"time": event.time, "connection": event.connection, "event": _NAMES[type(event)]}
    if isinstance(event, (Data, Datagram)):
        found["direction"] = event.direction
        found["size"] = len(event.data)
        found.update(_bytes(event.data))
    for name in ("client", "server", "address"):
        if hasattr(event, name):
            found[name] = _address(getattr(event, name))
    for name in ("direction", "size", "by", "how", "where", "type_name", "message", "traceback_text"):
        if hasattr(event, name):
            found[name] = getattr(event, name)
    if isinstance(event, Note):
        found["text"] = event.text
    return found


def _bytes(data: bytes) -> dict[str, str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}
    if text.translate(_LINE_ENDS).isprintable():
        return {"text": text}
    return {"base64": base64.b64encode(data).decode("ascii")}


_LINE_ENDS = {ord("\r"): None, ord("\n"): None, ord("\t"): None}


def _address(address: Any) -> Any:
    if isinstance(address, bytes):
        return address.decode("utf-8", "backslashreplace")
    return list(map(_address, address)) if isinstance(address, tuple) else address
