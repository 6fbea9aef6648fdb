"""`servertest swarm`: words, progress, results, exit statuses."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servertest import servers
from servertest.cli import main
from servertest.clients.behaviours import behaviours
from servertest.swarm import PROFILES


class Upper(servers.StreamRequestHandler):
    timeout = 0.3

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


@pytest.fixture
def address() -> Iterator[str]:
    """Of somebody who holds whoever comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def at(server: Any) -> str:
    server.expect_rude([("", 0)])
    return f"{server.host}:{server.port}"


def test_profiles_and_behaviours_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swarm", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*PROFILES, *behaviours))
    assert main(["swarm", "--list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["profiles"]) == set(PROFILES)


def test_a_table_and_files(serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(Upper, "ThreadingUnixStreamServer")
    words = ["swarm", server.path, "--profile", "idle", "--clients", "5", "--duration", "5", "--seed", "3"]
    server.expect_rude([""])
    out = [tmp_path / name for name in ("r.html", "r.json")]
    status = main(
        [*words, *(f"--out={name}" for name in out), "--probe-request", r"hi\n", "--probe-reply", r"HI\n"]
    )

    assert status == 0
    assert re.search(r"cut off with FIN +5", capsys.readouterr().out)
    assert json.loads(out[1].read_text())["profile"]["seed"] == 3
    assert "<svg" in out[0].read_text()


def test_an_honest_client_that_is_not_served_is_a_finding(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--clients",
        "2",
        "--duration",
        "0.3",
        "--json",
        "--probe-request",
        "hi",
        "--probe-timeout",
        "0.1",
    ]

    assert main(["swarm", address, "--profile", "mid-request", *words]) == 1
    assert not any(probe["served"] for probe in json.loads(capsys.readouterr().out)["probes"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say where the server is"),
        (["192.0.2.1:80"], "--i-own-this-host"),
        (["nowhere"], "is no address"),
        (["127.0.0.1:1", "--profile", "slow-writter"], "did you mean slow_writer"),
        (["127.0.0.1:1", "--gateway", "popen"], "--gateway goes with --engine execnet"),
        (["127.0.0.1:1", "--workers", "2"], "--workers goes with --engine locust"),
        (["127.0.0.1:1", "--probe-request", "\u20ac\\"], "--probe-request is ASCII with escapes"),
        (["127.0.0.1:1", "--clients", "0"], "clients is a whole number"),
    ],
)
def test_what_cannot_be(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["swarm", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("r.pdf", "written as .json, .html, .svg or .txt"),
        ("nowhere/r.json", "say where there is a directory"),
    ],
)
def test_where_the_result_goes_is_looked_at_before(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 127.0.0.1:1 would be refused, not found to be wrong.
    assert main(["swarm", "127.0.0.1:1", "--duration", "60", "--out", str(tmp_path / name)]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_who_did_not_begin_is_told(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--profile", "idle", "--clients", "50", "--per-second", "10", "--duration", "0.45"]

    assert main(["swarm", address, *words]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"did not begin +45", printed)
    assert "5 held to the end, 45 did not begin" in printed


@pytest.mark.parametrize("engine", ["local", "execnet", "locust"])
def test_ctrl_c_reaches_a_whole_group_and_keeps_the_results(address: str, engine: str) -> None:
    if engine != "local" and not importlib.util.find_spec(engine):
        pytest.skip(f"{engine} is not installed here")
    words = ["--profile", "slow-writer", "--clients", "5", "--duration", "60", "--engine", engine]
    child = subprocess.Popen(
        [sys.executable, "-c", _TELLS, "swarm", address, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stderr is not None
    assert child.stderr.readline() == b"all are there\n"
    for _ in range(2):  # an impatient hand
        os.killpg(child.pid, signal.SIGINT)
    printed, errors = child.communicate(timeout=60)

    assert child.returncode == 130, errors
    assert re.search(rb"held to the end +5", printed)


_TELLS = """
import sys
from servertest.cli import main
from servertest.swarm import Crowd

def follow(self):
    for state in real(self):
        if self._begun:
            print("all are there", file=sys.stderr, flush=True)
        yield state

real, Crowd.follow = Crowd.follow, follow
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_the_results(address: str, number: signal.Signals, tmp_path: Path) -> None:
    pytest.importorskip("rich")
    near, far = pty.openpty()
    words = [address, "--profile", "slow-writer", "--clients", "5", "--duration", "60", "--out", "r.json"]
    child = subprocess.Popen(
        [sys.executable, "-m", "servertest", "swarm", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=far,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(far)
    shown = b""
    while b"5 open" not in shown:
        shown += os.read(near, 4096)
    child.send_signal(number)
    printed, _ = child.communicate(timeout=30)
    os.close(near)

    assert child.returncode == 130
    assert b"held to the end" in printed
    assert b"it was stopped before its time" in printed
    assert json.loads((tmp_path / "r.json").read_text())["held"] == 5
    assert b"slow-writer" in shown
