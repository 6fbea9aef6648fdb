"""The command line, from its words to its exit status."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from servertest._support import UsageError
from servertest.cli import main
from servertest.cli._load import load_object

HANDLERS = """
from servertest import servers

class Upper(servers.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())

class Failing(servers.StreamRequestHandler):
    def handle(self):
        raise ZeroDivisionError(self.rfile.readline())

class Holder:
    inner = Upper

number = 7
"""

WIRE = 'wire 1\nconnect 1\n> "hi\\n"\n< "HI\\n"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "handlers_of_mine.py").write_text(HANDLERS)
    (tmp_path / "upper.wire").write_text(WIRE)
    yield tmp_path
    for name in ("handlers_of_mine", "broken_of_mine"):
        sys.modules.pop(name, None)


def test_check_says_that_all_is_well(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "handlers_of_mine:Upper", "--exchanges", "upper.wire", "--kind", "TCPServer"]
    status = main([*words, "--plain"])
    printed = capsys.readouterr().out
    assert status == 0
    assert "TCPServer  ok" in printed
    assert "Upper: as expected on the one kind of server." in printed


def test_check_says_what_it_has_found(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(
        [
            "check",
            "handlers_of_mine.py:Failing",
            "--exchanges",
            "upper.wire",
            "--kind",
            "TCPServer",
            "--kind",
            "ForkingUnixStreamServer",
            "--plain",
        ]
    )
    printed = capsys.readouterr().out
    assert status == 1
    assert "1. handle raised ZeroDivisionError: b'hi\\n'" in printed
    assert "on TCPServer, ForkingUnixStreamServer" in printed
    assert "in conversation 1 of upper.wire; the first is at line 4" in printed
    assert "the client saw: the server closed the connection" in printed
    assert "Failing: 1 finding(s) about the handler; as expected on 0 of 2 kinds of server." in printed


def test_check_for_programs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(
        [
            "check",
            "handlers_of_mine:Upper",
            "--exchanges",
            "upper.wire",
            "--kind",
            "TCPServer",
            "--plain",
            "--json",
        ]
    )
    report = json.loads(capsys.readouterr().out)
    assert status == 0
    assert report["ok"] is True
    assert [outcome["kind"] for outcome in report["outcomes"]] == ["TCPServer"]


def test_a_breakage_of_ours_has_an_exit_status_of_its_own(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from servertest import contract

    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("inside servertest")

    monkeypatch.setattr(contract, "check", broken)
    status = main(["check", "handlers_of_mine:Upper", "--exchanges", "upper.wire"])
    printed = capsys.readouterr().err
    assert status == 3
    assert "RuntimeError: inside servertest" in printed
    assert "this is a breakage of servertest, not a finding" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["handlers_of_mine", "upper.wire"], "'handlers_of_mine' names no object: write MODULE:NAME"),
        (["nothing.of.mine:Upper", "upper.wire"], "there is no module 'nothing'"),
        (["nothing.py:Upper", "upper.wire"], "there is no file nothing.py"),
        (["handlers_of_mine:Uper", "upper.wire"], "handlers_of_mine has no 'Uper'; did you mean 'Upper'?"),
        (["handlers_of_mine:number", "upper.wire"], "7 cannot be served"),
        (["handlers_of_mine:Upper", "nothing.wire"], "the exchanges cannot be read: [Errno 2]"),
        (["broken_of_mine:Upper", "upper.wire"], "broken_of_mine cannot be imported: ZeroDivisionError"),
    ],
)
def test_bad_words_get_one_clear_error(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (here / "broken_of_mine.py").write_text("1 / 0")
    target, exchanges = words
    assert main(["check", target, "--exchanges", exchanges]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("servertest: ")
    assert "Traceback" not in printed


def test_an_unknown_kind_gets_the_nearest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(
        ["check", "handlers_of_mine:Upper", "--exchanges", "upper.wire", "--kind", "TreadingTCPServer"]
    )
    assert status == 2
    assert "ThreadingTCPServer" in capsys.readouterr().err


def test_a_malformed_file_is_shown_with_line_and_column(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.wire").write_text('wire 1\nconnect 1\n> "hi\\q"\n')
    assert main(["check", "handlers_of_mine:Upper", "--exchanges", "bad.wire"]) == 2
    printed = capsys.readouterr().err
    assert "bad.wire:3:" in printed or "line 3" in printed
    assert "^" in printed


def test_a_terminal_that_knows_no_box_drawing(here: Path) -> None:
    (here / "x.wire").write_text(WIRE)
    done = subprocess.run(
        [sys.executable, "-m", "servertest", "show", "x.wire"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '"HI\\n"' in done.stdout


def test_a_reader_that_goes_away_is_no_breakage(here: Path) -> None:
    (here / "x.wire").write_text("connect\n" + '> "hello"\n< "x"\n' * 5000)
    command = [sys.executable, "-m", "servertest", "show", "x.wire"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_another_broken_pipe_is_a_breakage(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr("servertest.cli._show.run", fail)
    assert main(["show", "x.wire"]) == 3
    assert "this is a breakage of servertest" in capsys.readouterr().err


def test_objects_inside_objects_are_found(here: Path) -> None:
    assert load_object("handlers_of_mine:Holder.inner").__name__ == "Upper"
    with pytest.raises(UsageError, match=r"Holder\.iner"):
        load_object("handlers_of_mine:Holder.iner")


def test_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kinds", "--transport", "datagram"]) == 0
    printed = capsys.readouterr().out
    assert "ForkingUnixDatagramServer" in printed
    assert "TCPServer" not in printed
    assert main(["kinds", "--all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"kind", "transport", "family", "concurrency", "tls", "host", "available", "reason"} == set(
        found[0]
    )
    assert any(kind["family"] == "abstract" and kind["tls"] for kind in found)


def test_no_command_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2


@contextlib.contextmanager
def serving(here: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """`servertest serve`, in a process of its own that is ended whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "servertest", "serve", *words],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    try:
        with process:
            yield process
    finally:
        process.kill()
        watchdog.cancel()
        watchdog.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_says_where_and_stops_at_a_signal(here: Path, number: int) -> None:
    with serving(here, "handlers_of_mine:Upper", "--kind", "ThreadPoolTCPServer", "--transcript") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving Upper as ThreadPoolTCPServer on 127.0.0.1:"), process.communicate()
        with socket.create_connection(("127.0.0.1", int(line.rpartition(":")[2])), 10) as client:
            client.sendall(b"hi\n")
            assert client.recv(100) == b"HI\n"
        process.send_signal(number)
        printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "<-- 48 49 0a" in printed
    assert "stopped after 1 connection(s)" in printed


