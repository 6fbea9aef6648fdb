"""Locks that were made before the simulation: they are exchanged for simulated ones while it runs.

A module or a class often has a lock of its own. Who waits for a real one waits for real, while the task that would release it has not got its
turn; so the lock is replaced where it is found.
"""

from __future__ import annotations

import _thread
import queue
import threading
from types import ModuleType
from typing import Any

from ._locks import SimLock, SimRLock

__all__ = ("Adopted",)

_LOCK = type(_thread.allocate_lock())
_RLOCKS: tuple[type, ...] = (type(_thread.RLock()), threading._PyRLock)  # type: ignore[attr-defined]
_PRIMITIVES = (threading.Condition, threading.Event, threading.Semaphore, threading.Barrier, queue.Queue)


class Adopted:
    """What was exchanged, to be put back."""

    def __init__(self) -> None:
        self._back: list[tuple[Any, str, Any]] = []
        self._new: dict[int, Any] = {}
        self._seen: set[int] = set()

    def adopt(self, *owners: Any) -> None:
        """Look into modules with their classes and the objects of these, into classes with all their bases, and into objects."""
        for owner in owners:
            if isinstance(owner, type):
                for base in owner.__mro__:
                    self._look_into(base)
            else:
                self._look_into(owner)
                if isinstance(owner, ModuleType) and owner.__name__.partition(".")[0] not in _ELSEWHERE:
                    for value in list(vars(owner).values()):
                        cls = value if isinstance(value, type) else type(value)
                        if cls.__module__ == owner.__name__:
                            self._look_into(value)

    def _look_into(self, owner: Any) -> None:
        module = owner.__name__ if isinstance(owner, ModuleType) else getattr(owner, "__module__", "")
        if id(owner) in self._seen or str(module).partition(".")[0] in _ELSEWHERE:
            return
        self._seen.add(id(owner))
        variables = getattr(owner, "__dict__", None)
        if not isinstance(variables, dict) and not isinstance(owner, type):
            return
        for name, value in list(vars(owner).items()):
            if isinstance(value, (_LOCK, *_RLOCKS)):
                self._exchange(owner, name, value)
            elif isinstance(value, _PRIMITIVES):
                self._renew(value)

    def _exchange(self, owner: Any, name: str, lock: Any) -> None:
        new = self._new.get(id(lock))
        if new is None:
            new = self._new[id(lock)] = SimLock() if isinstance(lock, _LOCK) else SimRLock()
        self._back.append((owner, name, lock))
        setattr(owner, name, new)

    def _renew(self, thing: Any) -> None:
        """A condition, and what is built upon one, keeps the methods of its lock."""
        if id(thing) in self._seen:
            return
        self._seen.add(id(thing))
        for name, value in list(vars(thing).items()):
            if isinstance(value, (_LOCK, *_RLOCKS)):
                self._exchange(thing, name, value)
            elif isinstance(value, threading.Condition):
                self._renew(value)
        if isinstance(thing, threading.Condition):
            lock: Any = thing._lock  # type: ignore[attr-defined]
            for name in ("acquire", "release", "_release_save", "_acquire_restore", "_is_owned"):
                if name in vars(thing) and hasattr(lock, name):
                    self._back.append((thing, name, vars(thing)[name]))
                    setattr(thing, name, getattr(lock, name))

    def give_back(self) -> None:
        """Put everything back as it was."""
        while self._back:
            owner, name, value = self._back.pop()
            setattr(owner, name, value)


#: Nobody waits long for the locks of these, or they belong to the world outside.
_ELSEWHERE = frozenset(
    {
        "_pytest",
        "builtins",
        "coverage",
        "importlib",
        "io",
        "logging",
        "pluggy",
        "pytest",
        "servertest",
        "socketserver",
        "threading",
        "_thread",
    }
)
