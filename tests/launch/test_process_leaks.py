"""What a server leaves behind in a process of its own is found there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from servertest import servers
from servertest._support import HandlerFailed, LeakFound
from servertest.launch import Running, kinds, launch

from ._handlers import echo, handler_for

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

KEPT: list[Any] = []


def keep_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,), name="of the handler", daemon=True).start()


def keep_socket() -> None:
    KEPT.append(socket.socket())


def keep_file() -> None:
    KEPT.append(open(__file__))  # noqa: SIM115 - that is the point


def keep_zombie() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()
    ended.stdout.close()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    KEPT.append(ended)


def leaking(leak: Any) -> type[Any]:
    class Leaking(servers.StreamRequestHandler):
        def handle(self) -> None:
            leak()
            self.wfile.write(b"!")

    return Leaking


def visit(running: Running) -> None:
    with running.connect() as client:
        client.read_exactly(1)


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer", "ThreadPoolTCPServer"])
@pytest.mark.parametrize(
    ("leak", "words"),
    [
        (keep_thread, "thread 'of the handler' (daemon) is still running"),
        (keep_socket, "TCP socket, neither bound nor connected"),
        (keep_file, f"open file {__file__}"),
        (keep_zombie, "has exited and was never waited for"),
    ],
)
def test_what_a_handler_leaves_behind_fails_the_test(leak: Any, words: str, kind: str) -> None:
    with pytest.raises(HandlerFailed) as caught:
        with launch(leaking(leak), kind, host="process") as running:
            visit(running)
    text = str(caught.value)
    assert "left something behind in its process: 1 thing was left behind" in text
    assert text.count(words) == 1
    assert "servertest_no_leak_check" in text
    assert isinstance(caught.value.__cause__, LeakFound)


def test_what_is_about_to_go_is_waited_for() -> None:
    def soon_over() -> None:
        threading.Thread(target=time.sleep, args=(0.1,)).start()

    with launch(leaking(soon_over), host="process") as running:
        visit(running)


def test_a_child_that_lives_is_told_of_once() -> None:
    def keep_child() -> None:
        KEPT.append(subprocess.Popen(["sleep", "1000"]))

    running = launch(leaking(keep_child), host="process")
    visit(running)
    with pytest.raises(RuntimeError, match="still ran when that one had ended, and was killed") as caught:
        running.stop()
    assert caught.value.__cause__ is None


def test_it_can_be_left_out() -> None:
    with launch(leaking(keep_socket), host="process", options={"leak_check": False}) as running:
        visit(running)


@pytest.mark.parametrize("kind", kinds(family=None, concurrency=None, tls=None, host="process"), ids=str)
def test_servers_of_ours_leave_nothing(kind: Any) -> None:
    if kind.reason is not None:
        pytest.skip(kind.reason)
    with launch(handler_for(kind), kind) as running:
        echo(running)
