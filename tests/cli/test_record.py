"""`servertest record` and `servertest replay`, as people run them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from servertest import launch
from servertest._support import format_address, parse_address
from servertest.cli import main
from servertest.clients import connect
from servertest.mocks.peers import Echo


@contextlib.contextmanager
def running(*words: str, status: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command, from its first line to its end by Ctrl-C."""
    command = [sys.executable, "-m", "servertest", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline(), process
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == status


def test_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "echo.wire"
    with launch(Echo) as server:
        upstream = format_address(server.address)
        with running(
            "record", "--upstream", upstream, "--output", str(file), "--scrub", "pass(?P<secret>word)"
        ) as (line, process):
            assert line.startswith(f"recording {upstream} on 127.0.0.1:")
            with connect(parse_address(line.split(" on ")[1].split()[0])) as client:
                client.send_all(b"my password\n")
                client.readline()
            process.send_signal(signal.SIGINT)
            assert process.stdout is not None
            assert "wrote 1 conversation(s)" in process.stdout.read()
    assert '> "my pass***\\n"' in file.read_text()

    with running("replay", str(file), "--timing", "0.5", "--scrub", "pass(?P<secret>\\*\\*\\*)") as (
        line,
        process,
    ):
        assert line.startswith(f"replaying {file} as ThreadingTCPServer on ")
        with connect(parse_address(line.split()[-1])) as client:
            client.send_all(b"my passport\n")
            assert client.readline() == b"my pass***\n"


def test_what_is_encrypted_is_recorded_in_plain(tmp_path: Path) -> None:
    import ssl

    file, trusted = tmp_path / "echo.wire", tmp_path / "ca.pem"
    with launch(Echo, tls=True) as server:
        words = (
            "--upstream",
            format_address(server.address),
            "--output",
            str(file),
            "--tls",
            "--tls-ca",
            str(trusted),
        )
        with running("record", *words, "--upstream-tls", "any") as (line, process):
            context = ssl.create_default_context(cafile=str(trusted))
            address = parse_address(line.split(" on ")[1].split()[0])
            with connect(address, tls=context, server_hostname="localhost") as client:
                client.send_all(b"plain\n")
                assert client.readline() == b"plain\n"
            process.send_signal(signal.SIGINT)
            process.wait(20)
    assert '> "plain\\n"' in file.read_text()


def test_a_client_that_does_something_else(tmp_path: Path) -> None:
    file = tmp_path / "x.wire"
    file.write_text('> "A\\r\\n"\n< "a"\n')
    with running("replay", str(file), "--match", "requests", "--delimiter", "\\r\\n", status=1) as (
        line,
        process,
    ):
        with connect(parse_address(line.split()[-1])) as client:
            client.send_all(b"A\r\nB\r\n")
            assert client.read_eof() == b"a"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert '"B" came' in process.stderr.read()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["replay", "no/such.wire"], "cannot be read"),
        (["replay", "{file}", "--timing", "slow"], "none, original or a factor"),
        (["replay", "{file}", "--scrub", "("], "no pattern"),
        (["record", "--upstream", "nowhere", "--output", "x.wire"], "is no address"),
    ],
)
def test_what_cannot_be(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.wire"
    file.write_text('> "A"\n')
    assert main([word.format(file=file) for word in words]) == 2
    assert says in capsys.readouterr().err
