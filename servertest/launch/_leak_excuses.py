"""What appears during a test and is nobody's leak.

Our own helpers are registered. The rest is known by what it is: tools that keep a thread, files and sockets that the
C library or the interpreter opens once and for all, workers that a pool made earlier adds when it needs them.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ._dump import Place, frames_by_thread, library_of, package_of, places_of
from ._kernel import SocketFacts, identity, process_facts, socket_facts, started
from ._leak_heap import loop_descriptors, open_loops
from ._leak_snapshot import News, Snapshot, is_dummy

__all__ = (
    "register_own_fd",
    "register_own_pid",
    "register_own_thread",
    "unregister_own_fd",
    "unregister_own_pid",
)

# Packages that keep a thread for their own purposes, and those whose pools keep idle workers for later.
_TOOLS = {"coverage", "debugpy", "execnet", "hypothesis", "pydevd", "pytest_timeout", "tqdm", "xdist"}
_POOLS = {"anyio", "trio"}

# Opened once and kept: by the interpreter, by the C library's resolver, user database and syslog, by tools.
_ONE_OFF_FILES = {f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero")}
_ONE_OFF_DIRECTORIES = ("/.hypothesis/", "/.pytest_cache/", "/usr/lib/locale/", "/usr/share/locale/")
_ONE_OFF_PEERS = ("/dev/log", "/run/dbus/", "/run/nscd/", "/run/systemd/", "/var/lib/sss/")
_DNS_PORT = 53

_own_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_own_fds: dict[int, str] = {}
_own_pids: dict[int, int] = {}
_own_raw_threads: set[int] = set()
_own_loops: weakref.WeakSet[Any] = weakref.WeakSet()
_excused: list[Callable[[], Any]] = []


def register_own_thread(thread: threading.Thread) -> None:
    """Never call a thread a leak: it belongs to servertest and outlives tests on purpose."""
    _own_threads.add(thread)


def register_own_fd(descriptor: int) -> None:
    """Never call what a descriptor refers to now a leak. A later file of the same number is not meant.

    Raises:
        OSError: It is not open.
    """
    _own_fds[descriptor] = identity(descriptor)


def unregister_own_fd(descriptor: int) -> None:
    """Take back `register_own_fd`, best just before closing."""
    _own_fds.pop(descriptor, None)


def register_own_pid(pid: int) -> None:
    """Never call a child process a leak, nor a zombie. A later process of the same number is not meant."""
    _own_pids[pid] = started(pid)


def unregister_own_pid(pid: int) -> None:
    """Take back `register_own_pid`, best just before waiting for it."""
    _own_pids.pop(pid, None)


def excuse(things: Iterable[Any]) -> None:
    """Never call these leaks, as somebody has told of them already: threads, what has a `fileno`, event loops, threads' identifiers."""
    for thing in things:
        if isinstance(thing, threading.Thread):
            register_own_thread(thing)
        elif isinstance(thing, int):
            _own_raw_threads.add(thing)
        elif hasattr(thing, "call_soon_threadsafe"):
            _own_loops.add(thing)
        else:
            _excused.append(_reference_to(thing))


def _reference_to(thing: Any) -> Callable[[], Any]:
    """A weak reference, so that what is dropped is closed; a strong one to what cannot have any, and is closed by its owner."""
    try:
        return weakref.ref(thing)
    except TypeError:
        return lambda: thing


def _excused_descriptors() -> set[int]:
    """Asked anew each time: when such a thing is closed, its number goes to another, which may look the same."""
    _excused[:] = [ref for ref in _excused if (_fileno(ref()) or -1) >= 0]
    numbers = {number for ref in _excused if (number := _fileno(ref())) is not None}
    return numbers.union(*(loop_descriptors(loop) for loop in _own_loops if not loop.is_closed()))


def unregister_own_raw_thread(ident: int) -> None:
    """Take back that a thread without an object was excused: its identifier goes to the next one."""
    _own_raw_threads.discard(ident)


def without_excused(news: News, before: Snapshot) -> News:
    """What remains when everything that is nobody's leak is taken out."""
    if not news:
        return news
    frames = frames_by_thread()
    stacks = {ident: places_of(frame) for ident, frame in frames.items()}
    own = {*_descriptors_in_use(), *_excused_descriptors()} if news.descriptors else set()
    return News(
        threads=[
            one for one in news.threads if not _thread_is_fine(one, stacks.get(one.ident or 0, []), before)
        ],
        raw_threads=[
            ident for ident in news.raw_threads if not _raw_thread_is_fine(ident, stacks.get(ident, []))
        ],
        descriptors={
            number: target
            for number, target in news.descriptors.items()
            if number not in own and not _descriptor_is_fine(number, target)
        },
        children={pid: start for pid, start in news.children.items() if not _child_is_fine(pid, start)},
        tasks=[task for task in news.tasks if task.get_loop() not in _own_loops],
        paths=[path for path in news.paths if not _path_is_fine(path)],
    )


# -- threads


def someone_else_runs() -> bool:
    """Whether a thread is alive that could yet close or end something: neither this one nor a tool's."""
    me = threading.get_ident()
    known = {thread.ident: thread for thread in threading.enumerate()}
    for ident, frame in frames_by_thread().items():
        thread = known.get(ident)
        ours = thread is not None and (thread in _own_threads or _is_tool_timer(thread))
        if ident != me and not ours and not _is_tool(places_of(frame)):
            return True
    return False


