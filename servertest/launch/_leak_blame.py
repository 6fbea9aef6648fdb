"""A sentence for each thing that was left behind: what it is, where it came from, what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ._dump import (
    Place,
    format_places,
    frames_by_thread,
    places_of,
    places_of_task,
    task_title,
    thread_title,
)
from ._kernel import end_of_pipe, process_facts, socket_facts
from ._leak_heap import holder_of, loop_descriptors, object_on, open_loops
from ._leak_origins import origin_of_command, origin_of_descriptor, origin_of_path, origin_of_thread
from ._leak_snapshot import Key, News

__all__ = ("Leak", "render_leaks")

_MOST_HOLDERS = 5
_ONLY_COLLECTED = (
    "it went away only when the garbage collector ran: never, or in another test, if left to chance"
)

# What to do about it.
_ADVICE = {
    "thread": "tell it to stop, close what it reads from, and join() it before the test ends",
    "worker thread": "shut its executor down: use it in a with block, or call shutdown()",
    "child process": "end it and wait for it: use Popen in a with block, or terminate() and wait()",
    "zombie": "wait for it: Popen.wait(), Process.join() or os.waitpid()",
    "listening socket": "close it; a server: server_close() after shutdown()",
    "socket": "close it, or use it in a with block",
    "event loop": "close it; asyncio.run() and asyncio.Runner do so by themselves",
    "task": "await it, or cancel it and await it, before its event loop stops",
    "Unix path": "remove it with os.unlink() once its socket is closed: closing does not",
}
_CLOSE = "close it, or use it in a with block"

# The kernel's names for what has no path; see proc_pid_fd(5).
_ANONYMOUS = {
    "[eventpoll]": "epoll",
    "[eventfd]": "eventfd",
    "[timerfd]": "timerfd",
    "[signalfd]": "signalfd",
    "[pidfd]": "pidfd",
    "inotify": "inotify",
}


@dataclass(frozen=True, slots=True)
class Leak:
    """One thing that was left behind; `str()` of it is a readable block.

    Attributes:
        kind: "thread", "worker thread", "child process", "zombie", "socket", "listening socket", "pipe", "file", "epoll",
            "event loop", "task", "Unix path", ...
        what: What it is, with the addresses, numbers or names by which it can be recognised.
        details: More lines: where a thread is, who holds a socket.
        origin: Where it was made, if `trace_allocations` was on: the lines of a stack.
        remark: Something that is odd about it, or "".
    """

    kind: str
    what: str
    details: tuple[str, ...] = ()
    origin: tuple[str, ...] = ()
    remark: str = ""

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _ADVICE.get(self.kind, _CLOSE)

    def __str__(self) -> str:
        lines = [self.what, *self.details]
        if self.origin:
            lines += ["    made here:", *(f"    {line}" for line in self.origin)]
        if self.remark:
            lines.append(f"    note: {self.remark}")
        return "\n".join([*lines, f"    to mend it: {self.advice}"])

    def collected(self) -> Leak:
        """The same leak, after the garbage collector has made it go away."""
        return replace(self, remark=_ONLY_COLLECTED)


def render_leaks(leaks: Iterable[Leak]) -> str:
    """All of them in one text, numbered, below a headline."""
    blocks = [f"{number}. {leak}" for number, leak in enumerate(leaks, 1)]
    things = "1 thing was" if len(blocks) == 1 else f"{len(blocks)} things were"
    return "\n\n".join([f"{things} left behind:", *blocks])


def blame(news: News) -> list[tuple[frozenset[Key], Leak]]:
    """A leak for each thing, or few things that belong together, and what identifies them."""
    return [
        *_threads(news),
        *_children(news),
        *_descriptors(dict(news.descriptors)),
        *_tasks(news),
        *_paths(news),
    ]


# -- threads and tasks


def _threads(news: News) -> Iterator[tuple[frozenset[Key], Leak]]:
    frames = frames_by_thread()
    for thread in news.threads:
        places = places_of(frames.get(thread.ident or 0))
        leak = Leak(
            kind="worker thread" if _is_worker(places) else "thread",
            what=f"{thread_title(thread)} is still running",
            details=tuple(format_places(places)),
            origin=_lines(origin_of_thread(thread)),
        )
        yield News(threads=[thread]).identity, leak
    for ident in news.raw_threads:
        details = tuple(format_places(places_of(frames.get(ident))))
        leak = Leak("thread", f"a thread that _thread started ({ident}) is still running", details)
        yield News(raw_threads=[ident]).identity, leak


def _is_worker(places: list[Place]) -> bool:
    return any(place.file.replace("\\", "/").endswith("concurrent/futures/thread.py") for place in places)


def _tasks(news: News) -> Iterator[tuple[frozenset[Key], Leak]]:
    for task in news.tasks:
        details = tuple(format_places(places_of_task(task)))
        yield News(tasks=[task]).identity, Leak("task", f"{task_title(task)} is still pending", details)


# -- children and paths


def _children(news: News) -> Iterator[tuple[frozenset[Key], Leak]]:
    for pid, started in news.children.items():
        facts = process_facts(pid)
        if facts is None:
            leak = Leak("child process", f"child process {pid}")
        elif facts.zombie:
            leak = Leak("zombie", f"child process {pid} {facts.command} has exited and was never waited for")
        else:
            what = f"child process {pid} is still there, {facts.doing}: {facts.command}"
            leak = Leak("child process", what, origin=_lines(origin_of_command(facts.command)))
        yield News(children={pid: started}).identity, leak


def _paths(news: News) -> Iterator[tuple[frozenset[Key], Leak]]:
    for path in news.paths:
        origin = _lines(origin_of_path(path))
        yield News(paths=[path]).identity, Leak("Unix path", f"Unix socket path {path}", origin=origin)


# -- descriptors


def _descriptors(left: dict[int, str]) -> Iterator[tuple[frozenset[Key], Leak]]:
    """Loops first, which own several; then what shares one object of the kernel together; then the rest."""
    for loop in open_loops(left.values()):
        numbers = loop_descriptors(loop) & left.keys()
        if numbers:
            mine = {number: left.pop(number) for number in sorted(numbers)}
            yield News(descriptors=mine).identity, _loop(loop, mine)
    holders = _MOST_HOLDERS
    for target, numbers_of_one in _by_target(left):
        leak = _descriptor(numbers_of_one, target, look_for_holder=holders > 0)
        holders -= 1
        yield News(descriptors=dict.fromkeys(numbers_of_one, target)).identity, leak


def _by_target(left: dict[int, str]) -> list[tuple[str, list[int]]]:
    groups: dict[Any, list[int]] = {}
    for number, target in left.items():
        distinct = target if not target.startswith("anon_inode:") else (target, number)
        groups.setdefault(distinct, []).append(number)
    return [(left[numbers[0]], numbers) for numbers in groups.values()]


def _loop(loop: Any, mine: dict[int, str]) -> Leak:
    state = "running" if loop.is_running() else "not running"
    name = f"{type(loop).__module__}.{type(loop).__qualname__}"
    return Leak("event loop", f"event loop {name}, {state}, was not closed ({_numbers(mine)})")


def _descriptor(numbers: list[int], target: str, *, look_for_holder: bool) -> Leak:
    kind, what = _sort_of(numbers[0], target)
    details = _holder(numbers[0]) if look_for_holder else ()
    origin = next(filter(None, map(origin_of_descriptor, numbers)), [])
    if kind == "pipe" and len(numbers) > 1:
        what = "both ends of a pipe"
    return Leak(kind, f"{what} ({_numbers(numbers)})", details, _lines(origin))


def _sort_of(number: int, target: str) -> tuple[str, str]:
    """Its kind, and what it is in words."""
    sort, _, rest = target.partition(":")
    if sort == "socket":
        facts = socket_facts(number)
        if facts is None:
            return "socket", f"a socket that is closed by now, {target}"
        connected = facts.peer is not None and facts.details
        return ("listening socket" if facts.listening else "socket"), facts.title + (
            f": {facts.details}" if connected else ""
        )
    if sort == "anon_inode":
        name = _ANONYMOUS.get(rest, rest.strip("[]"))
        return name, f"{name} descriptor"
    if sort == "pipe":
        return "pipe", f"{end_of_pipe(number)} end of a pipe"
    return "file", f"open file {target}"


def _holder(number: int) -> tuple[str, ...]:
    thing = object_on(number)
    if thing is None:
        return ()
    holder = holder_of(thing)
    name = f"{type(thing).__module__}.{type(thing).__qualname__}"
    return (f"    it is a {name}" + (f", kept in {holder}" if holder else ""),)


def _numbers(numbers: Iterable[int]) -> str:
    listed = list(map(str, numbers))
    return f"descriptor{'s' if len(listed) > 1 else ''} {', '.join(listed)}"


def _lines(places: list[Place]) -> tuple[str, ...]:
    return tuple(format_places(places)) if places else ()
