"""Toxiproxy's clients of other people, unchanged, against the API."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servertest import clients, servers
from servertest.launch import Running, launch
from servertest.proxy.toxiproxy import ApiServer

LIMIT = 10

NODE_CLIENT = "toxiproxy-node-client@4.1.0"


class Upper(servers.StreamRequestHandler):
    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.wfile.write(line.upper())
        except OSError:
            pass


@pytest.fixture
def upper() -> Iterator[Running]:
    with launch(Upper) as running:
        yield running


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer(port=0) as server:
        yield server
        assert server.errors == []


# -- toxiproxy-python


@pytest.fixture
def toxiproxy(api: ApiServer) -> Any:
    package = pytest.importorskip("toxiproxy", reason="toxiproxy-python is not installed")
    client = package.Toxiproxy()
    client.update_api_consumer(*api.address)
    return client


def ask(proxy: Any, text: bytes = b"hi\n") -> bytes:
    host, _, port = proxy.listen.rpartition(":")
    with clients.connect((host, int(port)), timeout=LIMIT) as client:
        client.send_all(text)
        client.half_close()
        return client.read_eof()


def at(server: Running) -> str:
    return f"{server.host}:{server.port}"


def test_python_makes_finds_and_destroys_proxies(toxiproxy: Any, upper: Running) -> None:
    assert toxiproxy.running()
    assert json.loads(toxiproxy.version())["version"] == "2.12.0"
    assert toxiproxy.proxies() == {}
    made = toxiproxy.create(name="one", upstream=at(upper))
    assert (made.name, made.upstream, made.enabled) == ("one", at(upper), True)
    assert ask(made) == b"HI\n"
    found = toxiproxy.get_proxy("one")
    assert (found.listen, found.upstream) == (made.listen, made.upstream)
    assert toxiproxy.get_proxy("two") is None

    populated = toxiproxy.populate(
        [
            {"name": "one", "upstream": at(upper), "listen": made.listen},
            {"name": "two", "upstream": at(upper), "listen": "127.0.0.1:0", "enabled": False},
        ]
    )
    assert [proxy.name for proxy in populated] == ["two"]
    assert set(toxiproxy.proxies()) == {"one", "two"}
    assert toxiproxy.destroy(made)
    toxiproxy.destroy_all()
    assert toxiproxy.proxies() == {}


def test_python_takes_a_proxy_down_and_up_again(toxiproxy: Any, upper: Running) -> None:
    made = toxiproxy.create(name="one", upstream=at(upper))
    with made.down():
        host, _, port = made.listen.rpartition(":")
        with socket.socket() as sock:
            assert sock.connect_ex((host, int(port))) != 0
        assert not toxiproxy.get_proxy("one").enabled
    assert ask(made) == b"HI\n"


def test_python_adds_and_removes_toxics(toxiproxy: Any, upper: Running) -> None:
    made = toxiproxy.create(name="one", upstream=at(upper))
    made.add_toxic(type="latency", attributes={"latency": 60})
    made.add_toxic(type="limit_data", stream="downstream", name="short", toxicity=1, attributes={"bytes": 2})
    toxics = made.toxics()
    assert set(toxics) == {"latency_downstream", "short"}
    assert toxics["latency_downstream"].attributes == {"latency": 60, "jitter": 0}
    assert (toxics["short"].type, toxics["short"].stream, toxics["short"].toxicity) == (
        "limit_data",
        "downstream",
        1,
    )
    begun = time.monotonic()
    assert ask(made) == b"HI"
    assert time.monotonic() - begun >= 0.06
    assert made.destroy_toxic("short")
    assert made.get_toxic("short") is None
    assert toxiproxy.reset()
    assert made.toxics() == {}
    assert ask(made) == b"HI\n"


def test_python_hears_of_errors_by_their_statuses(toxiproxy: Any, upper: Running) -> None:
    from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

    made = toxiproxy.create(name="one", upstream=at(upper))
    with pytest.raises(ProxyExists):
        toxiproxy.create(name="one", upstream=at(upper))
    with pytest.raises(ProxyExists, match="is in use"):
        toxiproxy.create(name="two", upstream=at(upper), listen=made.listen)
    with pytest.raises(InvalidToxic, match="invalid toxic type"):
        made.add_toxic(type="nothing")
    with pytest.raises(InvalidToxic, match="did you mean latency"):
        made.add_toxic(type="latency", attributes={"latencyy": 5})
    made.add_toxic(type="latency")
    with pytest.raises(ProxyExists, match="toxic already exists"):
        made.add_toxic(type="latency")
    with pytest.raises(NotFound, match="toxic not found"):
        made.destroy_toxic("nothing")
    made.destroy()
    with pytest.raises(NotFound, match="proxy not found"):
        made.disable()


# -- toxiproxy-node-client


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    home = tmp_path_factory.mktemp("node")
    words = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--no-save",
        "--ignore-scripts",
        "--prefix",
        str(home),
        NODE_CLIENT,
    ]
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm does not get {NODE_CLIENT} in time")
    if result.returncode:
        pytest.skip(f"npm cannot get {NODE_CLIENT}: {result.stderr.strip()[-200:]}")
    return home / "node_modules"


@pytest.mark.timeout(200)
def test_node(node_modules: Path, api: ApiServer, upper: Running) -> None:
    script = Path(__file__).with_name("toxiproxy_client.js")
    result = subprocess.run(
        ["node", str(script), str(node_modules), api.url, at(upper)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)

    created = seen["created"]
    assert created == {"name": "web", "listen": created["listen"], "upstream": at(upper), "enabled": True}
    assert seen["version"] == "2.12.0"
    assert seen["plain"]["got"] == "HI\n"
    toxic = {"name": "slow", "type": "latency", "stream": "downstream", "toxicity": 1}
    assert seen["toxic"] == {**toxic, "attributes": {"latency": 80, "jitter": 0}}
    assert seen["slow"]["got"] == "HI\n"
    assert seen["slow"]["seconds"] >= 0.08
    assert seen["updated"] == seen["fetched"] == {**toxic, "attributes": {"latency": 1, "jitter": 0}}
    assert seen["gone"] == "ToxiproxyError: Request failed with status code 404"

    types = seen["types"]
    assert types["slicer"]["shown"] == {"average_size": 2, "size_variation": 1, "delay": 10}
    assert [types[name]["got"] for name in ("bandwidth", "slow_close", "slicer")] == ["HI\n"] * 3
    assert (types["limit_data"]["got"], types["timeout"]["got"]) == ("H", "")
    assert types["reset_peer"]["error"] in ("ECONNRESET", "EPIPE")

    assert (seen["disabled"]["enabled"], seen["refused"]) == (False, "ECONNREFUSED")
    assert seen["reset"] == created
    assert seen["again"]["got"] == "HI\n"
    assert seen["populated"] == seen["all"] == ["web", "other"]
    assert seen["errors"] == {
        "missing": "ToxiproxyError: Request failed with status code 404",
        "twice": "ToxiproxyError: Request failed with status code 409",
        "type": "ToxiproxyError: Request failed with status code 400",
    }
    assert seen["left"] == ["other"]
