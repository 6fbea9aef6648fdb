"""Answers of which a function says whether they are right, and framings that say where they end."""

from __future__ import annotations

import json
import re
import socketserver
from contextlib import suppress
from typing import Any

import pytest

from servertest.contract import Report, check
from servertest.transcript import Delimited, Exchange, LengthPrefixed, WholeStream

KINDS = ["TCPServer", "ThreadingUnixStreamServer"]


class Numbering(socketserver.StreamRequestHandler):
    """Answers each line with a number that is never the same, in two writes."""

    number = 0

    def handle(self) -> None:
        with suppress(OSError):
            while (line := self.rfile.readline(512)).endswith(b"\n"):
                type(self).number += 1
                self.wfile.write(b'{"number": %d, ' % self.number)
                self.wfile.write(b'"said": "%s"}\r\n' % line.strip())


class Hasty(socketserver.BaseRequestHandler):
    """Takes what comes at once for a line."""

    def handle(self) -> None:
        with suppress(OSError):
            while data := self.request.recv(512):
                self.request.sendall(b'{"number": 0, "said": "%s"}\r\n' % data.strip())


def says(word: str) -> Any:
    def judge(reply: bytes) -> bool:
        return bool(json.loads(reply)["said"] == word)

    return judge


HELLO = [Exchange(b"hello\n", says("hello")), Exchange(b"world\n", says("world"))]


def verdicts(report: Report) -> dict[str, str]:
    return {result.check: result.verdict for result in report.results}


def test_a_function_judges_answers_on_servers_and_in_memory() -> None:
    report = check(Numbering, HELLO, kinds=KINDS, checks=["framing", "stop_during_request"])
    assert report.ok, report.findings or report.violations
    assert [outcome.verdict for outcome in report.outcomes] == ["ok", "ok"]
    assert verdicts(report)["split_at_every_byte"] == "passed"


def test_what_a_function_does_not_accept_is_found() -> None:
    report = check(Hasty, HELLO, kinds=KINDS[:1], checks=["split_at_every_byte"])
    [violation] = report.violations
    assert violation.explanation == "the replies are others than when each request comes whole"
    plain = check(Numbering, [Exchange(b"hello\n", says("goodbye"))], kinds=KINDS, checks=(), timeout=0.2)
    for outcome in plain.outcomes:
        [finding] = outcome.findings
        assert finding.what == "the answer is not what was expected"
        assert "says.<locals>" not in finding.details
        assert "judge does not accept it" in finding.details


def test_a_function_that_raises_has_not_accepted_and_is_quoted() -> None:
    def broken(reply: bytes) -> bool:
        raise LookupError("in the judge")

    report = check(Numbering, [Exchange(b"hello\n", broken)], kinds=KINDS[:1], checks=["garbage"])
    [finding] = report.findings
    assert "broken raises LookupError: in the judge" in finding.details


class Letters(socketserver.StreamRequestHandler):
    """Says as many letters as it was told, and a second line."""

    def handle(self) -> None:
        with suppress(OSError):
            while (line := self.rfile.readline(512)).endswith(b"\n"):
                self.wfile.write(b"x" * int(line) + b"\r\n")


def test_a_framing_says_where_an_answer_ends() -> None:
    # Without, a function says yes to the first letter, and a pattern is satisfied by it; what is left is taken for the next answer.
    some = [
        Exchange(b"3\n", lambda reply: set(reply) <= set(b"x\r\n")),
        Exchange(b"2\n", re.compile(rb"x+\s*")),
    ]
    framed = check(
        Letters, some, kinds=KINDS, checks=["framing", "stop_during_request"], framing=Delimited(b"\r\n")
    )
    assert framed.ok, framed.findings or framed.violations
    own = [Exchange(b"3\n", re.compile(rb"x+"), framing=Delimited(b"\r\n"))]
    report = check(Letters, own, kinds=KINDS, checks=())
    assert {finding.what for finding in report.findings} == {"the answer is not what was expected"}, (
        "with its end"
    )


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            while len(head := self.rfile.read(2)) == 2:
                self.wfile.write(head + self.rfile.read(int.from_bytes(head, "big"))[::-1])


@pytest.mark.parametrize("kind", KINDS)
def test_framings_by_length(kind: str) -> None:
    framing = LengthPrefixed(2)
    exchanges = [
        Exchange(framing.wrap(b"abc"), lambda reply: reply == framing.wrap(b"cba"), framing=framing)
    ] * 2
    report = check(Echo, exchanges, kinds=[kind], checks=["framing", "restart_on_same_address"])
    assert report.ok, report.findings or report.violations


class Once(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            line = self.rfile.readline(512)
            self.wfile.write(line.upper())
            self.wfile.write(line.lower())


def test_an_answer_may_be_the_whole_stream() -> None:
    exchanges = [Exchange(b"Hi\n", re.compile(rb"HI\nhi\n"), framing=WholeStream())]
    assert check(Once, exchanges, kinds=KINDS, checks=()).ok


class UpperDatagram(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.packet.upper())


def test_a_function_judges_datagrams() -> None:
    right = [Exchange(b"hi", lambda reply: reply.endswith(b"I"))]
    wrong = [Exchange(b"hi", lambda reply: reply.endswith(b"!"))]
    assert check(UpperDatagram, right, kinds=["UDPServer"], checks=["datagrams"]).ok
    report = check(UpperDatagram, wrong, kinds=["UDPServer"], checks=())
    assert report.findings[0].what == "the answer is not what was expected"
