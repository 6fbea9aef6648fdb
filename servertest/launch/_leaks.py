"""The leak guard: what a piece of code left behind, compared before and after.

    before = Snapshot.take()
    ...                                   # a test
    leaks = wait_clean(before)            # [] at once in the good case

The good case costs two looks at the process and one comparison. Only when something is left over is there reason to
take time: threads and children that are about to end are waited for, by their own signals; then the garbage collector
runs once, to tell what nobody closed; then whatever remains is described.
"""

from __future__ import annotations

import gc
import math
import os
import select
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from .._support import Deadline, LeakFound
from ._leak_blame import Leak, blame, render_leaks
from ._leak_excuses import (
    register_own_fd,
    register_own_pid,
    register_own_thread,
    someone_else_runs,
    unregister_own_fd,
    unregister_own_pid,
    without_excused,
)
from ._leak_origins import trace_allocations, watch_binds, watch_path
from ._leak_snapshot import News, Snapshot, is_dummy, news_between

if TYPE_CHECKING:
    import asyncio

__all__ = (
    "Leak",
    "Snapshot",
    "compare",
    "no_leaks",
    "register_own_fd",
    "register_own_pid",
    "register_own_thread",
    "render_leaks",
    "trace_allocations",
    "unregister_own_fd",
    "unregister_own_pid",
    "wait_clean",
    "watch_path",
)

GRACE = 1.0
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


def compare(before: Snapshot, after: Snapshot) -> list[Leak]:
    """What `after` has, `before` had not, and nobody is excused for. It waits for nothing and collects nothing."""
    return [leak for _, leak in blame(without_excused(news_between(before, after), before))]


def wait_clean(before: Snapshot, timeout: float = GRACE) -> list[Leak]:
    """What is left over since `before`, once everything that is about to go has had time to do so.

    Comes back at once if nothing is. What goes away only because the garbage collector runs is a leak all the same, and
    says so: how long it would have stayed was up to chance.

    Args:
        before: What there was before.
        timeout: Seconds to wait for what is going away; all of them are used up only if something stays, and not if
            nothing is left running that could make it go away.
    """
    news = _look(before)
    deadline = Deadline(timeout, "what is going away")
    pause = _FIRST_PAUSE
    alone = False
    while news and not alone and not deadline.expired:
        alone = not someone_else_runs()  # asked before the next look, which is then the last
        _let_go(news, deadline)
        news = News()
        news = _look(before)
        if news and not alone:
            _breathe(min(pause, deadline.remaining() or 0.0))
            pause = min(2 * pause, _LONGEST_PAUSE)
    return _judge(before, blame(news)) if news else []


@contextmanager
def no_leaks(timeout: float = GRACE, *, directories: Iterable[str | os.PathLike[str]] = ()) -> Iterator[None]:
    """Raise if the block leaves anything behind; if it raises itself, that goes first and nothing is compared.

    Args:
        timeout: Seconds that threads and children get to end, see `wait_clean`.
        directories: Where to look for the paths of Unix sockets that others bind; those that this process binds are known.

    Raises:
        LeakFound: Something was left behind.
    """
    watch_binds()
    before = Snapshot.take(directories=directories)
    yield
    leaks = wait_clean(before, timeout)
    if leaks:
        raise LeakFound(render_leaks(leaks))


def _look(before: Snapshot) -> News:
    return without_excused(news_between(before, before.retake()), before)


def _judge(before: Snapshot, blamed: list[tuple[Any, Leak]]) -> list[Leak]:
    """Collect garbage once, and mark what only that made go away."""
    gc.collect()
    left = _look(before).identity
    return [leak.collected() if what.isdisjoint(left) else leak for what, leak in blamed]


# -- waiting, by the signals that things give when they end


def _let_go(news: News, deadline: Deadline) -> None:
    for thread in news.threads:
        _join(thread, deadline)
    _await_exits(news.children, deadline)
    for task in news.tasks:
        _await_end(task, deadline)


def _join(thread: threading.Thread, deadline: Deadline) -> None:
    """Wait for a thread; with the base class's method, as an overridden one may stop what it should only wait for."""
    if is_dummy(thread) or thread is threading.current_thread():
        return
    try:
        threading.Thread.join(thread, deadline.remaining())
    except RuntimeError:  # it is only about to begin
        return


def _await_exits(pids: Iterable[int], deadline: Deadline) -> None:
    """Wait for processes to exit, by descriptors that show it and leave the reaping to whoever owns them."""
    if not hasattr(os, "pidfd_open"):
        return
    exits = select.poll()
    with ExitStack() as opened:
        waiting = 0
        for pid in pids:
            try:
                number = os.pidfd_open(pid)
            except OSError:  # reaped by now, or no descriptor left
                continue
            opened.callback(os.close, number)
            exits.register(number, select.POLLIN)
            waiting += 1
        while waiting and not deadline.expired:
            for number, _ in exits.poll(_milliseconds(deadline)):
                exits.unregister(number)
                waiting -= 1


def _milliseconds(deadline: Deadline) -> int:
    return math.ceil((deadline.remaining() or 0.0) * 1000)


def _await_end(task: asyncio.Task[Any], deadline: Deadline) -> None:
    """Wait for a task whose loop runs in another thread; any other cannot get on while we wait."""
    loop = task.get_loop()
    if not loop.is_running() or loop is _loop_of_this_thread():
        return
    ended = threading.Event()
    try:
        loop.call_soon_threadsafe(task.add_done_callback, lambda _: ended.set())
    except RuntimeError:  # closed since
        return
    ended.wait(deadline.remaining())


def _loop_of_this_thread() -> asyncio.AbstractEventLoop | None:
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _breathe(seconds: float) -> None:
    """Let other threads run, then look again: that a descriptor is closed, or a raw thread has ended, gives no sign."""
    threading.Event().wait(seconds)
