"""check() with the exchanges as they are: what is found, on which kinds, and what is nobody's fault but ours."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import pytest

from servertest import servers
from servertest._support import UsageError
from servertest.contract import Report, Result, check
from servertest.transcript import Exchange, parse_exchanges

LINES = """\
wire 1
connect 1
> "hi\\n"
< "HI\\n"
half-close client
half-close server
connect 2
> "one\\ntwo\\n"
< "ONE\\n"
  /T[A-Z]O\\n/
"""


#: The exchanges as they are, and no checks.
plainly = functools.partial(check, checks=())


class Upper(servers.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Lower(servers.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.lower())


class Failing(servers.StreamRequestHandler):
    def handle(self) -> None:
        self.rfile.readline()
        raise ZeroDivisionError("of the handler")


class UpperDatagram(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.packet.upper())


def verdicts(report: Report) -> dict[str, str]:
    return {outcome.kind: outcome.verdict for outcome in report.outcomes}


def test_a_good_handler_is_as_expected_on_every_kind_that_fits() -> None:
    report = plainly(Upper, parse_exchanges(LINES))
    assert report.ok
    assert report.findings == ()
    found = verdicts(report)
    assert {kind for kind, verdict in found.items() if verdict == "skipped"} == {
        "SelectorTCPServer",
        "SelectorUnixStreamServer",
    }
    assert found["ForkingUnixStreamServer"] == found["PreForkTCPServer"] == "ok"
    assert len(found) == 12
    assert all(outcome.conversations == 2 for outcome in report.outcomes if outcome.verdict == "ok")


def test_a_handler_that_says_what_it_waits_for_runs_on_every_kind() -> None:
    class Selecting(servers.SelectorStreamRequestHandler):
        async def handle(self) -> None:
            while line := await self.rfile.readline():
                await self.wfile.write(line.upper())

    assert set(verdicts(plainly(Selecting, parse_exchanges(LINES))).values()) == {"ok"}


def test_a_wrong_answer_is_found_with_the_difference_and_what_passed() -> None:
    report = plainly(Lower, parse_exchanges(LINES), kinds=["TCPServer", "UnixStreamServer"], timeout=0.5)
    assert not report.ok
    assert not report.broken
    assert set(verdicts(report).values()) == {"found"}
    [first, second] = report.outcomes[0].findings
    assert (first.conversation, first.line) == (1, 4)
    assert first.what == "the answer is not what was expected"
    assert "expected text: b'HI\\n'" in first.details
    assert "received text: b'hi\\n'" in first.details
    assert "<-- 68 69 0a" in first.transcript
    assert second.conversation == 2
    grouped = list(report.grouped())
    assert [kinds for _, kinds, _ in grouped] == [("TCPServer", "UnixStreamServer")] * 2


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadPoolTCPServer", "ForkingTCPServer"])
def test_what_the_handler_raised_explains_what_the_client_saw(kind: str) -> None:
    report = plainly(Failing, parse_exchanges(LINES), kinds=[kind])
    [(finding, kinds, conversations)] = report.grouped()
    assert finding.what == "handle raised ZeroDivisionError: of the handler"
    assert finding.symptom == "the server closed the connection, while waiting for an answer"
    assert finding.details.startswith("Traceback")
    assert "!!! handle: ZeroDivisionError" in finding.transcript
    assert kinds == (kind,)
    assert conversations == (1, 2)


def test_no_answer_is_found_when_the_time_is_up() -> None:
    class Silent(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.read()

    report = plainly(Silent, [Exchange(b"hi\n", b"HI\n")], kinds=["TCPServer"], timeout=0.05)
    assert report.findings[0].what == "no answer in time, while waiting for an answer"


def test_a_handler_that_goes_on_is_found_when_its_server_is_stopped() -> None:
    import threading

    release = threading.Event()

    class Stuck(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper())
            release.wait(20)

    try:
        report = plainly(Stuck, [Exchange(b"hi\n", b"HI\n")], kinds=["ThreadingTCPServer"], timeout=0.05)
    finally:
        release.set()
    [finding] = report.findings
    assert finding.what == "the server had to be forced to stop"
    assert "release.wait" in finding.details


def test_more_than_was_expected_is_found() -> None:
    class Chatty(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper() + b"and more\n")

    report = plainly(Chatty, parse_exchanges(LINES)[:1], kinds=["TCPServer"])
    [finding] = report.findings
    assert "expected the end of the stream; 9 more byte(s) came: b'and more\\n'" in finding.details


DATAGRAMS = """\
wire 1
peer 1 127.0.0.1:5000
> "hello"
< "HELLO"
peer 2 127.0.0.1:5001
> "two"
< /T.O/
> ""
< ""
"""


def test_datagrams() -> None:
    report = plainly(UpperDatagram, parse_exchanges(DATAGRAMS))
    assert report.findings == ()
    assert report.ok
    assert len(report.outcomes) == 10
    assert {outcome.conversations for outcome in report.outcomes} == {2}


def test_a_server_class_is_checked_as_it_is() -> None:
    import socketserver

    class Own(socketserver.ThreadingTCPServer):
        def __init__(self, address: Any) -> None:
            super().__init__(address, Upper)  # type: ignore[arg-type]

    report = plainly(Own, parse_exchanges(LINES))
    assert report.ok
    assert len(report.outcomes) == 1


def test_the_report_as_plain_data() -> None:
    plain = json.loads(json.dumps(plainly(Lower, parse_exchanges(LINES), kinds=["TCPServer"]).to_dict()))
    assert plain["subject"] == "Lower"
    assert plain["ok"] is False
    assert plain["outcomes"][0]["findings"][0]["line"] == 4


def test_progress_is_told_kind_by_kind() -> None:
    told: list[str] = []
    plainly(
        Upper,
        [Exchange(b"hi\n", re.compile(rb"H.\n"))],
        kinds=["TCPServer", "UnixStreamServer"],
        progress=lambda outcome: told.append(outcome.kind),
    )
    assert told == ["TCPServer", "UnixStreamServer"]


def test_nothing_to_check_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to check"):
        plainly(Upper, [])
    with pytest.raises(UsageError, match="is no exchange"):
        plainly(Upper, [b"hi"])
    with pytest.raises(
        UsageError, match="what is expected are bytes, a compiled pattern over bytes, or a function"
    ):
        plainly(Upper, [Exchange(b"hi\n", "HI\n")])  # type: ignore[arg-type]


def test_a_breakage_of_ours_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from servertest.contract import _plainly

    def broken(*args: object) -> None:
        raise RuntimeError("inside servertest")

    monkeypatch.setattr(_plainly, "play", broken)
    report = plainly(Upper, [Exchange(b"hi\n", b"HI\n")], kinds=["TCPServer"])
    assert report.broken
    assert not report.ok
    assert "RuntimeError: inside servertest" in report.outcomes[0].reason


def test_what_was_found_before_it_was_stopped_is_kept() -> None:
    def stop(result: Result) -> None:
        done.append(result)
        if len(done) == 3:
            raise KeyboardInterrupt

    done: list[Result] = []
    totals: list[int] = []
    report = check(
        Upper,
        [Exchange(b"a\n", b"A\n")],
        kinds=["TCPServer"],
        checks=["endings"],
        on_result=stop,
        on_begin=totals.append,
    )
    assert report.interrupted
    assert not report.ok
    assert totals == [len(report.results)]
    assert list(report.results[:3]) == done
    assert {(one.verdict, one.reason) for one in report.results[3:]} == {
        ("skipped", "stopped before it was done")
    }
