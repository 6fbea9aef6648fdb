"""Contracts in a simulation: the same checks, the same verdicts, and nobody waits."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
import time
from itertools import groupby
from operator import itemgetter
from typing import Any

import pytest

from servertest import Exchange, Promises, check, servers
from servertest.contract import DatagramPlan, Piece, Plan, rehearse as rehearse_here
from servertest.sim import Simulated, rehearse
from tests.contract._fixtures import described


class Upper(servers.StreamRequestHandler):
    """Waits for five minutes."""

    timeout = 300

    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.wfile.write(line.upper())
        except OSError:
            pass


EXCHANGES = [Exchange(b"hi\n", b"HI\n"), Exchange(b"there\n", b"THERE\n")]


def test_an_idle_promise_of_minutes_is_checked_exactly() -> None:
    began = time.process_time()
    kept = rehearse(Upper, Plan(pieces=(Piece(b"hi\n"),), ending="silence"))
    in_time = rehearse(Upper, Plan(pieces=(Piece(b"hi\n"), Piece(b"ho\n", pause=299.9))))
    too_late = rehearse(Upper, Plan(pieces=(Piece(b"hi\n"), Piece(b"ho\n", pause=300.1))))
    assert time.process_time() - began < 1  # what a busy machine does with other programs is not counted
    assert kept.silence == pytest.approx(300, abs=1e-6)
    assert (in_time.received, in_time.ended_before) == (b"HI\nHO\n", 0)
    assert (too_late.received, too_late.ended_before) == (b"HI\n", 3)
    report = check(
        Upper,
        EXCHANGES,
        kinds=["ThreadingTCPServer"],
        promises=Promises(idle_timeout=300),
        checks=["idle_promise"],
        ground=Simulated(),
    )
    assert [(one.check, one.verdict, one.kind) for one in report.results] == [
        ("idle_promise", "passed", "simulation")
    ]
    broken = check(
        Upper,
        EXCHANGES,
        kinds=["ThreadingTCPServer"],
        promises=Promises(idle_timeout=120),
        checks=["idle_promise"],
        ground=Simulated(),
    )
    assert "is cut off after 300 s, though 120 s are promised" in broken.violations[0].explanation
    assert "from servertest.sim import rehearse" in broken.violations[0].reproduction


PLANS = {
    "pieces": Plan.of(b"hi\n", b"th", b"ere\n"),
    "closes": Plan.of(b"hi\n", b"t", ending="close"),
    "resets": Plan.of(b"hi\n", b"t", ending="reset"),
    "silent": Plan.of(b"hi\n", ending="silence"),
    "early": Plan(pieces=(Piece(b"hi\nho\n"),), early_end=True),
    "reset in mid reply": Plan(pieces=(Piece(b"hello\n"),), reset_after=3),
    "after others": Plan(pieces=(Piece(b"b\n"),), before=(Plan.of(b"a\n"),), after=(Plan.of(b"c\n"),)),
    "in the midst": Plan(pieces=(Piece(b"a\n"), Piece(b"b\n")), inner=Plan.of(b"c\n"), at_wait=1),
    "in a reply": Plan(pieces=(Piece(b"abcdef\n"),), inner=Plan.of(b"c\n"), at_send=2),
    "at a step": Plan(pieces=(Piece(b"a\n"),), inner=Plan.of(b"c\n"), at_step=2),
    "a pause": Plan(pieces=(Piece(b"a\n"), Piece(b"b\n", pause=10))),
    "small sends": Plan(pieces=(Piece(b"abcdef\n"),), send_limit=2),
    "on a path": Plan(pieces=(Piece(b"a\n"),), family="unix"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_comes_to_the_same_as_in_memory(name: str) -> None:
    there, here = rehearse(Upper, PLANS[name]), rehearse_here(Upper, PLANS[name])
    assert (there.outcome, there.received, there.ended_before, there.held_up) == (
        here.outcome,
        here.received,
        here.ended_before,
        here.held_up,
    )
    assert [(wait.sent, wait.received) for wait in there.waits] == [
        (wait.sent, wait.received) for wait in here.waits
    ]
    assert [one.received for one in there.after] == [one.received for one in here.after]
    assert (there.inner and there.inner.received) == (here.inner and here.inner.received)
    assert there.elapsed == pytest.approx(here.elapsed, abs=0.01)
    # How many times the client has looked is not the point.
    assert [what for what, _ in groupby(there.events, key=itemgetter(0))] == [
        what for what, _ in groupby(here.events, key=itemgetter(0))
    ]


class Stubborn(servers.StreamRequestHandler):
    """Waits for what will never happen."""

    def handle(self) -> None:
        threading.Event().wait()


class Spinner(servers.StreamRequestHandler):
    """Asks again and again."""

    def handle(self) -> None:
        while True:
            self.request.recv(10)


class Forker(servers.StreamRequestHandler):
    """Wants a child."""

    def handle(self) -> None:
        self.rfile.readline()
        if os.fork() == 0:
            os._exit(0)


def test_who_does_not_come_back_hangs_and_is_left_behind() -> None:
    record = rehearse(Stubborn, Plan.of(b"hi\n"))
    assert record.outcome == "hung"
    assert "handler: waits for" in record.stacks
    assert rehearse(Spinner, Plan.of(b"hi\n")).outcome == "spinning"


def test_a_datagram_is_handled() -> None:
    class Echo(servers.DatagramRequestHandler):
        def handle(self) -> None:
            time.sleep(60)
            self.wfile.write(self.rfile.read().upper())

    delivery = rehearse(Echo, DatagramPlan(datagrams=((0, b"hi"), (1, b"ho"))))
    assert delivery.replies == (((0, b"HI"),), ((1, b"HO"),))


def test_what_cannot_be_simulated_is_said_and_does_not_pass() -> None:
    report = check(
        Forker,
        [Exchange(b"hi\n", b"")],
        kinds=["ThreadingTCPServer", "ForkingTCPServer"],
        promises=Promises(),
        checks=["no_busy_loop", "stop_during_request", "linear_cost"],
        ground=Simulated(),
    )
    assert not report.ok
    assert {result.verdict for result in report.results} <= {
        "not simulated",
        "skipped",
        "not applicable",
        "not promised",
    }
    assert "os.fork() cannot be simulated" in " ".join(one.reason for one in report.results)
    assert [one.verdict for one in report.outcomes] == ["skipped", "skipped"]
    assert "it forks" in report.outcomes[1].reason


class Own(socketserver.ThreadingTCPServer):
    """A whole server, of the standard module."""

    def __init__(self, address: Any) -> None:
        super().__init__(address, Upper)  # type: ignore[arg-type]


def test_whole_servers_are_simulated_too() -> None:
    report = check(
        Own,
        EXCHANGES,
        promises=Promises(idle_timeout=300),
        ground=Simulated(),
        checks=["split_at_every_byte", "stop_during_request", "no_leak_after_requests"],
    )
    assert not report.broken, described(report)
    assert [one.verdict for one in report.outcomes] == ["ok"]
    verdicts = {result.check: result.verdict for result in report.results}
    assert verdicts["split_at_every_byte"] == "passed"
    assert all(0 < one.seconds < 60 for one in report.outcomes)  # real ones
    assert verdicts["no_leak_after_requests"] != "passed"


def test_the_same_seed_gives_the_same_report() -> None:
    def once() -> Any:
        report = check(Upper, EXCHANGES, kinds=["ThreadingTCPServer"], ground=Simulated(3), checks="state")
        return [(one.check, one.kind, one.verdict, one.reason) for one in report.results]

    assert once() == once()


def test_the_command_line_simulates(tmp_path: Any) -> None:
    wire = tmp_path / "upper.wire"
    wire.write_text('wire 1\nconnect 1\n> "hi\\n"\n< "HI\\n"\n')
    done = subprocess.run(
        [
            *(sys.executable, "-m", "servertest.cli", "check", f"{__name__}:Upper"),
            *("--exchanges", str(wire), "--simulate", "--promise", "idle_timeout=300"),
            *("--kind", "ThreadingTCPServer", "--kind", "ForkingTCPServer"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not simulated" in done.stdout
    assert "it forks, and a child process cannot be simulated" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.startswith("idle_promise"))
    assert row.split()[1:3] == ["passed", "simulation"]
