"""Mock servers and recordings as fixtures, and what a failing test shows of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import servertest._pytest._diagrams
import servertest._pytest._mocks
import servertest.mocks.peers
import servertest.proxy
from tests.plugin.conftest import HANDLERS

#: What an inner run imports and pytester would take back.
PRESENT = (servertest.mocks.peers, servertest.proxy, servertest._pytest._mocks, servertest._pytest._diagrams)

Run = Callable[..., pytest.RunResult]


def test_a_client_that_does_what_the_script_says(run: Run) -> None:
    result = run("""
import smtplib

def test_mail(mock_server):
    mock_server.banner(b"220 ready\\r\\n")
    mock_server.expect(b"helo me\\r\\n").reply(b"250 ok\\r\\n")
    mock_server.expect(b"QUIT\\r\\n").reply(b"221 bye\\r\\n").close()
    with smtplib.SMTP(*mock_server.address, timeout=5) as client:
        client.helo("me")

@pytest.mark.servertest_mock("udp")
def test_datagrams(mock_server):
    mock_server.expect(b"ping").reply(b"pong")
    with mock_server.connect() as client:
        client.send(b"ping")
        assert client.receive() == b"pong"

def test_several(make_mock_server):
    one, two = make_mock_server(), make_mock_server("unix", tls=True)
    one.banner(b"1").close()
    two.banner(b"2").close()
    for mock, text in ((one, b"1"), (two, b"2")):
        with mock.connect() as client:
            assert client.read_eof() == text
    assert make_mock_server.servers == (one, two)

def test_unused(mock_server):
    pass
""")
    result.assert_outcomes(passed=4)


def test_what_a_client_owes_fails_the_test_by_itself(run: Run) -> None:
    result = run("""
def test_it(mock_server):
    mock_server.expect(b"QUIT\\r\\n").reply(b"221 bye\\r\\n").close()
    with mock_server.connect() as client:
        client.send_all(b"QUTI\\r\\n")
        client.read_eof()
""")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "the mock server on 127.0.0.1:* (ThreadingTCPServer) did not get what its script expects:",
            '*connection 1: "QUTI*" came, and step 1 expects "QUIT*"',
            '*✗  1  expect "QUIT*"  test_what_a_client_owes_fails_the_test_by_itself.py:*',
            '*· reply "221 bye*"',
            "*byte 2",
            "*what passed:",
            '*"QUTI*" ──*▶│',
        ]
    )


def test_a_test_that_has_failed_says_so_once(run: Run) -> None:
    result = run("""
def test_it(mock_server):
    mock_server.expect(b"A").reply(b"a")
    with mock_server.connect() as client:
        client.send_all(b"B")
        assert client.read_eof() == b"a"
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*servertest mock server*", '*connection 1: "B" came, and step 1 expects "A"*']
    )
    result.stdout.no_fnmatch_line("*servertest transcript of*")


@pytest.mark.parametrize("ci", ["", "1"])
def test_the_summary_says_what_is_wrong_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("COLUMNS", "200")
    result = run(
        """
def test_owes(mock_server):
    mock_server.expect(b"A").reply(b"a")
    with mock_server.connect() as client:
        client.send_all(b"B")
        client.read_eof()

def test_asserts(mock_server):
    mock_server.otherwise()
    with mock_server.connect() as client:
        client.send_all(b"B")
    mock_server.wait_for(b"B")
    mock_server.assert_received(b"A", timeout=0)

def test_in_a_block():
    with MockServer() as mock:
        mock.expect(b"A")
""".replace("def test_owes", "from servertest.mocks import MockServer\n\ndef test_owes")
    )
    result.assert_outcomes(passed=1, failed=2, errors=1)
    lines = result.outlines
    summary = sorted(lines[next(i for i, line in enumerate(lines) if "short test summary" in line) + 1 : -1])
    assert [line.partition(" - ")[2] for line in summary] == [
        'Failed: connection 1: "B" came, and step 1 expects "A"',
        summary[1].partition(" - ")[2],
        "servertest.mocks.MockFailed: nobody has connected",
    ]
    assert re.search(
        r' - servertest\.Mismatch: "A" was not received by the mock server on [\d.:]+ \(ThreadingTCPServer\)$',
        summary[1],
    )
    # What they say in full stands above, once.
    for words in ('✗  1  expect "A"', "what comes nearest:"):
        assert sum(words in line for line in lines) == 1


