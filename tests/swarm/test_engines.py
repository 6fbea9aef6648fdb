"""The same swarm on every engine: the same bytes from the same clients."""

from __future__ import annotations

import importlib.util
import os
import select
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from servertest._support import UsageError
from servertest.clients.behaviours import IdleAfterConnect, SlowWriter
from servertest.swarm import Result, SwarmFailed, _execnet, profile, swarm
from tests.swarm._servers import sink

needs_execnet = pytest.mark.skipif(not importlib.util.find_spec("execnet"), reason="needs execnet")
needs_locust = pytest.mark.skipif(not importlib.util.find_spec("locust"), reason="needs Locust")

JITTERY = SlowWriter(b"x" * 60, bytes_per_second=100, chunk=5, variation=4, jitter=1)
PROFILE = profile([JITTERY, IdleAfterConnect()], clients=21, duration=2.5, seed="again")


def run(engine: Any, **options: Any) -> Result:
    with sink() as address, swarm(address, PROFILE, engine=engine, options=options) as crowd:
        assert crowd.progress.connections == 21
    return crowd.result


@pytest.fixture(scope="module")
def local() -> Result:
    return run("local")


def same(one: Result, other: Result) -> None:
    assert other.held == one.held == 21
    assert list(other.columns["sent"]) == list(one.columns["sent"])
    assert list(other.columns["role"]) == list(one.columns["role"])


def test_all_has_been_sent(local: Result) -> None:
    assert sorted(set(local.columns["sent"])) == [0, 60]
    assert local.engine == "local"


@needs_execnet
@pytest.mark.parametrize("gateways", [["popen"], ["popen", "popen", "popen"]], ids=len)
def test_execnet(local: Result, gateways: list[str]) -> None:
    same(local, run("execnet", gateways=gateways))


@needs_execnet
def test_execnet_needs_nothing_but_python_at_the_far_side(local: Result) -> None:
    same(local, run("execnet", gateways=[f"popen//python={sys.executable} -I -S"]))


@needs_execnet
def test_execnet_can_be_stopped() -> None:
    with sink() as address:
        crowd = swarm(address, PROFILE, duration=60, engine="execnet").start()
        crowd.wait_begun()
        assert crowd.stop().held == 21
        assert crowd.result.stopped
        crowd.close()


@needs_execnet
def test_execnet_that_fails_is_told() -> None:
    with pytest.raises(SwarmFailed, match="cannot be opened"):
        swarm(
            ("127.0.0.1", 1), PROFILE, engine="execnet", options={"gateways": ["popen//python=/nowhere"]}
        ).start()
    with pytest.raises(UsageError, match="a list of specs"):
        swarm(("127.0.0.1", 1), PROFILE, engine="execnet", options={"gateways": []}).start()
    with pytest.raises(UsageError, match="1000064 descriptors"):
        swarm(
            ("127.0.0.1", 1), PROFILE, clients=1_000_000, engine="execnet", options={"gateways": ["popen"]}
        ).start()


@needs_execnet
@pytest.mark.parametrize(
    ("does", "said"),
    [
        # As ssh ends if it cannot connect; whether execnet reads of that, or writes first, is chance.
        ("exit 255", "cannot be opened: (nowhere|what was started for it has ended)"),
        ("exit 127", "cannot be opened: "),
        ("exec sleep 60", r"cannot be opened: it took longer than 0\.5 s"),
        ("read x; echo hello", "cannot be opened: "),
    ],
)
def test_a_host_to_which_ssh_does_not_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, does: str, said: str
) -> None:
    (tmp_path / "ssh").write_text(f"#!/bin/sh\n{does}\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(_execnet, "_OPENING", 0.5)
    with pytest.raises(SwarmFailed, match=said):
        swarm(
            ("127.0.0.1", 1), PROFILE, engine="execnet", options={"gateways": ["popen", "ssh=nowhere"]}
        ).start()


@needs_execnet
@needs_locust
@pytest.mark.parametrize("engine", ["execnet", "locust"])
def test_nothing_is_written_to_a_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: Any) -> None:
    # What is sent there may hold the key with which clients identify themselves.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with sink() as address:
        crowd = swarm(address, PROFILE, duration=60, engine=engine).start()
        crowd.wait_begun()
        assert list(tmp_path.iterdir()) == []
        assert crowd.stop().held == 21
        crowd.close()
    assert list(tmp_path.iterdir()) == []


_STARTS_AND_WAITS = """
import sys
from servertest.swarm import swarm
crowd = swarm(("127.0.0.1", int(sys.argv[2])), "idle", clients=4, duration=60, engine=sys.argv[1]).start()
crowd.wait_begun()
print("begun", flush=True)
sys.stdin.read()
"""


@needs_execnet
@needs_locust
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open(2)")
@pytest.mark.parametrize(("engine", "count"), [("local", 1), ("execnet", 2), ("locust", 3)])
def test_when_a_test_run_is_killed_its_swarm_ends(engine: str, count: int) -> None:
    with sink() as address:
        child = subprocess.Popen(
            [sys.executable, "-c", _STARTS_AND_WAITS, engine, str(address[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        tasks = Path(f"/proc/{child.pid}/task").glob("*/children")
        watched = [os.pidfd_open(int(pid)) for task in tasks for pid in task.read_text().split()]
        child.kill()
        child.wait()
        for pidfd in watched:
            assert select.select([pidfd], [], [], 20)[0]
            os.close(pidfd)
        child.stdin.close()
        child.stdout.close()
    assert len(watched) == count


@needs_locust
def test_locust(local: Result) -> None:
    same(local, run("locust", workers=2))


@needs_locust
@pytest.mark.parametrize("button", [False, True], ids=["ours", "its button"])
def test_locust_with_its_web_ui(button: bool) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with sink() as address:
        crowd = swarm(
            address, PROFILE, duration=60, engine="locust", options={"workers": 1, "web": str(port)}
        ).start()
        crowd.wait_begun()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/requests", timeout=10) as reply:
            assert reply.status == 200
        if button:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/stop", data=b"", timeout=10).close()
        else:
            crowd.stop()
        assert crowd.wait().held == 21
        assert crowd.result.stopped
        crowd.close()


@needs_locust
def test_locust_that_fails_is_told() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        swarm(("127.0.0.1", 1), PROFILE, engine="locust", options={"workers": 0}).start()
    for web in ("here", "127.0.0.1:0", 65536):
        with pytest.raises(UsageError, match="HOST:PORT or a port from 1 to 65535"):
            swarm(("127.0.0.1", 1), PROFILE, engine="locust", options={"web": web}).start()
    with sink() as (host, port), pytest.raises(UsageError, match=f"web: {host}:{port} cannot be had"):
        swarm(("127.0.0.1", 1), PROFILE, engine="locust", options={"web": port}).start()


def test_locust_is_never_imported_here() -> None:
    code = "import sys, servertest.swarm, servertest.swarm._locust; print('locust' in sys.modules, 'gevent' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )

    assert said.stdout.split() == ["False", "False"]
    assert "locust" not in sys.modules


@pytest.mark.parametrize("engine", ["execnet", "locust"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"install servertest\[load\]"):
        swarm(("127.0.0.1", 1), PROFILE, engine=engine).start()
