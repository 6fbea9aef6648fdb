"""The statements of the `.wire` form that are events of their own, each from its verb to the end of the line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from ._events import Close, CloseKind, Direction, Failure, Gap, HalfClose, Note, Side
from ._wire_scanner import Scanner

__all__ = ("GENERAL_VERBS", "VERBS", "arrow")

_WORD = re.compile(r"[A-Za-z][A-Za-z-]*")

_Verb: TypeAlias = Callable[[Scanner, float, int], HalfClose | Close | Gap | Failure | Note]


def arrow(scanner: Scanner) -> Direction | None:
    """The direction, if an arrow is next."""
    if scanner.take(">"):
        return "upstream"
    return "downstream" if scanner.take("<") else None


def _half_close(scanner: Scanner, time: float, number: int) -> HalfClose:
    start = scanner.position
    side = _side(scanner)
    if side is None:
        raise scanner.error("client or server was expected", start)
    return HalfClose(time, number, side)


def _close(scanner: Scanner, time: float, number: int) -> Close:
    side = _side_or_nobody(scanner)
    start = scanner.position
    word = scanner.word(_WORD)
    how = None if word is None else _HOW.get(word[0])
    if word is not None and how is None:
        raise scanner.error("a connection is closed by fin, rst, timeout or forced", start)
    return Close(time, number, side, how or "fin")


def _reset(scanner: Scanner, time: float, number: int) -> Close:
    return Close(time, number, _side_or_nobody(scanner), "rst")


def _gap(scanner: Scanner, time: float, number: int) -> Gap:
    direction = arrow(scanner)
    if direction is None:
        raise scanner.error("> or < was expected, and the number of bytes: gap > 1000")
    start = scanner.position
    size = scanner.count("a number of bytes")
    if not size:
        raise scanner.error("a gap has at least 1 byte", start)
    return Gap(time, number, direction, size)


def _failure(scanner: Scanner, time: float, number: int) -> Failure:
    where, type_name, message = scanner.text_string(), scanner.text_string(), scanner.text_string()
    return Failure(time, number, where, type_name, message, "")


def _note(scanner: Scanner, time: float, number: int) -> Note:
    return Note(time, number, scanner.text_string())


_HOW: dict[str, CloseKind] = {"fin": "fin", "rst": "rst", "timeout": "timeout", "forced": "forced"}
_SIDES: dict[str, Side] = {"client": "client", "server": "server"}

VERBS: dict[str, _Verb] = {
    "close": _close,
    "failure": _failure,
    "gap": _gap,
    "half-close": _half_close,
    "note": _note,
    "reset": _reset,
}
"""Each takes what is left of the line, the time, and the number of the connection."""

GENERAL_VERBS = ("failure", "note")
"""Those that need not be about a connection."""


def _side(scanner: Scanner) -> Side | None:
    word = scanner.word(_WORD)
    return None if word is None else _SIDES.get(word[0])


def _side_or_nobody(scanner: Scanner) -> Side | None:
    start = scanner.position
    if scanner.word(_NOBODY):
        return None
    side = _side(scanner)
    if side is None:
        raise scanner.error("client, server or nobody was expected", start)
    return side


_NOBODY = re.compile(r"nobody(?![A-Za-z-])")
