"""Each sort of thing that can be left behind is found, described, and laid at the right door."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from servertest._support import Deadline, LeakFound
from servertest.launch import _leak_origins, _leaks
from servertest.launch._leaks import (
    Leak,
    Snapshot,
    compare,
    no_leaks,
    render_leaks,
    trace_allocations,
    wait_clean,
    watch_path,
)

SHORT = 0.03


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def before() -> Snapshot:
    return Snapshot.take()


def only(leaks: list[Leak]) -> Leak:
    assert len(leaks) == 1, render_leaks(leaks)
    return leaks[0]


@contextmanager
def running(
    target: Callable[[], object], name: str = "worker", *, daemon: bool = True
) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=target, name=name, daemon=daemon)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


@contextmanager
def parked(name: str = "worker") -> Iterator[threading.Thread]:
    """A thread that lives until the block is left."""
    over = threading.Event()

    def park_here() -> None:
        over.wait()

    with running(park_here, name) as thread:
        try:
            yield thread
        finally:
            over.set()


@contextmanager
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until the block is left, or its input is closed."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        process.stdout.close()
        yield process


@pytest.fixture
def when_waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something as soon as the guard has found something and begins to wait for it to go."""

    def arrange(action: Callable[[], object]) -> None:
        let_go = _leaks._let_go

        def act_first(*args: object) -> None:
            action()
            let_go(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(_leaks, "_let_go", act_first)

    return arrange


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits has to do so by a signal."""
    monkeypatch.setattr(_leaks, "_breathe", lambda _: pytest.fail("it did not wait, and looks again"))


# -- the good case


def test_nothing_is_left(before: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: pytest.fail("the good case must not collect garbage"))
    monkeypatch.setattr(_leaks, "_let_go", lambda *_: pytest.fail("the good case must not wait"))

    with socket.socket(), parked(), child():
        pass

    assert wait_clean(before) == []


def test_what_was_there_before_is_nobodys_leak(stack: ExitStack) -> None:
    stack.enter_context(parked())
    stack.enter_context(child())
    stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    loop = stack.enter_context(closing(asyncio.new_event_loop()))
    task = loop.create_task(asyncio.sleep(60))

    assert wait_clean(Snapshot.take()) == []

    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))


def test_a_leak_is_laid_at_its_own_door_and_not_at_the_next(stack: ExitStack) -> None:
    start = Snapshot.take()
    guilty = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    first = wait_clean(start)
    second = Snapshot.take()

    assert f":{guilty.getsockname()[1]}" in only(first).what
    assert wait_clean(second) == []


def test_what_goes_and_what_stays(before: Snapshot, stack: ExitStack) -> None:
    """Of several, only those that stay are reported, each as what it is."""
    stack.enter_context(parked("stays"))
    stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    with parked("goes"), child():
        pass

    assert sorted(leak.kind for leak in wait_clean(before, SHORT)) == ["listening socket", "thread"]


# -- threads


def test_thread(before: Snapshot, stack: ExitStack) -> None:
    stack.enter_context(parked("poller"))

    leak = only(wait_clean(before, SHORT))

    assert leak.kind == "thread"
    assert leak.what == "thread 'poller' (daemon) is still running"
    assert "over.wait()" in "\n".join(leak.details)
    assert "join()" in leak.advice


@pytest.mark.usefixtures("no_polling")
def test_thread_that_is_about_to_end(
    before: Snapshot, when_waiting: Callable[[Callable[[], object]], None]
) -> None:
    over = threading.Event()
    when_waiting(over.set)

    with running(over.wait):
        assert wait_clean(before, 10) == []


def test_an_overridden_join_is_not_called(before: Snapshot) -> None:
    over = threading.Event()

    class Stopping(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            over.set()
            super().join(timeout)

    thread = Stopping(target=over.wait)
    thread.start()

    leak = only(wait_clean(before, SHORT))
    thread.join()
    assert leak.kind == "thread"


def test_thread_that_threading_does_not_know(before: Snapshot, stack: ExitStack) -> None:
    import _thread

    lock = _thread.allocate_lock()
    lock.acquire()

    def run_raw() -> None:
        begun.set()
        lock.acquire()

    begun = threading.Event()
    _thread.start_new_thread(run_raw, ())
    begun.wait(10)
    try:
        leak = only(wait_clean(before, SHORT))
    finally:
        lock.release()

    assert leak.kind == "thread"
    assert "_thread" in leak.what
    assert "run_raw" in "\n".join(leak.details)


def test_such_a_thread_that_is_about_to_end(
    before: Snapshot, when_waiting: Callable[[Callable[[], object]], None]
) -> None:
    import _thread

    lock, begun = _thread.allocate_lock(), threading.Event()
    lock.acquire()
    when_waiting(lambda: lock.release() if lock.locked() else None)

    def run_raw() -> None:
        threading.current_thread()  # leaves a dummy Thread behind, on some versions for ever
        begun.set()
        lock.acquire()

    _thread.start_new_thread(run_raw, ())
    begun.wait(10)

    assert wait_clean(before, 10) == []


def test_worker_of_an_executor(before: Snapshot) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        pool.submit(int).result()
        leak = only(wait_clean(before, SHORT))

    assert leak.kind == "worker thread"
    assert "'pool_0'" in leak.what
    assert "shutdown()" in leak.advice


def test_executor_that_was_dropped(before: Snapshot) -> None:
    """Its workers end when it is collected, so they are no leak."""
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    del pool

    assert wait_clean(before, 10) == []


# -- children


def test_child(before: Snapshot, stack: ExitStack) -> None:
    process = stack.enter_context(child())

    leaks = {leak.kind: leak for leak in wait_clean(before, SHORT)}

    assert re.fullmatch(
        rf"child process {process.pid} is still there, (sleeping|running).*: cat", leaks["child process"].what
    )
    assert "kept in 'stdin' of subprocess.Popen" in str(leaks["pipe"])
    assert process.poll() is None


def test_zombie_is_not_reaped_by_us(before: Snapshot) -> None:
    process = subprocess.Popen(["sh", "-c", "exit 3"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    leak = only(wait_clean(before))

    assert leak.kind == "zombie"
    assert f"child process {process.pid} " in leak.what
    assert "was never waited for" in leak.what
    assert process.wait() == 3


def test_child_that_is_about_to_exit(
    before: Snapshot, when_waiting: Callable[[Callable[[], object]], None]
) -> None:
    with child() as process, running(process.wait):
        assert process.stdin is not None
        when_waiting(process.stdin.close)
        assert wait_clean(before, 10) == []
        assert process.returncode == 0


def test_exits_are_awaited_without_reaping() -> None:
    with child() as process:
        start = time.monotonic()
        _leaks._await_exits([process.pid, 2**22 + 1], Deadline(0.01, "no exit"))
        assert time.monotonic() - start >= 0.01
        assert process.stdin is not None
        process.stdin.close()
        _leaks._await_exits([process.pid], Deadline(10, "the exit"))
        assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def test_forked_child(tmp_path: Path) -> None:
    """In a process of its own, as forking one that has threads is frowned upon."""
    script = tmp_path / "forks.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal
            from servertest.launch._leaks import Snapshot, wait_clean

            before = Snapshot.take()
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            print(*(leak.kind for leak in wait_clean(before, 0.03)))
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            print(*(leak.kind for leak in wait_clean(before, 0.03)))
            os.waitpid(pid, 0)
            print(*(leak.kind for leak in wait_clean(before, 0.03)))
            """
        )
    )

    result = subprocess.run(
        [sys.executable, "-W", "error", script], capture_output=True, text=True, timeout=30
    )

    assert (result.stdout, result.stderr) == ("child process\nzombie\n\n", "")


