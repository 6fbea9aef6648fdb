"""Points between the lines, or the instructions, of watched code, at which a thread may have to make way.

Only code that is named is watched: the number of points in the standard library would depend on what was imported before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ._active import participant

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("Points", "codes_of")


def codes_of(owner: Any) -> Iterator[CodeType]:
    """All code of a function, a class or a module, with what is defined inside."""
    if isinstance(owner, ModuleType):
        for value in list(vars(owner).values()):
            if getattr(value, "__module__", None) == owner.__name__:
                yield from codes_of(value)
        return
    if isinstance(owner, type):
        for value in list(vars(owner).values()):
            yield from codes_of(value)
        return
    if isinstance(owner, property):
        for function in (owner.fget, owner.fset, owner.fdel):
            if function is not None:
                yield from codes_of(function)
        return
    code = getattr(getattr(owner, "__wrapped__", getattr(owner, "__func__", owner)), "__code__", None)
    if isinstance(code, CodeType):
        yield from _with_inner(code)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


class Points:
    """Watches code while a simulation runs.

    Args:
        kernel: Whose tasks have to make way.
        watch: Functions, classes, modules.
        where: "line" or "instruction".

    Raises:
        UsageError: There is no code in what is to be watched.
    """

    def __init__(self, kernel: Kernel, watch: Iterable[Any], where: str) -> None:
        self._kernel = kernel
        self._codes = frozenset(code for owner in watch for code in codes_of(owner))
        self._known = frozenset(
            map(id, self._codes)
        )  # equal code is not the same code, and a code's hash takes its time
        self._where = where
        self._by_instruction = where == "instruction"
        self._tool = -1
        if not self._codes:
            raise UsageError("watch: functions, classes or modules that are written in Python")

    def install(self) -> None:
        """Begin to watch."""
        if sys.version_info >= (3, 12):
            self._monitor()
        else:
            import threading

            threading.settrace(self._trace)
            self._before = sys.gettrace()
            sys.settrace(self._trace)

    def remove(self) -> None:
        """Watch no more."""
        if sys.version_info >= (3, 12):
            monitoring = sys.monitoring
            for code in self._codes:
                monitoring.set_local_events(self._tool, code, 0)
            monitoring.register_callback(self._tool, self._event, None)
            monitoring.free_tool_id(self._tool)
        else:
            import threading

            threading.settrace(None)  # type: ignore[arg-type, unused-ignore]
            sys.settrace(self._before)

    if sys.version_info >= (3, 12):

        def _monitor(self) -> None:
            monitoring = sys.monitoring
            self._tool = next(number for number in (4, 5, 3, 0, 1, 2) if monitoring.get_tool(number) is None)
            monitoring.use_tool_id(self._tool, "servertest simulation")
            # Hypothesis gives its number back and leaves on what it had asked for (3.12 keeps that): all lines of the process would come here.
            monitoring.set_events(self._tool, 0)
            events = monitoring.events
            self._event = events.INSTRUCTION if self._by_instruction else events.LINE
            monitoring.register_callback(self._tool, self._event, self._point)
            for code in self._codes:
                monitoring.set_local_events(self._tool, code, self._event)

    def _point(self, code: CodeType, place: int) -> None:
        if id(code) not in self._known:
            return  # what another tool had asked for, in code that is not ours to interrupt
        kernel = participant()
        if kernel is self._kernel:
            kernel.point(self._where)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code not in self._codes:
            return None
        frame.f_trace_opcodes = self._by_instruction
        frame.f_trace_lines = not self._by_instruction
        return self._trace_inside

    def _trace_inside(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event in ("line", "opcode"):
            self._point(frame.f_code, 0)
        return self._trace_inside
