"""check() with promises: what stops what, what is told of what was not done, and the forms of the report."""

from __future__ import annotations

import json
import re
import socketserver
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import pytest

from servertest import servers
from servertest._support import UsageError
from servertest.contract import Bench, Case, Promises, Report, Result, all_checks, check, conversations_of
from servertest.contract._search import searched
from servertest.launch import HandlerTarget, Kind
from servertest.transcript import Exchange

HELLO = [Exchange(b"hi\n", b"HI\n"), Exchange(b"good morning\n", b"GOOD MORNING\n")]


class Upper(servers.StreamRequestHandler):
    timeout = 0.5

    def handle(self) -> None:
        with suppress(OSError):
            while (line := self.rfile.readline(4096)).endswith(b"\n"):
                self.wfile.write(line.upper())


class Hasty(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            while chunk := self.request.recv(4096):
                self.request.sendall(chunk.strip().upper() + b"\n")


def verdicts(report: Report) -> dict[str, str]:
    return {result.check: result.verdict for result in report.results}


def test_every_check_of_the_transport_is_accounted_for() -> None:
    report = check(Upper, HELLO, kinds=["TCPServer"], promises=Promises(pipelining=True))
    assert report.ok
    found = verdicts(report)
    assert found.keys() == {info.name for info in all_checks("stream")}
    assert found["split_at_every_byte"] == "passed"
    assert found["idle_promise"] == "not promised"
    assert found["clients_at_once"] == "not promised"
    assert found["writers_do_not_interleave"] == "passed"


def test_all_violations_are_reported_each_with_what_it_takes_to_see_it() -> None:
    report = check(Hasty, HELLO, kinds=["TCPServer"], promises={"pipelining": True}, seed=5)
    assert not report.ok
    assert not report.broken
    assert {"split_at_every_byte", "one_byte_at_a_time", "partial_request_is_not_answered"} <= set(
        report.violated()
    )
    violation = report.violations[0]
    assert violation.sent == b"hi\ngood morning\n"
    assert violation.expected == b"HI\nGOOD MORNING\n"
    assert violation.came != violation.expected
    assert violation.seed == 5
    assert "-->" in violation.transcript
    assert "rehearse(Hasty, plan, apart=True)" in violation.reproduction


def test_exchanges_that_do_not_go_as_expected_are_reported_first_and_stop_the_rest() -> None:
    report = check(Upper, [Exchange(b"hi\n", b"hi\n")], kinds=["TCPServer"], promises={})
    [outcome] = report.outcomes
    assert outcome.verdict == "found"
    assert b"HI" in outcome.findings[0].details.encode()
    assert {result.verdict for result in report.results} == {"skipped"}


def test_checks_are_chosen_and_excluded_with_a_reason() -> None:
    exclude = {"split_at_every_byte": "it is a demonstration"}
    report = check(
        Hasty, HELLO, kinds=["TCPServer"], checks=["split_at_every_byte", "silent_client"], exclude=exclude
    )
    assert verdicts(report) == {"split_at_every_byte": "excluded", "silent_client": "passed"}
    assert report.results[0].reason == "it is a demonstration"
    with pytest.raises(UsageError, match="there is no check 'nothing'"):
        check(Upper, HELLO, promises={}, exclude={"nothing": "why"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "slow"}, "profile is one of quick, full, not 'slow'"),
        ({"seed": "seven"}, "seed is a whole number, not 'seven'"),
        ({"timeout": 0}, "timeout is a number of seconds above 0, not 0"),
        ({"timeout": float("nan")}, "timeout is a number of seconds above 0"),
        ({"exclude": ["garbage"]}, "with the reason"),
        ({"exclude": {"garbage": " "}}, "with the reason"),
        ({"framing": "lines"}, "framing is a Framing"),
        ({"kinds": []}, "name at least one kind"),
        ({"promises": {"silence": 1}}, "there is no promise 'silence'"),
    ],
)
def test_bad_options_get_one_clear_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(Upper, HELLO, **{"kinds": ["TCPServer"], "checks": ["garbage"], **options})


@pytest.mark.parametrize(
    ("exchange", "message"),
    [
        (Exchange("hi\n", b"HI\n"), "what is sent are bytes"),  # type: ignore[arg-type]
        (Exchange(b"hi\n", re.compile("HI\n")), "write the pattern over bytes"),  # type: ignore[arg-type]
        ((b"hi\n", b"HI\n"), "is no exchange"),
    ],
)
def test_bad_exchanges_get_one_clear_error(exchange: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(Upper, [exchange], kinds=["TCPServer"])


def test_one_exchange_needs_no_list() -> None:
    assert check(Upper, HELLO[0], kinds=["TCPServer"], checks=()).ok


def test_a_check_that_breaks_is_ours_and_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: Case, *args: Any, **options: Any) -> Any:
        raise RuntimeError("inside servertest")

    monkeypatch.setattr(Case, "sample", broken)
    report = check(Upper, HELLO, kinds=["TCPServer"], checks=["split_at_every_byte", "one_byte_at_a_time"])
    assert report.broken
    assert verdicts(report) == {"split_at_every_byte": "broke", "one_byte_at_a_time": "passed"}
    assert "RuntimeError: inside servertest" in report.results[0].reason


def test_a_server_of_its_own_is_checked_as_far_as_that_goes() -> None:
    class Own(socketserver.ThreadingTCPServer):
        def __init__(self, address: Any) -> None:
            super().__init__(address, Hasty)

    report = check(
        Own,
        HELLO,
        promises={"pipelining": True},
        checks=["one_byte_at_a_time", "coalesced_requests", "shared_state_under_threads", "idle_promise"],
    )
    assert "one_byte_at_a_time" in report.violated() or "coalesced_requests" in report.violated()
    assert verdicts(report)["idle_promise"] == "not promised"