# -- descriptors


def test_listening_socket(before: Snapshot, stack: ExitStack) -> None:
    listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))

    leak = only(wait_clean(before))

    assert leak.kind == "listening socket"
    host, port = listener.getsockname()
    assert leak.what == f"TCP socket listening on {host}:{port} (descriptor {listener.fileno()})"
    assert "server_close()" in leak.advice


def test_connection(stack: ExitStack) -> None:
    listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    before = Snapshot.take()
    client = stack.enter_context(closing(socket.create_connection(listener.getsockname())))

    leak = only(wait_clean(before))

    assert leak.kind == "socket"
    assert f"TCP connection 127.0.0.1:{client.getsockname()[1]} -> 127.0.0.1:" in leak.what
    assert "ESTABLISHED" in leak.what


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: socket.socket(type=socket.SOCK_DGRAM), "UDP socket, neither bound nor connected"),
        (lambda: socket.socket(socket.AF_UNIX), "Unix stream socket, neither bound nor connected"),
        (select.epoll, "epoll descriptor"),
        (tempfile.TemporaryFile, "open file /"),
    ],
    ids=["udp", "unix", "epoll", "file"],
)
def test_descriptor(before: Snapshot, make: Callable[[], socket.socket], what: str) -> None:
    with make():
        assert only(wait_clean(before)).what.startswith(what)


