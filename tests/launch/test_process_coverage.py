"""What server processes and their forked children run is measured when the test is, and only then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from servertest import servers
from servertest.launch._child_coverage import measurement_options

from ._process_helpers import running

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

HANDLERS = """\
import socketserver


def in_the_server():
    return 1


def in_the_child():
    return 2


class Server(socketserver.ForkingTCPServer):
    def process_request(self, request, client_address):
        in_the_server()
        super().process_request(request, client_address)


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        in_the_child()
        self.wfile.write(b"done")


def never():
    return 3
"""

PROGRAM = """\
import sys
sys.path.insert(0, ROOT)
import handlers
from servertest.launch._targets import ServerClassTarget
from tests.launch._process_helpers import running, Script
from servertest.launch._socketserver import SocketServerServable, adopt
import dataclasses

@dataclasses.dataclass
class Target:
    name = "handlers"

    def build(self, plan):
        server = handlers.Server(plan.listener.getsockname(), handlers.Handler, bind_and_activate=False)
        adopt(server, plan.listener)
        return SocketServerServable(server, plan)

with running(Target()) as server, server.connect() as client:
    assert client.read_eof() == b"done"
"""


@pytest.mark.parametrize("options", [[], ["--branch"]], ids=["lines", "branches"])
def test_lines_of_the_process_and_of_its_children_are_in_the_combined_data(
    tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "program.py").write_text(f"ROOT = {str(Path(__file__).parents[2])!r}\n{PROGRAM}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}

    def coverage(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-W", "error", "-m", "coverage", *arguments],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            timeout=60,
        )

    coverage("run", "--parallel-mode", "--source=.", *options, "program.py")
    files = list(tmp_path.glob(".coverage.*"))
    coverage("combine")
    coverage("json")
    report = json.loads((tmp_path / "coverage.json").read_text())["files"]["handlers.py"]
    lines = HANDLERS.splitlines()
    executed = {lines[number - 1].strip() for number in report["executed_lines"]}
    missing = {lines[number - 1].strip() for number in report["missing_lines"]}

    assert len(files) == 3  # the test's process, the server process, its child
    assert {"return 1", "return 2", 'self.wfile.write(b"done")'} <= executed
    assert missing == {"return 3"}


def test_without_coverage_nothing_of_it_is_even_imported() -> None:
    class Tells(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(repr("coverage" in sys.modules).encode())

    with running(Tells) as server, server.connect() as client:
        assert client.read_eof() == repr(measurement_options() is not None).encode()


def test_options_of_an_unmeasured_process_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "coverage", raising=False)

    assert measurement_options() is None
