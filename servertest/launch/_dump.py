"""What a person wants to see when something hangs: threads, tasks, children and sockets, and what each waits for.

Made to be called at the worst moment: from a timer's thread, from a signal handler, while a lock is held or a peer is
stuck. So nothing here waits for anybody, nobody's `__repr__` runs, and what cannot be described says so instead of
raising.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ._kernel import children, process_facts, socket_facts

if TYPE_CHECKING:
    import asyncio
    import socket

__all__ = (
    "describe_children",
    "describe_sockets",
    "describe_tasks",
    "describe_threads",
    "hang_dump",
    "watch_loop",
)

_T = TypeVar("_T")

_DEPTH = 12
_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_TEST_RUNNERS = {"_pytest", "pluggy", "pytest", "pytest_timeout", "xdist", "execnet"}


def hang_dump(
    what: str,
    *,
    threads: Iterable[threading.Thread] | None = None,
    tasks: Iterable[asyncio.Task[Any]] | None = None,
    pids: Iterable[int] | None = None,
    sockets: Iterable[socket.socket | int] = (),
    skip_internals: bool = True,
) -> str:
    """Everything that is known about a hang, to be put into the message of whoever lost patience.

    Args:
        what: What was waited for; the first line.
        threads: Default all of this process.
        tasks: Default all pending asyncio tasks that can be found.
        pids: Processes to describe; default the children of this one.
        sockets: Sockets, or their descriptors.
        skip_internals: Fold the frames of libraries, see `describe_threads`.
    """
    sections = {
        "threads": describe_threads(threads, skip_internals=skip_internals),
        "asyncio tasks": describe_tasks(tasks, skip_internals=skip_internals),
        "child processes": describe_children(pids),
        "sockets": describe_sockets(sockets),
    }
    return "\n".join([what, *(f"--- {name} ---\n{text}" for name, text in sections.items() if text)])


# -- threads


def describe_threads(
    threads: Iterable[threading.Thread] | None = None, *, skip_internals: bool = True, depth: int = _DEPTH
) -> str:
    """Threads with their stacks, the outermost call first, as in a traceback.

    Args:
        threads: Those to describe; all of this process by default, also those that `threading` does not know.
        skip_internals: Fold the calls inside the standard library, servertest and the test runner, except the
            innermost one.
        depth: How many calls to show of each; the innermost ones.
    """
    frames = frames_by_thread()

    def known(thread: threading.Thread) -> str:
        return _stack(thread_title(thread), frames.pop(thread.ident or 0, None))

    def unknown(ident: int) -> str:
        return _stack(f"thread {ident}, not started by threading", frames[ident])

    def _stack(title: str, frame: FrameType | None) -> str:
        return "\n".join([f"{title}:", *format_places(places_of(frame), skip_internals, depth)])

    text = _each("thread", known, threading.enumerate if threads is None else lambda: threads)
    others = _each("thread", unknown, lambda: frames) if threads is None else ""
    return "\n".join(filter(None, (text, others)))


def frames_by_thread() -> dict[int, FrameType]:
    """The innermost frame of each thread that runs Python code, whoever started it."""
    return sys._current_frames()  # noqa: SLF001 (documented; the only way to see another thread's stack)


def thread_title(thread: threading.Thread) -> str:
    """A thread by its name and state."""
    notes = ["daemon"] if thread.daemon else []
    if thread.ident == threading.get_ident():
        notes.append("this one")
    if not thread.is_alive():
        notes.append("has ended" if thread.ident else "not started")
    return f"thread {thread.name!r}" + (f" ({', '.join(notes)})" if notes else "")


# -- stacks


class Place(NamedTuple):
    """A line of code that is, or was, being run."""

    file: str
    line: int
    function: str


def places_of(frame: FrameType | None) -> list[Place]:
    """The calls that led to a frame, outermost first; those of this module left out."""
    found = []
    while frame is not None:
        if frame.f_code.co_filename != __file__:
            found.append(_place(frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found[::-1]


def _place(code: CodeType, line: int | None) -> Place:
    return Place(code.co_filename, line or code.co_firstlineno, code.co_qualname)


def format_places(places: list[Place], skip_internals: bool = True, depth: int = _DEPTH) -> list[str]:
    """Lines for a stack, indented by four."""
    if not places:
        return ["    (no Python code to show)"]
    pieces = list(_pieces(places, skip_internals))
    hidden = sum(calls for calls, _ in pieces[:-depth])
    lines = [f"    ({_count(hidden, 'call')} further out)"] if hidden else []
    return lines + [line for _, piece in pieces[-depth:] for line in piece]


def _pieces(places: list[Place], skip_internals: bool) -> Iterator[tuple[int, list[str]]]:
    """How many calls, and lines for them: those that matter one by one, those inside libraries by the run."""
    for folded, run in groupby(
        places[:-1], lambda place: skip_internals and library_of(place.file) is not None
    ):
        calls = list(run)
        if folded:
            names = dict.fromkeys(str(library_of(place.file)) for place in calls)
            yield len(calls), [f"    ({_count(len(calls), 'call')} in {', '.join(names)})"]
        else:
            yield from ((1, _place_lines(place)) for place in calls)
    yield 1, _place_lines(places[-1])


def _place_lines(place: Place) -> list[str]:
    source = linecache.getline(place.file, place.line).strip()
    where = f'    File "{place.file}", line {place.line}, in {place.function}'
    return [where, f"        {source}"] if source else [where]


def library_of(file: str) -> str | None:
    """The library that a source file belongs to, if it is one whose insides concern nobody who looks for a hang."""
    if file.startswith("<frozen "):
        return file[8:-1]
    if file.startswith(_OURS):
        return _module("servertest", file[len(_OURS) :])
    package = package_of(file)
    if package is not None:
        return package if package in _TEST_RUNNERS else None
    return _module("", file[len(_STANDARD) :]) if file.startswith(_STANDARD) else None


def package_of(file: str) -> str | None:
    """The installed package that a source file belongs to."""
    parts = file.replace("\\", "/").split("/")
    for site in ("site-packages", "dist-packages"):
        if site in parts[:-1]:
            return parts[parts.index(site) + 1].removesuffix(".py")
    return None


def _module(package: str, path: str) -> str:
    """The first two names of a module: ``threading``, ``asyncio``, ``servertest.launch``."""
    top = path.replace(os.sep, "/").removesuffix(".py").split("/")[0]
    return f"{package}.{top}" if package else top


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# -- asyncio


def describe_tasks(
    tasks: Iterable[asyncio.Task[Any]] | None = None, *, skip_internals: bool = True, depth: int = _DEPTH
) -> str:
    """Pending asyncio tasks, and where in their coroutines each of them is; "" if there are none."""

    def describe(task: asyncio.Task[Any]) -> str:
        places = format_places(places_of_task(task), skip_internals, depth)
        return "\n".join([f"{task_title(task)}:", *places])

    return _each("task", describe, pending_tasks if tasks is None else lambda: tasks)


def task_title(task: asyncio.Task[Any]) -> str:
    """A task by its name, its coroutine and the state of its loop."""
    loop = task.get_loop()
    state = "closed" if loop.is_closed() else "running" if loop.is_running() else "not running"
    name = getattr(task.get_coro(), "__qualname__", "?")
    return f"task {task.get_name()!r} of {name}() (its event loop is {state})"


def places_of_task(task: asyncio.Task[Any]) -> list[Place]:
    """Where the task's coroutine is, then the one that it awaits, and so on inwards."""
    found = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None)
        if frame is not None:
            found.append(_place(frame.f_code, frame.f_lineno))
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None)
    return found


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Have the tasks of an event loop found as long as it lives, though it may run in another thread."""
    _loops.add(loop)


def pending_tasks() -> set[asyncio.Task[Any]]:
    """The asyncio tasks of this process that have not ended, whatever their loop.

    Up to 3.13 the interpreter keeps them in one register. From 3.14 on each loop has to be asked: the current one is,
    and those that `watch_loop` was told of.
    """
    module = sys.modules.get("asyncio.tasks")
    if module is None:
        return set()
    found: set[asyncio.Task[Any]] = set()
    for register in ("_all_tasks", "_scheduled_tasks", "_eager_tasks"):
        found.update(_copy(getattr(module, register, ())))
    for loop in [*_loops, *_current_loop()]:
        found |= module.all_tasks(loop)
    return {task for task in found if not task.done()}


def _copy(register: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Loops in other threads may add to it while it is read: then it is read again (as asyncio.all_tasks does)."""
    for _ in range(1000):
        try:
            return list(register)
        except RuntimeError:
            continue
    return []


