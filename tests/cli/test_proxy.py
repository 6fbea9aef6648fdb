"""`servertest proxy` and `servertest faults`, from their words to their exit status."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from servertest import clients, servers
from servertest._support import format_address, have_ipv6, refused_address
from servertest.cli import main
from servertest.faults import PRESETS, plan, registry
from servertest.launch import Running, launch
from servertest.tls import shared_authority
from servertest.transcript import parse_wire
from tests._threads import new_threads

LIMIT = 20


class Upper(servers.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            for line in self.rfile:
                self.wfile.write(line.upper())


class UpperDatagram(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


@pytest.fixture
def upper() -> Iterator[Running]:
    with launch(Upper) as running:
        yield running


class Proxying:
    """`servertest proxy` in a process of its own.

    Attributes:
        first: The first line that it printed.
    """

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "servertest", "proxy", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline().rstrip("\n")

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    @property
    def address(self) -> Any:
        found = re.fullmatch(r"proxying default on (\S+) to \S+, seed \S+", self.first)
        assert found, self.first
        return to_address(found[1])

    def end(self, number: signal.Signals = signal.SIGTERM, *, complains: str = "") -> str:
        """Ask it to end, and wait: what it printed since."""
        self.process.send_signal(number)
        printed, errors = self.process.communicate(timeout=LIMIT)
        assert errors == complains
        assert self.process.returncode == 0
        return printed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def to_address(text: str) -> Any:
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon else text


def at(server: Running) -> str:
    return f"{server.host}:{server.port}"


def ask(address: Any, text: bytes = b"hi\n", **options: Any) -> bytes:
    with clients.connect(address, timeout=LIMIT, **options) as client:
        client.send(text)
        return bytes(client.read_some())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_proxies_until_a_signal_comes_and_says_what_the_faults_did(
    upper: Running, tmp_path: Path, number: signal.Signals
) -> None:
    words = ["--upstream", at(upper), "--fault", "latency:1ms", "--seed", "7"]
    words += ["--downstream-fault", "limit_data:2@connection:2", "--transcript", str(tmp_path / "x.wire")]
    with Proxying(*words) as proxying:
        assert proxying.first.endswith(f" to {at(upper)}, seed 7")
        assert [ask(proxying.address) for _ in range(3)] == [b"HI\n", b"HI", b"HI\n"]
        printed = proxying.end(number)
    lines = [re.split(r"\s{2,}", line) for line in printed.splitlines()]
    assert lines[0] == ["proxy", "fault", "which is", "hits", "on connections"]
    assert ["default", "latency", "latency:0.001", "6", "3"] in lines
    assert ["default", "limit_data", "downstream(limit_data:2@connection:2)", "1", "1"] in lines
    assert lines[-1] == ["stopped after 3 connection(s)"]
    events = parse_wire((tmp_path / "x.wire").read_text())
    assert sum(type(event).__name__ == "Connect" for event in events) == 3


def test_events_come_as_they_happen(upper: Running) -> None:
    with Proxying(
        "--upstream", at(upper), "--downstream-fault", "limit_data:2", "--seed", "x", "--json"
    ) as proxying:
        first = json.loads(proxying.first)
        assert {**first, "listen": ""} == {
            "event": "listening",
            "proxy": "default",
            "listen": "",
            "upstream": at(upper),
            "transport": "stream",
            "seed": "x",
        }
        assert ask(to_address(first["listen"])) == b"HI"
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1].get("state") not in ("closed", "finished"):
            seen.append(json.loads(proxying.line()))
        rest = proxying.end()
    assert [one["event"] for one in seen][:2] == ["connection", "connection"]
    assert {one["connection"] for one in seen} == {1}
    decision = next(one for one in seen if one["event"] == "decision")
    assert (decision["fault"], decision["what"]) == ("limit_data", "closes after 2 bytes")
    (ended,) = map(json.loads, rest.splitlines())
    assert ended["event"] == "stopped"
    assert ended["proxies"][0]["connections"] == 1
    assert ended["proxies"][0]["faults"][0]["text"] == "downstream(limit_data:2)"


def test_why_connections_come_to_nothing_is_said_once() -> None:
    with refused_address() as address, Proxying("--upstream", format_address(address)) as proxying:
        for _ in range(3):
            with (
                pytest.raises(ConnectionResetError),
                socket.create_connection(proxying.address, 10) as client,
            ):
                client.recv(1)
        refused = f"a connection to {format_address(address)} failed: [Errno {errno.ECONNREFUSED}] {os.strerror(errno.ECONNREFUSED)}"
        printed = proxying.end(complains=f"connection 1 of default: {refused}\n")
    assert printed == "stopped after 3 connection(s), 3 of which came to nothing\n"


def test_datagrams() -> None:
    with launch(UpperDatagram, kind="UDPServer") as server:
        words = ["--transport", "datagram", "--upstream", at(server), "--fault", "duplicate:1"]
        with Proxying(*words) as proxying:
            with clients.connect(proxying.address, transport="datagram", timeout=LIMIT) as client:
                client.send(b"hi")
                assert [client.receive() for _ in range(2)] == [b"HI", b"HI"]
            assert "stopped after 1 connection(s)" in proxying.end()


def test_unix_paths(tmp_path: Path) -> None:
    with launch(Upper, kind="ThreadingUnixStreamServer") as server:
        path = str(tmp_path / "here")
        with Proxying("--upstream", server.path, "--listen", path) as proxying:
            assert proxying.address == path
            assert ask(path) == b"HI\n"
            proxying.end()
        assert not Path(path).exists()


def test_tls_ends_here_and_begins_again(tmp_path: Path) -> None:
    (tmp_path / "upstream.pem").write_bytes(shared_authority().certificate)
    with launch(Upper, tls=True) as server:
        words = ["--upstream", at(server), "--tls", "--tls-ca", str(tmp_path / "ca.pem")]
        words += ["--upstream-tls", str(tmp_path / "upstream.pem"), "--fault", 'insert_bytes:"oh "']
        with Proxying(*words) as proxying:
            context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            answered = ask(proxying.address, tls=context, server_hostname="127.0.0.1")
            assert answered == b"oh OH HI\n"
            proxying.end()


def test_tls_passes_through_if_nothing_is_said(tmp_path: Path) -> None:
    with launch(Upper, tls=True) as server:
        with Proxying("--upstream", at(server)) as proxying:
            context = server.client_context()
            answered = ask(proxying.address, tls=context, server_hostname="127.0.0.1")
            assert answered == b"HI\n"
            proxying.end()


def test_the_api_and_a_config(upper: Running, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    proxies = [
        {"name": "one", "listen": "127.0.0.1:0", "upstream": at(upper), "enabled": True},
        {
            "name": "two",
            "upstream": at(upper),
            "toxics": [{"type": "limit_data", "attributes": {"bytes": 1}}],
        },
        {"name": "three", "upstream": at(upper), "enabled": False},
    ]
    config.write_text(json.dumps({"seed": 7, "proxies": proxies}))
    with Proxying("--api", "0", "--config", str(config)) as proxying:
        lines = [proxying.first, proxying.line(), proxying.line()]
        found = [re.fullmatch(r"proxying (\w+) on (\S+) to (\S+), seed (\d+)", line) for line in lines[:2]]
        assert [match[1] for match in found if match] == ["one", "two"]
        api = re.fullmatch(r"serving the API on http://(127.0.0.1:\d+), seed 7", lines[2])
        assert api
        assert found[1]
        assert ask(to_address(found[1][2])) == b"H"
        with socket.create_connection(to_address(api[1]), timeout=LIMIT) as idle:
            idle.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(9) == b"HTTP/1.1 "
            printed = proxying.end()
    assert re.search(r"two +limit_data +downstream\(limit_data:1\) +1 +1\n", printed)


def test_a_proxy_that_is_made_over_the_api_says_where_it_listens(upper: Running) -> None:
    def ask_api(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with contextlib.closing(http.client.HTTPConnection(api[0], api[1], timeout=LIMIT)) as connection:
            connection.request(method, path, json.dumps(body))
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer

    with Proxying("--api", "0", "--seed", "7", "--json") as proxying:
        api = to_address(json.loads(proxying.first)["url"].removeprefix("http://"))
        made = ask_api("POST", "/proxies", {"name": "late", "upstream": at(upper)})
        told = [json.loads(proxying.line())]
        ask_api("PATCH", "/proxies/late", {"enabled": False})
        ask_api("PATCH", "/proxies/late", {"enabled": True})
        told.append(json.loads(proxying.line()))
        assert ask(to_address(told[1]["listen"])) == b"HI\n"
        proxying.end()
    wanted = {"event": "listening", "proxy": "late", "listen": made["listen"], "upstream": at(upper)}
    assert told == [{**wanted, "transport": "stream", "seed": made["seed"]}] * 2


@pytest.mark.skipif(not have_ipv6(), reason="no ::1 on this machine")
def test_a_config_of_toxiproxy(upper: Running, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    proxies = [{"name": "web", "listen": "[::1]:0", "upstream": at(upper), "enabled": True}]
    config.write_text(json.dumps(proxies))
    with Proxying("--config", str(config)) as proxying:
        assert re.fullmatch(r"proxying web on \[::1\]:\d+ to \S+, seed \d+", proxying.first)
        proxying.end()


UP = ["--upstream", "127.0.0.1:1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say where the server is with --upstream, or take --api or --config"),
        (["--fault", "latency"], "--fault is for a proxy: say where the server is with --upstream"),
        (["--api", "0", "--listen", ":0"], "--listen is for a proxy: say where the server is"),
        (["--upstream", "nothing"], "upstream: 'nothing' is no address"),
        (["--upstream", "127.0.0.1:x"], "the port must be a number from 0 to 65535, not 'x'"),
        (["--upstream", "nobody.invalid:1"], "upstream: nobody.invalid:1 cannot be resolved"),
        ([*UP, "--listen", "nothing"], "listen: 'nothing' is no address"),
        (
            [*UP, "--listen", "0.0.0.0:0"],
            "can be reached from other machines: take 127.0.0.1, or say --i-own-this-host",
        ),
        ([*UP, "--listen", "/no/such/place"], "/no/such/place cannot be made"),
        (
            [*UP, "--fault", "latenc"],
            "--fault 'latenc': faults, at character 1: there is no fault 'latenc'; did you mean",
        ),
        ([*UP, "--fault", ""], "--fault '': there is no fault"),
        ([*UP, "--fault", "latency:-1"], "Latency: delay is a number of seconds, at least 0, not -1"),
        ([*UP, "--fault", "loss"], "--fault 'loss': Loss is not for a stream: TCP would have sent it again"),
        ([*UP, "--fault", "short_reads"], "--fault 'short_reads': ShortReads cannot be done here"),
        ([*UP, "--upstream-fault", "downstream(slicer)"], "is aimed downstream already"),
        ([*UP, "--transport", "datagram", "--fault", "slicer"], "Slicer is not for a datagram"),
        ([*UP, "--transport", "datagram", "--tls"], "TLS is for streams"),
        ([*UP, "--tls", "expird"], "there is no TLS profile 'expird'"),
        ([*UP, "--tls", "./nothing.pem"], "tls: ./nothing.pem cannot be used as certificate and key"),
        ([*UP, "--tls-ca", "x.pem"], "--tls-ca goes with --tls"),
        ([*UP, "--server-name", "x"], "--server-name goes with --upstream-tls"),
        ([*UP, "--upstream-tls", "./nothing"], 'upstream_tls is "system", "any" or a file with certificates'),
        ([*UP, "--transcript", "/no/such/place"], "--transcript cannot be written: [Errno 2]"),
        (["--api", "x"], "--api is [HOST:]PORT, with a port from 0 to 65535, not 'x'"),
        (["--api", "70000"], "--api is [HOST:]PORT, with a port from 0 to 65535, not '70000'"),
        (["--api", "0.0.0.0:0"], "the API on 0.0.0.0 could be reached from other machines"),
        (["--config", "nothing.json"], "the config cannot be read: [Errno 2]"),
        (["--config", "broken.json"], "broken.json: Expecting property name"),
        (["--config", "other.json"], 'other.json: unknown field "proxys" in the file; did you mean proxies?'),
        (["--config", "nameless.json"], "missing required field: name at proxy 1"),
        (["--config", "toxic.json"], "proxy 1, toxic 1: invalid toxic type"),
    ],
)
def test_bad_input_gets_one_clear_error(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "broken.json": "{",
        "other.json": '{"proxys": []}',
        "nameless.json": '[{"upstream": "127.0.0.1:1"}]',
        "toxic.json": '[{"name": "a", "upstream": "127.0.0.1:1", "toxics": [{"type": "x"}]}]',
    }.items():
        (tmp_path / name).write_text(text)
    before = threading.enumerate()
    assert main(["proxy", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("servertest: ")
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert not new_threads(before)


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["proxy", *UP, "--listen", f"127.0.0.1:{port}"]) == 2
        assert main(["proxy", "--api", port]) == 2
    printed = capsys.readouterr().err
    assert "is in use" in printed
    assert f"the API cannot listen on 127.0.0.1:{port}: something else does" in printed


def test_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults"]) == 0
    printed = capsys.readouterr().out
    for name in (*registry, *(preset.name for preset in PRESETS)):
        assert re.search(rf"^{name} ", printed, re.MULTILINE), name
    assert re.search(r"^latency +delay:0\.1s, jitter:0s, .* both +anywhere$", printed, re.MULTILINE)


def test_faults_are_listed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults", "--json", "--transport", "datagram"]) == 0
    listed = json.loads(capsys.readouterr().out)
    names = [fault["name"] for fault in listed["faults"]]
    assert "loss" in names
    assert "slicer" not in names
    assert names == sorted(names)
    loss = listed["faults"][names.index("loss")]
    assert loss["fields"][0]["allowed"] == "a number from 0 to 1"
    assert loss["about"].startswith("Each datagram may be lost")
    for preset in listed["presets"]:
        plan(preset["text"]).check("datagram")
