"""The fixture `swarm`."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., pytest.RunResult]

HEAD = """
from servertest.clients.behaviours import IdleAfterConnect, SlowWriter

class Hasty(Upper):
    timeout = 0.3
"""


def test_a_crowd_and_an_honest_client(run: Run) -> None:
    result = run(
        HEAD
        + """
@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingTCPServer"])
def test_slowloris(serve, swarm, kind):
    server = serve(Hasty, kind)  # whose handler raises TimeoutError
    with swarm(server, SlowWriter(b"hello\\n", bytes_per_second=1), clients=20) as crowd:
        assert crowd.probe(b"hi\\n", b"HI\\n").served
    assert crowd.result.cut_off_by_server == 20
    assert crowd.profile.duration == 10
    assert swarm.crowds == (crowd,)

def test_built_in_profiles_do_not_stay_long(serve, swarm, servertest_seed):
    crowd = swarm(serve(Upper), "slow-headers")
    assert (crowd.profile.duration, crowd.profile.seed) == (10, servertest_seed)
    assert swarm(serve(Upper), "slow-headers", duration=30, seed=3).profile.duration == 30
    assert swarm(serve(Upper), SlowWriter(), duration=1).profile.duration == 1
""",
        subprocess=True,
    )
    result.assert_outcomes(passed=3)


def test_a_failed_test_shows_its_crowds_and_leaves_none(run: Run) -> None:
    result = run(
        HEAD
        + """
def test_result(serve, swarm):
    with swarm(serve(Hasty), IdleAfterConnect(), clients=3) as crowd:
        pass
    assert crowd.result.cut_off_by_server == 0

def test_left(serve, swarm):
    swarm(serve(Upper), IdleAfterConnect(), clients=3, duration=60).start()
    assert False
""",
        subprocess=True,
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*servertest swarm: idle_after_connect*", "*3 cut off by the server*"])


def test_a_client_that_is_rude_on_purpose_fails_no_test(run: Run) -> None:
    result = run(
        HEAD
        + """
def test_it(serve):
    with serve(Hasty).connect(IdleAfterConnect()) as client:
        assert client.run(5).cut_off_by_server
"""
    )
    result.assert_outcomes(passed=1)


_SHOWN = """
from servertest.clients.behaviours import IdleAfterConnect

def test_it(serve, swarm, refused_address):
    with swarm(refused_address, IdleAfterConnect(), clients=7, duration=5{option}) as crowd:
        pass
    assert crowd.result.refused == 7
"""


@pytest.mark.parametrize(("option", "is_shown"), [(", progress=True", True), ("", False)])
def test_progress_is_shown_in_the_terminal_if_asked(tmp_path: Path, option: str, is_shown: bool) -> None:
    pytest.importorskip("rich")
    (tmp_path / "test_it.py").write_text(_SHOWN.format(option=option))
    near, far = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=far,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
        | {"TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(far)
    printed, _ = child.communicate(timeout=60)
    os.set_blocking(near, False)
    shown = b""
    with contextlib.suppress(OSError):  # nothing more was written, or the other end is closed
        while more := os.read(near, 65536):
            shown += more
    os.close(near)

    assert child.returncode == 0, printed
    assert (b"idle_after_connect" in shown) is is_shown
    assert (b"7 refused" in shown) is is_shown