def test_seeds_are_the_tests_own(run: Run) -> None:
    source = """
def test_it(mock_server):
    mock_server.banner(b"").garbage(8)
    mock_server.close()
    with mock_server.connect() as client:
        print("got", client.read_eof().hex())
"""
    first, second = (
        [line for line in run(source, "-s", "--servertest-seed=7").outlines if line.startswith("got")]
        for _ in range(2)
    )
    assert first == second


def test_nonsense_in_the_marker(run: Run) -> None:
    result = run("""
@pytest.mark.servertest_mock("udp", frming=3)
def test_it(mock_server):
    pass
""")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*did you mean framing=?*"])


RECORDED = """
from servertest.mocks.peers import KeyValueStore

def test_store(recorded_server, serve):
    server = recorded_server("store.wire", lambda: serve(KeyValueStore))
    with server.connect() as client:
        client.send_all(b"INCR a\\r\\n")
        assert client.readline() == b":1\\r\\n"
        {more}
"""


def test_a_recorded_server(run: Run, pytester: pytest.Pytester) -> None:
    file = pytester.path / "store.wire"
    failing = RECORDED.format(more="assert not 'what is recorded of a test that fails is not kept'")
    run(failing).assert_outcomes(failed=1)
    assert not file.exists()
    run(RECORDED.format(more=""), "--servertest-record=none").assert_outcomes(failed=1)
    run(RECORDED.format(more="")).assert_outcomes(passed=1)
    text = file.read_text()
    assert '> "INCR a\\r\\n"' in text

    replayed = RECORDED.format(more="").replace("lambda: serve(KeyValueStore)", "None")
    run(replayed, "--servertest-record=none").assert_outcomes(passed=1)
    result = run(replayed.replace("INCR a", "INCR b"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*connection 1: *INCR b*came, and step 1 expects*", "*store.wire:*"])

    more = RECORDED.format(
        more="with server.connect() as other: other.send_all(b'PING\\r\\n'); other.readline()"
    )
    run(more, "--servertest-record=new").assert_outcomes(passed=1)
    assert "PING" in file.read_text()
    run(RECORDED.format(more=""), "--servertest-record=all").assert_outcomes(passed=1)
    assert "PING" not in file.read_text()


def test_a_mode_that_does_not_exist(run: Run) -> None:
    result = run("def test_it(): pass", "-o", "servertest_record=never")
    assert (
        "servertest_record is one of none, once, new, all, not 'never'"
        in result.stderr.str() + result.stdout.str()
    )


def test_the_plugin_imports_none_of_this(run: Run, tmp_path: Path) -> None:
    result = run(
        """
import sys
def test_it():
    assert not [name for name in sys.modules if name.startswith(("servertest.mocks", "servertest.proxy", "servertest.faults"))]
""",
        subprocess=True,
    )
    result.assert_outcomes(passed=1)


DIAGRAM = """
def test_it(mock_server, serve):
    server = serve(Upper)
    mock_server.expect(b"A").reply(b"a")
    with mock_server.connect() as client:
        client.send_all(b"B")
        assert client.read_eof() == {expected}
"""


@pytest.mark.parametrize("expected", ["b'a'", "b''"])
def test_a_diagram_of_what_failed(pytester: pytest.Pytester, expected: str) -> None:
    pytester.makepyfile(HANDLERS + DIAGRAM.format(expected=expected))
    result = pytester.runpytest("-p", "no:randomly", "-o", "asyncio_default_fixture_loop_scope=function")
    # Where CI is set, pytest's summary tells the whole message once more.
    (line,) = {line for line in result.outlines if "sequence diagram: file://" in line}
    text = Path(line.partition("file://")[2]).read_text()
    assert "step 1 expects" in text
    assert "test_it" in text
    assert "what passed:" not in text, "that is the diagram"
    assert ".pytest_cache" in line


def test_no_diagrams(run: Run) -> None:
    result = run(DIAGRAM.format(expected="b'a'"), "-p", "cacheprovider", "-o", "servertest_diagrams=off")
    result.stdout.no_fnmatch_line("*sequence diagram*")


def test_diagrams_elsewhere(run: Run, pytester: pytest.Pytester) -> None:
    run(DIAGRAM.format(expected="b'a'"), "-o", "servertest_diagrams=shown/here")
    (file,) = (pytester.path / "shown" / "here").iterdir()
    assert file.suffix == ".html"
