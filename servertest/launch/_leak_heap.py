"""What Python objects stand behind descriptors: asked of the garbage collector, once something is found to be left.

Takes some 10 milliseconds for each 100,000 objects. Objects are told by their type alone: `isinstance` would wake up
lazy proxies that happen to lie about.
"""

from __future__ import annotations

import _socket
import gc
import io
import os
import sys
from collections.abc import Callable, Iterable
from types import CoroutineType, FrameType, GeneratorType, MemberDescriptorType, ModuleType
from typing import Any

__all__ = ("holder_of", "loop_descriptors", "object_on", "open_loops")

_STREAMS = {"_io", "io", "socket"}
_FILENO: tuple[tuple[type, Callable[[Any], int]], ...] = (
    (_socket.socket, _socket.socket.fileno),
    (io.FileIO, io.FileIO.fileno),
)


def open_loops(targets: Iterable[str]) -> list[Any]:
    """All asyncio event loops that have not been closed.

    Args:
        targets: What the descriptors refer to among which theirs must be. Where none is a selector there is no loop,
            and nothing needs to be searched (Linux only: elsewhere selectors do not show).
    """
    module = sys.modules.get("asyncio.events")
    if module is None or (sys.platform == "linux" and not any("eventpoll" in target for target in targets)):
        return []
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), module.AbstractEventLoop)]
    return [loop for loop in found if not loop.is_closed()]


def loop_descriptors(loop: Any) -> set[int]:
    """The descriptors that an event loop keeps for itself: its selector, and the two ends that wake it up."""
    parts = (getattr(loop, name, None) for name in ("_selector", "_ssock", "_csock"))
    return {number for part in parts if part is not None and (number := _fileno(part)) >= 0}


def _fileno(thing: Any) -> int:
    try:
        return int(thing.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or of no such kind (select() needs no descriptor)
        return -1


def object_on(descriptor: int) -> object | None:
    """The socket or raw file object that owns a descriptor, if there is one."""
    for thing in gc.get_objects():
        for sort, fileno in _FILENO:
            if issubclass(type(thing), sort) and _asks(fileno, thing) == descriptor:
                return thing  # type: ignore[no-any-return]
    return None


def _asks(fileno: Callable[[Any], int], thing: Any) -> int:
    try:
        return fileno(thing)
    except (OSError, ValueError):
        return -1


def holder_of(thing: object, *, climb: int = 2) -> str:
    """Who keeps an object alive: ``'sock' of app.Client``; "" if that cannot be told.

    Args:
        thing: The object.
        climb: How many of the library's streams may be passed over on the way to whoever uses them.
    """
    for referrer in gc.get_referrers(thing):
        owner, names = _names_of(referrer)
        if climb and type(owner).__module__ in _STREAMS:
            return holder_of(owner, climb=climb - 1)
        name = next((name for name, value in names.items() if value is thing), None)
        if owner is not None and name is not None:
            return f"{name!r} of {_title(owner)}"
    return ""


def _names_of(referrer: Any) -> tuple[object | None, dict[str, Any]]:
    """The function, module or instance that a referrer is or belongs to, with its variables or attributes."""
    if type(referrer) is dict:
        return _owner_of(referrer), referrer
    frame = referrer if isinstance(referrer, FrameType) else None
    if isinstance(referrer, (GeneratorType, CoroutineType)):
        frame = referrer.gi_frame if isinstance(referrer, GeneratorType) else referrer.cr_frame
    if frame is not None:
        asks = os.path.basename(frame.f_code.co_filename).startswith("_leak")
        return referrer, {} if asks else dict(frame.f_locals)
    if type(referrer).__module__ == "builtins":
        return None, {}
    return referrer, {**getattr(referrer, "__dict__", {}), **_slots_of(referrer)}


def _slots_of(instance: object) -> dict[str, Any]:
    found = {}
    for base in type(instance).__mro__:
        for name, member in vars(base).items():
            if isinstance(member, MemberDescriptorType):
                found[name] = getattr(instance, name, None)
    return found


def _owner_of(names: dict[str, Any]) -> object | None:
    """The module or instance whose ``__dict__`` this is."""
    for owner in gc.get_referrers(names):
        if type(owner).__dictoffset__ and getattr(owner, "__dict__", None) is names:
            return owner  # type: ignore[no-any-return]
    return None


def _title(owner: object) -> str:
    if isinstance(owner, ModuleType):
        return f"module {owner.__name__}"
    if isinstance(owner, FrameType):
        return f"{owner.f_code.co_qualname}()"
    if isinstance(owner, (GeneratorType, CoroutineType)):
        return f"{owner.__qualname__}()"
    return f"{type(owner).__module__}.{type(owner).__qualname__}"
