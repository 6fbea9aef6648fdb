"""The fixture `simulate`: one simulation, many seeds, and what a failure shows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]


def test_a_simulation(run: Run) -> None:
    result = run("""
import time

def test_an_hour(simulate):
    net = simulate(seed=7)
    server = net.serve(Upper)
    with server.connect() as client:
        client.send(b"hi\\n")
        time.sleep(3600)
        assert client.readline() == b"HI\\n"
    assert net.now > 3600

def test_nothing_is_left_of_it():
    begun = time.monotonic()
    time.sleep(0.01)
    assert time.monotonic() - begun < 5

def test_unused(simulate):
    pass
""")
    result.assert_outcomes(passed=3)


def test_a_failure_shows_the_seed_and_the_history(run: Run) -> None:
    source = """
def test_fails(simulate):
    net = simulate()
    server = net.serve(Upper)
    with server.connect() as client:
        client.send(b"hi\\n")
        client.readline()
    assert net.seed == 11
"""
    result = run(source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*servertest simulation*", "seed * again: pytest --servertest-simulate-seed=*"]
    )
    result.stdout.fnmatch_lines(["*connects to 127.0.0.1:40000"])
    run(source, "--servertest-simulate-seed=11").assert_outcomes(passed=1)


def test_what_a_handler_raises_fails_the_test(run: Run) -> None:
    result = run("""
class Broken(servers.BaseRequestHandler):
    def handle(self):
        raise LookupError("no such thing")

def test_broken(simulate):
    with simulate().serve(Broken).connect() as client:
        client.read_eof()
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LookupError: no such thing"])


RACE = """
class Counter(servers.StreamRequestHandler):
    total = 0

    def handle(self):
        self.rfile.readline()
        total = Counter.total
        Counter.total = total + 1

@pytest.mark.servertest_simulate(seeds=200, preempt="line", watch=[Counter])
def test_no_update_is_lost(simulate):
    net = simulate()
    Counter.total = 0
    server = net.serve(Counter)

    def ask():
        with server.connect() as client:
            client.send(b"x\\n")
            client.read_eof()

    net.run_all([ask, ask])
    assert Counter.total == 2
"""


@pytest.mark.timeout(300)  # many switches between threads, and a machine may be busy
def test_many_seeds_are_one_test(run: Run) -> None:
    result = run(RACE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*with seed * of a simulation, the first of * that failed"])
    result.stdout.fnmatch_lines(
        ["*It takes * switch*", "*makes way for*", "again: pytest --servertest-simulate-seed=*"]
    )
    (again,) = {line for line in result.outlines if line.startswith("again: pytest")}
    seed = again.partition("=")[2]
    result = run(RACE, f"--servertest-simulate-seed={seed}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*with seed {seed} of a simulation, the first of 1 that failed"])


def test_with_seeds_the_mark_says_it_all(run: Run) -> None:
    result = run("""
@pytest.mark.servertest_simulate(seeds=3)
def test_it(simulate):
    simulate(seed=1)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UsageError*the mark says*"])


def test_all_seeds_pass(run: Run) -> None:
    result = run("""
seeds = []

@pytest.mark.servertest_simulate(seeds=range(5, 8))
def test_it(simulate):
    net = simulate()
    assert simulate() is net
    seeds.append(net.seed)

def test_them():
    assert seeds == [5, 6, 7]
""")
    result.assert_outcomes(passed=2)


def test_one_at_a_time(run: Run) -> None:
    result = run("""
def test_it(simulate):
    simulate()
    simulate()
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*in a simulation already"])


def test_a_deadlock_fails_the_test(run: Run) -> None:
    result = run("""
import socket

def test_it(simulate):
    net = simulate()
    with socket.create_connection(net.serve(Upper).address) as client:
        client.recv(1)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Deadlock*", "*test: waits for data on connection 1 (client end)*"])


def test_a_skip_ends_it_too(run: Run) -> None:
    result = run("""
def test_it(simulate):
    simulate().serve(Upper)
    pytest.skip("enough")

def test_after(simulate):
    simulate()
""")
    result.assert_outcomes(passed=1, skipped=1)


def test_other_fixtures_put_up_their_servers_inside(run: Run) -> None:
    result = run("""
def test_serve(simulate, serve):
    net = simulate()
    with serve(Upper).connect() as client:
        client.send(b"hi\\n")
        net.sleep(1000)
        assert client.readline() == b"HI\\n"

def test_fails(simulate, serve):
    simulate()
    with serve(Upper).connect() as client:
        client.send(b"hi\\n")
        assert client.readline() == b"something else"
""")
    result.assert_outcomes(passed=1, failed=1)
