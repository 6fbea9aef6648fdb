"""Servers in the style of `socketserver`, as servables: ours and the standard module's, and subclasses of either.

A stop takes effect at once. Servers built on `servertest.servers` notice the flag that `shutdown` sets as soon as it is set; for
those built on the standard module, `InterruptibleListener` makes them. A class with a `shutdown` of its own has it called as
well, in a thread, as it may wait.
"""

from __future__ import annotations

import _thread
import functools
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from ._active import FORCED_GRACE, ActivityBook, stack_of, stack_of_ident
from ._instrument import Instrument, has_base, is_ours, method_of
from ._wakeup import InterruptibleListener, Latch, Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from .._support import Address, Deadline
    from ._faults import ServerFaults
    from ._handshake import Handshake
    from ._host import Plan

__all__ = ("SocketServerServable", "adopt")

#: How often a foreign loop looks at its flag where nothing can wake it: in seconds.
_POLL_INTERVAL = 0.02

_FLAG = "_BaseServer__shutdown_request"


class _LoopEnded(BaseException):
    """Ends a loop that would go on for ever."""


class SocketServerServable:
    """A server object with `serve_forever`, `server_close` and the methods in between."""

    def __init__(self, server: Any, plan: Plan) -> None:
        self.server = server
        self._book = ActivityBook(plan.observer)
        handshake = self._handshake(plan)
        wakes_by_itself = is_ours(server) and not self._has_loop_of_its_own(server)
        self._wakeup = handshake.cancelled if handshake is not None else None if wakes_by_itself else Wakeup()
        self._listener: InterruptibleListener | None = None
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._shutdown: Latch | None = None
        self._shutdown_ident = 0
        self._told_to_stop = False
        self._refused = False
        self._hooks: list[threading.Thread] = []
        #: The hook of the server's class that is being called to close it, "" if none is.
        self.hook = ""
        #: Set when the loop holds all that it will hold, so that nothing of it appears after `start` has returned.
        self.settled = threading.Event()
        self.faults = self._put_behind_faults(plan)
        self._instrument = Instrument(server, self._book, handshake, self.faults)
        self._prepare_threads()
        if plan.kind.transport == "datagram":
            server.socket = self._book.observe_datagrams(server.socket)

    def _put_behind_faults(self, plan: Plan) -> ServerFaults | None:
        if plan.faults is None:
            return None
        from ._faults import ServerFaults

        faults = ServerFaults(plan.faults, plan)
        if plan.kind.transport == "datagram":
            self.server.socket = faults.datagrams(self.server.socket, server=self.server)
        else:
            faults.listen(self.server.socket, server=self.server)
        return faults

    def _handshake(self, plan: Plan) -> Handshake | None:
        if plan.tls is None:
            return None
        from ._handshake import Handshake

        return Handshake(plan.tls)

    def _prepare_threads(self) -> None:
        # A handler that cannot be stopped must not keep the interpreter from ending. Whoever has not ended in time is
        # found here, so that nothing is lost by the class's own waiting, which knows no limit.
        if hasattr(self.server, "daemon_threads"):
            self.server.daemon_threads = True

    @property
    def address(self) -> Address:
        """Where clients reach it."""
        return cast("Address", self.server.server_address)

    def works_in(self, thread: threading.Thread) -> bool:
        """Whether a handler runs in this thread."""
        return any(activity.thread is thread and not activity.ended for activity in self._book)

    # -- serving

    def serve(self) -> None:
        """Run the server's own loop until it is stopped, or until something is raised in it, which is reported."""
        self._thread = threading.current_thread()
        previous = self._take_sigterm()
        try:
            self._serve_forever()
        except _LoopEnded:
            pass
        except BaseException as error:  # noqa: BLE001 - reported to the test
            # If it is what a handler raised, that was reported; it has ended the loop as well.
            if error is not self._book.fatal:
                self._book.lose(error)
        finally:
            if previous is not None:
                signal.signal(signal.SIGTERM, previous)

    def _serve_forever(self) -> None:
        own = method_of(self.server, "serve_forever") != "BaseServer"
        if is_ours(self.server) and not own:
            self._set_when_started()
            self.server.serve_forever()
            return
        if self._has_loop_of_its_own(self.server):
            self._instrument.before_get_request = self._end_loop_of_its_own
            self._make_interruptible()
        wakes = is_ours(self.server) or self._listener is not None or self._make_interruptible()
        self.settled.set()
        self.server.serve_forever(**({} if own or wakes else {"poll_interval": _POLL_INTERVAL}))

    @staticmethod
    def _has_loop_of_its_own(server: Any) -> bool:
        """Whether its class may take requests in a loop that knows no flag of the framework's: mostly one around `handle_request`."""
        return method_of(server, "serve_forever") not in ("BaseServer", "PreForkMixIn", "SelectorMixIn")

    def _end_loop_of_its_own(self) -> None:
        """Called before a request is taken. After the stop there is none to wait for: what is ready then is the wake-up.

        The loop gets to look at its own flags first, once whatever sets them has been called. A loop that comes back even then has none.
        """
        if not self._told_to_stop or self._listener is None:
            return
        if self._has_shutdown_of_its_own and (self._shutdown is None or not self._shutdown.wait(0)):
            raise BlockingIOError
        if self._refused:
            raise _LoopEnded
        self._refused = True
        raise BlockingIOError

    def _make_interruptible(self) -> bool:
        """Have the standard module's loop wait for the stop as well; whether that is possible."""
        listener = getattr(self.server, "socket", None)
        if not InterruptibleListener.possible(listener):
            return False
        assert self._wakeup is not None
        self._listener = InterruptibleListener(listener, self._wakeup)
        self.server.fileno = self._listener.fileno
        return True

    def _set_when_started(self) -> None:
        """Learn from the server that its loop has opened what it needs."""
        name = "_servertest_started"
        server, started = self.server, getattr(self.server, name)

        def note(loop: Any) -> None:
            vars(server).pop(name, None)
            started(loop)
            self.settled.set()

        setattr(server, name, note)

    def _take_sigterm(self) -> Any:
        """Let children that the server forks end their input at SIGTERM; they inherit the handler.

        Returns:
            The handler before; None if this is not the place for it.
        """
        forks = hasattr(self.server, "active_children")
        if not forks or threading.current_thread() is not threading.main_thread():
            return None
        previous = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, functools.partial(self._on_sigterm, previous))
        return previous

    def _on_sigterm(self, previous: Any, number: int, frame: FrameType | None) -> None:
        self.stop()
        if os.getpid() == self._pid and callable(previous):
            previous(number, frame)

    # -- stopping

    def stop(self) -> None:
        """Ask the loop to end, and let all connections see end of file."""
        self._told_to_stop = True
        setattr(self.server, _FLAG, True)
        if self._wakeup is not None:
            self._wakeup.fire()
        if os.getpid() == self._pid:
            self._call_own_shutdown()
            _signal_all(self._children, signal.SIGTERM)
        if self.faults is not None:
            self.faults.interrupt()
        self._book.stop()

    def _call_own_shutdown(self) -> None:
        if self._shutdown is None and self._has_shutdown_of_its_own:
            self._shutdown = Latch()
            # Below threading, whose locks a signal handler must not touch.
            _thread.start_new_thread(self._run_own_shutdown, (self._shutdown,))

    @property
    def _has_shutdown_of_its_own(self) -> bool:
        return method_of(self.server, "shutdown") not in ("", "BaseServer")

    def _run_own_shutdown(self, done: Latch) -> None:
        self._shutdown_ident = _thread.get_ident()
        try:
            self._call(self.server.shutdown, "shutdown")
        finally:
            done.open()
            _forget_excuse(self._shutdown_ident)

    def _start(self, name: str) -> threading.Thread:
        """Call a hook of the server's class in a thread that can be left behind."""
        hook = getattr(self.server, name)
        thread = threading.Thread(
            target=self._call, args=(hook, name), name=f"servertest {name}", daemon=True
        )
        self._hooks.append(thread)
        thread.start()
        return thread

    def _call(self, hook: Callable[[], object], name: str) -> None:
        try:
            hook()
        except BaseException as error:  # noqa: BLE001 - somebody's own code; reported, and the rest goes on
            self._book.failed(None, error, where=name)

    @property
    def _children(self) -> Iterable[int]:
        return tuple(getattr(self.server, "active_children", None) or ())

    def close(self, deadline: Deadline) -> list[str]:
        """Wait for handlers and children, force what is left, close the server."""
        self.stop()
        self._go_on(deadline)
        forced = self._book.drain(deadline)
        if forced:
            forced += self._what_blocks()
        forced += self._end_children(deadline)
        if forced:
            forced += self._await("server_close")
            forced += self._book.left_behind()
        else:
            self.hook = "server_close"
            self._call(self.server.server_close, "server_close")
            self.hook = ""
        if self._shutdown is not None and not self._shutdown.wait(_rest(deadline)):
            forced.append(
                f"{self._title('shutdown')} does not return:\n{stack_of_ident(self._shutdown_ident)}"
            )
        self._join_handlers(deadline)
        if self.faults is not None:
            self.faults.finish(deadline)
        self._release()
        return forced

    def _go_on(self, deadline: Deadline) -> None:
        """Let the handlers of a selector server come to their end; no loop runs any more in which they could."""
        if has_base(self.server, "SelectorMixIn") and self._thread in (None, threading.current_thread()):
            self.server.drain(_rest(deadline))

    def _what_blocks(self) -> list[str]:
        """The stack of a selector server's loop that is held up by a handler: all the others wait for it."""
        from ._dump import frames_by_thread, library_of, places_of

        thread = self._thread
        if thread in (None, threading.current_thread()) or not has_base(self.server, "SelectorMixIn"):
            return []
        places = places_of(frames_by_thread().get(thread.ident or 0))
        if all(library_of(place.file) is not None for place in places):
            return []
        return [f"the serving loop is held up:\n{stack_of(thread)}"]

    def _await(self, hook: str) -> list[str]:
        """Call a hook after something had to be forced; says so if it does not return, unless that is why."""
        thread = self._start(hook)
        thread.join(FORCED_GRACE)
        if not thread.is_alive() or self._waits_for_handlers(hook):
            return []
        return [f"{self._title(hook)} does not return:\n{stack_of(thread)}"]

    def _waits_for_handlers(self, hook: str) -> bool:
        """Whether a hook is the framework's own, which waits for handlers; they were told of."""
        cls = next((cls for cls in type(self.server).__mro__ if hook in vars(cls)), object)
        ours = cls.__module__.startswith(("socketserver", "servertest.servers"))
        return ours and bool(self._book.unfinished())

    def _title(self, hook: str) -> str:
        return f"{type(self.server).__name__}.{hook}()"

    def remains(self) -> Iterator[Any]:
        """Threads and descriptors that a forced stop could not end."""
        yield from self._book.remains()
        yield from (hook for hook in self._hooks if hook.is_alive())
        if self._shutdown is not None and not self._shutdown.wait(0):
            yield self._shutdown_ident
        for loop in vars(self.server).get("_BaseServer__serving", ()):
            yield from (one for one in (loop._waker, loop.selector) if hasattr(one, "fileno"))  # noqa: SLF001
        if isinstance(sock := getattr(self.server, "socket", None), socket.socket):
            yield sock

    def _end_children(self, deadline: Deadline) -> list[str]:
        pids = self._children
        left = _wait_for(pids, deadline.remaining()) if pids else []
        forced = [_describe_child(pid) for pid in left]
        self._instrument.expect_ends(left)
        _signal_all(left, signal.SIGKILL)
        _wait_for(left, FORCED_GRACE)
        self._instrument.report_ends(set(pids).difference(left))
        return forced

    def _join_handlers(self, deadline: Deadline) -> None:
        """Threads that live for one request end just after it; those that cannot be ended were reported before."""
        stuck = {activity.thread for activity in self._book.unfinished()}
        for thread in list(self._instrument.threads):
            if thread not in stuck and thread is not threading.current_thread():
                thread.join(_rest(deadline))

    def _release(self) -> None:
        self._instrument.remove()
        vars(self.server).pop("fileno", None)
        if self._listener is not None:
            self._listener.close()
        if self._wakeup is not None:
            self._wakeup.close()

    # -- telling

    def describe(self) -> str:
        """Its connections with their threads, and its children."""
        parts = [self._book.describe()]
        if self._thread is not None and all(activity.thread is not self._thread for activity in self._book):
            parts.append(f"the serving loop:\n{stack_of(self._thread)}")
        if self._children:
            from ._dump import describe_children

            parts.append(describe_children(self._children))
        return "\n".join(part for part in parts if part)


