"""What appears in a test and is nobody's leak; and that each excuse covers no more than it should."""

from __future__ import annotations

import _thread
import asyncio
import logging
import logging.handlers
import multiprocessing.resource_tracker
import os
import select
import socket
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from servertest.launch import _leak_excuses
from servertest.launch._dump import frames_by_thread
from servertest.launch._kernel import SocketFacts
from servertest.launch._leak_excuses import excuse
from servertest.launch._leaks import (
    Snapshot,
    compare,
    register_own_fd,
    register_own_pid,
    register_own_thread,
    unregister_own_fd,
    unregister_own_pid,
    wait_clean,
)
from servertest.servers._loop import Waker
from servertest.servers._selector_epoll import EpollSelector

SHORT = 0.03


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def before() -> Snapshot:
    return Snapshot.take()


def kinds(before: Snapshot) -> list[str]:
    """What is blamed, without waiting for anything."""
    return sorted(leak.kind for leak in compare(before, Snapshot.take()))


# -- our own


def test_own_thread(before: Snapshot) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=True)
    thread.start()

    assert kinds(before) == ["thread"]
    register_own_thread(thread)
    assert wait_clean(before) == []
    over.set()
    thread.join()


def test_own_descriptor_until_its_number_is_used_again(before: Snapshot, stack: ExitStack) -> None:
    own = socket.socket()
    number = own.fileno()
    register_own_fd(number)
    assert wait_clean(before) == []

    own.close()
    other = stack.enter_context(closing(socket.socket()))
    assert other.fileno() == number
    assert kinds(before) == ["socket"]
    register_own_fd(number)
    unregister_own_fd(number)
    assert kinds(before) == ["socket"]


def test_registering_a_closed_descriptor_is_refused() -> None:
    number = os.dup(0)
    os.close(number)

    with pytest.raises(OSError, match="Bad file descriptor"):
        register_own_fd(number)


def test_own_process_running_and_exited(before: Snapshot) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        register_own_pid(process.pid)
        assert kinds(before) == ["pipe"]
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert kinds(before) == ["pipe"]
        unregister_own_pid(process.pid)
        assert kinds(before) == ["pipe", "zombie"]


def test_a_later_process_of_the_same_number_is_not_ours(before: Snapshot) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        register_own_pid(process.pid)
        _leak_excuses._own_pids[process.pid] -= 1  # as if it had started earlier
        assert kinds(before) == ["child process", "pipe"]
        unregister_own_pid(process.pid)


# -- threads of others


@contextmanager
def thread_in(file: str, *, raw: bool = False, busy: bool = False) -> Iterator[int]:
    """A thread that works, or parks, in code of a given file until the block is left; gives its identifier."""
    begun, over = threading.Event(), threading.Event()
    names: dict[str, Callable[[], None]] = {}
    code = compile("def work():\n  begin()\n  wait()", file, "exec")
    found = []

    def begin() -> None:
        found.append(threading.get_ident())
        begun.set()

    exec(code, {"begin": begin, "wait": (lambda: over.wait()) if busy else over.wait}, names)
    if raw:
        _thread.start_new_thread(names["work"], ())
    else:
        threading.Thread(target=names["work"], daemon=True).start()
    try:
        assert begun.wait(10)
        yield found[0]
    finally:
        over.set()


SITE = "/v/lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("file", "raw", "expected"),
    [
        (f"{SITE}/execnet/gateway_base.py", True, []),
        (f"{SITE}/execnet/gateway_base.py", False, []),
        (f"{SITE}/pytest_timeout.py", False, []),
        (f"{SITE}/trio/_core/_thread_cache.py", False, []),
        (f"{SITE}/anyio/_backends/_asyncio.py", False, []),
        (f"{SITE}/somebody/else.py", True, ["thread"]),
        (f"{SITE}/somebody/else.py", False, ["thread"]),
        ("/home/execnet/app.py", False, ["thread"]),
    ],
)
def test_threads_of_tools(before: Snapshot, file: str, raw: bool, expected: list[str]) -> None:
    with thread_in(file, raw=raw):
        assert kinds(before) == expected

    assert wait_clean(before, 10) == []


def test_a_job_on_a_pools_thread_is_a_leak(before: Snapshot) -> None:
    """Only idle workers of trio and anyio are excused."""
    with thread_in(f"{SITE}/trio/_core/_thread_cache.py", busy=True):
        assert kinds(before) == ["thread"]

    assert wait_clean(before, 10) == []


