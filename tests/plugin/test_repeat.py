"""One seed for a run; a failed test is written down, and repeats itself."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

HERE = ("-o", "servertest_replays=replays")

LOSSY = """
from servertest.faults import *

class Echo(servers.DatagramRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read())

def answers(link, count=30):
    \"\"\"Which datagrams come back.\"\"\"
    with link.connect() as client:
        for number in range(count):
            client.send(bytes([number]))
        client.send(b"the end")
        found = []
        while (data := client.receive()) != b"the end":
            found.append(data[0])
        return found

SOME = upstream(Loss(0.5)).on(datagram=range(1, 31))
"""


def line_with(result: pytest.RunResult, text: str) -> str:
    return next(line for line in result.outlines if text in line)


def replay_of(result: pytest.RunResult) -> str:
    found = re.search(r"--servertest-replay=(\S+)", line_with(result, "--servertest-replay="))
    assert found
    return found[1]


def test_seeds_are_made_of_the_run_s_and_the_test_s_name(run: Run) -> None:
    source = """
def seeds(serve, proxy):
    server = serve(Upper)
    return [server.seed, serve(Upper).seed, proxy(server).seed, proxy(server).seed]

def test_one(serve, proxy):
    found = seeds(serve, proxy)
    assert len(set(found)) == 4
    print("seeds", found)

def test_two(serve, proxy):
    print("other", seeds(serve, proxy))

def test_given(serve, proxy):
    assert (serve(Upper, seed=3).seed, proxy(serve(Upper), seed="mine").seed) == (3, "mine")
"""
    whole = run(source, "-s", "--servertest-seed=1")
    whole.assert_outcomes(passed=3)
    alone = run(source, "-s", "--servertest-seed=1", "-k", "test_one")
    other = run(source, "-s", "--servertest-seed=2", "-k", "test_one")
    assert line_with(whole, "seeds [") == line_with(alone, "seeds [") != line_with(other, "seeds [")
    assert line_with(whole, "seeds [").split("[")[1] != line_with(whole, "other [").split("[")[1]


FAILS = (
    LOSSY
    + """
import random

def test_passes(serve):
    serve(Upper)

def test_loses(serve, proxy):
    link = proxy(serve(Echo, "UDPServer"), SOME, seed=random.random().hex())
    found = answers(link)
    print("answers", found)
    assert len(found) == 30
"""
)


def test_a_failed_test_repeats_itself(run: Run, pytester: pytest.Pytester) -> None:
    first = run(FAILS, *HERE)
    first.assert_outcomes(passed=1, failed=1)
    path = replay_of(first)
    assert (pytester.path / path).is_file()
    first.stdout.fnmatch_lines(["pytest *.py::test_loses --servertest-replay=replays/test_loses-*.jsonl"])

    second = run(FAILS, *HERE, f"--servertest-replay={path}")
    second.assert_outcomes(failed=1, deselected=1)
    assert line_with(second, "answers [") == line_with(first, "answers [")
    second.stdout.fnmatch_lines(
        [
            "servertest: seed *, replay of *test_loses*",
            "*test_loses failed again: the same * decisions as then",
        ]
    )


def test_a_plan_that_is_drawn_is_the_same_again(run: Run) -> None:
    source = (
        LOSSY
        + """
import os

def test_loses(serve, proxy):
    link = proxy(serve(Echo, "UDPServer"), plan(os.environ["FAULTS"]))
    assert len(answers(link)) == 30
"""
    )
    patch = pytest.MonkeyPatch()
    with patch.context() as environment:
        environment.setenv("FAULTS", SOME_TEXT)
        path = replay_of(run(source, *HERE))
        environment.setenv("FAULTS", "latency:0.001")
        again = run(source, *HERE, f"--servertest-replay={path}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(
        [
            "*failed again: proxy 1: the test asks for plan(Latency(delay=0.001)) now, and has *Loss(*as it had then"
        ]
    )


SOME_TEXT = "upstream(loss:0.5@datagram:1..30)"


def test_a_run_that_departs_is_told_where(run: Run, pytester: pytest.Pytester) -> None:
    path = replay_of(run(FAILS, *HERE))
    again = run(
        FAILS.replace("= answers(link)", "= answers(link) and answers(link)"),
        *HERE,
        f"--servertest-replay={path}",
    )
    again.stdout.fnmatch_lines(
        [
            "*failed again: proxy 1: other decisions, from here on (- then, + now):",
            "decision 1 of loss on connection 2 upstream",
            "  - (nothing more)",
            "  + *",
        ]
    )


def test_a_test_that_passes_this_time_is_told_of(run: Run) -> None:
    path = replay_of(run(FAILS, *HERE))
    again = run(FAILS.replace("== 30", "< 30"), *HERE, f"--servertest-replay={path}")
    again.assert_outcomes(passed=1, deselected=1)
    again.stdout.fnmatch_lines(["*test_loses passed this time: the same * decisions as then"])


def test_what_fails_at_its_end_is_written_down_too(run: Run) -> None:
    source = """
