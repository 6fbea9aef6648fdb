"""The steps of the subject's own code: every line, and every moment between reading something shared and writing it back."""

from __future__ import annotations

import dis
import functools
import sys
import sysconfig
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType
from typing import Any, Self, TypeAlias

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
        self._called = False
        self._visits: dict[tuple[CodeType, int], int] = {}
        self._seen: list[tuple[str, int, str]] = []

    @property
    def seen(self) -> tuple[tuple[str, int, str], ...]:
        """The steps so far."""
        return tuple(self._seen)

    def __enter__(self) -> Self:
        self._watch: Any = _Watch(self._files, self._step)
        self._watch.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.end()

    def _step(self, code: CodeType, line: int, place: int, what: str) -> None:
        """One step.

        Args:
            code: In which code.
            line: In which line.
            place: Where: one number for each step of the code.
            what: What is done there.
        """
        visits = self._visits.get((code, place), 0)
        if self._called or visits >= _VISITS:
            return
        self._visits[code, place] = visits + 1
        number = len(self._seen)
        self._seen.append((code.co_filename, line, what))
        if number == self._at:
            self._called = True
            self._watch.end()
            self._call()


@functools.cache
def _writes(code: CodeType) -> dict[int, tuple[int, str]]:
    """Instructions that write to what others may see as well, by their place: line, and what is done."""
    found, line = {}, code.co_firstlineno
    for one in dis.get_instructions(code):
        if one.positions is not None and one.positions.lineno is not None:
            line = one.positions.lineno
        if one.opname in _WRITES:
            found[one.offset] = (line, one.opname)
    return found


_OnStep: TypeAlias = Callable[[CodeType, int, int, str], None]

if sys.version_info >= (3, 12):

    class _Watch:
        """Sees the steps of the thread that begins it, by `sys.monitoring`: tracers of others, such as that of coverage, are none of its business.

        Args:
            files: Names of the files in which the code is.
            step: Called before each step.
        """

        def __init__(self, files: frozenset[str], step: _OnStep) -> None:
            self._files = files
            self._step = step
            self._thread = threading.get_ident()
            self._codes: set[CodeType] = set()
            self._tool = -1

        def begin(self) -> None:
            """From now on."""
            monitoring, events = sys.monitoring, sys.monitoring.events
            self._tool = next(number for number in (4, 3, 5, 0, 1, 2) if monitoring.get_tool(number) is None)
            monitoring.use_tool_id(self._tool, "servertest contract")
            monitoring.register_callback(self._tool, events.PY_START, self._on_start)
            monitoring.register_callback(self._tool, events.LINE, self._on_line)
            monitoring.register_callback(self._tool, events.INSTRUCTION, self._on_instruction)
            monitoring.set_events(self._tool, events.PY_START)

        def end(self) -> None:
            """No more. Twice is once."""
            if self._tool < 0:
                return
            tool, self._tool = self._tool, -1
            monitoring, events = sys.monitoring, sys.monitoring.events
            monitoring.set_events(tool, 0)
            for code in self._codes:
                monitoring.set_local_events(tool, code, 0)
            for event in (events.PY_START, events.LINE, events.INSTRUCTION):
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)

        def _on_start(self, code: CodeType, offset: int) -> None:
            if code.co_filename in self._files and code not in self._codes and self._tool >= 0:
                self._codes.add(code)
                events = sys.monitoring.events
                wanted = events.LINE | (events.INSTRUCTION if _writes(code) else 0)
                sys.monitoring.set_local_events(self._tool, code, wanted)

        def _on_line(self, code: CodeType, line: int) -> None:
            if threading.get_ident() == self._thread:
                self._step(code, line, -line, "line")

        def _on_instruction(self, code: CodeType, offset: int) -> None:
            if threading.get_ident() == self._thread and (found := _writes(code).get(offset)):
                self._step(code, found[0], offset, found[1])

else:

    class _Watch:
        """The same by a trace function; what was traced before goes on afterwards."""

        def __init__(self, files: frozenset[str], step: _OnStep) -> None:
            self._files = files
            self._step = step
            self._before: Any = None
            self._over = True

        def begin(self) -> None:
            """From now on."""
            self._before, self._over = sys.gettrace(), False
            sys.settrace(self._on_call)

        def end(self) -> None:
            """No more. Twice is once."""
            if not self._over:
                self._over = True
                sys.settrace(self._before)

        def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
            if frame.f_code.co_filename not in self._files:
                return None
            frame.f_trace_opcodes = True
            return self._on_event

        def _on_event(self, frame: FrameType, event: str, argument: Any) -> Any:
            code = frame.f_code
            if event == "line":
                self._step(code, frame.f_lineno, -frame.f_lineno, "line")
            elif event == "opcode" and (found := _writes(code).get(frame.f_lasti)):
                self._step(code, found[0], frame.f_lasti, found[1])
            return self._on_event