def test_two_of_a_sort_that_has_no_names(before: Snapshot) -> None:
    with select.epoll(), select.epoll():
        assert [leak.kind for leak in wait_clean(before)] == ["epoll", "epoll"]


def test_udp_socket_that_is_bound(before: Snapshot) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert f"UDP socket bound to 127.0.0.1:{sock.getsockname()[1]}" in only(wait_clean(before)).what


def test_socket_pair(before: Snapshot) -> None:
    left, right = socket.socketpair()
    with left, right:
        assert [leak.what.split(" (")[0] for leak in wait_clean(before)] == 2 * [
            "one end of a Unix stream socket pair: 0 bytes not read"
        ]


def test_pipe(before: Snapshot, stack: ExitStack) -> None:
    reader, writer = os.pipe()
    stack.callback(os.close, writer)

    assert only(wait_clean(before)).what == f"both ends of a pipe (descriptors {reader}, {writer})"
    os.close(reader)
    assert only(wait_clean(before)).what == f"write end of a pipe (descriptor {writer})"


def test_who_keeps_it(before: Snapshot) -> None:
    class Client:
        def __init__(self) -> None:
            self.connection = socket.socket()

    client = Client()
    with client.connection:
        (detail,) = only(wait_clean(before)).details

    assert detail.startswith("    it is a socket.socket, kept in 'connection' of ")
    assert detail.endswith("Client")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_only_the_garbage_collector_closes(before: Snapshot, stack: ExitStack) -> None:
    gc.disable()  # lest it runs by itself
    stack.callback(gc.enable)
    circle: list[object] = [socket.socket()]
    circle.append(circle)
    del circle

    assert "only when the garbage collector ran" in only(wait_clean(before)).remark
    assert wait_clean(before) == []


def test_descriptor_that_is_about_to_be_closed_by_an_older_thread(
    stack: ExitStack, when_waiting: Callable[[Callable[[], object]], None]
) -> None:
    """As a pool of a server does that was there before the test: of closing, the kernel gives no sign."""
    start, over = threading.Event(), threading.Event()
    sock = socket.socket()

    def close_late() -> None:
        start.wait()
        sock.close()
        over.wait()

    sock.close()
    with running(close_late):
        before = Snapshot.take()
        sock = socket.socket()
        when_waiting(start.set)
        try:
            assert wait_clean(before, 10) == []
        finally:
            over.set()


def test_a_number_that_was_closed_and_used_again(stack: ExitStack) -> None:
    first = socket.socket()
    number = first.fileno()
    before = Snapshot.take()
    first.close()
    second = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))

    assert second.fileno() == number
    assert only(wait_clean(before)).kind == "listening socket"


def test_what_only_moved_to_another_number(stack: ExitStack) -> None:
    first = socket.socket()
    before = Snapshot.take()
    second = stack.enter_context(closing(first.dup()))
    assert f"(descriptor {second.fileno()})" in only(compare(before, Snapshot.take())).what
    first.close()

    assert wait_clean(before) == []


# -- asyncio


def test_event_loop_is_one_leak(before: Snapshot, stack: ExitStack) -> None:
    loop = stack.enter_context(closing(asyncio.new_event_loop()))

    leak = only(wait_clean(before))

    assert leak.kind == "event loop"
    assert f"{type(loop).__qualname__}, not running, was not closed (descriptors " in leak.what


