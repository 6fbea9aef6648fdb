"""How a server process, and each worker that it forks, learns of faults that come and go while it runs.

The test's process listens on a Unix socket. Whoever accepts connections connects to it, gets the faults that are at work now before it
takes its first connection, and from then on whenever they change. Each change is acknowledged, so that the test goes on
when it is in force.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cloudpickle

from .._support import STOP_TIMEOUT, Deadline, SocketDirectory, UsageError
from ..wire._faulty_keeper import keeper
from ..wire._relay_poller import ENDED, READABLE
from ._process_reader import Watch

if TYPE_CHECKING:
    from ..faults import Plan

__all__ = ("FaultControl", "Follower")

_SIZE = struct.Struct("<I")
_PROCESSES = 128


def _send(sock: socket.socket, message: Any) -> None:
    data = cloudpickle.dumps(message)
    sock.sendall(_SIZE.pack(len(data)) + data)


def _receive(sock: socket.socket) -> Any:
    """A message.

    Raises:
        EOFError: The other side is gone.
    """
    (size,) = _SIZE.unpack(_exactly(sock, _SIZE.size))
    return pickle.loads(_exactly(sock, size))  # noqa: S301 - from a process of our own


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


class FaultControl:
    """The test's end.

    Attributes:
        path: Where the others connect.
    """

    def __init__(self) -> None:
        self._directory = SocketDirectory()
        self.path = self._directory.path("f")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(_PROCESSES)
        self._listener.setblocking(False)
        self._state: tuple[int, dict[str, Plan]] = (0, {})
        self._followers: list[_FollowerEnd] = []
        self._lock = threading.Lock()
        self._watch = Watch({self._listener: self._on_connect})

    def _on_connect(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            sock.setblocking(True)
            end = _FollowerEnd(sock)
            # Listed first: a change that comes just now is sent twice rather than never.
            self._followers.append(end)
            end.send(self._state)
        return True

    def put(self, key: str, faults: Plan | None) -> None:
        """Let these faults be at work in the place of those of this key; None for none.

        Raises:
            UsageError: The server cannot do that.
            DeadlineExceeded: It does not answer.
        """
        with self._lock:
            version, plans = self._state
            plans = {other: plan for other, plan in plans.items() if other != key}
            if faults is not None:
                plans[key] = faults
            self._state = (version + 1, plans)
            deadline = Deadline(STOP_TIMEOUT, "the server process to change its faults")
            followers = list(self._followers)
            for end in followers:
                end.send(self._state)
            problems = [end.await_version(version + 1, deadline) for end in followers]
            self._followers = [end for end in self._followers if not end.gone]
        for problem in problems:
            if problem:
                if faults is not None:
                    self.put(key, None)
                raise UsageError(problem)

    def close(self) -> None:
        """Give everything back."""
        self._watch.end()
        self._listener.close()
        for end in self._followers:
            end.sock.close()
        self._directory.close()


class _FollowerEnd:
    """One process that follows, as the test's process sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.gone = False
        self._lock = threading.Lock()

    def send(self, state: tuple[int, dict[str, Plan]]) -> None:
        with self._lock:
            try:
                _send(self.sock, state)
            except OSError:
                self._forget()

    def await_version(self, version: int, deadline: Deadline) -> str:
        """Wait until it has this; gives what it has against it."""
        while not self.gone:
            self.sock.settimeout(deadline.remaining())
            try:
                reached, problem = _receive(self.sock)
            except TimeoutError:
                raise deadline.exceeded() from None
            except (EOFError, OSError):
                self._forget()
                break
            if reached >= version:
                return str(problem)
        return ""

    def _forget(self) -> None:
        self.gone = True
        self.sock.close()


class Follower:
    """The end of a process that accepts.

    Args:
        path: Where the test's process listens.
        apply: Is given the faults that are to be at work, by key.
    """

    readable = True
    writable = True

    def __init__(self, path: str, apply: Callable[[dict[str, Plan]], None]) -> None:
        self._apply = apply
        self._version = -1
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(STOP_TIMEOUT)
        self._sock.connect(path)
        self._take()
        self._relay = keeper.enter()
        self._relay.call(lambda: self._relay.watch(self._sock.fileno(), self))

    def ready(self, events: int) -> None:
        """There is something to read. In the relay's thread."""
        if events & (READABLE | ENDED):
            poll_again = True
            while poll_again:
                poll_again = self._take_if_there()

    def failed(self, error: Exception) -> None:
        """Nothing more can be learned."""
        self._relay.unwatch(self._sock.fileno(), self)

    def _take_if_there(self) -> bool:
        try:
            self._sock.settimeout(0)
            if not self._sock.recv(1, socket.MSG_PEEK):
                raise EOFError
            self._sock.settimeout(STOP_TIMEOUT)
            self._take()
        except BlockingIOError:
            return False
        except (EOFError, OSError) as error:
            self.failed(error)
            return False
        return True

    def _take(self) -> None:
        version, plans = _receive(self._sock)
        problem = ""
        if version > self._version:
            try:
                self._apply(plans)
                self._version = version
            except UsageError as error:
                problem = str(error)
        _send(self._sock, (version, problem))

    def close(self) -> None:
        """Follow no more."""
        with contextlib.suppress(UsageError):
            self._relay.call(lambda: self._relay.unwatch(self._sock.fileno(), self))
        self._sock.close()
        keeper.leave()
