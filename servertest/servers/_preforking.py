"""PreForkMixIn: worker processes that share the listening socket.

The parent accepts nothing: it starts the workers, starts another when one has died, and tells them to stop. They learn of that, or of the parent's own
death, through a pipe: each worker watches the reading end, and it is at its end when no process holds the writing end any more. No signal is used, so
that handlers and programs may do with signals what they like.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import warnings
from time import monotonic

from ._base import BaseServer, _front
from ._forking import _end_child, _flush, _has_ended, _pidfd, _wait_for_any
from ._inet import TCPServer, UDPServer
from ._loop import FIRST_BACKOFF, LONGEST_BACKOFF, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__: tuple[str, ...] = (
    "PreForkMixIn",
    "PreForkTCPServer",
    "PreForkUDPServer",
)

#: A worker that lived for less than so many seconds is not replaced at once: whatever killed it may kill the next one too.
_SHORT_LIFE = 1.0


class PreForkMixIn:
    """Handles requests in worker processes that are started with serve_forever() and accept for themselves. It goes first among the bases.

    Where no worker can be started, handle_accept_error() is told, and it is tried again after a pause.

    A worker handles one request at a time, or more if another mix-in follows: `(PreForkMixIn, ThreadPoolMixIn, TCPServer)`. A worker that dies is replaced; one that
    died young, after a pause that grows. What a handler keeps in `self.server` stays in its worker: neither the parent nor the other workers see it.

    Class attributes: `worker_processes` (how many), `block_on_close` (server_close() waits until the workers have finished what they are doing, without
    limit), `drain_timeout` (server_close() waits so many seconds and kills the workers that are left), and `active_children` (None or the set of the
    workers' pids).

    shutdown() returns when no further request will be accepted; server_close() is where workers are waited for.
    """

    worker_processes: int = 4
    block_on_close: bool = True
    drain_timeout: float | None = None
    active_children: set[int] | None = None

    __crew: _Crew | None = None
    __worker: _Worker | None = None

    def handle_worker_exit(self, pid: int, status: int) -> None:
        """Called in the parent when a worker has ended that was not told to. May be overridden.

        Args:
            pid: which one.
            status: its exit code, or minus the number of the signal that killed it.
        """

    def service_actions(self) -> None:
        """Replace workers that have died. May be overridden."""
        super().service_actions()  # type: ignore[misc]
        if self.__crew is not None:
            self.__crew.look_after()

    def server_close(self) -> None:
        """Close the server, then wait for the workers as the class attributes say."""
        super().server_close()  # type: ignore[misc]
        crew = self.__crew
        if crew is not None:
            crew.tell()  # the loop would do it too, but it may be this very thread that runs it
        if self.active_children:
            self.__await(self.drain_timeout, block=self.block_on_close)

    def _servertest_started(self, loop: Loop) -> None:
        super()._servertest_started(loop)  # type: ignore[misc]
        if self.__worker is not None:
            self.__worker.watch(loop)
            return
        if self.active_children is None:
            self.active_children = set()
        self.__crew = _Crew(self, loop, self.__work)
        self._servertest_pause()  # type: ignore[attr-defined]  # the workers accept
        self.__share(True)
        self.__crew.look_after()

    def _servertest_ended(self, loop: Loop) -> None:
        if self.__crew is not None:
            self.__crew.dismiss()
            self.__crew = None
            self.__share(False)
            self._servertest_resume()  # type: ignore[attr-defined]
        super()._servertest_ended(loop)  # type: ignore[misc]

    def __share(self, shared: bool) -> None:
        """Several processes wait for the same request; those that come too late must not wait on."""
        server: Any = self
        if server.socket_type == socket.SOCK_DGRAM:
            # Replies are sent on the same socket, and have to wait for room: so each call says for itself that it does not.
            self._servertest_shared = shared
        elif shared and server.socket.fileno() >= 0:
            # And stays so: a worker that was told to stop may be on its way to accept(), long after the loop here has ended.
            os.set_blocking(server.socket.fileno(), False)

    def serve_forever(self, poll_interval: float | None = 0.5) -> None:
        """Start the workers, and look after them until shutdown() is called or the server is closed.

        Raises:
            TypeError: The server class is not one of servertest.servers, whose loop the workers need.
        """
        if not isinstance(self, BaseServer):
            raise TypeError(f"{type(self).__name__}: PreForkMixIn needs a server class of servertest.servers")
        super().serve_forever(poll_interval)  # type: ignore[misc]

    def __work(self, end_of_life: int, ask: int) -> int:
        """A worker's whole life, in the child. Returns its exit status."""
        server: Any = self
        # Ctrl-C reaches all processes of a terminal; it is the parent that stops then, and its end that stops us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.__crew = self.active_children = server._servertest_gate = None
        self.__worker = worker = _Worker(server, end_of_life, ask)
        server._servertest_forget_loops()
        try:
            server.serve_forever()
            super().server_close()  # type: ignore[misc]  # a program's own server_close() is for the parent
        except SystemExit as error:
            return error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # noqa: BLE001 - printed here; the status tells the parent
            sys.excepthook(*sys.exc_info())
            return 1
        worker.tell_parent()
        return 0

    def __await(self, limit: float | None, *, block: bool) -> None:
        assert self.active_children is not None
        if limit is None:
            for pid in list(self.active_children):
                if _has_ended(pid, wait=block):
                    self.active_children.discard(pid)
            return
        if not _await_all(self.active_children, monotonic() + limit):
            left = sorted(self.active_children)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            self.__await(None, block=True)
            warnings.warn(
                f"{type(self).__name__}.server_close(): killed {len(left)} worker(s) that still ran after "
                f"drain_timeout={limit} s: {', '.join(map(str, left))}",
                ResourceWarning,
                stacklevel=3,
            )


class _Crew:
    """The workers of one run of a loop, as the parent sees them."""

    def __init__(self, server: Any, loop: Loop, work: Callable[[int, int], int]) -> None:
        self._server = server
        self._loop = loop
        self._work = work
        self._born: dict[int, float] = {}
        self._pidfds: dict[int, int] = {}
        self._pause = 0.0
        self._not_before = 0.0
        self._end_of_life, self._life = os.pipe()
        try:
            self._asked, self._ask = os.pipe()
        except OSError:
            self.tell()
            raise
        _LIFELINES.add(self._life)
        loop.watch(self._asked, selectors.EVENT_READ, self._on_ask)

    def look_after(self) -> None:
        """Collect the workers that have ended, and start as many as are missing."""
        for pid in list(self._born):
            exit_status = _exit_status(pid)
            if exit_status is not None:
                self._forget(pid)
                self._server.handle_worker_exit(pid, exit_status)
        for pid in list(self._server.active_children):
            # Of an earlier run: told to stop, and not waited for so far.
            if pid not in self._born and _has_ended(pid, wait=False):
                self._server.active_children.discard(pid)
        while (
            self._life >= 0
            and len(self._born) < self._server.worker_processes
            and monotonic() >= self._not_before
        ):
            try:
                self._start_worker()
            except OSError as error:
                self._server.handle_accept_error(error)
                self._rest()

    def _start_worker(self) -> None:
        _flush()
        pid = _front().os.fork()
        if pid == 0:
            status = 1
            try:
                for fd in (self._asked, *self._pidfds.values()):
                    os.close(fd)
                # Another thread may have told them all just before the fork.
                status = self._work(self._end_of_life, self._ask) if self._life >= 0 else 0
            finally:
                _end_child(status)
        self._server.active_children.add(pid)
        self._born[pid] = monotonic()
        pidfd = _pidfd(pid)
        if pidfd is not None:
            self._pidfds[pid] = pidfd
            self._loop.watch(pidfd, selectors.EVENT_READ, self._on_exit)

    def _on_exit(self, events: int) -> None:
        """Nothing: that the loop has woken up is enough, service_actions() follows."""

    def _on_ask(self, events: int) -> None:
        """A handler in a worker has called shutdown()."""
        os.read(self._asked, 1)
        self._server._BaseServer__shutdown_request = True

    def _forget(self, pid: int) -> None:
        self._server.active_children.discard(pid)
        self._unwatch(pid)
        if monotonic() - self._born.pop(pid) < _SHORT_LIFE:
            self._rest()
        else:
            self._pause = 0.0

    def _rest(self) -> None:
        """Start no worker for a while: whatever was in the way may be in the way of the next one too."""
        self._pause = min(self._pause * 2 or FIRST_BACKOFF, LONGEST_BACKOFF)
        self._not_before = monotonic() + self._pause
        self._loop.call_at(self._not_before, self._look_again)

    def _look_again(self) -> None:
        if self._life >= 0:
            self.look_after()

    def _unwatch(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid, None)
        if pidfd is not None:
            self._loop.unwatch(pidfd)
            os.close(pidfd)

    def tell(self) -> None:
        """Tell all workers to stop after what they are doing, without waiting for them. From any thread, and again."""
        life, self._life = self._life, -1
        end_of_life, self._end_of_life = self._end_of_life, -1
        _LIFELINES.discard(life)
        for fd in (life, end_of_life):
            if fd >= 0:
                os.close(fd)

    def dismiss(self) -> None:
        """Tell the workers, and watch nothing any more."""
        self.tell()
        for pid in list(self._pidfds):
            self._unwatch(pid)
        self._loop.unwatch(self._asked)
        os.close(self._asked)
        os.close(self._ask)


#: The writing ends of all lifelines of this process. No fork may hold one open: the workers would not notice that the parent has gone.
_LIFELINES: set[int] = set()


def _cut_lifelines() -> None:
    for fd in _LIFELINES:
        os.close(fd)
    _LIFELINES.clear()


os.register_at_fork(after_in_child=_cut_lifelines)


class _Worker:
    """What a worker knows of its parent."""

    def __init__(self, server: Any, end_of_life: int, ask: int) -> None:
        self._server = server
        self._end_of_life = end_of_life
        self._ask = ask
        self._told = False

    def watch(self, loop: Loop) -> None:
        """Stop when the parent says so, or is no more."""
        loop.watch(self._end_of_life, selectors.EVENT_READ, self._on_end)

    def _on_end(self, events: int) -> None:
        self._told = True
        self._server._BaseServer__shutdown_request = True

    def tell_parent(self) -> None:
        """If it was a handler here that stopped the server, the others have to stop too."""
        if not self._told:
            try:
                os.write(self._ask, b"s")
            except BrokenPipeError:
                pass  # the parent has stopped in the meantime


def _exit_status(pid: int) -> int | None:
    """The exit code of a child that has ended, minus a signal's number, or None while it lives."""
    try:
        ended, status = _front().os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0  # somebody else has collected it
    return os.waitstatus_to_exitcode(status) if ended else None


def _await_all(pids: set[int], deadline: float) -> bool:
    while True:
        for pid in list(pids):
            if _has_ended(pid, wait=False):
                pids.discard(pid)
        rest = deadline - monotonic()
        if not pids or rest <= 0:
            return not pids
        _wait_for_any(pids, rest)


class PreForkTCPServer(PreForkMixIn, TCPServer):
    """Worker processes for connections."""


class PreForkUDPServer(PreForkMixIn, UDPServer):
    """Worker processes for datagrams."""


if hasattr(socket, "AF_UNIX"):
    from ._unix import UnixDatagramServer, UnixStreamServer

    class PreForkUnixStreamServer(PreForkMixIn, UnixStreamServer):
        """Worker processes for connections."""

    class PreForkUnixDatagramServer(PreForkMixIn, UnixDatagramServer):
        """Worker processes for datagrams."""

    __all__ += (
        "PreForkUnixDatagramServer",
        "PreForkUnixStreamServer",
    )
