"""The same swarm on every engine: the same bytes from the same clients."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from servertest._support import UsageError
from servertest.clients.behaviours import IdleAfterConnect, SlowWriter
from servertest.swarm import Result, SwarmFailed, profile, swarm
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


@needs_locust
def test_locust(local: Result) -> None:
    same(local, run("locust", workers=2))


@needs_locust
def test_locust_with_its_web_ui() -> None:
    import socket
    import urllib.request

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
        assert crowd.stop().held == 21
        crowd.close()


@needs_locust
def test_locust_that_fails_is_told() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        swarm(("127.0.0.1", 1), PROFILE, engine="locust", options={"workers": 0}).start()
    with pytest.raises(UsageError, match="HOST:PORT"):
        swarm(("127.0.0.1", 1), PROFILE, engine="locust", options={"web": "here"}).start()


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