def test_who_else_could_still_close_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither we ourselves, nor threads that have nothing to do with the test."""
    shown = {threading.get_ident()}
    monkeypatch.setattr(
        _leak_excuses,
        "frames_by_thread",
        lambda: {ident: frame for ident, frame in frames_by_thread().items() if ident in shown},
    )
    assert not _leak_excuses.someone_else_runs()
    with thread_in(f"{SITE}/execnet/gateway_base.py", raw=True) as tool, thread_in("/app.py") as app:
        shown.add(tool)
        assert not _leak_excuses.someone_else_runs()
        shown.add(app)
        assert _leak_excuses.someone_else_runs()
        (thread,) = (one for one in threading.enumerate() if one.ident == app)
        register_own_thread(thread)
        assert not _leak_excuses.someone_else_runs()


def test_an_identifier_that_a_raw_thread_has_from_a_known_one() -> None:
    """The system gives it to the next thread as soon as one has ended."""
    with thread_in("/app.py") as known:
        before = Snapshot.take()
    assert known not in before.raw_threads
    with thread_in("/app.py", raw=True) as raw:
        assert raw in Snapshot.take().raw_threads


def test_timer_of_pytest_timeout(before: Snapshot) -> None:
    from pytest_timeout import timeout_timer

    for function, expected in ((timeout_timer, []), (print, ["thread"])):
        timer = threading.Timer(60, function)
        timer.start()
        found = kinds(before)
        timer.cancel()
        timer.join()
        assert found == expected


def test_more_workers_of_an_older_pool(stack: ExitStack) -> None:
    older = stack.enter_context(ThreadPoolExecutor(4))
    older.submit(int).result()
    before = Snapshot.take()
    both_run = threading.Barrier(2)
    for done in [older.submit(both_run.wait, 10) for _ in range(2)]:
        done.result()
    assert len(older._threads) == 2
    assert wait_clean(before, 10) == []

    newer = stack.enter_context(ThreadPoolExecutor(1))
    newer.submit(int).result()
    assert kinds(before) == ["worker thread"]


def test_default_executor_of_an_older_loop(stack: ExitStack) -> None:
    loop = stack.enter_context(closing(asyncio.new_event_loop()))
    before = Snapshot.take()
    loop.run_until_complete(loop.run_in_executor(None, int))

    assert wait_clean(before, 10) == []

    newer = stack.enter_context(closing(asyncio.new_event_loop()))
    newer.run_until_complete(newer.run_in_executor(None, int))
    assert kinds(before) == ["event loop", "worker thread"]


# -- descriptors of others


@pytest.mark.parametrize("path", ["/dev/null", "/dev/urandom"])
def test_devices_that_are_opened_once_and_for_all(before: Snapshot, path: str) -> None:
    with open(path, "rb"):
        assert wait_clean(before) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".hypothesis/examples/ab", []),
        (".coverage.host.1.x", []),
        ("hypothesis/ab", ["file"]),
        ("x.coverage", ["file"]),
    ],
)
def test_files_of_tools(before: Snapshot, tmp_path: Path, name: str, expected: list[str]) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb"):
        assert kinds(before) == expected


def test_resolver(before: Snapshot) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 53))
        assert wait_clean(before) == []
        sock.connect(("127.0.0.1", 54))
        assert kinds(before) == ["socket"]


def test_sockets_of_the_c_library() -> None:
    def excused(peer: object) -> bool:
        return _leak_excuses._is_one_off(SocketFacts(7, "Unix stream", "", peer))

    assert excused("/run/systemd/resolve/io.systemd.Resolve")
    assert excused("/var/run/nscd/socket")
    assert excused("/var/lib/sss/pipes/nss")
    assert excused("/dev/log")
    assert not excused("/tmp/run/systemd/x")
    assert not excused(b"\0/dev/log")
    assert not excused("")


def test_log_file_of_a_handler_in_place(before: Snapshot, tmp_path: Path) -> None:
    logger = logging.getLogger("servertest.tests.leaks")
    handler = logging.FileHandler(tmp_path / "log")
    assert kinds(before) == ["file"]
    logger.addHandler(handler)
    assert wait_clean(before) == []
    logger.removeHandler(handler)
    assert kinds(before) == ["file"]
    handler.close()


def test_log_socket_of_a_handler_in_place(before: Snapshot) -> None:
    handler = logging.handlers.DatagramHandler("127.0.0.1", 9)
    with closing(handler):
        handler.createSocket()
        assert kinds(before) == ["socket"]
        logging.getLogger().addHandler(handler)
        assert wait_clean(before) == []
        logging.getLogger().removeHandler(handler)


def test_helper_of_multiprocessing(monkeypatch: pytest.MonkeyPatch, before: Snapshot) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as helper:
        assert helper.stdin is not None
        assert kinds(before) == ["child process", "pipe"]
        tracker = SimpleNamespace(_pid=helper.pid, _fd=helper.stdin.fileno())
        monkeypatch.setattr(multiprocessing.resource_tracker, "_resource_tracker", tracker)
        assert wait_clean(before) == []


def test_redirected_standard_streams(before: Snapshot, tmp_path: Path) -> None:
    saved, file = os.dup(1), os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.close(file)
    try:
        found = compare(before, Snapshot.take())
    finally:
        os.dup2(saved, 1)
        os.close(saved)

    assert found == []
    assert wait_clean(before) == []


# -- children of others


@pytest.mark.filterwarnings("ignore:subprocess:ResourceWarning")
def test_zombie_of_a_dropped_popen(before: Snapshot) -> None:
    """The next Popen reaps it."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    pid, stdin = process.pid, process.stdin
    del process
    assert stdin is not None
    assert kinds(before) == ["child process", "pipe"]
    stdin.close()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert wait_clean(before) == []
    subprocess.run(["true"], check=True)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@pytest.mark.parametrize("make", [EpollSelector, Waker])
def test_what_was_told_of_is_excused_until_it_is_closed(make: Callable[[], Any], before: Snapshot) -> None:
    thing = make()
    number = thing.fileno()
    excuse([thing])
    assert wait_clean(before) == []
    thing.close()
    # Its number goes to the next one, and nothing in the system tells the two apart.
    with select.epoll() as another:
        assert another.fileno() == number
        assert [leak.kind for leak in wait_clean(before)] == ["epoll"]


def test_what_was_told_of_is_not_kept_open(before: Snapshot) -> None:
    left, right = socket.socketpair()
    excuse([left, right])
    right.close()
    assert wait_clean(before) == []
    dropped = weakref.ref(left)
    with pytest.warns(ResourceWarning):
        del left
    assert dropped() is None


def test_an_event_loop_that_was_told_of(before: Snapshot) -> None:
    loop = asyncio.new_event_loop()
    excuse([loop])
    assert wait_clean(before) == []
    loop.close()
    with select.epoll():
        assert [leak.kind for leak in wait_clean(before)] == ["epoll"]