def _current_loop() -> list[asyncio.AbstractEventLoop]:
    if sys.version_info >= (3, 14):  # where asking no longer makes a loop, nor warns
        try:
            return [sys.modules["asyncio"].get_event_loop()]
        except RuntimeError:
            pass
    return []


# -- processes and sockets


def describe_children(pids: Iterable[int] | None = None) -> str:
    """A line for each process: command, state, what it waits for in the kernel; "" if there are none.

    Args:
        pids: Those to describe; the children of this process by default.
    """
    return _each("process", _process, children if pids is None else lambda: pids)


def _process(pid: int) -> str:
    facts = process_facts(pid)
    if facts is None:
        return f"process {pid}: gone, or not known to this system"
    return f"process {pid}: {facts.command}: {facts.doing}"


def describe_sockets(sockets: Iterable[socket.socket | int]) -> str:
    """A line for each socket (or descriptor of one): addresses, state, bytes that wait; "" if there are none."""
    return _each("socket", _socket_line, lambda: sockets)


def _socket_line(subject: socket.socket | int) -> str:
    facts = socket_facts(subject)
    if facts is None:
        number = subject if isinstance(subject, int) else subject.fileno()
        return f"descriptor {number}: closed, or not a socket"
    return f"descriptor {facts.descriptor}: {facts.title}" + (f": {facts.details}" if facts.details else "")


def _each(what: str, describe: Callable[[_T], str], find: Callable[[], Iterable[_T]]) -> str:
    """A paragraph for each thing; one that cannot be described does not hide the others."""
    paragraphs = []
    try:
        for thing in tuple(find()):
            try:
                paragraphs.append(describe(thing))
            except Exception as error:  # noqa: BLE001 (a dump that fails would hide the hang that it is about)
                paragraphs.append(f"({what} that cannot be described: {type(error).__name__})")
    except Exception as error:  # noqa: BLE001 (the same, for lists that change while they are read)
        paragraphs.append(f"(of sort {what} some cannot be listed: {type(error).__name__})")
    return "\n".join(paragraphs)
