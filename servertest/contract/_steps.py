"""The steps of the subject's own code: every line, and every moment between reading something shared and writing it back."""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import Any, Self

__all__ = ("Files", "Stepper", "subject_files")

#: Instructions that write to what others may see as well.
_WRITES = frozenset(
    {"STORE_ATTR", "STORE_SUBSCR", "STORE_GLOBAL", "STORE_DEREF", "DELETE_SUBSCR", "DELETE_ATTR"}
)
#: How often each step counts: the second time it may do something else.
_VISITS = 2


@dataclass(frozen=True, slots=True)
class Files:
    """Where the subject's own code is.

    Attributes:
        names: Names of files.
        modules: Names of modules.
    """

    names: frozenset[str]
    modules: frozenset[str]


def subject_files(handler: Any) -> Files:
    """The files in which a handler's classes are, those of the standard library and of this package left out."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    names, modules = set(), set()
    for cls in getattr(handler, "__mro__", (handler,)):
        for value in (*vars(cls).values(), cls):
            code = _code_of(value)
            if code is not None and not _is_foreign(code.co_filename):
                names.add(code.co_filename)
                modules.add(cls.__module__)
    return Files(frozenset(names), frozenset(modules))


def _code_of(value: Any) -> CodeType | None:
    value = getattr(value, "__func__", value)
    value = getattr(value, "fget", value)
    return getattr(value, "__code__", None)


@functools.cache
def _is_foreign(name: str) -> bool:
    own = __file__.rpartition("/contract/")[0] + "/"
    places = [sysconfig.get_path(place) for place in ("stdlib", "platlib", "purelib")]
    return name.startswith((own, "<frozen", *places))


class Stepper:
    """Counts the steps of one thread, and calls somebody before one of them.

    Args:
        files: Where the subject's code is.
        at: Before which step (from 0) to call; None to count only.
        call: Whom.

    Attributes:
        seen: The steps so far: file, line, and what is done there.
    """

    def __init__(self, files: Files, at: int | None, call: Callable[[], None]) -> None:
        self._files = files.names
        self._at = at
        self._call = call
        self._visits: dict[tuple[CodeType, int], int] = {}
        self._writes: dict[CodeType, dict[int, str]] = {}
        self._seen: list[tuple[str, int, str]] = []
        self._before: Any = None

    @property
    def seen(self) -> tuple[tuple[str, int, str], ...]:
        """The steps so far."""
        return tuple(self._seen)

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._on_call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sys.settrace(self._before)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in self._files:
            return None
        frame.f_trace = self._on_event  # 3.13 needs it before the next line
        frame.f_trace_opcodes = True
        sys.settrace(self._on_call)  # and 3.12 looks at instructions only after this
        if code not in self._writes:
            self._writes[code] = {
                one.offset: one.opname for one in dis.get_instructions(code) if one.opname in _WRITES
            }
        return self._on_event

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self._step(frame, -frame.f_lineno, "line")
        elif event == "opcode":
            what = self._writes[frame.f_code].get(frame.f_lasti)
            if what is not None:
                self._step(frame, frame.f_lasti, what)
        return self._on_event

    def _step(self, frame: FrameType, place: int, what: str) -> None:
        key = (frame.f_code, place)
        visits = self._visits.get(key, 0)
        if visits >= _VISITS:
            return
        self._visits[key] = visits + 1
        number = len(self._seen)
        self._seen.append((frame.f_code.co_filename, frame.f_lineno, what))
        if number == self._at:
            sys.settrace(None)
            self._call()