def test_serve_ends_with_1_if_the_handler_raised(here: Path) -> None:
    words = ("handlers_of_mine:Failing", "--kind", "ForkingUnixStreamServer", "--address", "./s")
    with serving(here, *words) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.endswith("/s"), process.communicate()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(here / "s"))
            client.sendall(b"hi\n")
            assert client.recv(100) == b""
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 1
    assert "ZeroDivisionError: b'hi\\n'" in errors
    assert not (here / "s").exists()


LINES_WIRE = 'wire 1\nconnect 1\n> "hi\\n"\n< "HI\\n"\n> "good morning\\n"\n< "GOOD MORNING\\n"\n'
HASTY = """
from servertest import servers

class Hasty(servers.BaseRequestHandler):
    def handle(self):
        try:
            while chunk := self.request.recv(4096):
                self.request.sendall(chunk.strip().upper() + b"\\n")
        except OSError:
            pass
"""


def test_check_without_another_word_is_the_whole_contract(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "hasty_of_mine.py").write_text(HASTY)
    (here / "lines.wire").write_text(LINES_WIRE)
    words = ["check", "hasty_of_mine.py:Hasty", "--exchanges", "lines.wire", "--kind", "TCPServer"]
    assert main(words) == 1
    printed = capsys.readouterr().out
    assert "split_at_every_byte (in memory): the replies are others" in printed
    assert "no_leak_after_requests            passed" in printed
    assert "idle_promise                      not promised" in printed
    assert main([*words, "--plain"]) == 0


def test_exchanges_that_do_not_hold_come_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "handlers_of_mine.py:Failing", "--exchanges", "upper.wire", "--kind", "TCPServer"]
    assert main(words) == 1
    printed = capsys.readouterr().out
    assert "1. the handler raises ZeroDivisionError: b'hi\\n'" in printed
    assert "| expected b'HI\\n'" in printed
    assert "| ZeroDivisionError: b'hi\\n'" in printed
    assert "That comes first: none of the" in printed
    assert "split_at_every_byte" not in printed


def test_check_holds_a_handler_to_its_promises(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "hasty_of_mine.py").write_text(HASTY)
    (here / "lines.wire").write_text(LINES_WIRE)
    words = ["check", "hasty_of_mine.py:Hasty", "--exchanges", "lines.wire", "--kind", "TCPServer"]
    more = [
        "--promise",
        "pipelining",
        "--checks",
        "framing",
        "--exclude",
        "one_byte_at_a_time=known",
        "--seed",
        "7",
    ]
    status = main([*words, *more, "--junit", "report.xml", "--html", "report.html"])
    printed = capsys.readouterr().out
    assert status == 1
    assert "split_at_every_byte (in memory): the replies are others" in printed
    assert "excluded" in printed
    assert "not promised" in printed
    assert "record = rehearse(Hasty, plan, apart=True)" in printed
    assert "Seed 7." in printed
    assert "<failure" in (here / "report.xml").read_text()
    assert "split_at_every_byte" in (here / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--promise", "idle"], "there is no promise 'idle'"),
        (["--checks", "nothing"], "there is no check 'nothing'"),
        (["--exclude", "garbage"], "say why"),
        (["--promise", "idle_timeout=-1"], "idle_timeout is a number above 0"),
        (["--plain", "--promise", "half_close"], "--plain does no checks, so --promise says nothing"),
    ],
)
def test_bad_words_about_contracts(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["check", "handlers_of_mine:Upper", "--exchanges", "upper.wire", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--list"]) == 0
    assert "split_at_every_byte" in capsys.readouterr().out
    assert main(["check"]) == 2
    assert "say what to check" in capsys.readouterr().err
