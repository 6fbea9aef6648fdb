"""The one thread that listens to all server processes.

What a server process sends must be taken at once, whatever the test is doing: the process would come to stand when
its socket is full, and a test that waits for something in the transcript would wait for ever. One thread does it
for every process. It starts with the first watch and is gone, joined, with the last: between tests nothing of it is
left.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

__all__ = ("Descriptor", "Source", "Watch")

#: How long the reader may take to answer, in seconds. It never does anything that blocks.
PATIENCE = 10.0


class Source(Protocol):
    """Something with a descriptor that becomes readable."""

    def fileno(self) -> int:
        """The descriptor."""


class Descriptor:
    """A bare descriptor, to be watched like the others."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


Call = Callable[[], bool]


class Watch:
    """A function for each source, called in the reader's thread when the source is readable.

    A function says whether it wants to be called again; at the end of a stream, which stays readable, it does not. It
    must bear to be called when there is nothing to read.
    """

    def __init__(self, calls: Mapping[Source, Call]) -> None:
        self._calls = dict(calls)
        with _state.lock:
            _state.watches += 1
            self._reader = _state.reader = _state.reader or _Reader()
            self._reader.do(self._add)

    def _add(self) -> None:
        for source, call in self._calls.items():
            self._reader.selector.register(source, selectors.EVENT_READ, call)

    def look(self) -> None:
        """Call each of the functions once, now, and return when they have come back. Does nothing in one of them."""
        if self._reader.is_here:
            return
        with _state.lock:
            if self._reader is _state.reader:
                self._reader.do(self._call_all)

    def _call_all(self) -> None:
        for source, call in self._calls.items():
            if source in self._reader.selector.get_map() and not _call(call):
                self._reader.selector.unregister(source)

    def end(self) -> None:
        """When this returns, none of the functions runs or will run, and the sources may be closed."""
        with _state.lock:
            if self._reader is not _state.reader:
                return  # in a process forked from the test's there is no reader
            self._reader.do(self._remove)
            _state.watches -= 1
            if not _state.watches:
                _state.reader = None
                self._reader.end()

    def _remove(self) -> None:
        for source in self._calls:
            if source in self._reader.selector.get_map():
                self._reader.selector.unregister(source)


class _Reader:
    """A selector and its thread. Others queue their work: nobody else touches the selector."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._work: deque[Callable[[], None]] = deque()
        self._ending = False
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self.selector.register(self._bell, selectors.EVENT_READ, self._on_bell)
        self._thread = threading.Thread(target=self._run, name="servertest-process-reader", daemon=True)
        self._thread.start()
        self._excuse()

    def _excuse(self) -> None:
        """It may have been started for one test's server and go on for another one's: neither has leaked it."""
        from ._leak_excuses import register_own_fd, register_own_thread

        register_own_thread(self._thread)
        for fd in self._descriptors:
            register_own_fd(fd)

    @property
    def _descriptors(self) -> list[int]:
        selector = getattr(self.selector, "fileno", None)  # epoll and kqueue have one
        return [self._bell.fileno(), self._button.fileno(), *([] if selector is None else [selector()])]

    @property
    def is_here(self) -> bool:
        """Whether the caller is the reader's thread, which cannot wait for itself."""
        return threading.current_thread() is self._thread

    def do(self, work: Callable[[], None]) -> None:
        """Have the thread do something, and wait until it is done."""
        done = threading.Event()
        self._work.extend((work, done.set))
        self._button.send(b"\0")
        if not done.wait(PATIENCE):
            raise RuntimeError("the reader of the server processes does not answer")

    def end(self) -> None:
        from ._leak_excuses import unregister_own_fd

        for fd in self._descriptors:
            unregister_own_fd(fd)
        self.do(self._leave)
        self._thread.join(PATIENCE)
        self._button.close()

    def _leave(self) -> None:
        self._ending = True

    def _run(self) -> None:
        with self.selector, self._bell:
            while not self._ending:
                for key, _ in self.selector.select():
                    # An earlier call of this round may have taken the source away.
                    if key.fileobj in self.selector.get_map() and not _call(key.data):
                        self.selector.unregister(key.fileobj)

    def _on_bell(self) -> bool:
        self._bell.recv(4096)
        while self._work:
            self._work.popleft()()
        return True


def _call(call: Call) -> bool:
    """Call it; an exception is shown as any thread's is, and costs the source its place but not the others theirs."""
    try:
        return call()
    except Exception:  # noqa: BLE001 - whatever it is, the other processes must still be read
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        return False


class _State:
    """Shared by all; a forked child of the test's process begins anew, as it has no such thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reader: _Reader | None = None
        self.watches = 0


_state = _State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.__init__)  # type: ignore[misc]
