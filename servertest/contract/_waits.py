"""Handlers that wait with `select`, `poll` or a selector: these ask the plan, too, before they would wait."""

from __future__ import annotations

import select
import selectors
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ._script_socket import ScriptSocket

__all__ = ("waits_ask_tapes",)

# They are replaced while a handler is rehearsed.
_select, _poll = select.select, select.poll


@contextmanager
def waits_ask_tapes(sockets: dict[int, ScriptSocket], modules: Iterable[str] = ()) -> Iterator[None]:
    """Have `select.select`, `select.poll` and the selectors ask the tapes before they would wait.

    Args:
        sockets: The handlers' ends by descriptor.
        modules: Names of modules that may have imported these functions by their names.
    """
    replaced: dict[int, Any] = {id(_select): _asking_select(sockets), id(_poll): lambda: _AskingPoll(sockets)}
    undo: list[tuple[dict[str, Any], str, Any]] = []
    for place in [vars(select), *(vars(sys.modules[name]) for name in modules if name in sys.modules)]:
        for name, value in list(place.items()):
            if id(value) in replaced:
                undo.append((place, name, value))
                place[name] = replaced[id(value)]
    methods = [(cls, cls.__dict__["select"]) for cls in _selector_classes()]
    for cls, method in methods:
        cls.select = _asking_method(method, sockets)
    try:
        yield
    finally:
        for place, name, value in undo:
            place[name] = value
        for cls, method in methods:
            cls.select = method


def _selector_classes() -> list[Any]:
    names = ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector", "_PollLikeSelector")
    classes = [getattr(selectors, name, None) for name in names]
    return [cls for cls in classes if cls is not None and "select" in vars(cls)]


def _asking_select(sockets: dict[int, ScriptSocket]) -> Callable[..., Any]:
    def asking(rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None) -> Any:
        rlist = list(rlist)
        watched = [sockets[fd] for fd in map(_number, rlist) if fd in sockets]
        if not watched or any(found := _select(rlist, wlist, xlist, 0)):
            return found if watched else _select(rlist, wlist, xlist, timeout)
        _ask(watched, timeout)
        return _select(rlist, wlist, xlist, 0)

    return asking


def _asking_method(method: Any, sockets: dict[int, ScriptSocket]) -> Any:
    def asking(self: Any, timeout: float | None = None) -> Any:
        keys = self.get_map().items() if sockets else ()
        watched = [sockets[fd] for fd, key in keys if fd in sockets and key.events & selectors.EVENT_READ]
        if not watched or (found := method(self, 0)):
            return found if watched else method(self, timeout)
        _ask(watched, timeout)
        return method(self, 0)

    return asking


class _AskingPoll:
    """As `select.poll()` gives."""

    def __init__(self, sockets: dict[int, ScriptSocket]) -> None:
        self._sockets = sockets
        self._poll = _poll()
        self._watched: set[int] = set()

    def register(self, fd: Any, events: int = select.POLLIN | select.POLLPRI | select.POLLOUT, /) -> None:
        """As a polling object's."""
        self._poll.register(fd, events)
        if events & select.POLLIN:
            self._watched.add(_number(fd))

    def modify(self, fd: Any, events: int, /) -> None:
        """As a polling object's."""
        self._poll.modify(fd, events)
        (self._watched.add if events & select.POLLIN else self._watched.discard)(_number(fd))

    def unregister(self, fd: Any, /) -> None:
        """As a polling object's."""
        self._poll.unregister(fd)
        self._watched.discard(_number(fd))

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """As a polling object's."""
        watched = [self._sockets[fd] for fd in self._watched if fd in self._sockets]
        if not watched or (found := self._poll.poll(0)):
            return found if watched else self._poll.poll(timeout)
        _ask(watched, None if timeout is None or timeout < 0 else timeout / 1000)
        return self._poll.poll(0)


def _number(thing: Any) -> int:
    return thing if isinstance(thing, int) else int(thing.fileno())


def _ask(watched: list[ScriptSocket], timeout: float | None) -> None:
    """Let the first of them come to what is next."""
    sock = watched[0]
    assert sock.tape is not None
    sock.tape.await_input(sock, timeout)
