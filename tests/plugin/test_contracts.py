"""Contracts as test classes."""

from __future__ import annotations

import pytest

MODULE = """
import socketserver
from contextlib import suppress
from servertest import DatagramContract, Exchange, Promises, StreamContract

class Upper(socketserver.StreamRequestHandler):
    timeout = 0.5

    def handle(self):
        with suppress(OSError):
            while (line := self.rfile.readline(4096)).endswith(b"\\n"):
                self.wfile.write(line.upper())

class Hasty(socketserver.BaseRequestHandler):
    def handle(self):
        with suppress(OSError):
            while chunk := self.request.recv(4096):
                self.request.sendall(chunk.strip().upper() + b"\\n")

class UpperDatagram(socketserver.DatagramRequestHandler):
    def handle(self):
        self.wfile.write(self.packet.upper())

class Lines(StreamContract):
    exchanges = [Exchange(b"hi\\n", b"HI\\n"), Exchange(b"good morning\\n", b"GOOD MORNING\\n")]
    promises = Promises(pipelining=True, half_close=True, concurrent=True, max_request=4096)
    kinds = ["ThreadingTCPServer", "UnixStreamServer"]
"""


def run(pytester: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(MODULE + tests)
    return pytester.runpytest_subprocess("-p", "no:randomly", "-v", "-rs", *options)


def test_a_good_handler_passes_every_check_that_its_promises_allow(pytester: pytest.Pytester) -> None:
    result = run(pytester, "class TestUpper(Lines):\n    handler = Upper\n", "--servertest-leaks=all")
    outcomes = result.parseoutcomes()
    assert outcomes.keys() == {"passed", "skipped"}, str(result.stdout)
    result.stdout.fnmatch_lines(
        [
            "*TestUpper::test_exchanges?ThreadingTCPServer? PASSED*",
            "*TestUpper::test_exchanges?UnixStreamServer? PASSED*",
            "*TestUpper::test_check?split_at_every_byte-in_memory? PASSED*",
            "*TestUpper::test_check?stop_during_request-UnixStreamServer? PASSED*",
            "*not promised: it does not promise idle_timeout*",
        ]
    )


def test_a_broken_one_fails_with_the_bytes_and_a_reproduction(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "class TestHasty(Lines):\n    handler = Hasty\n    checks = ['split_at_every_byte', 'lifecycle']\n",
    )
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(
        [
            "*test_check?split_at_every_byte-in_memory? FAILED*",
            "split_at_every_byte (in memory): the replies are others than when each request comes whole*",
            "sent     b'hi\\ngood morning\\n'",
            "expected b'HI\\nGOOD MORNING\\n'",
            "*record = rehearse(Hasty, plan, apart=True)",
        ]
    )


def test_exclusions_have_a_reason(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "class TestHasty(Lines):\n    handler = Hasty\n    checks = ['framing']\n"
        "    exclude = dict.fromkeys(['split_at_every_byte', 'one_byte_at_a_time', 'coalesced_requests',\n"
        "        'pipelined_requests', 'partial_request_is_not_answered'], 'it is a demonstration')\n",
    )
    assert "failed" not in result.parseoutcomes()
    result.stdout.fnmatch_lines(["*excluded: it is a demonstration*"])


def test_exchanges_that_do_not_go_as_expected_come_first_and_stop_the_rest(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "class TestUpper(StreamContract):\n    handler = Upper\n    exchanges = [Exchange(b'hi\\n', b'hi\\n')]\n"
        "    kinds = ['TCPServer']\n    checks = ['framing']\n",
    )
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1
    assert "passed" not in outcomes
    result.stdout.fnmatch_lines(
        ["*test_exchanges?TCPServer? FAILED*", "*the exchanges do not go as expected*"]
    )


def test_contracts_in_a_simulation(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "class TestPatient(Lines):\n    class handler(Upper):\n        timeout = 600\n    promises = Promises(idle_timeout=600)\n"
        "    simulate = True\n    checks = ['slowness', 'lifecycle', 'linear_cost']\n"
        "    kinds = ['ThreadingTCPServer', 'ForkingTCPServer']\n"
        "class TestHasty(Lines):\n    handler = Hasty\n    simulate = True\n    checks = ['split_at_every_byte']\n"
        "class TestDatagrams(DatagramContract):\n    handler = UpperDatagram\n    simulate = True\n"
        "    exchanges = [Exchange(b'hi', b'HI')]\n    kinds = ['ThreadingUDPServer']\n    checks = ['plain_datagrams']\n",
    )
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1, str(result.stdout)
    result.stdout.fnmatch_lines(
        [
            "*TestPatient::test_exchanges?ForkingTCPServer? SKIPPED*",
            "*TestPatient::test_check?idle_promise-in_memory? PASSED*",
            "*TestPatient::test_check?stop_during_request-ThreadingTCPServer? PASSED*",
            "*TestPatient::test_check?stop_during_request-ForkingTCPServer? SKIPPED*",
            "*TestHasty::test_check?split_at_every_byte-in_memory? FAILED*",
            "*TestDatagrams::test_check?plain_datagrams-in_memory? PASSED*",
            "*split_at_every_byte (simulation): *",
            "*not simulated: it forks, and a child process cannot be simulated*",
        ]
    )


def test_datagrams(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "class TestDatagrams(DatagramContract):\n    handler = UpperDatagram\n"
        "    exchanges = [Exchange(b'hi', b'HI')]\n    promises = Promises(amplification=1)\n    kinds = ['ThreadingUDPServer']\n",
    )
    outcomes = result.parseoutcomes()
    assert "failed" not in outcomes, str(result.stdout)
    result.stdout.fnmatch_lines(["*test_check?amplification-in_memory? PASSED*"])


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (
            "class TestNothing(StreamContract):\n    exchanges = [Exchange(b'a', b'A')]\n",
            "*say what is to be checked*",
        ),
        ("class TestNothing(StreamContract):\n    handler = Upper\n", "*say what clients say*"),
    ],
)
def test_what_is_missing_is_asked_for(pytester: pytest.Pytester, tests: str, message: str) -> None:
    result = run(pytester, tests)
    result.stdout.fnmatch_lines([message])
    assert result.ret != 0
