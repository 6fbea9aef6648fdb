"""What a violation says how to see it is a test that fails for its reason, wherever it is pasted."""

from __future__ import annotations

import os
import re
import socketserver
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from fixtures import Fixture, broken_ones
from servertest.contract import Conversation, Violation, check
from servertest.launch import HandlerTarget
from servertest.transcript import Exchange
from tests.contract._fixtures import contract_of, described, one_kind

ROOT = Path(__file__).parents[2]
#: One for each form that a reproduction has: replies, exceptions, exits, memory, leaks, time, notes, races, state, datagrams, and what takes a server.
SAMPLE = (
    "line_reads_once",
    "json_expects_an_object",
    "control_exits",
    "line_without_limit",
    "hooks_never_reaped",
    "line_timeout_set_too_late",
    "kv_finish_without_super",
    "counter_without_lock",
    "login_by_address",
    "jobs_write_at_once",
    "vault_has_one_worker",
    "tickets_vanish_in_the_child",
    "syslog_answers_the_nameless",
    "help_amplifies",
)


def violation_of(fixture: Fixture) -> Violation:
    profile = "full" if fixture.check == "any_course_of_events" else "quick"
    report = contract_of(fixture, one_kind(fixture), checks=[fixture.check], timeout=1.5, profile=profile)  # type: ignore[arg-type]
    assert report.violations, described(report)
    return next(report.distinct())[0]


def run(directory: Path, *words: str) -> str:
    """What pytest says of the modules in a directory."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{directory}", "COLUMNS": "200"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *words]
    done = subprocess.run(
        [*command, str(directory)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.stdout + done.stderr


def pasted(fixtures: Iterable[Fixture], directory: Path) -> None:
    """Paste the reproductions of broken handlers, each into a file, and see them fail for their reasons."""
    (directory / "pytest.ini").write_text("[pytest]\n")
    checks = {}
    for fixture in fixtures:
        violation = violation_of(fixture)
        checks[fixture.name] = violation.check
        (directory / f"test_{fixture.name}.py").write_text(violation.reproduction + "\n")
    printed = run(directory)
    failed = dict(re.findall(r"^FAILED test_(\w+)\.py::test_(\w+) - Assert", printed, re.MULTILINE))
    assert failed == checks, printed


@pytest.mark.timeout(180)
def test_pasted_reproductions_fail_for_their_reasons(tmp_path: Path) -> None:
    pasted([one for one in broken_ones() if one.name in SAMPLE], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fixture", broken_ones(), ids=str)
def test_each_of_them_does(fixture: Fixture, tmp_path: Path) -> None:
    pasted([fixture], tmp_path)


class Announcing(socketserver.StreamRequestHandler):
    """Says what its server says; raises for empty lines."""

    def handle(self) -> None:
        with suppress(OSError):
            while line := self.rfile.readline(512):
                word = line.split()[0]
                self.wfile.write(word + b" " + self.server.motto + b"\n")  # type: ignore[attr-defined]


def shout(reply: bytes) -> bool:
    return reply.endswith(b"!\n")


def test_a_reproduction_has_what_was_set_on_the_server(tmp_path: Path) -> None:
    target = HandlerTarget(Announcing, {"motto": b"hurry!"})
    report = check(target, [Exchange(b"a\n", b"a hurry!\n")], kinds=["TCPServer"], checks=["garbage"])
    [violation] = report.violations
    assert (
        "rehearse(HandlerTarget(Announcing, {'motto': b'hurry!'}), plan, apart=True)"
        in violation.reproduction
    )
    (tmp_path / "test_it.py").write_text(violation.reproduction)
    printed = run(tmp_path)
    assert "IndexError: list index out of range" in printed
    assert "1 failed" in printed


class Crowded(socketserver.StreamRequestHandler):
    """Serves one client at a time, whatever the server does."""

    places = 0

    def handle(self) -> None:
        if type(self).places:
            return
        type(self).places += 1
        with suppress(OSError):
            while line := self.rfile.readline(512):
                self.wfile.write(line.upper())
        type(self).places -= 1


def test_what_takes_a_server_has_the_exchanges_and_promises_in_it(tmp_path: Path) -> None:
    conversations = [
        Conversation(1, (Exchange(b"a\n", re.compile(rb"[A-Z]\n", re.IGNORECASE)),), half_close=True),
    ]
    report = check(
        Crowded,
        conversations,
        kinds=["ThreadingTCPServer"],
        checks=["slow_clients_leave_room"],
        promises={"concurrent": True, "idle_timeout": 1.0},
        timeout=0.5,
        seed=7,
    )
    [violation] = report.violations
    assert (
        "Conversation(1, (Exchange(b'a\\n', re.compile(b'[A-Z]\\\\n', 2)),), half_close=True)"
        in violation.reproduction
    )
    assert "seed=7" in violation.reproduction
    (tmp_path / "test_it.py").write_text(violation.reproduction)
    assert "while 8 clients are slow, another one is not served" in run(tmp_path)


def test_what_nobody_can_import_is_to_be_put_in_by_hand() -> None:
    class Local(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().split()[0] + b"\n")

    report = check(Local, [Exchange(b"a\n", b"a\n")], kinds=["TCPServer"], checks=["garbage"])
    assert "# put in by hand: the handler (test_what_nobody" in report.violations[0].reproduction
    assert "rehearse(..., plan, apart=True)" in report.violations[0].reproduction
