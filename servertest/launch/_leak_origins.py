"""Where sockets, threads, children and Unix paths came from: remembered when somebody asks for it.

The interpreter announces each of these to audit hooks (PEP 578). Such a hook cannot be taken away again and costs a
fifth of a microsecond for each of the interpreter's many events, so it is set when it is first needed: by the leak guard,
which wants to know of Unix paths that get bound, or by `trace_allocations`, which wants to know of everything.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from stat import S_ISSOCK
from types import FrameType
from typing import Any

from ._dump import Place, library_of, places_of

__all__ = ("trace_allocations", "watch_path")

_MOST_COMMANDS = 1000
_THREAD_EVENTS = ("_thread.start_new_thread", "_thread.start_joinable_thread")

_tracers = 0
_hooked = False
_watching = False
_lock = threading.Lock()
_replaced: list[Callable[[threading.Thread], None]] = []
# By id(), as a socket of the user's may have any hash.
_makers: dict[int, tuple[weakref.ref[Any], list[Place]]] = {}
_commands: deque[tuple[str, list[Place]]] = deque(maxlen=_MOST_COMMANDS)
_paths: dict[str, list[Place]] = {}


@contextmanager
def trace_allocations() -> Iterator[None]:
    """Remember the stack in which each socket, thread and child process is made, for the reports of the leak guard.

    Also Unix paths that get bound, wherever they are, so that one that is left behind is noticed. Costs some 10
    microseconds for each of these things, and a fifth of one for whatever else the interpreter announces. May be nested.
    """
    with _lock:
        _begin()
    try:
        yield
    finally:
        with _lock:
            _end()


def watch_binds() -> None:
    """Know from now on of each Unix path that gets bound in this process, and where."""
    global _watching
    if not _watching:
        with _lock:
            _watching = True
            _set_hook()


def _set_hook() -> None:
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True


def _begin() -> None:
    global _tracers
    _tracers += 1
    _set_hook()
    if sys.version_info < (3, 12) and _tracers == 1:  # which announces no threads
        _replaced.append(threading.Thread.start)
        threading.Thread.start = _traced_start  # type: ignore[method-assign, assignment]


def _end() -> None:
    global _tracers
    _tracers -= 1
    if _replaced and _tracers == 0:
        threading.Thread.start = _replaced.pop()  # type: ignore[method-assign, assignment]


def _traced_start(thread: threading.Thread) -> None:
    _remember(thread)
    start = (
        _replaced[0] if _replaced else threading.Thread.start
    )  # another thread may just have ended the tracing
    start(thread)


def watch_path(path: str | bytes) -> None:
    """Have the leak guard see that a Unix socket's path, just bound, is removed in time."""
    _paths[os.path.abspath(os.fsdecode(path))] = _caller() if _tracers else []


def watched_paths() -> list[str]:
    """Watched paths where there is still a socket; the others are forgotten."""
    for path in list(_paths):
        if not is_socket(path):
            _paths.pop(path, None)
    return list(_paths)


def is_socket(path: str) -> bool:
    """Whether a socket is bound, or was, to a path."""
    try:
        return S_ISSOCK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def origin_of_thread(thread: threading.Thread) -> list[Place]:
    """The stack in which a thread was started; [] if nobody traced."""
    _, places = _makers.get(id(thread), (None, []))
    return places


def origin_of_descriptor(descriptor: int) -> list[Place]:
    """The stack in which the socket object on a descriptor was made; [] if nobody traced."""
    for ref, places in reversed(_makers.copy().values()):
        maker = ref()
        if isinstance(maker, socket.socket) and socket.socket.fileno(maker) == descriptor:
            return places
    return []


def origin_of_command(command: str) -> list[Place]:
    """The stack in which `subprocess` last ran a command (in shell notation); [] if nobody traced."""
    return next((places for known, places in reversed(_commands.copy()) if known == command), [])


def origin_of_path(path: str) -> list[Place]:
    """The stack in which a Unix path was bound; [] if that is not known."""
    return _paths.get(path, [])


def _hook(event: str, args: tuple[Any, ...]) -> None:
    """An error in here would break what is announced, so everything is looked at before it is used."""
    if event == "socket.bind":
        if _watching or _tracers:
            _remember_path(*args)
        return
    if not _tracers:
        return
    if event == "socket.__new__":
        _remember(args[0])
    elif event in _THREAD_EVENTS:
        owner = getattr(args[0], "__self__", None)
        if isinstance(owner, threading.Thread):
            _remember(owner)
    elif event == "subprocess.Popen":
        _remember_command(args[1])


def _remember(thing: object) -> None:
    number = id(thing)
    try:
        ref = weakref.ref(thing, lambda _: _makers.pop(number, None))
    except TypeError:  # the C class of sockets, as our own look at the kernel uses it
        return
    _makers[number] = (ref, _caller())


def _remember_command(words: Any) -> None:
    try:
        command = words if isinstance(words, str) else shlex.join(os.fsdecode(word) for word in words)
    except TypeError:
        return
    _commands.append((command, _caller()))


def _remember_path(sock: Any, address: Any) -> None:
    if getattr(sock, "family", None) != getattr(socket, "AF_UNIX", -1) or not isinstance(
        address, (str, bytes)
    ):
        return
    name = os.fsdecode(address)
    # A path that exists belongs to somebody else: the call is going to fail.
    if name and not name.startswith("\0") and not os.path.lexists(name):
        _paths[os.path.abspath(name)] = _caller()


def _caller() -> list[Place]:
    """The present stack without this module, and without the library's own calls at its inner end."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (inspect costs too much to be imported for this)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    places = places_of(frame)
    while len(places) > 1 and library_of(places[-1].file) is not None:
        places.pop()
    return places
