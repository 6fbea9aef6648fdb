r"""Whether bytes may still become what a pattern matches, so that a wrong request is known before the client gives up waiting.

`re` can only say that a pattern does not match *yet*. From a pattern's parse tree another pattern is made here that matches
every beginning of what the first one matches: of ``ab*c`` that is ``(?:\Z|a(?:\Z|...))`` and so on.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from re import _constants as sre, _parser  # type: ignore[attr-defined]  # the only parser that reads what `re` reads
from typing import Any

__all__ = ("could_become", "fits_up_to")

#: Longer beginnings are not looked at: they may become what they like.
_LONGEST = 1 << 16


class _Opaque(Exception):  # noqa: N818 - it ends a search, and is no error
    """A pattern about whose beginnings nothing can be said."""


def could_become(pattern: re.Pattern[bytes], data: bytes | bytearray) -> bool | None:
    """Whether there may be bytes behind ``data`` with which the pattern matches from the start.

    Returns:
        None if that cannot be told: the pattern looks ahead, behind or back, or the data is long.
    """
    beginnings = _beginnings(pattern)
    if beginnings is None or len(data) > _LONGEST:
        return None
    return beginnings.match(data) is not None


def fits_up_to(pattern: re.Pattern[bytes], data: bytes) -> int | None:
    """How many bytes may be the beginning of what the pattern matches; None if that cannot be told."""
    if could_become(pattern, b"") is None or len(data) > _LONGEST:
        return None
    low, high = 0, len(data)
    while low < high:
        middle = (low + high + 1) // 2
        if could_become(pattern, data[:middle]) or pattern.match(data[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


@functools.lru_cache(maxsize=512)
def _beginnings(pattern: re.Pattern[bytes]) -> re.Pattern[bytes] | None:
    try:
        source = _partial(list(_parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)))
        return re.compile(source.encode("latin-1"), pattern.flags & ~(re.DEBUG | re.VERBOSE))
    except (_Opaque, re.error, RecursionError, OverflowError):
        return None


def _partial(items: Sequence[tuple[Any, Any]]) -> str:
    """A pattern for the proper beginnings of a sequence, up to the end of the data."""
    source = ""
    for item in reversed(items):
        begun = _begun(*item)
        source = f"(?:{begun}|{_whole(*item)}{source})" if source else begun
    return source or r"(?!)"


def _begun(kind: Any, value: Any) -> str:
    """A beginning of one item, behind which the data ends."""
    if kind is sre.BRANCH:
        return _either(map(_begun_or_all, value[1]))
    if kind is sre.SUBPATTERN:
        return _flagged(value[1], value[2], _begun_or_all(value[3]))
    if kind is sre.ATOMIC_GROUP:
        return _begun_or_all(value)
    if kind in _REPEATS:
        _least, most, item = value
        _refuse_nested(most, item)
        before = (
            ""
            if most == 1
            else f"(?:{_sequence(item)}){{0,{most - 1}}}"
            if most != sre.MAXREPEAT
            else f"(?:{_sequence(item)})*"
        )
        return before + _begun_or_all(item)
    return r"\Z"


def _begun_or_all(items: Any) -> str:
    return _either([_partial(list(items)), r"\Z"])


def _whole(kind: Any, value: Any) -> str:
    """One item as a pattern again."""
    if kind is sre.LITERAL:
        return f"\\x{value:02x}"
    if kind is sre.NOT_LITERAL:
        return f"[^\\x{value:02x}]"
    if kind is sre.ANY:
        return "."
    if kind is sre.IN:
        return _set(value)
    if kind is sre.BRANCH:
        return _either(map(_sequence, value[1]))
    if kind is sre.SUBPATTERN:
        return _flagged(value[1], value[2], _sequence(value[3]))
    if kind is sre.ATOMIC_GROUP:
        return f"(?>{_sequence(value)})"
    if kind in _REPEATS:
        least, most, item = value
        _refuse_nested(most, item)
        return f"(?:{_sequence(item)}){{{least},{'' if most == sre.MAXREPEAT else most}}}{_REPEATS[kind]}"
    if kind is sre.AT and value in _PLACES:
        return _PLACES[value]
    raise _Opaque


def _sequence(items: Any) -> str:
    return "".join(_whole(*item) for item in items)


def _either(sources: Any) -> str:
    return f"(?:{'|'.join(sources)})"


def _flagged(added: int, removed: int, source: str) -> str:
    on = "".join(letter for letter, flag in _FLAGS if added & flag)
    off = "".join(letter for letter, flag in _FLAGS if removed & flag)
    return f"(?{on}{'-' if off else ''}{off}:{source})" if on or off else f"(?:{source})"


def _set(items: Sequence[tuple[Any, Any]]) -> str:
    parts = []
    for kind, value in items:
        if kind is sre.NEGATE:
            parts.append("^")
        elif kind is sre.LITERAL:
            parts.append(f"\\x{value:02x}")
        elif kind is sre.RANGE:
            parts.append(f"\\x{value[0]:02x}-\\x{value[1]:02x}")
        elif kind is sre.CATEGORY and value in _CATEGORIES:
            parts.append(_CATEGORIES[value])
        else:
            raise _Opaque
    return f"[{''.join(parts)}]"


def _refuse_nested(most: int, items: Any) -> None:
    """Unbounded repeats within repeats would take for ever to find that nothing fits."""
    if most > 1 and _unbounded(items):
        raise _Opaque


def _unbounded(items: Any) -> bool:
    for kind, value in items:
        if kind in _REPEATS and (value[1] == sre.MAXREPEAT or _unbounded(value[2])):
            return True
        if kind is sre.SUBPATTERN and _unbounded(value[3]):
            return True
        if kind is sre.ATOMIC_GROUP and _unbounded(value):
            return True
        if kind is sre.BRANCH and any(map(_unbounded, value[1])):
            return True
    return False


_REPEATS = {sre.MAX_REPEAT: "", sre.MIN_REPEAT: "?", sre.POSSESSIVE_REPEAT: "+"}
_FLAGS = (("i", re.I), ("m", re.M), ("s", re.S))
_PLACES = {
    sre.AT_BEGINNING: "^",
    sre.AT_BEGINNING_STRING: r"\A",
    sre.AT_END: r"\Z",
    sre.AT_END_STRING: r"\Z",
}
_CATEGORIES = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