def _forget_excuse(ident: int) -> None:
    """A thread that was told of has ended after all; whoever gets its identifier next is another one."""
    excuses = sys.modules.get(f"{__package__}._leak_excuses")
    if excuses is not None:
        excuses.unregister_own_raw_thread(ident)


def _rest(deadline: Deadline) -> float:
    """Seconds for what ends by itself as soon as it gets the processor."""
    return max(deadline.remaining() or 0.0, FORCED_GRACE)


def _describe_child(pid: int) -> str:
    from ._kernel import process_facts

    facts = process_facts(pid)
    doing = "what it does is not known" if facts is None else facts.doing
    return f"child process {pid} of the server did not end in time, and was killed: {doing}"


def _signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has ended, and somebody has taken notice


def _wait_for(pids: Iterable[int], seconds: float | None) -> list[int]:
    """Wait until children have ended, without collecting them; returns those that have not in time."""
    end = None if seconds is None else time.monotonic() + seconds
    left = [pid for pid in pids if not _has_ended(pid)]
    while left:
        rest = None if end is None else max(0.0, end - time.monotonic())
        if not _wait_for_one(left[0], rest):
            return [pid for pid in left if not _has_ended(pid)]
        left = [pid for pid in left if not _has_ended(pid)]
    return []


def _has_ended(pid: int) -> bool:
    """Whether a child has ended. It stays to be collected where the system can tell without that (macOS from 3.13)."""
    try:
        if not hasattr(os, "waitid"):
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _wait_for_one(pid: int, seconds: float | None) -> bool:
    """Whether a child has ended in time. Without pidfd_open(2) (Linux 5.3) it is asked again and again."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return _ask_for_one(pid, seconds)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))
    finally:
        os.close(fd)


def _ask_for_one(pid: int, seconds: float | None) -> bool:
    end = None if seconds is None else time.monotonic() + seconds
    while not _has_ended(pid):
        if end is not None and time.monotonic() >= end:
            return False
        time.sleep(0.005)
    return True


def adopt(server: Any, listener: socket.socket) -> None:
    """Put a socket that is bound already in the place of a server's own, which was not bound yet."""
    server.socket.close()
    server.socket = listener
    server.address_family = listener.family
    server.server_address = listener.getsockname()
