"""Looking over the shoulder of a `socketserver`-style server, whoever wrote its class.

A server looks its own methods up on itself whenever it calls them; the module's documentation makes them the place
for extensions. So an attribute on the instance comes first, and calls what the class has: whatever a subclass overrides
goes on working, in the same order. Nothing is patched but this one server, and nothing that the handler sees is any
less than it was: its request is still a socket.

What is added, method by method:

* `get_request`: enters the request in the book; lets the connection be recorded.
* `finish_request`: notes which thread works for whom, does the TLS handshake there, and reports what the handler raises.
* `handle_error`: reports what did not come by that way. The default method, which prints to stderr, is left out, as the
  error is in the test's report; a method that somebody wrote is called.
* `process_request_thread`: reports what an overridden `handle_error` raises, which would end as a warning about a thread.
* `shutdown_request`, `close_request`: strike the request out.
* `handle_worker_exit`, and what a forking server has for its children: reports how they end, if it is not as they should. The standard
  module's `collect_children` does not tell, so each child is asked before it is collected.
"""

from __future__ import annotations

import functools
import math
import os
import signal
import socket
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from ._active import Activity, ActivityBook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ._faults import ServerFaults
    from ._handshake import Handshake

__all__ = ("Instrument", "has_base", "is_instrumented", "is_ours", "method_of")

#: What both modules call the target of a thread that lives for one request.
_REQUEST_THREAD = "process_request_thread"

_ABSENT: Any = object()


def is_ours(server: object) -> bool:
    """Whether a server is built on `servertest.servers`, which can be stopped at once by its flag alone."""
    return hasattr(type(server), "_servertest_wake")


def method_of(server: object, name: str) -> str:
    """The class that a server has a method from: "BaseServer", "TCPServer", or somebody's own; "" if from none."""
    qualified: str = getattr(getattr(type(server), name, None), "__qualname__", "")
    return qualified.rpartition(".")[0].rpartition(".")[2]


def has_base(server: object, name: str) -> bool:
    """Whether a class of this name is among the server's ancestors: ours, or one that was copied."""
    return any(base.__name__ == name for base in type(server).__mro__)


def is_instrumented(server: object) -> bool:
    """Whether there are attributes of ours on a server: it is launched, and not stopped yet."""
    hook = vars(server).get("finish_request")
    return isinstance(hook, functools.partial) and isinstance(
        getattr(hook.func, "__self__", None), Instrument
    )


