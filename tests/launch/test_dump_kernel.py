"""What the system is asked, and what is done where it does not answer."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from servertest.launch import _kernel
from servertest.launch._kernel import (
    children,
    descriptors,
    end_of_pipe,
    identity,
    process_facts,
    socket_facts,
    started,
)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "_PROC", "/nowhere")


# -- descriptors


def test_descriptors(tmp_path: Path, stack: ExitStack) -> None:
    file = stack.enter_context((tmp_path / "x").open("wb"))
    sock = stack.enter_context(socket.socket())

    found = descriptors()

    assert found[file.fileno()] == str(tmp_path / "x")
    assert found[sock.fileno()].startswith("socket:[")
    assert found[sock.fileno()] == identity(sock.fileno())
    assert descriptors() == found


def test_descriptors_when_none_is_left_to_look_with(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = descriptors()

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", full)
    assert descriptors() == expected


@pytest.mark.usefixtures("without_proc")
def test_descriptors_without_proc(tmp_path: Path, stack: ExitStack) -> None:
    with (tmp_path / "x").open("wb") as file, socket.socket() as sock:
        found = descriptors()
        facts = os.fstat(file.fileno())
        assert found[file.fileno()] == f"file:[{facts.st_dev}:{facts.st_ino}]"
        assert found[sock.fileno()].startswith("socket:[")
        assert found[sock.fileno()] == identity(sock.fileno())
        number = file.fileno()

    assert number not in descriptors()


def test_ends_of_a_pipe() -> None:
    reader, writer = os.pipe()
    assert (end_of_pipe(reader), end_of_pipe(writer)) == ("read", "write")
    os.close(reader)
    os.close(writer)
    assert end_of_pipe(reader) == "unknown"


# -- sockets


def test_looking_at_a_socket_leaves_it_as_it_is(monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    """With a default time-out, making a second object makes the shared open file non-blocking."""
    left, right = socket.socketpair()
    stack.enter_context(left)
    stack.enter_context(right)
    before = descriptors()
    socket.setdefaulttimeout(5)
    stack.callback(socket.setdefaulttimeout, None)

    assert socket_facts(left) is not None
    assert os.get_blocking(left.fileno())
    monkeypatch.delattr(socket, "SOCK_NONBLOCK")  # as on macOS
    assert socket_facts(left) is not None
    assert os.get_blocking(left.fileno())
    right.setblocking(False)
    assert socket_facts(right) is not None
    assert not os.get_blocking(right.fileno())
    assert descriptors() == before


def test_what_is_no_socket() -> None:
    before = descriptors()

    assert socket_facts(0) is None
    assert socket_facts(9999) is None
    assert descriptors() == before


@pytest.mark.parametrize(
    ("family", "kind", "title"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, "TCP socket, neither bound nor connected"),
        (socket.AF_INET6, socket.SOCK_DGRAM, "UDP socket, neither bound nor connected"),
        (socket.AF_UNIX, socket.SOCK_STREAM, "Unix stream socket, neither bound nor connected"),
        (socket.AF_UNIX, socket.SOCK_DGRAM, "Unix datagram socket, neither bound nor connected"),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, "Unix socket, neither bound nor connected"),
        (socket.AF_NETLINK, socket.SOCK_RAW, "family AF_NETLINK socket"),
    ],
)
def test_kinds_of_sockets(family: int, kind: int, title: str) -> None:
    with socket.socket(family, kind) as sock:
        facts = socket_facts(sock)
        assert facts is not None
        assert facts.title == title


def test_unix_stream(stack: ExitStack) -> None:
    listener, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    stack.enter_context(closing(listener))
    stack.enter_context(closing(client))
    name = f"\0servertest-{os.getpid()}"
    listener.bind(name)
    listener.listen()
    client.connect(name)
    accepted = stack.enter_context(listener.accept()[0])

    def describe(sock: socket.socket) -> tuple[str, str]:
        facts = socket_facts(sock)
        assert facts is not None
        return facts.title, facts.details

    shown = f"@{name[1:]}"
    assert describe(listener) == (f"Unix stream socket listening on {shown}", "")
    assert describe(client) == (f"Unix stream connection (unnamed) -> {shown}", "0 bytes not read")
    client.sendall(b"hello")
    assert describe(client)[1] == "the peer has not read all that was written; 0 bytes not read"
    assert describe(accepted)[1] == "5 bytes not read"
    accepted.close()
    assert describe(client)[1].startswith("the peer has closed")


def test_unsent_bytes(stack: ExitStack) -> None:
    listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    client = stack.enter_context(closing(socket.create_connection(listener.getsockname())))
    client.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += client.send(bytes(1 << 20))

    facts = socket_facts(client)
    assert facts is not None
    assert facts.unsent is not None
    assert 0 < facts.unsent <= sent
    assert f"{facts.unsent} bytes not acknowledged" in facts.details


# -- children


@pytest.fixture
def before() -> set[int]:
    """The children that the process has already: helpers of other tests."""
    return set(children())


def test_children_until_they_are_reaped(before: set[int]) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert children().keys() - before == {process.pid}
        assert children()[process.pid] == started(process.pid) > 0
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert children().keys() - before == {process.pid}

    assert children().keys() == before
    assert started(process.pid) == 0


def test_children_are_found_by_their_parent_although_others_are_known(before: set[int]) -> None:
    for _ in range(3):
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as first:
            assert _kernel._children_by_parent().keys() - before == {first.pid}
            with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as second:
                assert _kernel._children_by_parent().keys() - before == {first.pid, second.pid}


def test_no_children() -> None:
    """In a process that has none for certain: /proc is not even looked at."""
    script = "from servertest.launch import _kernel; _kernel._PROC = None; print(_kernel.children())"
    command = [sys.executable, "-W", "error", "-c", script]
    assert subprocess.run(command, capture_output=True, timeout=30, check=True).stdout == b"{}\n"


def test_children_where_the_kernel_lists_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """/proc/PID/task/TID/children: two threads, three children of which one has just been reaped."""
    me = os.getpid()
    for thread, pids in ((me, "701 702 "), (me + 1, "703 ")):
        file = tmp_path / str(me) / "task" / str(thread) / "children"
        file.parent.mkdir(parents=True)
        file.write_text(pids)
    for pid in (701, 703):
        (tmp_path / str(pid)).mkdir()
        fields = " ".join(["S", str(me), *(["0"] * 17), str(pid * 10), "0"])
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) {fields}")
    (tmp_path / "self").symlink_to(tmp_path / str(me))
    monkeypatch.setattr(_kernel, "_PROC", str(tmp_path))

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):  # so that the system says there are any
        assert children() == {701: 7010, 703: 7030}


def test_children_without_proc(before: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "_PROC", "/nowhere")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        assert children().keys() - before == {process.pid}
        assert children()[process.pid] == 0
        facts = process_facts(process.pid)
        assert facts is not None
        assert facts.parent == os.getpid()
        assert "cat" in facts.command
        assert facts.doing in ("sleeping", "running")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        facts = process_facts(process.pid)
        assert facts is not None
        assert facts.zombie

    assert children().keys() == before
    assert process_facts(process.pid) is None


@pytest.mark.usefixtures("without_proc")
def test_children_without_proc_and_without_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        monkeypatch.setattr(_kernel, "_PS", ("/nowhere/ps",))
        assert children() == {}
        monkeypatch.setattr(_kernel, "_PS", ("cat", "/dev/zero"))
        monkeypatch.setattr(_kernel, "_PS_SECONDS", 0.01)
        assert children() == {}


def test_children_where_they_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        monkeypatch.delattr(os, "waitid")
        assert children() == {}


@pytest.mark.usefixtures("without_proc")
def test_rows_of_ps_that_are_short_of_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "_PS", ("printf", "7 1 Ss+ a b\\n8 1 S\\n\\n"))

    facts = process_facts(7)
    assert facts is not None
    assert (facts.parent, facts.state, facts.command) == (1, "S", "a b")
    assert process_facts(8) is None


def test_command_of_a_process_that_holds_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reading it could last as long as the process is stuck in the kernel: here, until a writer opens the pipe."""
    fake = tmp_path / "7"
    fake.mkdir()
    (tmp_path / "self").symlink_to(fake)
    (fake / "stat").write_text("7 (stuck) D " + " ".join(["1"] * 30))
    (fake / "comm").write_text("stuck\n")
    (fake / "wchan").write_text("io_schedule")
    os.mkfifo(fake / "cmdline")
    monkeypatch.setattr(_kernel, "_PROC", str(tmp_path))

    facts = process_facts(7)
    assert facts is not None
    assert facts.command == "[stuck]"
    assert facts.doing == "in uninterruptible sleep (in io_schedule)"


def test_process_with_a_confusing_name() -> None:
    script = "import sys; open('/proc/self/comm', 'w').write(') R 1 ('); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-I", "-S", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        facts = process_facts(process.pid)

    assert facts is not None
    assert facts.parent == os.getpid()
    assert facts.command.startswith(f"{sys.executable} -I -S -c 'import sys; ")