from servertest.faults import *

class Broken(servers.BaseRequestHandler):
    def handle(self):
        self.request.recv(1), self.request.recv(1)  # what is left unread makes a close a reset
        raise LookupError("of mine")

def test_it(serve):
    with serve(Broken, faults=ShortReads()).connect(faults=Slicer(1)) as client:
        client.send_all(b"hi")
        client.read_eof()
"""
    first = run(source, *HERE)
    first.assert_outcomes(passed=1, errors=1)
    again = run(source, *HERE, f"--servertest-replay={replay_of(first)}")
    again.assert_outcomes(passed=1, errors=1)
    again.stdout.fnmatch_lines(["*failed again: the same * decisions as then"])


def test_what_had_no_faults_is_not_written_down(run: Run) -> None:
    result = run("def test_it(serve): assert not serve(Upper)", *HERE)
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*--servertest-replay*")


def test_without_pytest_s_cache_it_goes_to_a_temporary_directory(run: Run, pytester: pytest.Pytester) -> None:
    result = run(FAILS)
    assert (pytester.path / replay_of(result)).is_file()
    assert not list(pytester.path.rglob("*.jsonl"))


@pytest.mark.timeout(240)  # pytest within pytest within pytest, and a machine may be busy
def test_with_several_workers(run: Run) -> None:
    path = replay_of(run(FAILS, *HERE, "-n2", subprocess=True))
    again = run(FAILS, *HERE, "-n2", f"--servertest-replay={path}", subprocess=True)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*test_loses failed again: the same * decisions as then"])


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (None, (), "*--servertest-replay: *it.jsonl cannot be read: *"),
        ("nonsense", (), "*it.jsonl is no replay: those are written when a test fails*"),
        ('{"test": "t", "seed": 1}', ("--servertest-seed=2",), "*--servertest-seed=2 contradicts*had 1"),
        ('{"test": "t", "seed": 1}', (), "*it.jsonl is of t, which is not among the tests*"),
        ('{"test": "t", "seed": 1}\n{"faults": 3}', (), "*it.jsonl: this is no history of faults*"),
    ],
)
def test_what_cannot_be_repeated(
    run: Run, pytester: pytest.Pytester, content: str | None, options: tuple[str, ...], says: str
) -> None:
    if content is not None:
        (pytester.path / "it.jsonl").write_text(content)
    result = run("def test_it(): pass", "--servertest-replay=it.jsonl", *options, subprocess=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert re.search(re.escape(says).replace(r"\*", "[^\n]*"), "\n".join(result.outlines + result.errlines))


SHRINKS = """
from hypothesis import given, settings
from servertest.faults import *
from servertest.faults.strategies import plans

LONG = b"x" * 5000 + b"\\n"

class Reply(servers.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())

@pytest.fixture(scope="module")
def server(module_serve):
    return module_serve(Reply)

def fetch(address):
    # Takes any end for the end of the reply.
    with servers.socket.create_connection(address, 5) as sock:
        sock.sendall(LONG)
        with sock.makefile("rb") as reply:
            return reply.read()

@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(plan=plans(kinds=[Latency, Slicer, Coalesce, LimitData, ResetPeer], triggered=False, longest=0.01))
def test_any_network(server, module_proxy, plan):
    link = module_proxy(server, plan)
    assert len(module_proxy.links) == 1  # that of the example before is gone
    try:
        got = fetch(link.address)
    except OSError:
        return
    assert got == LONG.upper()
"""


def test_hypothesis_shrinks_to_the_smallest_plan_that_still_fails(run: Run) -> None:
    result = run(SHRINKS, *HERE)
    result.assert_outcomes(failed=1)
    shown = re.search(
        r"plan=(.+?),?\n\s*\)", "\n".join(line.removeprefix("E ").strip() for line in result.outlines)
    )
    assert shown
    assert "LimitData(" in shown[1]
    assert "|" not in shown[1]
    result.stdout.fnmatch_lines(["The examples are Hypothesis' own*"])
    assert sum("servertest transcript of Link" in line for line in result.outlines) == 1


def test_a_mock_server_with_faults_is_written_down_too(run: Run) -> None:
    source = """
from servertest.faults import Corrupt

def test_it(make_mock_server):
    mock = make_mock_server(faults=Corrupt(0.5))
    mock.expect(WHATEVER).reply(b"x" * 20)
    with mock.connect() as client:
        client.send_all(b"hi")
        assert client.read_exactly(20) == b"x" * 20
"""
    source = source.replace("WHATEVER", "__import__('re').compile(rb'..', 16)")
    path = replay_of(run(source, *HERE))
    again = run(source, *HERE, f"--servertest-replay={path}")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*test_it failed again: the same * decisions as then"])
