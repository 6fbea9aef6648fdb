"""What a process has at a moment, and what it has later that it did not have before.

A snapshot is taken around every test, so it holds only what is cheap to ask for: numbers and names, weak references to
threads and tasks (so that it keeps nothing alive that would otherwise go away). What things are in detail is asked when
one of them turns out to be left over.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeAlias

from ._dump import frames_by_thread, pending_tasks
from ._kernel import children, descriptors
from ._leak_origins import is_socket, watched_paths

if TYPE_CHECKING:
    import asyncio

__all__ = ("Snapshot",)

Key: TypeAlias = tuple[str, Any, Any]
"""What tells one thing from all others: its sort, and whatever identifies it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What this process has at a moment. Make one with `Snapshot.take`.

    Attributes:
        threads: Those that `threading` knows.
        raw_threads: Identifiers of threads that `threading` did not start.
        descriptors: What each open descriptor refers to; a number that was closed and reused refers to something else.
        children: Child processes, zombies too, each with its start time.
        tasks: Pending asyncio tasks.
        paths: Unix sockets in the directories, and those that are known: bound while a leak guard was there, or watched.
        directories: Where Unix sockets were looked for (not in what is below them).
    """

    threads: frozenset[weakref.ref[threading.Thread]]
    raw_threads: frozenset[int]
    descriptors: Mapping[int, str]
    children: Mapping[int, int]
    tasks: frozenset[weakref.ref[asyncio.Task[Any]]]
    paths: frozenset[str]
    directories: tuple[str, ...] = ()

    @classmethod
    def take(cls, *, directories: Iterable[str | os.PathLike[str]] = ()) -> Snapshot:
        """Look at this process now: some 20 microseconds, and 3 for each open descriptor.

        Args:
            directories: Where to look for the paths of Unix sockets. Choose private ones: everybody's sockets count.
        """
        places = tuple(os.fspath(directory) for directory in directories)
        return cls(
            threads=frozenset(map(weakref.ref, threading.enumerate())),
            raw_threads=_raw(),
            descriptors=descriptors(),
            children=children(),
            tasks=frozenset(map(weakref.ref, pending_tasks())),
            paths=frozenset(watched_paths()).union(*map(_sockets_in, places)),
            directories=places,
        )

    def retake(self) -> Snapshot:
        """Look again, at the same directories."""
        return Snapshot.take(directories=self.directories)

    def adopt(self, start: Snapshot, end: Snapshot) -> Snapshot:
        """This snapshot, and what appeared between two others.

        For what is made during a test but outlives it rightly: a fixture of wider scope, set up between `start`
        and `end`.
        """
        return replace(
            self,
            threads=self.threads | (end.threads - start.threads),
            raw_threads=self.raw_threads | (end.raw_threads - start.raw_threads),
            descriptors={**self.descriptors, **dict(end.descriptors.items() - start.descriptors.items())},
            children={**self.children, **dict(end.children.items() - start.children.items())},
            tasks=self.tasks | (end.tasks - start.tasks),
            paths=self.paths | (end.paths - start.paths),
        )


def _raw() -> frozenset[int]:
    """Threads that do not have code of `threading` at their outer end; also its own have it when they begin and end.

    So what is known to `threading` does not count: identifiers are given to the next thread as soon as one has ended.
    """
    frames = frames_by_thread()
    return frozenset(ident for ident, frame in frames.items() if not _begins_in_threading(frame))


def is_dummy(thread: threading.Thread) -> bool:
    """Whether the object merely stands for a thread that `threading` did not start (and may outlive it)."""
    return type(thread).__name__ == "_DummyThread"


def _begins_in_threading(frame: FrameType) -> bool:
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename == threading.__file__


def _sockets_in(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except OSError:  # it went with what was in it
        return []
    return [path for path in (os.path.join(directory, name) for name in names) if is_socket(path)]


@dataclass(slots=True)
class News:
    """What is there now and was not before. It holds threads and tasks alive: let go of it before looking again."""

    threads: list[threading.Thread] = field(default_factory=list)
    raw_threads: list[int] = field(default_factory=list)
    descriptors: dict[int, str] = field(default_factory=dict)
    children: dict[int, int] = field(default_factory=dict)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(
            self.threads or self.raw_threads or self.descriptors or self.children or self.tasks or self.paths
        )

    @property
    def identity(self) -> frozenset[Key]:
        """What identifies each of the things."""
        return frozenset(
            {
                *(("thread", id(thread), thread.ident) for thread in self.threads),
                *(("raw thread", ident, None) for ident in self.raw_threads),
                *(("descriptor", number, target) for number, target in self.descriptors.items()),
                *(("child", pid, started) for pid, started in self.children.items()),
                *(("task", id(task), None) for task in self.tasks),
                *(("path", path, None) for path in self.paths),
            }
        )


def news_between(before: Snapshot, after: Snapshot) -> News:
    """What `after` has and `before` had not."""
    return News(
        threads=[thread for ref in after.threads - before.threads if (thread := ref()) and thread.is_alive()],
        raw_threads=sorted(after.raw_threads - before.raw_threads),
        descriptors=_new_descriptors(before.descriptors, after.descriptors),
        children=dict(after.children.items() - before.children.items()),
        tasks=[task for ref in after.tasks - before.tasks if (task := ref()) and not task.done()],
        paths=sorted(after.paths - before.paths),
    )


def _new_descriptors(before: Mapping[int, str], after: Mapping[int, str]) -> dict[int, str]:
    """Those that refer to something new; what only moved to another number (a dup, a log file reopened) is not.

    The standard streams are left out: redirecting them is what test runners do.
    """
    moved = Counter(target for _, target in before.items() - after.items())
    new = {}
    for number, target in sorted(after.items() - before.items()):
        if moved[target]:
            moved[target] -= 1
        elif number > 2:
            new[number] = target
    return new