class Instrument:
    """The attributes put on one server."""

    def __init__(
        self,
        server: Any,
        book: ActivityBook,
        handshake: Handshake | None = None,
        faults: ServerFaults | None = None,
    ) -> None:
        self.server = server
        self.book = book
        self.threads: dict[threading.Thread, None] = {}
        self._handshake = handshake
        self._faults = faults
        # There a handler that waits comes back at once, and goes on later: its end is that of its request.
        self._forks = has_base(server, "ForkingMixIn")
        self._selects = has_base(server, "SelectorMixIn")
        self._own_handle_error = method_of(server, "handle_error") not in ("", "BaseServer")
        self._told: set[int] = set()
        #: Called before a request is taken; what it raises leaves `get_request`.
        self.before_get_request: Callable[[], None] | None = None
        self._before: dict[str, Any] = {}
        for name in (
            "get_request",
            "finish_request",
            "handle_error",
            _REQUEST_THREAD,
            "shutdown_request",
            "close_request",
            "finish_in_child",
            "handle_worker_exit",
            "process_request",
        ):
            if hasattr(server, name) and (name != "process_request" or faults is not None):
                self._hook(name, getattr(server, name), getattr(self, f"_{name}"))
        # Ours says how its children have ended; the standard module's has to be asked while they can still tell.
        for name, extended in (
            ("_servertest_child_ended", self._handle_worker_exit),
            ("collect_children", self._collect_children),
        ):
            if hasattr(server, name):
                self._hook(name, getattr(server, name), extended)
                break

    def _hook(self, name: str, original: Callable[..., Any], extended: Callable[..., Any]) -> None:
        # The name goes along: threads are called after their target.
        self._before[name] = vars(self.server).get(name, _ABSENT)
        setattr(self.server, name, functools.wraps(original)(functools.partial(extended, original)))

    def remove(self) -> None:
        """Take the attributes off again, which also breaks the circle of references between them and the server."""
        for name, before in self._before.items():
            if before is _ABSENT:
                vars(self.server).pop(name, None)
            else:
                setattr(self.server, name, before)
        self._before.clear()

    # -- what the server calls

    def _get_request(self, original: Callable[[], Any]) -> Any:
        if self.before_get_request is not None:
            self.before_get_request()
        request, client_address = original()
        return self._accepted(request, client_address), client_address

    def _accepted(self, request: Any, client_address: Any) -> Any:
        book = self.book
        if not isinstance(request, socket.socket) or request is getattr(self.server, "socket", None):
            book.open(id(request), Activity(book.number_of_peer(client_address), client_address, request))
            return request
        number = book.connected(client_address, _own_name(request))
        if self._handshake is None:
            request = book.observe(request, number)
        elif self._selects:
            request = book.observe(self._handshake.prepare(request), number)
        activity = Activity(number, client_address, request)
        activity.elsewhere = self._forks
        book.open(id(request), activity)
        if self._selects:
            activity.waits = functools.partial(_where_it_waits, self.server, request)
        return request

    def _process_request(self, original: Callable[..., None], request: Any, client_address: Any) -> None:
        if self._faults is not None:
            self._faults.before_process_request()
        original(request, client_address)

    def _finish_request(self, original: Callable[..., Any], request: Any, client_address: Any) -> Any:
        activity = self.book.get(id(request))
        if activity is None:
            return original(request, client_address)
        self.book.begin(activity)
        where = None
        try:
            if self._handshake is not None and not self._selects:
                where = "TLS handshake"
                if (secured := self._handshake.secure(self.book, activity)) is None:
                    return None
                request, where = secured, None
            return original(request, client_address)
        except BaseException as error:
            self.book.failed(activity, error, where=where)
            raise
        finally:
            if not self._selects:
                self.book.ended(activity)

    def _handle_error(self, original: Callable[..., Any], request: Any, client_address: Any) -> None:
        error = sys.exception()
        activity = self.book.get(id(request))
        injected = getattr(error, "servertest_injected", False)
        if error is not None and not injected and not self._is_meant(activity, error):
            self.book.failed(activity, error)
        if self._own_handle_error:
            original(self._current(request), client_address)

    def _is_meant(self, activity: Activity | None, error: BaseException) -> bool:
        """Whether a handshake that a selector server's loop has done ended as its profile wants."""
        if self._handshake is None or activity is None or activity.thread is not None:
            return False
        return self._handshake.pardons(error)

    def _process_request_thread(
        self, original: Callable[..., Any], request: Any, client_address: Any
    ) -> None:
        activity = self.book.get(id(request))
        thread = threading.current_thread()
        if thread.name.endswith(f"({_REQUEST_THREAD})"):
            self.threads[thread] = None
        if activity is not None:
            activity.in_thread = True
        try:
            original(request, client_address)
        except BaseException as error:  # noqa: BLE001 - it is reported, and there is nobody above to catch it
            self.book.failed(activity, error)
        finally:
            if activity is not None:
                activity.forget_error()
            if not self.book.stopping:
                self.threads.pop(thread, None)

    def _shutdown_request(self, original: Callable[..., Any], request: Any) -> None:
        activity = self.book.get(id(request))
        if activity is not None:
            activity.closing = True
            if (error := sys.exception()) is not None:
                self.book.refused(activity, error)
        try:
            original(self._current(request))
        except BaseException:
            if activity is not None:
                activity.abandon()  # whoever called has let go of it
            raise
        finally:
            self.book.close(id(request))

    def _close_request(self, original: Callable[..., Any], request: Any) -> None:
        activity = self.book.get(id(request))
        if activity is not None and not activity.closing:
            # In a forking server's parent this is its copy of a connection that a child goes on using; which the
            # recording socket knows.
            self.book.close(id(request))
            request = activity.request
        original(request)

    def _current(self, request: Any) -> Any:
        """What stands for a request now: once it speaks TLS, another socket than the one that was accepted."""
        activity = self.book.get(id(request))
        return request if activity is None else activity.request

    # -- servers that fork

    def _finish_in_child(
        self, original: Callable[..., int], handler: Any, work: Callable[..., Any], *args: Any
    ) -> int:
        activity = next((one for one in self.book if one.request is handler.request), None)
        if activity is not None:
            activity.elsewhere = True

        def work_and_report(*args: Any) -> Any:
            if activity is not None:
                self.book.begin(activity)
            try:
                return work(*args)
            except BaseException as error:
                self.book.failed(activity, error)
                raise

        return original(handler, work_and_report, *args)

    def _collect_children(self, original: Callable[..., None], *, blocking: bool = False) -> None:
        # Collected, a child can no longer be asked how it ended: so nobody is collected who has not been asked.
        children = getattr(self.server, "active_children", None)
        if not children or not hasattr(os, "waitid"):
            original(blocking=blocking)
            return
        pids = tuple(children)
        if blocking:
            _await_ends(pids)
        elif len(pids) >= getattr(self.server, "max_children", math.inf):
            _await_one_end(pids)
        ended = set(self.report_ends(pids))
        self.server.active_children = set(ended)
        try:
            original(blocking=blocking)
        finally:
            children.difference_update(ended.difference(self.server.active_children or ()))
            self.server.active_children = children

    def expect_ends(self, pids: Iterable[int]) -> None:
        """Do not report how these children end: it is we who end them, and somebody else tells."""
        self._told.update(pids)

    def report_ends(self, pids: Iterable[int]) -> list[int]:
        """Report those of these children that ended otherwise than they should, once each. Returns all that have ended."""
        ended = list(_ends(pids))
        for pid, how in ended:
            if how and pid not in self._told:
                self._told.add(pid)
                self._child_ended(pid, how)
        return [pid for pid, _ in ended]

    def _handle_worker_exit(self, original: Callable[..., None], pid: int, status: int) -> None:
        if pid in self._told:
            pass
        elif status < 0:
            self._child_ended(pid, f"was killed by {_signal_name(-status)}")
        elif status not in _REPORTED:
            self._child_ended(pid, f"exited with status {status}")
        original(pid, status)

    def _child_ended(self, pid: int, how: str) -> None:
        error = ChildProcessError(f"the server's child {pid} {how}")
        self.book.failed(None, error, where="child process")


