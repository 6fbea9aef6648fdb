"""A dump shows where things hang, and neither hangs nor fails itself."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from servertest.launch import _dump
from servertest.launch._dump import (
    Place,
    describe_children,
    describe_sockets,
    describe_tasks,
    describe_threads,
    format_places,
    hang_dump,
    library_of,
    watch_loop,
)


@contextmanager
def parked(name: str = "worker") -> Iterator[threading.Thread]:
    begun, over = threading.Event(), threading.Event()

    def park_here(depth: int = 3) -> None:
        if depth:
            park_here(depth - 1)
        begun.set()
        over.wait()

    thread = threading.Thread(target=park_here, name=name, daemon=True)
    thread.start()
    assert begun.wait(10)
    try:
        yield thread
    finally:
        over.set()
        thread.join()


# What a shell starts in the background ignores it, and so do its children.
INHERITED = "(, ignores or blocks SIGINT)?"


@contextmanager
def child(script: str = "echo ready; read line") -> Iterator[subprocess.Popen[bytes]]:
    """A shell that has begun, and lives until the block is left."""
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process


# -- threads


def test_thread() -> None:
    with parked("poller") as thread:
        lines = describe_threads([thread]).splitlines()

    assert lines[0] == "thread 'poller' (daemon):"
    assert lines[1].strip() == "(3 calls in threading)"
    assert lines[2].strip().startswith(f'File "{__file__}", line ')
    assert [line.strip() for line in lines].count("park_here(depth - 1)") == 3
    assert "over.wait()" in [line.strip() for line in lines]
    assert lines[-2].endswith("in Condition.wait")
    assert lines[-1].strip() == "waiter.acquire()"


def test_all_frames_on_request() -> None:
    with parked() as thread:
        text = describe_threads([thread], skip_internals=False)

    assert "calls in" not in text
    assert "_bootstrap_inner" in text


def test_depth() -> None:
    with parked() as thread:
        lines = describe_threads([thread], depth=1).splitlines()

    assert lines[1].strip() == "(8 calls further out)"
    assert lines[2].endswith("in Condition.wait")


def test_this_thread_and_all_the_others() -> None:
    with parked("poller"):
        text = describe_threads()

    assert "thread 'MainThread' (this one):" in text
    assert "text = describe_threads()" in text
    assert "thread 'poller' (daemon):" in text
    assert _dump.__file__ not in text


def test_thread_that_threading_does_not_know() -> None:
    import _thread

    begun, lock = threading.Event(), _thread.allocate_lock()
    lock.acquire()

    def run_raw() -> None:
        begun.set()
        lock.acquire()

    _thread.start_new_thread(run_raw, ())
    assert begun.wait(10)
    text = describe_threads()
    lock.release()

    assert ", not started by threading:\n" in text
    assert "in test_thread_that_threading_does_not_know.<locals>.run_raw" in text


def test_threads_that_run_no_code() -> None:
    with parked("ended") as ended:
        pass

    assert describe_threads([ended, threading.Thread(name="new")]).splitlines() == [
        "thread 'ended' (daemon, has ended):",
        "    (no Python code to show)",
        "thread 'new' (not started):",
        "    (no Python code to show)",
    ]


def test_one_that_cannot_be_described_does_not_hide_the_others() -> None:
    class Awkward(threading.Thread):
        @property
        def daemon(self) -> bool:  # type: ignore[override]
            raise ValueError

    with parked("poller") as thread:
        awkward = threading.Thread()
        awkward.__class__ = Awkward
        text = describe_threads([awkward, thread])

    assert text.startswith("(thread that cannot be described: ValueError)\nthread 'poller'")


def test_a_list_that_changes_under_our_hands() -> None:
    changing = {threading.Thread(): 0}
    threads = iter(changing)
    changing.clear()

    assert describe_threads(threads) == "(of sort thread some cannot be listed: RuntimeError)"


def test_which_files_are_folded() -> None:
    assert library_of(threading.__file__) == "threading"
    assert library_of(asyncio.__file__) == "asyncio"
    assert library_of(_dump.__file__) == "servertest.launch"
    assert library_of(pytest.__file__) == "pytest"
    assert library_of("<frozen runpy>") == "runpy"
    assert library_of("/v/lib/python3.11/site-packages/aiosmtpd/smtp.py") is None
    assert library_of(__file__) is None
    assert library_of("<string>") is None


def test_runs_of_libraries_are_folded_each() -> None:
    standard, site = threading.__file__, "/v/lib/python3.11/site-packages"
    places = [
        Place(standard, 1, "a"),
        Place(f"{site}/pluggy/_callers.py", 1, "b"),
        Place("/app.py", 1, "c"),
        Place(standard, 1, "d"),
        Place("/app.py", 2, "e"),
    ]

    assert format_places(places) == [
        "    (2 calls in threading, pluggy)",
        '    File "/app.py", line 1, in c',
        "    (1 call in threading)",
        '    File "/app.py", line 2, in e',
    ]


# -- tasks


def test_tasks() -> None:
    with closing(asyncio.new_event_loop()) as loop:

        async def inner() -> None:
            await asyncio.sleep(60)

        async def outer() -> None:
            await inner()

        task = loop.create_task(outer(), name="dawdler")
        loop.run_until_complete(asyncio.sleep(0))
        lines = describe_tasks([task]).splitlines()
        everything = hang_dump("no end")
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))

    assert lines[0] == "task 'dawdler' of test_tasks.<locals>.outer() (its event loop is not running):"
    assert [line.strip() for line in lines[2:6:2]] == ["await inner()", "await asyncio.sleep(60)"]
    assert "--- asyncio tasks ---\n" + "\n".join(lines) in everything


def test_a_watched_loop_is_asked_for_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only way from Python 3.14 on, where there is no register of all tasks."""
    for register in ("_all_tasks", "_scheduled_tasks", "_eager_tasks"):
        monkeypatch.delattr(asyncio.tasks, register, raising=False)
    with closing(asyncio.new_event_loop()) as loop:
        task = loop.create_task(asyncio.sleep(60))
        monkeypatch.setattr(asyncio.tasks, "all_tasks", lambda asked: {task} if asked is loop else set())
        assert task not in _dump.pending_tasks()
        watch_loop(loop)
        assert task in _dump.pending_tasks()
        task.cancel()
        loop.run_until_complete(asyncio.wait([task]))
        assert task not in _dump.pending_tasks()


