"""Any program can be a server under test: it is told where to serve, watched, and ended with all that it has started."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from servertest._support import Deadline, DeadlineExceeded, SocketDirectory, UsageError, bound_socket
from servertest.clients import StreamClient, connect
from servertest.launch import _command
from servertest.launch._command import CommandHost
from servertest.launch._command_target import CommandTarget
from servertest.launch._host import Plan
from servertest.launch._kinds import Kind
from servertest.launch._process_exit import ProcessDied
from servertest.launch._process_group import group_members
from tests._descriptors import new_descriptors, open_descriptors
from tests._threads import new_threads

from ._process_helpers import SOON, Ear, wait_for_end

SERVER = """
    import socket, sys
    family, address = (socket.AF_UNIX, sys.argv[1]) if len(sys.argv) < 3 else (socket.AF_INET, (sys.argv[1], int(sys.argv[2])))
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        print("serving on", listener.getsockname()[-1])
        while True:
            connection, _ = listener.accept()
            with connection:
                if data := connection.recv(100):  # none came from the one that only looked whether we serve
                    connection.sendall(data.upper())
"""
SLEEP = "import time; print('asleep'); time.sleep(1000)"


def python(program: str, *arguments: str, **options: Any) -> CommandTarget:
    return CommandTarget([sys.executable, "-S", "-c", textwrap.dedent(program), *arguments], **options)


def wait_for_output(command: Launched, word: bytes) -> None:
    run = command.host._run
    assert run is not None
    assert run._wait(lambda: word in run.output.getvalue(), SOON)


class Launched:
    def __init__(self, target: CommandTarget, kind: str, **plan: Any) -> None:
        self.host = CommandHost()
        self.ear = Ear()
        self.host.start(Plan(target, Kind.parse(kind), self.ear, **plan))

    def stop(self, seconds: float = SOON) -> list[str]:
        return self.host.stop(Deadline(seconds, "the command to stop"))

    @property
    def pid(self) -> int:
        assert self.host.pid is not None
        return self.host.pid


@contextmanager
def running(target: CommandTarget, kind: str = "TCPServer", **plan: Any) -> Iterator[Launched]:
    command = Launched(target, kind, **plan)
    try:
        yield command
    except BaseException:
        command.stop(0)
        raise
    assert command.stop() == []
    assert list(command.ear.errors) == []


def upper(address: Any) -> bytes:
    with StreamClient.connect(address) as client:
        client.send_all(b"hi")
        return client.read_eof()


# -- where to serve


def test_a_program_is_told_host_and_port() -> None:
    with running(python(SERVER, "{host}", "{port}")) as command:
        assert command.host.address[0] == "127.0.0.1"
        assert upper(command.host.address) == b"HI"
        wait_for_output(command, b"\n")
        assert command.host.output == f"serving on {command.host.address[1]}"


def test_a_program_is_told_by_its_environment() -> None:
    program = "import os, sys; sys.argv[1:] = ['127.0.0.1', os.environ['PORT']]\n" + textwrap.dedent(SERVER)
    with running(python(program, environment={"PORT": "{port}"})) as command:
        assert upper(command.host.address) == b"HI"


def test_a_program_says_its_port_itself() -> None:
    with running(python(SERVER, "{host}", "0", ready=re.compile(r"serving on (\d+)"))) as command:
        assert upper(command.host.address) == b"HI"


def test_the_port_is_zero_for_a_program_that_says_its_port_itself() -> None:
    with running(python(SERVER, "{host}", "{port}", ready=re.compile(rb"serving on (\d+)"))) as command:
        assert "0" in _words(command)
        assert upper(command.host.address) == b"HI"


def test_a_program_is_told_a_path() -> None:
    with SocketDirectory() as directory:
        path = directory.path("command")
        with running(python(SERVER, "{path}"), "UnixStreamServer", address=path) as command:
            assert command.host.address == path
            assert upper(path) == b"HI"
        assert not os.path.exists(path)


def test_a_program_inherits_a_socket() -> None:
    program = """
        import socket, sys
        with socket.socket(fileno=int(sys.argv[1])) as listener:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())
            input()
    """
    target = python(program, "{fd}")
    assert not target.binds
    with bound_socket("stream", "inet") as listener:
        address = listener.getsockname()
        command = Launched(target, "TCPServer", listener=listener)
    assert command.host.address == address
    assert upper(address) == b"HI"
    command.stop()


@pytest.mark.parametrize("family", ["inet6", "dual"])
def test_hosts_of_other_families(family: str) -> None:
    kind = Kind(family=family)  # type: ignore[arg-type]
    if not kind.available:
        pytest.skip(str(kind.reason))
    program = SERVER.replace("AF_INET,", "AF_INET6,")
    with running(python(program, "{host}", "{port}"), str(kind)) as command:
        assert upper(("::1", command.host.address[1])) == b"HI"


def test_datagram_programs_are_ready_when_their_port_is_bound() -> None:
    program = """
        import socket, sys
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((sys.argv[1], int(sys.argv[2])))
            while True:
                data, peer = sock.recvfrom(100)
                sock.sendto(data.upper(), peer)
    """
    with (
        running(python(program, "{host}", "{port}", served="datagram"), "UDPServer") as command,
        connect(command.host.address, transport="datagram") as client,
    ):
        client.send(b"hi")
        assert client.receive() == b"HI"


def test_other_braces_are_left_alone() -> None:
    target = python("import sys; print(sys.argv[2]); sys.exit(1)", "{port}", '{"a": {}, "{b}": "{{"}')
    with pytest.raises(ProcessDied, match=re.escape('{"a": {}, "{b}": "{{"}')):
        Launched(target, "TCPServer")


def test_it_can_be_restarted_at_its_address() -> None:
    target = python(SERVER, "{host}", "{port}")
    with running(target) as command:
        address = command.host.address
    with running(target, address=address) as command:
        assert command.host.address == address
        assert upper(address) == b"HI"


def test_environment_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVERTEST_OURS", "1")
    program = (
        "import os, sys; print(os.environ['SERVERTEST_OURS'], os.environ['THEIRS'], os.getcwd()); sys.exit(1)"
    )
    target = python(program, "{port}", directory=tmp_path, environment={"THEIRS": "2"})
    with pytest.raises(ProcessDied, match=f"1 2 {tmp_path}"):
        Launched(target, "TCPServer")


# -- readiness


def test_a_line_that_never_comes_is_told_with_the_output() -> None:
    target = python(SLEEP, "{port}", ready="I am up", seconds=0.3)
    with pytest.raises(
        DeadlineExceeded,
        match=r"(?s)waited 0.3 s for .* to serve \(its line b'I.* am.* up'\).*output:\nasleep",
    ):
        Launched(target, "TCPServer")


def test_a_connection_that_is_never_taken_is_told_with_the_output() -> None:
    with pytest.raises(DeadlineExceeded, match=r"(?s)to serve \(it to take a connection\).*output:\nasleep"):
        Launched(python(SLEEP, "{port}", seconds=0.3), "TCPServer")


@pytest.mark.parametrize("ready", [None, "never"])
def test_an_early_end_is_told_at_once_with_status_and_output(ready: str | None) -> None:
    began = time.monotonic()
    target = python("import sys; print('no such luck'); sys.exit(3)", "{port}", ready=ready)
    with pytest.raises(
        ProcessDied, match=r"(?s)exited with status 3 before it served; its output:\nno such luck"
    ):
        Launched(target, "TCPServer")

    assert time.monotonic() - began < 5


def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(
        UsageError, match=r"the command /no/such/program \d+ cannot be started: .*No such file"
    ):
        Launched(CommandTarget(["/no/such/program", "{port}"]), "TCPServer")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CommandTarget("nc -l {port}"), "sequence of arguments"),
        (lambda: CommandTarget([]), "sequence of arguments"),
        (lambda: CommandTarget(["nginx"]), r"put \{port\}, \{path\} or \{fd\}"),
        (lambda: Launched(CommandTarget(["x", "{port}"]), "UDPServer"), "serves streams"),
        (lambda: Launched(CommandTarget(["x", "{port}"]), "UnixStreamServer"), r"put \{path\}"),
        (lambda: Launched(CommandTarget(["x", "{path}"]), "TCPServer"), "take a Unix kind"),
        (lambda: Launched(CommandTarget(["x", "{path}"]), "UnixStreamServer+abstract"), "abstract"),
        (lambda: Launched(CommandTarget(["x", "{path}"]), "UnixStreamServer"), "needs a path"),
        (lambda: Launched(CommandTarget(["x", "{port}"]), "TCPServer+tls"), "its TLS is its own affair"),
    ],
)
def test_what_does_not_go_together_is_a_clear_error(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


# -- the end


def test_a_program_that_ignores_sigterm_is_described_and_killed() -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(1000)"
    )
    command = Launched(python(program, "{port}", ready="deaf"), "TCPServer")
    pid = command.pid
    (problem,) = command.stop(0.3)

    assert f"(pid {pid}) did not end within 0.3 s of SIGTERM and was killed; its output:\ndeaf" in problem
    assert wait_for_end(pid)


def test_its_whole_group_is_ended() -> None:
    program = """
        import os, signal, time
        for _ in range(2):
            if os.fork() == 0:
                time.sleep(1000)
        print("forked")
        time.sleep(1000)
    """
    command = Launched(python(program, "{port}", ready="forked"), "TCPServer")
    members = group_members(command.pid)
    assert len(members) == 3
    assert command.stop() == []

    assert all(map(wait_for_end, members))


def test_what_outlives_the_program_is_told_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_command, "DRAINING", 0.1)
    program = """
        import os, signal, time
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("child is deaf")
            time.sleep(1000)
        time.sleep(1000)
    """
    command = Launched(python(program, "{port}", ready="deaf"), "TCPServer")
    pid = command.pid
    (child,) = set(group_members(pid)) - {pid}
    (problem,) = command.stop()

    assert problem.startswith(f"process {child}, started by the command")
    assert wait_for_end(child)


def test_a_crash_while_stopping_is_told() -> None:
    program = (
        "import os, signal, time; signal.signal(15, lambda *_: os.abort()); print('up'); time.sleep(1000)"
    )
    command = Launched(python(program, "{port}", ready="up"), "TCPServer")
    (problem,) = command.stop()

    assert "was killed by SIGABRT" in problem


def test_an_end_nobody_asked_for_is_an_error() -> None:
    command = Launched(python(SERVER, "{host}", "{port}"), "TCPServer")
    wait_for_output(command, b"\n")
    os.kill(command.pid, signal.SIGKILL)
    error = command.ear.errors.pop(timeout=SOON)
    assert command.stop() == []

    assert isinstance(error.exception, ProcessDied)
    assert "was killed by SIGKILL, though nobody had stopped it; its output:\nserving on" in error.message


def test_a_crash_on_purpose_is_no_error() -> None:
    command = Launched(python(SERVER, "{host}", "{port}"), "TCPServer")
    address = command.host.address
    command.host.kill()
    with pytest.raises(ConnectionRefusedError):
        StreamClient.connect(address)
    assert command.stop() == []

    assert list(command.ear.errors) == []


def test_where_the_system_cannot_tell_of_ends_a_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    with running(python(SERVER, "{host}", "{port}")) as command:
        assert upper(command.host.address) == b"HI"
    with pytest.raises(ProcessDied, match="exited with status 3"):
        Launched(python("raise SystemExit(3)", "{port}"), "TCPServer")
    killed = Launched(python(SERVER, "{host}", "{port}"), "TCPServer")
    os.kill(killed.pid, signal.SIGKILL)
    assert "was killed by SIGKILL" in killed.ear.errors.pop(timeout=SOON).message
    killed.stop()


def test_output_is_bounded() -> None:
    program = """
        import sys, time
        print("first")
        for _ in range(2000):
            sys.stdout.write("x" * 1000)
        print("\\nlast")
        time.sleep(1000)
    """
    command = Launched(python(program, "{port}", ready="last"), "TCPServer")
    run = command.host._run
    assert run is not None
    wait_for_output(command, b"last\n")
    assert command.stop() == []

    assert run.output.total > 2_000_000
    assert len(run.output.getvalue()) < 100_000
    assert run.output.getvalue().startswith(b"first\n")
    assert run.output.getvalue().endswith(b"last\n")


def test_an_interrupted_stop_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    command = Launched(python(SERVER, "{host}", "{port}"), "TCPServer")
    pid = command.pid

    def interrupt(run: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(_command._Run, "_left_behind", interrupt)
    with pytest.raises(KeyboardInterrupt):
        command.stop()

    assert wait_for_end(pid)
    assert not new_descriptors(before)


def test_nothing_is_left_of_many_commands() -> None:
    threads, before = threading.enumerate(), open_descriptors()
    for _ in range(5):
        with running(python(SERVER, "{host}", "{port}")):
            pass

    assert not new_threads(threads)
    assert not new_descriptors(before)


def test_hosts_say_what_they_are() -> None:
    host = CommandHost()
    with pytest.raises(UsageError, match="not been started"):
        assert host.address
    assert host.stop(Deadline(1, "nothing")) == []
    assert host.dump() == "the command does not run"
    with running(python(SERVER, "{host}", "{port}")) as command:
        wait_for_output(command, b"\n")
        assert command.host.alive
        assert re.search(r"\(pid \d+\) runs; its output:\nserving on", command.host.dump())
        with pytest.raises(UsageError, match="started already"):
            command.host.start(Plan(python(SLEEP, "{port}"), Kind(), command.ear))


def test_windows_is_told_no(monkeypatch: pytest.MonkeyPatch) -> None:
    target = python(SLEEP, "{port}")
    monkeypatch.setattr(os, "name", "nt")
    with pytest.raises(UsageError, match="Windows does not have"):
        target.check(Kind())


def test_a_command_is_not_built() -> None:
    target = python(SLEEP, "{port}")
    with pytest.raises(UsageError, match="runs as a command"):
        target.build(Plan(target, Kind()))


def _words(command: Launched) -> list[str]:
    run = command.host._run
    assert run is not None
    return run.arguments
