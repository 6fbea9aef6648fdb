"""The zygote starts once, ends with the test's process, and takes all server processes along."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from servertest import servers
from servertest.launch import _zygote
from servertest.launch._leaks import no_leaks
from servertest.launch._process_group import group_members
from servertest.launch._zygote import NoZygote, Zygote, shutdown_zygote, the_zygote, zygote_pids
from tests._descriptors import new_descriptors, open_descriptors

from ._process_helpers import SOON, launch, running, wait_for_end

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


class Pid(servers.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"%d %d\n" % (os.getppid(), os.getpid()))


def test_one_zygote_forks_all_servers() -> None:
    parents = set()
    for _ in range(3):
        with running(Pid, "TCPServer+process") as server, server.connect() as client:
            parents.add(int(client.readline().split()[0]))

    assert parents == zygote_pids() == {the_zygote().pid}


def test_ctrl_c_is_not_for_it() -> None:
    assert os.getsid(the_zygote().pid) == the_zygote().pid


def test_it_is_no_leak() -> None:
    shutdown_zygote()
    with no_leaks():
        with running(Pid):
            pass
    with no_leaks():
        shutdown_zygote()
        assert zygote_pids() == frozenset()


def test_it_is_started_again_when_it_has_ended() -> None:
    first = the_zygote()
    os.kill(first.pid, signal.SIGKILL)
    assert first._process.wait(SOON) == -signal.SIGKILL
    with running(Pid):
        assert the_zygote().pid != first.pid


def test_its_death_takes_the_servers_along_and_is_told() -> None:
    server = launch(lambda plan, stopped: stopped.wait())
    pid = server.pid
    os.kill(the_zygote().pid, signal.SIGKILL)
    assert wait_for_end(pid)
    (problem,) = server.stop()

    assert "is lost: the process that had forked it has ended" in problem


def test_shutting_it_down_takes_the_servers_along() -> None:
    server = launch(Pid)
    pid = server.pid
    shutdown_zygote()
    assert wait_for_end(pid)
    server.stop()

    assert zygote_pids() == frozenset()
    shutdown_zygote()


def test_what_it_says_when_it_cannot_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_zygote, "_PROGRAM", "raise SystemExit('there is something wrong')")
    zygote = Zygote()
    try:
        assert zygote._process.wait(SOON) == 1
        with pytest.raises(
            NoZygote, match=r"(?s)has ended with status 1; it said:\nthere is something wrong"
        ):
            zygote.introduce()
    finally:
        zygote.close()


@pytest.mark.parametrize("call", ["os.pipe", "subprocess.Popen"])
def test_what_it_has_opened_is_closed_when_it_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = open_descriptors()
    monkeypatch.setattr(call, refuse)
    with pytest.raises(OSError, match="Too many open files"):
        Zygote()
    assert not new_descriptors(before)


def test_a_launch_without_a_zygote_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shutdown_zygote()
    monkeypatch.setattr(_zygote, "_PROGRAM", "import sys; sys.stdin.read(); raise SystemExit('out of order')")
    descriptors = os.listdir("/proc/self/fd")
    try:
        with pytest.raises(NoZygote):
            launch(Pid)
    finally:
        shutdown_zygote()
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


def test_a_zygote_that_ends_in_the_last_moment_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    zygote = the_zygote()
    monkeypatch.setattr(Zygote, "running", True)  # as it was when it was looked at
    os.kill(zygote.pid, signal.SIGKILL)
    assert wait_for_end(zygote.pid)
    descriptors = os.listdir("/proc/self/fd")
    began = time.monotonic()
    with pytest.raises(NoZygote):
        launch(Pid)
    assert time.monotonic() - began < 3
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


def test_it_works_as_well_without_what_only_linux_has(monkeypatch: pytest.MonkeyPatch) -> None:
    # What looks up the platform's build, as coverage does, has done so before.
    poorer = (
        "import os, sysconfig; sysconfig.get_config_vars(); del os.waitid, os.pidfd_open; "
        "sys.platform = 'darwin'\nmain(control)"
    )
    monkeypatch.setattr(_zygote, "_PROGRAM", _zygote._PROGRAM.replace("main(control)", poorer))
    shutdown_zygote()
    try:
        for _ in range(2):
            with running(Pid) as server, server.connect() as client:
                assert len(client.readline().split()) == 2
        crashed = launch(Pid)
        os.kill(crashed.pid, signal.SIGKILL)
        assert "was killed by SIGKILL" in crashed.ear.errors.pop(timeout=SOON).message
        assert crashed.stop() == []
    finally:
        shutdown_zygote()


def test_the_current_directory_cannot_shadow_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("socket", "json", "selectors", "ctypes"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.chdir(tmp_path)
    shutdown_zygote()
    with running(Pid):
        pass
    shutdown_zygote()


def test_options_of_the_interpreter_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["error", "ignore::pytest.PytestWarning"])

    assert "-Werror" in _zygote._interpreter_flags()
    assert not any("pytest" in flag for flag in _zygote._interpreter_flags())


# -- with the test's process

PROGRAM = """
    import os, sys, time
    from tests.launch._process_helpers import launch
    from servertest.launch._zygote import the_zygote

    def sleep(plan, stopped):
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(1000)
        print("forked", flush=True)
        time.sleep(1000)

    server = launch(sleep)
    process = server.host._process
    from servertest._support import Deadline
    assert process.wait(lambda: b"forked" in process.output.getvalue(), Deadline(10, "fork"))
    print(the_zygote().pid, server.pid, flush=True)
    END