# -- processes and sockets


def test_children() -> None:
    others = describe_children()
    with child() as process:
        what = rf"process {process.pid}: sh -c 'echo ready; read line': (sleeping|running)( \(in \w+\))?{INHERITED}"
        assert re.fullmatch(what, describe_children([process.pid]))
        assert re.search(rf"^process {process.pid}: ", describe_children(), re.MULTILINE)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert describe_children([process.pid]).endswith(
            "a zombie: it has exited and nobody has waited for it"
        )

    assert describe_children([process.pid]) == f"process {process.pid}: gone, or not known to this system"
    assert describe_children().count("\n") == others.count("\n")
    assert describe_children([]) == ""


def test_child_that_ignores_signals() -> None:
    with child("trap '' TERM; echo ready; read line") as process:
        text = describe_children([process.pid])

    assert re.search(r", ignores or blocks SIGTERM( and SIGINT)?$", text)


def test_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as client, listener.accept()[0] as server:
            with socket.create_connection(address):
                lines = describe_sockets([listener, client.fileno()]).splitlines()
            server.sendall(b"hello")
            server.shutdown(socket.SHUT_WR)
            client.recv(100, socket.MSG_PEEK)
            later = describe_sockets([client, server]).splitlines()

    port = address[1]
    assert lines[0].endswith(
        f"TCP socket listening on 127.0.0.1:{port}: 1 waiting to be accepted (at most 5)"
    )
    assert lines[1].endswith(f" -> 127.0.0.1:{port}: ESTABLISHED; 0 bytes not read")
    assert later[0].endswith("CLOSE-WAIT (the peer has closed, this side has not); 5 bytes not read")
    assert "FIN-WAIT" in later[1]
    assert describe_sockets([client, 0]) == (
        "descriptor -1: closed, or not a socket\ndescriptor 0: closed, or not a socket"
    )


# -- everything


def test_hang_dump() -> None:
    with (
        socket.socket() as sock,
        parked("poller") as thread,
        child() as process,
    ):
        text = hang_dump("waited 3 s for the end", threads=[thread], pids=[process.pid], sockets=[sock])

    assert text.startswith("waited 3 s for the end\n--- threads ---\nthread 'poller' (daemon):\n")
    assert f"\n--- child processes ---\nprocess {process.pid}: sh -c " in text
    assert "\n--- sockets ---\ndescriptor " in text


def test_hang_dump_leaves_out_what_there_is_not() -> None:
    assert hang_dump("nothing", threads=[], tasks=[], pids=[]) == "nothing"
