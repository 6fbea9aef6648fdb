"""What stands in the place of a function or a class: the real one or the simulated one, by who calls it."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from ._active import participant
from ._handles import failure, is_virtual
from ._locks import SimLock

__all__ = ("class_of", "either", "on_virtual")

_Function = Callable[..., Any]


def either(real: _Function, simulated: _Function) -> _Function:
    """A function that is the one or the other, by the thread that calls it."""

    def chosen(*args: Any, **keywords: Any) -> Any:
        kernel = participant()
        if kernel is None:
            return real(*args, **keywords)
        return simulated(kernel, *args, **keywords)

    chosen.__name__ = getattr(real, "__name__", "chosen")
    return chosen


def on_virtual(real: _Function, simulated: _Function) -> _Function:
    """A function on descriptors: what it does depends on whose the descriptor is."""

    def chosen(fd: Any, *args: Any, **keywords: Any) -> Any:
        if is_virtual(fd):
            kernel = participant()
            if kernel is None:
                raise failure(9)
            return simulated(kernel, fd, *args, **keywords)
        return real(fd, *args, **keywords)

    chosen.__name__ = getattr(real, "__name__", "chosen")
    return chosen


def class_of(real: Any, simulated: _Function) -> Any:
    """Stands for a class: makes the one or the other, and knows the instances of both."""

    class Meta(type):
        def __call__(cls, *args: Any, **keywords: Any) -> Any:
            kernel = participant()
            return real(*args, **keywords) if kernel is None else simulated(kernel, *args, **keywords)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, real) or type(instance) in made

        def __getattr__(cls, name: str) -> Any:
            return getattr(real, name)

        def __getitem__(cls, item: Any) -> Any:
            return cls

        def __or__(cls, other: Any) -> Any:
            return real | other

    made = tuple(
        kind
        for kind in (simulated, SimLock, getattr(queue, "_PySimpleQueue", None))
        if isinstance(kind, type)
    )
    return Meta(real.__name__, (), {"__module__": real.__module__, "__doc__": real.__doc__})