def test_pending_task(stack: ExitStack) -> None:
    loop = stack.enter_context(closing(asyncio.new_event_loop()))
    before = Snapshot.take()

    async def dawdle() -> None:
        await asyncio.sleep(60)

    task = loop.create_task(dawdle(), name="dawdler")
    loop.run_until_complete(asyncio.sleep(0))
    leak = only(wait_clean(before))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))

    assert leak.kind == "task"
    assert "task 'dawdler' of test_pending_task.<locals>.dawdle()" in leak.what
    assert "event loop is not running" in leak.what
    assert "await asyncio.sleep(60)" in "\n".join(leak.details)
    assert wait_clean(before) == []


@pytest.mark.usefixtures("no_polling")
def test_task_that_is_about_to_end(
    stack: ExitStack, when_waiting: Callable[[Callable[[], object]], None]
) -> None:
    loop = stack.enter_context(closing(asyncio.new_event_loop()))
    with running(loop.run_forever):
        stack.callback(loop.call_soon_threadsafe, loop.stop)
        before = Snapshot.take()
        begun, over = asyncio.Event(), asyncio.Event()

        async def wait_over() -> None:
            begun.set()
            await over.wait()

        future = asyncio.run_coroutine_threadsafe(wait_over(), loop)
        asyncio.run_coroutine_threadsafe(begun.wait(), loop).result(10)
        when_waiting(lambda: loop.call_soon_threadsafe(over.set))
        assert wait_clean(before, 10) == []
        assert future.done()
        loop.call_soon_threadsafe(loop.stop)


def test_inside_a_coroutine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard must not wait for the very loop that runs it."""
    monkeypatch.setattr(_leaks, "someone_else_runs", lambda: False)

    async def test_body() -> list[str]:
        before = Snapshot.take()
        other = asyncio.create_task(asyncio.sleep(60))
        kinds = [leak.kind for leak in wait_clean(before, 30)]
        other.cancel()
        return kinds

    start = time.monotonic()
    assert asyncio.run(test_body()) == ["task"]
    assert time.monotonic() - start < 15


# -- paths


def test_path_in_a_given_directory(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        before = Snapshot.take(directories=[directory])
        path = os.path.join(directory, "s")
        (Path(directory) / "not-a-socket").touch()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)

        leak = only(wait_clean(before))
        assert (leak.kind, leak.what) == ("Unix path", f"Unix socket path {path}")
        assert "os.unlink()" in leak.advice
        os.unlink(path)
        assert wait_clean(before) == []

    assert wait_clean(before) == []


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as no leak guard has been there, paths that get bound are not known."""
    monkeypatch.setattr(_leak_origins, "_watching", False)


def test_path_that_was_bound_here_is_found_by_itself() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        with pytest.raises(LeakFound, match="Unix socket path") as caught, no_leaks():
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(path)
        assert path in str(caught.value)
        assert "sock.bind(path)" in str(caught.value)
        with no_leaks():
            os.unlink(path)


@pytest.mark.skipif(not hasattr(socket, "SOCK_CLOEXEC"), reason="no abstract names here")
def test_abstract_names_and_paths_that_are_removed_are_none() -> None:
    with tempfile.TemporaryDirectory() as directory, no_leaks():
        path = os.path.join(directory, "s")
        with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as abstract:
            sock.bind(path)
            abstract.bind(f"\0servertest-{os.getpid()}-leaks")
        os.unlink(path)


def test_paths_of_multiprocessing_s_helpers_stay_on_purpose() -> None:
    import multiprocessing.connection

    with no_leaks():
        with multiprocessing.connection.Listener(family="AF_UNIX") as listener:
            path = str(listener.address)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
    os.unlink(path)


@pytest.mark.usefixtures("unwatched")
def test_path_that_is_watched(before: Snapshot) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
        assert wait_clean(before) == []
        watch_path(path)
        assert only(wait_clean(before)).what == f"Unix socket path {path}"
        assert wait_clean(Snapshot.take()) == []

    assert wait_clean(before) == []


def test_path_that_is_watched_and_is_no_socket_any_more(before: Snapshot) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "s"
        path.touch()
        watch_path(str(path))
        assert wait_clean(before) == []


# -- the rest of the interface


def test_adopt_what_a_wider_fixture_made(before: Snapshot, stack: ExitStack) -> None:
    start = Snapshot.take()
    stack.enter_context(parked("of the module"))
    stack.enter_context(child())
    stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    end = Snapshot.take()
    own = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))

    leak = only(wait_clean(before.adopt(start, end), SHORT))

    assert f":{own.getsockname()[1]} " in leak.what