"""


@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)", "os.kill(os.getpid(), 9)"])
def test_however_the_tests_process_ends_all_others_end(ending: str) -> None:
    program = textwrap.dedent(PROGRAM).replace("END", f"sys.stdin.readline(); {ending}")
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        zygote, server = map(int, process.stdout.readline().split())
        members = group_members(server)
        assert len(members) == 2
        process.stdin.write("\n")
        process.stdin.close()

        assert all(map(wait_for_end, [zygote, *members]))


def test_it_ends_even_if_a_fork_of_the_tests_process_lives_on() -> None:
    """The fork holds copies of all lines to the zygote, which therefore never sees the end of them."""
    end = "\n".join(
        (
            "import ctypes",
            "libc = ctypes.PyDLL(None)",
            "pid = libc.fork()  # which Python does not hear of, as it does not hear of a C library's",
            "if pid == 0: libc.sleep(1000)",
            "print(pid, flush=True)",
            "os.kill(os.getpid(), 9)",
        )
    )
    program = textwrap.dedent(PROGRAM).replace("END", end)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    ) as process:
        assert process.stdout is not None
        zygote, server = map(int, process.stdout.readline().split())
        fork = int(process.stdout.readline())
        try:
            assert all(map(wait_for_end, [zygote, server]))
        finally:
            os.kill(fork, signal.SIGKILL)


def test_a_fork_of_the_tests_process_may_use_servers_of_its_own() -> None:
    program = """
        import os, sys
        from tests.launch._process_helpers import running, Script
        from servertest.launch._zygote import the_zygote, zygote_pids, shutdown_zygote

        def wait(plan, stopped):
            stopped.wait()

        with running(wait):
            mine = the_zygote().pid
            pid = os.fork()
            if pid == 0:
                assert zygote_pids() == frozenset()
                with running(wait):
                    assert the_zygote().pid != mine
                shutdown_zygote()
                os._exit(7)
            assert os.waitpid(pid, 0)[1] >> 8 == 7
            assert the_zygote().pid == mine
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[2],
        timeout=30,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_zygote_outlives_the_thread_that_has_started_it() -> None:
    shutdown_zygote()
    thread = threading.Thread(target=the_zygote)
    thread.start()
    thread.join()
    with running(Pid):
        pass