def _own_name(sock: socket.socket) -> Any:
    """The server's end of a connection, which on a dual-stack server is not the address that it listens on."""
    try:
        return sock.getsockname()
    except OSError:
        return None  # some systems forget it when the client has gone already


def _where_it_waits(server: Any, request: Any) -> str:
    """The place in a selector server's handler that has to be waited for, indented to stand below its connection."""
    from ._dump import format_places, places_of_task

    table = vars(server).get("_SelectorMixIn__requests")
    tasks = [] if table is None else list(table.tasks)
    life = next((task._life for task in tasks if task.request is request), None)  # noqa: SLF001 - nobody else knows
    if life is None:
        return ""
    # Handlers are no asyncio tasks, but they wait for each other in the same way.
    places = places_of_task(cast("Any", SimpleNamespace(get_coro=lambda: life)))
    return "\n".join(format_places(places))


#: What a child exits with that has come to its end, or has reported why it did not.
_REPORTED = (0, 1)


def _ends(pids: Iterable[int]) -> Iterator[tuple[int, str]]:
    """The children that have ended, without collecting them, and how, if it is not as a server's child does: killed, or left by `os._exit`."""
    if not hasattr(os, "waitid") or not _any_ended():
        return
    for pid in list(pids):
        try:
            result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            yield pid, ""  # somebody has collected it
            continue
        if result is None:
            continue
        if result.si_code != os.CLD_EXITED:
            yield pid, f"was killed by {_signal_name(result.si_status)}"
        else:
            yield pid, "" if result.si_status in _REPORTED else f"exited with status {result.si_status}"


def _await_one_end(pids: tuple[int, ...]) -> None:
    """Wait until one of these children has ended, without collecting it."""
    try:
        first = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if first is not None and first.si_pid not in pids:  # somebody else's, who has not collected it so far
            os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        pass  # somebody has collected it


def _await_ends(pids: Iterable[int]) -> None:
    """Wait until these children have ended, without collecting them."""
    for pid in pids:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # somebody has collected it


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _any_ended() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True  # somebody has collected them all
