"""What a simulation replaces while it runs, for the threads that belong to it. All others get the real thing.

Functions are replaced wherever a module has them under any name: programs say `from time import monotonic`. Classes stay what they are;
`socket.socket` is told to make simulated ones.
"""

from __future__ import annotations

import _socket
import itertools
import os
import random
import select
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._support._processes import have_processes
from ..faults import derived_seed
from ._patched_clocks import clocks
from ._patched_files import files
from ._patched_sockets import GUARDED, guarded, names, new_socket, wrap_socket
from ._patched_threads import threads
from ._replacing import either
from ._socket import release_sockets

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("Patches",)

#: Modules that belong to the world outside, whatever thread they run in.
_OUTSIDE = (
    "_frozen_importlib",
    "_pytest",
    "_thread",
    "coverage",
    "execnet",
    "hypothesis",
    "importlib",
    "pluggy",
    "pytest",
    "servertest.sim",
    "xdist",
)

_Function = Callable[..., Any]


class Patches:
    """All replacements, to be put in place and taken away.

    Args:
        kernel: The kernel of the simulation.
        seed: For `random`.
    """

    def __init__(self, kernel: Kernel, seed: int | str) -> None:
        self._kernel = kernel
        self._seed = seed
        self._set: list[tuple[Any, str, Any]] = []
        self._random: Any = None
        kernel.patches = self

    def install(self) -> None:
        """Put everything in place."""
        _scan.install(_table())
        self._class(selectors.SelectSelector, "_select", staticmethod(select.select))
        for name in ("PollSelector", "EpollSelector"):
            if hasattr(selectors, name):
                cls = getattr(selectors, name)
                made = staticmethod(select.poll) if name == "PollSelector" else select.epoll
                self._class(cls, "_selector_cls", made)
        self._put(socket.socket, "__new__", new_socket)
        for name in GUARDED:
            if hasattr(_socket.socket, name):
                self._put(socket.socket, name, guarded(name))
        self._put(threading, "excepthook", self._excepthook(threading.excepthook))
        self._put(threading, "_counter", itertools.count(1).__next__)
        if "ssl" in sys.modules:
            self._put_ssl(sys.modules["ssl"])
        self._random = random.getstate()
        random.seed(derived_seed(self._seed, "random"))

    def _excepthook(self, before: Any) -> Any:
        def excepthook(given: Any, /) -> Any:
            # Who is made to end does so in silence, also where a test runner listens.
            if given.exc_type is not SystemExit or not self._kernel.current.killed:
                before(given)

        return excepthook

    def _put_ssl(self, ssl: Any) -> None:
        self._put(ssl.SSLContext, "_wrap_socket", wrap_socket)

    def notice_ssl(self) -> None:
        """A program may load the module in the middle of a simulation."""
        ssl = sys.modules.get("ssl")
        if ssl is not None and "_wrap_socket" not in vars(ssl.SSLContext):
            self._put_ssl(ssl)

    def remove(self) -> None:
        """Put everything back."""
        random.setstate(self._random)
        while self._set:
            owner, name, before = self._set.pop()
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        _scan.remove()
        release_sockets()

    def _put(self, owner: Any, name: str, value: Any) -> None:
        self._set.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def _class(self, owner: Any, name: str, value: Any) -> None:
        self._put(owner, name, value)


_ABSENT = object()


class _Scan:
    """Finds the names under which modules have what is replaced. It remembers them, for there are many modules."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int, list[str]]] = {}
        self._done: list[tuple[dict[str, Any], str, Any]] = []
        self._seen: dict[int, Any] = {}

    def install(self, table: dict[int, tuple[Any, Any]]) -> None:
        """Replace the keys' objects by the second of each pair."""
        if table.keys() != self._seen.keys():
            self._places.clear()
        self._seen = dict.fromkeys(table)
        for name, module in list(sys.modules.items()):
            try:
                variables = vars(module)
            except TypeError:
                continue
            if name.startswith(_OUTSIDE):
                continue
            for each in self._names(name, variables, table):
                original = variables.get(each)
                pair = table.get(id(original))
                if pair is not None and pair[0] is original:
                    self._done.append((variables, each, original))
                    variables[each] = pair[1]

    def _names(self, module: str, variables: dict[str, Any], table: dict[int, Any]) -> list[str]:
        known = self._places.get(module)
        if known is not None and known[:2] == (id(variables), len(variables)):
            return known[2]
        names = [name for name, value in list(variables.items()) if id(value) in table]
        self._places[module] = id(variables), len(variables), names
        return names

    def remove(self) -> None:
        """Put the originals back, also into modules that were loaded in the meantime."""
        while self._done:
            variables, name, original = self._done.pop()
            variables[name] = original
        back = {id(new): old for _, (old, new) in _table_cache.items()}
        for name, module in list(sys.modules.items()):
            if name not in self._places and not name.startswith(_OUTSIDE):
                try:
                    variables = vars(module)
                except TypeError:
                    continue
                for each, value in list(variables.items()):
                    if id(value) in back:
                        variables[each] = back[id(value)]


_scan = _Scan()
_table_cache: dict[int, tuple[Any, Any]] = {}


def _table() -> dict[int, tuple[Any, Any]]:
    """What is replaced by what, by the identity of the original."""
    if not _table_cache:
        for original, replacement in _replacements():
            _table_cache[id(original)] = (original, replacement)
    return _table_cache


def _replacements() -> list[tuple[Any, Any]]:
    pairs: list[tuple[Any, Any]] = [*clocks(), *threads(), *files(), *names(), *_refusals()]
    pairs.append((have_processes, either(have_processes, lambda kernel: False)))
    return pairs


# -- what exists only outside


def _refusals() -> list[tuple[Any, Any]]:
    names = ("_exit", "abort", "fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "sendfile")
    pairs = [
        (getattr(os, name), _refused(getattr(os, name), f"os.{name}()"))
        for name in names
        if hasattr(os, name)
    ]
    try:
        import _posixsubprocess
    except ImportError:
        return pairs
    pairs.append((_posixsubprocess.fork_exec, _refused(_posixsubprocess.fork_exec, "a child process")))
    return pairs


def _refused(real: _Function, what: str) -> _Function:
    def refuse(kernel: Kernel, *args: Any, **keywords: Any) -> Any:
        raise kernel.refuse(what)

    return either(real, refuse)