def _thread_is_fine(thread: threading.Thread, places: list[Place], before: Snapshot) -> bool:
    return (
        thread is threading.current_thread()
        or is_dummy(thread)  # stands for a raw thread, and outlives it: that is judged below
        or thread in _own_threads
        or _is_tool_timer(thread)
        or _is_tool(places)
        or _is_parked(places, thread, before)
        or _works_for_earlier_server(thread, before)
    )


def _raw_thread_is_fine(ident: int, places: list[Place]) -> bool:
    """Whether it has ended by now, is this one, or belongs to a tool."""
    return not places or ident == threading.get_ident() or ident in _own_raw_threads or _is_tool(places)


def _is_tool_timer(thread: threading.Thread) -> bool:
    function = getattr(thread, "function", None) if isinstance(thread, threading.Timer) else None
    return (getattr(function, "__module__", None) or "").split(".")[0] in _TOOLS


def _is_tool(places: list[Place]) -> bool:
    outermost = next((place.file for place in places if library_of(place.file) != "threading"), "")
    return package_of(outermost) in _TOOLS


def _is_parked(places: list[Place], thread: threading.Thread, before: Snapshot) -> bool:
    """An idle worker of a pool that was there before, or that nobody shuts down (anyio's and trio's)."""
    if not all(library_of(place.file) or package_of(place.file) in _POOLS for place in places):
        return False
    if any(package_of(place.file) in _POOLS for place in places):
        return True
    queues = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", {})
    queue = queues.get(thread)
    if queue is None:
        return False
    earlier = (ref() for ref in before.threads)
    return any(queues.get(one) is queue for one in earlier if one) or _serves_earlier_loop(thread, before)


def _works_for_earlier_server(thread: threading.Thread, before: Snapshot) -> bool:
    """Whether it is a worker of a pool of ours whose server served already; it ends with that server."""
    server = getattr(thread, "servertest_server", None)
    loops = getattr(server, "__dict__", {}).get("_BaseServer__serving", ())
    earlier = {one.ident for one in (ref() for ref in before.threads) if one is not None}
    return any(loop.ident in earlier for loop in loops)


def _serves_earlier_loop(thread: threading.Thread, before: Snapshot) -> bool:
    """Whether it belongs to the default executor of an event loop that was there before, and ends with it."""
    for loop in open_loops(before.descriptors.values()):
        workers = getattr(getattr(loop, "_default_executor", None), "_threads", ())
        if thread in workers:
            return loop_descriptors(loop) <= before.descriptors.keys()
    return False


# -- descriptors


def _descriptor_is_fine(number: int, target: str) -> bool:
    if _own_fds.get(number) == target or target in _ONE_OFF_FILES:
        return True
    if target.startswith("socket:"):
        facts = socket_facts(number)
        return facts is not None and _is_one_off(facts)
    return any(directory in target for directory in _ONE_OFF_DIRECTORIES) or os.path.basename(
        target
    ).startswith(".coverage")


def _is_one_off(facts: SocketFacts) -> bool:
    peer = facts.peer
    if isinstance(peer, tuple):
        return bool(peer[1] == _DNS_PORT)
    return isinstance(peer, str) and peer.replace("/var/run/", "/run/", 1).startswith(_ONE_OFF_PEERS)


def _descriptors_in_use() -> Iterator[int]:
    """Those of logging handlers that are in place, and of the helpers that multiprocessing starts once."""
    for module, helper, name in (
        ("multiprocessing.resource_tracker", "_resource_tracker", "_fd"),
        ("multiprocessing.forkserver", "_forkserver", "_forkserver_alive_fd"),
    ):
        number = getattr(getattr(sys.modules.get(module), helper, None), name, None)
        if number is not None:
            yield number
    for handler in _logging_handlers():
        for part in ("stream", "sock", "socket"):
            number = _fileno(getattr(handler, part, None))
            if number is not None:
                yield number


def _logging_handlers() -> Iterator[Any]:
    logging = sys.modules.get("logging")
    if logging is not None:
        for logger in (logging.root, *logging.root.manager.loggerDict.values()):
            yield from tuple(getattr(logger, "handlers", ()))


def _fileno(thing: Any) -> int | None:
    try:
        return int(thing.fileno())
    except (OSError, ValueError, AttributeError):  # none, closed, or a stream in memory
        return None


def _path_is_fine(path: str) -> bool:
    """Whether it lies where `multiprocessing` keeps the sockets of its helpers until the interpreter ends."""
    process = sys.modules.get("multiprocessing.process")
    config = {} if process is None else getattr(process.current_process(), "_config", {})
    directory = config.get("tempdir")
    return directory is not None and os.path.dirname(path) == os.path.abspath(directory)


# -- children


def _child_is_fine(pid: int, start: int) -> bool:
    if _own_pids.get(pid) == start or pid in _multiprocessing_helpers():
        return True
    facts = process_facts(pid)
    # A Popen that was dropped while its process ran is reaped by the next one.
    dropped = getattr(sys.modules.get("subprocess"), "_active", None) or ()
    return facts is None or (facts.zombie and any(popen.pid == pid for popen in tuple(dropped)))


def _multiprocessing_helpers() -> set[int]:
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    return {getattr(tracker, "_pid", None), getattr(server, "_forkserver_pid", None)} - {None}  # type: ignore[return-value]
