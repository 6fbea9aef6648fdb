"""Whatever a server process does, its end comes in time, is told as it was, and leaves nobody behind."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from servertest import servers
from servertest._support import DeadlineExceeded
from servertest.launch import _process, _process_run, _process_stacks
from servertest.launch._host import Plan
from servertest.launch._process_exit import ProcessDied
from servertest.launch._process_group import group_members
from servertest.launch._zygote import the_zygote
from tests._descriptors import new_descriptors, open_descriptors

from ._process_helpers import SOON, Stop, launch, running, wait_for_end, wait_for_output

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

#: Seconds that a server gets which will not take the hint.
BRIEF = 0.5


def sleep_deeply(*_: object) -> None:
    print("sleeping", flush=True)
    time.sleep(1000)


def spin(*_: object) -> None:
    print("spinning", flush=True)
    while True:
        pass


def ignore_and(then: object) -> object:
    """A server that will not hear of SIGTERM."""

    def ignoring(plan: Plan, stopped: Stop) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ignoring", flush=True)
        then(plan, stopped)  # type: ignore[operator]

    return ignoring


def only(problems: list[str]) -> str:
    assert len(problems) == 1, problems
    return problems[0]


# -- those that will not end


@pytest.mark.parametrize(
    "script", [ignore_and(sleep_deeply), ignore_and(spin), spin], ids=["sleeps", "spins", "spins and listens"]
)
def test_who_does_not_end_is_described_and_killed(script: object) -> None:
    server = launch(script)
    pid = server.pid
    wait_for_output(server, b"ing\n")
    began = time.monotonic()
    problem = only(server.stop(BRIEF))

    assert time.monotonic() - began < 2 * BRIEF
    assert f"the server process (pid {pid}) did not end within {BRIEF:g} s and was killed" in problem
    assert re.search(r"test_process_stop.py\", line \d+, in (sleep_deeply|spin)", problem)
    assert re.search(r"its output:\n(ignoring\n)?(sleeping|spinning)", problem)
    assert wait_for_end(pid)


def test_a_forked_child_that_ignores_sigterm_is_described_and_killed() -> None:
    class Ignores(servers.StreamRequestHandler):
        def handle(self) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.wfile.write(b"%d\n" % os.getpid())
            time.sleep(1000)

    server = launch(Ignores)
    with server.connect() as client:
        child = int(client.readline())
        problems = "\n".join(server.stop(2 * BRIEF))

    assert str(child) in problems
    assert re.search(r"test_process_stop.py\", line \d+, in handle", problems)
    assert wait_for_end(child)


def test_a_sleeping_handler_of_a_synchronous_server_is_described_and_killed() -> None:
    class Sleeps(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"x")
            while True:
                time.sleep(1000)

    server = launch(Sleeps, "TCPServer+process")
    with server.connect() as client:
        client.read_exactly(1)
        problem = "\n".join(server.stop(BRIEF))

    assert "did not end within" in problem
    assert re.search(r"test_process_stop.py\", line \d+, in handle", problem)


def test_a_sleeping_thread_is_told_by_the_server_itself() -> None:
    class Sleeps(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"x")
            time.sleep(1000)

    server = launch(Sleeps, "ThreadingTCPServer+process")
    with server.connect() as client:
        client.read_exactly(1)
        problems = "\n".join(server.stop(BRIEF))

    assert "in its handler, in thread" in problems
    assert re.search(r"test_process_stop.py\", line \d+, in handle", problems)


def test_a_process_that_is_stopped_is_killed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process_stacks, "ANSWERS", (0.1,))
    server = launch(lambda plan, stopped: stopped.wait())
    os.kill(server.pid, signal.SIGSTOP)
    problem = only(server.stop(BRIEF))

    assert "no answer within" in problem


def test_a_deadline_that_has_passed_means_now() -> None:
    server = launch(ignore_and(sleep_deeply))
    wait_for_output(server, b"sleeping")
    began = time.monotonic()

    assert "was killed" in only(server.stop(0))
    assert time.monotonic() - began < 1.5  # the stacks are still asked for


def test_nobody_is_left_of_the_group() -> None:
    server = launch(ignore_and(fork_and_sleep))
    wait_for_output(server, b"forked")
    members = group_members(server.pid)
    assert len(members) == 3
    server.stop(BRIEF)

    assert all(map(wait_for_end, members))


def fork_and_sleep(*arguments: object) -> None:
    for _ in range(2):
        if os.fork() == 0:
            time.sleep(1000)
    print("forked", flush=True)
    time.sleep(1000)


def fork_nothing(plan: Plan, stopped: Stop) -> None:
    stopped.wait()


def test_an_interrupted_stop_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(fork_nothing):
        pass
    before = open_descriptors()
    server = launch(ignore_and(sleep_deeply))
    pid = server.pid

    def interrupt(process: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(_process_run.ServerProcess, "stacks", interrupt)
    with pytest.raises(KeyboardInterrupt):
        server.stop(0.1)

    assert wait_for_end(pid)
    assert not new_descriptors(before)


# -- those that end by themselves


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os._exit(0), "exited with status 0 without having been stopped"),
        (lambda: os._exit(3), "exited with status 3 without having been stopped"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL without having been stopped"),
    ],
    ids=["_exit(0)", "_exit(3)", "SIGKILL"],
)
def test_who_ends_by_himself_is_an_error_with_status_and_output(end: object, how: str) -> None:
    class Ends(servers.StreamRequestHandler):
        def handle(self) -> None:
            print("my last words", flush=True)
            end()  # type: ignore[operator]

    server = launch(Ends, "TCPServer+process")
    with server.connect() as client, pytest.raises(ConnectionError):
        client.read_exactly(1)
    error = server.ear.errors.pop(timeout=SOON)
    assert not server.host.alive
    assert how in server.host.dump()
    assert server.stop() == []

    assert isinstance(error.exception, ProcessDied)
    assert how in error.message
    assert "my last words" in error.message
    assert list(server.ear.errors) == []


def test_a_segmentation_fault_is_told_with_its_stack() -> None:
    class Crashes(servers.StreamRequestHandler):
        def handle(self) -> None:
            ctypes.string_at(0)

    server = launch(Crashes, "TCPServer+process")
    server.connect().close()
    error = server.ear.errors.pop(timeout=SOON)
    assert server.stop() == []

    assert "was killed by SIGSEGV" in error.message
    assert "Fatal Python error: Segmentation fault" in error.message
    assert "in handle" in error.message


def test_system_exit_in_a_handler_is_an_error_of_the_handler() -> None:
    class Exits(servers.StreamRequestHandler):
        def handle(self) -> None:
            sys.exit(3)

    server = launch(Exits, "TCPServer+process")
    server.connect().close()
    error = server.ear.errors.pop(timeout=SOON)
    assert server.stop() == []

    assert isinstance(error.exception, SystemExit)
    assert list(server.ear.errors) == []


def test_a_server_that_shuts_itself_down_is_no_error() -> None:
    server = launch(lambda plan, stopped: None)
    process = server.host._process
    assert process is not None
    assert process.wait_for_end(SOON)
    assert server.stop() == []

    assert list(server.ear.errors) == []


def test_an_end_before_serving_is_told_to_the_caller() -> None:
    class Dies:
        name = "Dies"

        def build(self, plan: Plan) -> object:
            print("not today", flush=True)
            os._exit(4)

    with pytest.raises(
        ProcessDied, match=r"(?s)exited with status 4 before it served; its output:\nnot today"
    ):
        launch(Dies())


def test_who_never_serves_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dawdles:
        name = "Dawdles"

        def build(self, plan: Plan) -> object:
            time.sleep(1000)
            return None

    with running(fork_nothing):
        pass  # so that the zygote is up
    monkeypatch.setattr(_process, "STARTING", 0.5)
    with pytest.raises(DeadlineExceeded, match=r"(?s)Dawdles to be started in a process\n.*in build"):
        launch(Dawdles())


# -- what is left behind


def test_a_process_left_behind_in_the_group_is_told_and_killed() -> None:
    def fork_and_forget(plan: Plan, stopped: Stop) -> None:
        if os.fork() == 0:
            time.sleep(1000)
        print("forked", flush=True)
        stopped.wait()

    server = launch(fork_and_forget)
    wait_for_output(server, b"forked")
    leader = server.pid
    (child,) = [pid for pid in group_members(leader) if pid != leader]
    problem = only(server.stop())

    assert problem.startswith(f"process {child}, forked by the server process (pid {leader}), still ran")
    assert wait_for_end(child)


def test_a_process_that_has_left_the_group_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process_run, "DRAINING", 0.1)

    def daemonize(plan: Plan, stopped: Stop) -> None:
        near, far = os.pipe()
        if os.fork() == 0:
            os.setsid()
            os.write(far, b"%d" % os.getpid())
            time.sleep(60)
            os._exit(0)
        print(f"{os.read(near, 10).decode()} is free")
        stopped.wait()

    server = launch(daemonize)
    wait_for_output(server, b"is free")
    pid = int(server.host.output.split()[0])
    try:
        problem = only(server.stop())
    finally:
        os.kill(pid, signal.SIGKILL)

    assert "left its process group" in problem
    assert wait_for_end(pid)


def test_the_zygote_reaps_whatever_a_dead_server_has_left() -> None:
    """Zombies would be processes whose parent is the zygote, in state Z."""
    server = launch(fork_and_sleep)
    wait_for_output(server, b"forked")
    members = group_members(server.pid)
    server.host.kill()
    assert all(map(wait_for_end, members))
    server.stop()
    with running(lambda plan, stopped: stopped.wait()):
        pass  # the zygote has been round its loop since

    assert zombies_of(the_zygote().pid) == []


def zombies_of(parent: int) -> list[int]:
    found = []
    for directory in Path("/proc").iterdir():
        try:
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if fields[0] == "Z" and int(fields[1]) == parent:
            found.append(int(directory.name))
    return found


# -- signals


def test_a_stop_while_the_server_begins_is_not_missed() -> None:
    """SIGTERM may come when the server is built but does not serve yet."""

    class Slow:
        name = "Slow"

        def build(self, plan: Plan) -> object:
            from ._process_helpers import Scripted

            os.kill(os.getpid(), signal.SIGTERM)
            return Scripted(plan, lambda plan, stopped: stopped.wait())

    server = launch(Slow())
    process = server.host._process
    assert process is not None
    assert process.wait_for_end(SOON)
    assert server.stop() == []

    assert list(server.ear.errors) == []


def test_a_forked_process_does_not_take_sigterm_for_the_servers() -> None:
    def fork_one(plan: Plan, stopped: Stop) -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(1000)
        os.kill(pid, signal.SIGTERM)
        print(f"status {os.waitpid(pid, 0)[1]}", flush=True)
        stopped.wait()

    server = launch(fork_one)
    wait_for_output(server, b"\n")

    assert server.host.output == f"status {int(signal.SIGTERM)}"
    assert server.stop() == []


def test_sigterm_from_elsewhere_stops_the_server_in_order() -> None:
    server = launch(lambda plan, stopped: stopped.wait())
    os.kill(server.pid, signal.SIGTERM)
    process = server.host._process
    assert process is not None
    assert process.wait_for_end(SOON)
    assert server.stop() == []

    assert list(server.ear.errors) == []
