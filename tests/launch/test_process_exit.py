"""How processes end, in words, and waiting for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from servertest.launch._process_exit import describe_status, wait_for_exit
from servertest.launch._process_group import group_members

Child = subprocess.Popen[bytes]


@pytest.fixture
def child() -> Iterator[Child]:
    """Ends with status 3 when its input does."""
    program = "import sys; sys.stdin.read(); sys.exit(3)"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, start_new_session=True
    ) as child:
        yield child


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (3 << 8, "exited with status 3"),
        (signal.SIGSEGV, "was killed by SIGSEGV"),
        (signal.SIGABRT | 0x80, "was killed by SIGABRT, core dumped"),
        (60, "was killed by signal 60"),
    ],
)
def test_statuses_in_words(status: int, words: str) -> None:
    assert describe_status(status) == words


@pytest.mark.parametrize("told", [True, False], ids=["told by the system", "asked for"])
def test_waiting_for_an_end(child: Child, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not told:
        monkeypatch.delattr(os, "pidfd_open")
    assert not wait_for_exit(child, 0.01)
    assert child.stdin is not None
    child.stdin.close()

    assert wait_for_exit(child, 10)
    assert child.returncode == 3
    assert wait_for_exit(child, 0)


def test_members_of_a_group(child: Child) -> None:
    assert group_members(child.pid) == [child.pid]


def test_where_the_system_does_not_tell_a_group_has_no_members(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", refuse)

    assert group_members(os.getpgrp()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists processes like that")
def test_a_process_is_a_member_until_its_last_thread_has_ended() -> None:
    program = (
        "import ctypes, os, sys, threading\n"
        "C = ctypes.CDLL(None)\n"
        "first = ctypes.c_ulong(threading.get_ident())\n"
        "def other():\n"
        "    C.pthread_join(first, None)\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "threading.Thread(target=other).start()\n"
        "C.pthread_exit(None)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        # By now it is called a zombie, and holds its descriptors none the less.
        assert group_members(child.pid) == [child.pid]

        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert group_members(child.pid) == []