def test_results_are_told_one_by_one() -> None:
    told: list[Result] = []
    report = check(Upper, HELLO, kinds=["TCPServer"], checks="framing", on_result=told.append)
    assert tuple(told) == report.results


def test_the_same_seed_gives_the_same_violations() -> None:
    class Fragile(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                if b"\0" in line:
                    raise LookupError("NUL")
                self.wfile.write(line.upper())

    first, second = (check(Fragile, HELLO, kinds=["TCPServer"], checks=["garbage"], seed=3) for _ in range(2))
    assert [one.sent for one in first.violations] == [one.sent for one in second.violations]
    assert first.violated() == ("garbage",)


class Picky(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            if line.count(b"good") > 1:
                raise LookupError("so much good")
            self.wfile.write(line.upper())


def test_the_search_finds_and_shrinks() -> None:
    [conversation] = conversations_of(HELLO)
    target = HandlerTarget(Picky)
    with Bench(target) as bench:
        case = Case("garbage", Kind(), target, Promises(), (conversation,), "full", 0, bench)
        [found] = searched(case, conversation, lambda plan, record: case.wrong(record))
    assert found.what == "the handler raises LookupError: so much good"
    assert len(found.plan.sent) <= 12


class Fragile(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


def test_a_course_of_events_is_as_short_as_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    report = check(Fragile, HELLO, kinds=["TCPServer"], checks=["any_course_of_events"], profile="full")
    [violation] = report.violations
    assert "plan = Plan(ending='reset')\n" in violation.reproduction


def test_the_forms_of_a_report() -> None:
    report = check(Hasty, HELLO, kinds=["TCPServer"], checks=["framing"], promises={"pipelining": True})
    suite = ElementTree.fromstring(report.to_junit())
    assert int(suite.attrib["failures"]) == len(report.violations)
    assert len(suite.findall("testcase")) == len(report.outcomes) + len(report.results)
    assert suite.find("testcase/failure") is not None
    page = report.to_html()
    assert "split_at_every_byte (in memory)" in page
    assert "<script" not in page
    assert page.count("split_at_every_byte (in memory)") == 1
    assert "To see it, in a test module" in page
    assert "rehearse(Hasty, plan, apart=True)" in page
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["results"][0]["violations"][0]["expected"] == repr(b"HI\nGOOD MORNING\n")


def test_a_report_is_as_readable_and_as_small_however_much_was_sent() -> None:
    class Greedy(socketserver.StreamRequestHandler):
        timeout = 0.5

        def handle(self) -> None:
            with suppress(OSError):
                for line in self.rfile:
                    self.wfile.write(line.upper())

    report = check(
        Greedy, HELLO, kinds=["TCPServer"], checks=["endless_line"], promises=Promises(max_request=65536)
    )
    [violation] = report.violations
    assert len(violation.sent) > 1_000_000
    plain = report.to_dict()["results"][0]["violations"][0]
    assert plain["sent"].endswith(f" ({len(violation.sent)} bytes)")
    for form in (
        json.dumps(report.to_dict()),
        report.to_junit(),
        report.to_html(),
        repr(report.results),
        repr(report.violations),
    ):
        assert "endless_line" in form
        assert len(form) < 50_000
    words = "Greedy: as expected on the one kind of server."
    assert repr(report) == f"<Report: {words} Checks: 1 violated. Seed 0.>"
    assert str(report) == f"{violation}\n{words}\nChecks: 1 violated. Seed 0."


def test_the_page_has_what_was_found_on_servers_and_each_check_once_for_all_kinds() -> None:
    class Local(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            host = self.client_address[0]
            for line in self.rfile:
                self.wfile.write(line.upper() if host else line)

    kinds = ["TCPServer", "ThreadingTCPServer", "UnixStreamServer", "ThreadingUnixStreamServer"]
    report = check(Local, HELLO, kinds=kinds, checks=["stop_during_request", "idle_promise"])
    page = report.to_html()
    assert "The exchanges: handle raised IndexError: string index out of range" in page
    assert "on UnixStreamServer, ThreadingUnixStreamServer, in conversation 1" in page
    assert "&quot;string index out of range&quot;" in page or "string index out of range" in page
    assert page.count("<td>stop_during_request</td>") == 2
    assert "<td title='TCPServer, ThreadingTCPServer'>2 kinds</td>" in page
    assert "it does not promise idle_timeout" in page
    assert [(row.check, row.verdict, len(row.kinds)) for row in report.rows()] == [
        ("idle_promise", "not promised", 1),
        ("stop_during_request", "passed", 2),
        ("stop_during_request", "skipped", 2),
    ]


def test_what_a_handler_says_does_not_break_the_page() -> None:
    class Rude(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                if b"\0" in line:
                    raise LookupError("<script>\x00\ud800</script>")
                self.wfile.write(line.upper())

    report = check(HandlerTarget(Rude), HELLO, kinds=["TCPServer"], checks=["garbage"])
    assert "<script" not in report.to_html()
    ElementTree.fromstring(report.to_junit())


def test_promises() -> None:
    promises = Promises.parse(
        ["idle_timeout=0.5", "half-close", "pipelining=no", "max_request=100", "goodbye=bye\\r\\n"]
    )
    assert promises == Promises(
        idle_timeout=0.5, half_close=True, pipelining=False, max_request=100, goodbye=b"bye\r\n"
    )
    assert promises.missing(("half_close", "pipelining", "unix")) == ["pipelining", "unix"]
    for wrong in (
        {"idle_timeout": 0},
        {"max_request": True},
        {"encoding": "nothing"},
        {"replies": "few"},
        {"idle": 1},
    ):
        with pytest.raises(UsageError):
            Promises.of(wrong)
