"""Interleavings by seed: what they find, that it is found again, and what is the least that makes it happen."""

import contextlib
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from servertest._support import UsageError
from servertest.sim import Deadlock, FailingSeed, Simulation, explore
from servertest.sim._preempting import Points, codes_of

# Hundreds of thousands of switches between threads: a machine that is busy with much else needs its time for them.
pytestmark = pytest.mark.timeout(300)


class Counter(socketserver.StreamRequestHandler):
    total = 0
    lock = threading.Lock()

    def add(self) -> None:
        raise NotImplementedError

    def handle(self) -> None:
        self.rfile.readline()
        self.add()
        self.wfile.write(b"done\n")


class InOneLine(Counter):
    def add(self) -> None:
        InOneLine.total += 1


class InTwoLines(Counter):
    def add(self) -> None:
        total = InTwoLines.total
        InTwoLines.total = total + 1


class AcrossAReply(Counter):
    def add(self) -> None:
        total = AcrossAReply.total
        self.wfile.write(b"wait\n")
        AcrossAReply.total = total + 1


class Locked(Counter):
    def add(self) -> None:
        with self.lock:
            total = Locked.total
            self.wfile.write(b"wait\n")
            Locked.total = total + 1


def loses_updates(handler: Any) -> Callable[[Simulation], None]:
    def scene(net: Simulation) -> None:
        handler.total = 0
        server = net.serve(handler)

        def ask() -> None:
            with server.connect() as client:
                client.send(b"add\n")
                client.read_eof()

        net.run_all([ask, ask])
        assert handler.total == 2, f"an update was lost: {handler.total}"

    return scene


@pytest.mark.parametrize(
    ("handler", "preempt"),
    [
        (AcrossAReply, "io"),
        (AcrossAReply, "line"),
        (InTwoLines, "line"),
        (InTwoLines, "instruction"),
        (InOneLine, "instruction"),
    ],
)
def test_lost_updates_are_found_and_found_again(handler: Any, preempt: str) -> None:
    options: dict[str, Any] = {} if preempt == "io" else {"preempt": preempt, "watch": [handler]}
    scene = loses_updates(handler)

    found = explore(scene, range(200), **options)

    assert isinstance(found, FailingSeed)
    assert "an update was lost" in str(found.error)
    histories = set()
    for _ in range(5):
        with (
            pytest.raises(AssertionError, match="an update was lost"),
            Simulation(found.seed, **options) as net,
        ):
            scene(net)
        histories.add(net.digest)
    assert len(histories) == 1
    with pytest.raises(AssertionError, match="an update was lost"):
        with Simulation(found.seed, schedule=found.schedule, **options) as net:
            scene(net)


@pytest.mark.parametrize("preempt", ["io", "line", "instruction"])
def test_a_lock_keeps_updates(preempt: str) -> None:
    options: dict[str, Any] = {} if preempt == "io" else {"preempt": preempt, "watch": [Locked]}
    assert explore(loses_updates(Locked), range(30), **options) is None


def test_the_least_that_makes_it_fail_is_shown_as_a_ladder() -> None:
    found = explore(loses_updates(InTwoLines), range(200), preempt="line", watch=[InTwoLines])

    assert found is not None
    assert len(found.schedule) == 1
    text = str(found)
    assert max(map(len, text.splitlines())) < 120
    assert "makes way for" in text
    assert "test_races.py" in text
    assert f"seed {found.seed} failed" in text


class Echo(socketserver.StreamRequestHandler):
    members: ClassVar[list[Any]] = []

    def handle(self) -> None:
        self.members.append(self.wfile)
        with contextlib.suppress(OSError):  # somebody has gone
            for line in self.rfile:
                for member in self.members[:1]:
                    for word in line.split():
                        member.write(word + b" ")
                    member.write(b"\n")


def test_torn_replies_are_found() -> None:
    def scene(net: Simulation) -> None:
        Echo.members = []
        server = net.serve(Echo)
        watcher = server.connect()
        watcher.send(b"here i am\n")
        watcher.readline()

        def talk(line: bytes) -> None:
            with server.connect() as client:
                client.send(line)
                client.half_close()
                client.read_eof()

        net.run_all([lambda: talk(b"a b c\n"), lambda: talk(b"x y z\n")])
        lines = {bytes(watcher.readline()) for _ in range(2)}
        watcher.close()
        assert lines == {b"a b c \n", b"x y z \n"}, f"torn: {lines}"

    found = explore(scene, range(200))

    assert found is not None
    assert "torn" in str(found.error)


class Transfer(socketserver.StreamRequestHandler):
    accounts: ClassVar = {b"a": threading.Lock(), b"b": threading.Lock()}

    def handle(self) -> None:
        source, target = self.rfile.readline().split()
        with self.accounts[source]:
            with self.accounts[target]:
                self.wfile.write(b"done\n")


def test_locks_taken_in_another_order_are_found() -> None:
    def scene(net: Simulation) -> None:
        Transfer.accounts = {b"a": threading.Lock(), b"b": threading.Lock()}
        server = net.serve(Transfer)

        def move(line: bytes) -> None:
            with socket.create_connection(server.address, timeout) as client:
                client.sendall(line)
                assert client.recv(100) == b"done\n"

        net.run_all([lambda: move(b"a b\n"), lambda: move(b"b a\n")])

    timeout: float | None = None
    found = explore(scene, range(200))
    assert found is not None
    assert isinstance(found.error, Deadlock)
    assert "a lock that" in str(found.error)

    timeout = 5
    found = explore(scene, range(200))
    assert found is not None
    assert isinstance(found.error, TimeoutError)
    assert "wait for locks that they have from each other" in found.error.__notes__[0]


def test_code_that_is_to_be_watched_has_to_be_named() -> None:
    with pytest.raises(UsageError, match="watch"):
        Simulation(preempt="line")
    with pytest.raises(UsageError, match="preempt"):
        Simulation(preempt="always")
    with pytest.raises(UsageError, match="watch"), Simulation(preempt="line", watch=[len]):
        pass


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no sys.monitoring before Python 3.12")
def test_what_another_tool_has_left_on_does_not_matter() -> None:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined, unused-ignore]
    numbers = [number for number in range(6) if monitoring.get_tool(number) is None]
    for number in numbers:  # as Hypothesis does with one of them
        monitoring.use_tool_id(number, "somebody")
        monitoring.set_events(number, monitoring.events.LINE)
        monitoring.free_tool_id(number)
    try:
        watched = set()

        def noting(self: Points, code: Any, place: int) -> None:
            watched.add(code)
            original(self, code, place)

        original = Points._point
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Points, "_point", noting)
            assert (
                explore(loses_updates(InTwoLines), range(200), preempt="line", watch=[InTwoLines]) is not None
            )
        assert watched == set(codes_of(InTwoLines))
    finally:
        for number in numbers:
            monitoring.use_tool_id(number, "somebody")
            monitoring.set_events(number, 0)
            monitoring.free_tool_id(number)