def test_no_leaks_raises(stack: ExitStack) -> None:
    with pytest.raises(LeakFound, match=r"1 thing was left behind:\n\n1\. UDP socket"), no_leaks():
        stack.enter_context(closing(socket.socket(type=socket.SOCK_DGRAM)))


def test_no_leaks_lets_the_blocks_own_error_through(stack: ExitStack) -> None:
    with pytest.raises(ZeroDivisionError), no_leaks():
        stack.enter_context(closing(socket.socket()))
        1 / 0  # noqa: B018


def test_the_text() -> None:
    leaks = [
        Leak("thread", "thread 'a' is still running", ("    File ...",)),
        Leak("pipe", "read end of a pipe (descriptor 7)", origin=("    File ...",), remark="odd"),
    ]

    assert render_leaks(leaks) == textwrap.dedent(
        """\
        2 things were left behind:

        1. thread 'a' is still running
            File ...
            to mend it: tell it to stop, close what it reads from, and join() it before the test ends

        2. read end of a pipe (descriptor 7)
            made here:
                File ...
            note: odd
            to mend it: close it, or use it in a with block"""
    )


# -- where things came from


def open_here() -> socket.socket:
    return socket.socket()


def test_trace_of_a_socket(before: Snapshot) -> None:
    with trace_allocations(), open_here():
        origin = only(wait_clean(before)).origin

    assert origin[-1].strip() == "return socket.socket()"
    assert origin[-2].endswith("in open_here")


def test_trace_of_a_thread(before: Snapshot) -> None:
    with trace_allocations(), parked():
        origin = only(wait_clean(before, SHORT)).origin

    assert origin[-1].strip() == "thread.start()"


def test_trace_of_a_child(before: Snapshot) -> None:
    with trace_allocations(), child():
        leaks = {leak.kind: leak for leak in wait_clean(before, SHORT)}

    assert "subprocess.Popen(" in leaks["child process"].origin[-1]


@pytest.mark.usefixtures("unwatched")
def test_trace_finds_paths_anywhere(before: Snapshot) -> None:
    with tempfile.TemporaryDirectory() as directory, trace_allocations():
        path = os.path.join(directory, "s")
        for _ in range(2):  # the second attempt fails, and must not hide the first
            with socket.socket(socket.AF_UNIX) as sock:
                try:
                    sock.bind(path)
                except OSError:
                    continue

        leak = only(wait_clean(before))
        assert leak.what == f"Unix socket path {path}"
        assert leak.origin[-1].strip() == "sock.bind(path)"


@pytest.mark.usefixtures("unwatched")
def test_trace_leaves_paths_of_others_alone(before: Snapshot) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        with socket.socket(socket.AF_UNIX) as of_others, socket.socket(socket.AF_UNIX) as sock:
            of_others.bind(path)
            with trace_allocations(), pytest.raises(OSError, match="in use"):
                sock.bind(path)

        assert wait_clean(before) == []


def test_no_trace_unless_asked_for(before: Snapshot) -> None:
    with trace_allocations():
        pass
    with open_here():
        assert only(wait_clean(before)).origin == ()


def test_traces_nest_and_leave_no_trace(before: Snapshot) -> None:
    start = threading.Thread.start
    with trace_allocations():
        with trace_allocations():
            pass
        with parked():
            assert only(wait_clean(before, SHORT)).origin

    assert threading.Thread.start is start


def test_a_trace_keeps_nothing_alive(before: Snapshot) -> None:
    known = len(_leak_origins._makers)
    with trace_allocations():
        with open_here():
            pass
        with parked():
            pass

    assert len(_leak_origins._makers) == known
    assert wait_clean(before) == []


# -- what it costs


def test_a_look_takes_less_than_300_microseconds(stack: ExitStack) -> None:
    for _ in range(10):
        stack.enter_context(closing(socket.socket()))

    def best_of(action: Callable[[], object]) -> float:
        times = []
        for _ in range(100):
            start = time.perf_counter()
            action()
            times.append(time.perf_counter() - start)
        return min(times)

    before = Snapshot.take()
    assert best_of(Snapshot.take) < 300e-6
    assert best_of(lambda: wait_clean(before)) < 300e-6
