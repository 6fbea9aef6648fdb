"""The parts of the engine by themselves: timers, source addresses, limits, and what is written down."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import subprocess
import sys
from typing import Any, ClassVar, cast

import pytest

from servertest.clients.behaviours._course import Course
from servertest.swarm import _sources
from servertest.swarm._ledger import BINS, STATES, Ledger
from servertest.swarm._limits import raise_descriptor_limit, require_descriptors
from servertest.swarm._lines import Lines
from servertest.swarm._merging import Merging
from servertest.swarm._sending import _is_here
from servertest.swarm._sources import Sources
from servertest.swarm._wheel import TICK, Wheel


class Timed:
    """As much of a course as the wheel knows."""

    def __init__(self, wake_at: float | None) -> None:
        self.wake_at = wake_at
        self.slot = 0


def timed(wake_at: float | None) -> Any:
    return Timed(wake_at)


def test_a_wheel_wakes_in_order_and_not_early() -> None:
    wheel = Wheel()
    courses = [timed(at) for at in (3.0, 1.0, 2.0, 1.001)]
    for one in courses:
        wheel.add(one)

    assert wheel.next_at == pytest.approx(1.0, abs=1.5 * TICK)
    assert list(wheel.due(0.99)) == []
    assert list(wheel.due(1.0 + 2 * TICK)) == [courses[1], courses[3]]
    assert list(wheel.due(10)) == [courses[2], courses[0]]
    assert wheel.next_at is None


def test_a_wheel_passes_over_who_has_changed_his_mind() -> None:
    wheel = Wheel()
    gone, later = timed(1.0), timed(1.0)
    for one in (gone, later):
        wheel.add(one)
    gone.wake_at = None
    later.wake_at = 5.0
    wheel.add(later)

    assert list(wheel.due(2)) == []
    assert list(wheel.due(6)) == [later]


def test_a_wheel_does_not_note_the_same_twice() -> None:
    wheel = Wheel()
    one = timed(1.0)
    wheel.add(one)
    wheel.add(one)

    assert list(wheel.due(2)) == [one]


class Full(socket.socket):
    """The ports of 127.0.0.1 have run out."""

    bound: ClassVar[list[Any]] = []

    def connect_ex(self, address: Any) -> int:
        name = self.getsockname()[0]
        self.bound.append(name)
        return errno.EADDRNOTAVAIL if name in ("0.0.0.0", "127.0.0.2") else 0


def test_when_the_ports_run_out_others_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Full, "bound", [])
    sources = Sources(("127.0.0.1", 9))
    for _ in range(2):
        sock, code = sources.connect(lambda: Full(socket.AF_INET, socket.SOCK_STREAM))
        sock.close()
        assert code == 0

    assert Full.bound == ["0.0.0.0", "127.0.0.2", "127.0.0.3", "127.0.0.3"]
    assert sources.used == 3


def test_when_all_ports_have_run_out_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sources, "_MOST", 1)
    for address in (("127.0.0.1", 9), ("192.0.2.1", 9)):
        sock, code = Sources(address).connect(lambda: Full(socket.AF_INET, socket.SOCK_STREAM))
        sock.close()
        assert code == errno.EADDRNOTAVAIL


def test_ports_are_spread_for_real() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sources = Sources(listener.getsockname())
        sources._current = 5
        sock, code = sources.connect(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        with sock:
            assert code == 0
            assert sock.getsockname()[0] == "127.0.0.6"


def test_lines_are_read_from_a_descriptor_of_any_number() -> None:
    raise_descriptor_limit(2000)
    low, out = os.pipe()
    high = fcntl.fcntl(low, fcntl.F_DUPFD, 1500)  # select(2) would not know it
    lines = Lines(high)
    lines.wait(0.01)
    assert lines.take() == []
    os.write(out, b"one\ntwo\nthr")
    lines.wait(5)
    assert lines.take() == [b"one", b"two"]
    os.write(out, b"ee\n")
    assert (lines.take(), lines.ended) == ([b"three"], False)
    os.close(out)
    lines.wait(5)
    assert (lines.take(), lines.ended) == ([], True)
    for fd in (low, high):
        os.close(fd)


def limited(soft: int, hard: int, code: str) -> str:
    """What a process with these limits prints, that is not allowed to raise them."""
    child = subprocess.run(
        [sys.executable, "-c", f"import servertest.swarm._limits as limits\n{code}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    return child.stdout.strip()


def test_the_soft_limit_is_raised_as_far_as_needed() -> None:
    assert limited(200, 4000, "print(limits.raise_descriptor_limit(1000))") == "1000"
    assert limited(2000, 4000, "print(limits.raise_descriptor_limit(1000))") == "2000"


def test_the_hard_limit_is_respected_by_who_has_to() -> None:
    # Where the kernel does not let the hard limit be raised.
    code = """
import resource
def refuse(which, limits):
    if limits[1] > 500:
        raise ValueError("not allowed to raise maximum limit")
    real(which, limits)
real = resource.setrlimit
resource.setrlimit = refuse
try:
    limits.require_descriptors(1000)
except Exception as error:
    print(type(error).__name__, error)
"""
    said = limited(200, 500, code)

    assert said.startswith(
        "UsageError 1000 clients need 1064 descriptors, and this process may have 500: take at most 436"
    )


def test_enough_is_enough() -> None:
    require_descriptors(1)
    assert raise_descriptor_limit(1) >= 1


class Ended:
    """As much of a course as the ledger knows."""

    def __init__(self, number: int, how: str, *times: float | None) -> None:
        self.number = number
        self.how = how
        self.begun, self.connected, self.first_byte, self.ended = times
        self.late = 0.001
        self.sent = 5
        self.received = 7
        self.error = "broken" if how == "failed" else ""


def test_a_ledger_counts_connections_and_shows_the_last_one() -> None:
    ledger = Ledger(range(2, 7, 2), [0, 1, 0], 100.0, 10.0)
    for one in (
        Ended(2, "finished", 100, 101, 102, 103),
        Ended(2, "closed", 104, 105, None, 106),
        Ended(4, "refused", 100, None, None, 100),
        Ended(6, "failed", 100, None, None, 100.5),
    ):
        ledger.began(cast("Course", one))
        ledger.ended_as(cast("Course", one))
    plain = ledger.as_dict()
    columns = plain["columns"]

    assert (plain["first"], plain["step"], plain["connections"], plain["connected"]) == (2, 2, 4, 2)
    assert plain["counts"] == [[0, "closed", 1], [0, "failed", 1], [0, "finished", 1], [1, "refused", 1]]
    assert plain["errors"] == {"broken": 1}
    assert columns["begun"] == [4, 0, 0]
    assert columns["connected"] == [5, None, None]
    assert columns["first_byte"] == [None, None, None]
    assert columns["sent"] == [10, 5, 5]
    totals = [sum(changes) for changes in plain["changes"]]
    assert dict(zip(STATES, totals, strict=True)) == {
        "connecting": 0,
        "connected": 0,
        "finished": 0,
        "cut off": 1,
        "turned away": 2,
    }
    assert len(plain["changes"][0]) == BINS + 1


def test_a_client_that_never_began_is_written_down() -> None:
    ledger = Ledger(range(1, 3), [0, 0], 0.0, 1.0)
    ledger.never_began(2, "too many open files")

    assert ledger.as_dict()["counts"] == [[0, "failed", 1]]
    assert ledger.as_dict()["columns"]["how"][1]
    assert ledger.counts() == {"failed": 1}


def report(**values: Any) -> dict[str, Any]:
    return {
        "kind": "progress",
        "begun": False,
        "seconds": 1.0,
        "waiting": 1,
        "open": 2,
        "connections": 3,
        "counts": {},
    } | values


def test_what_several_engines_say_is_put_together() -> None:
    merging = Merging(2)

    assert merging.hear(0, {"kind": "started"}) == [{"kind": "started"}]
    assert merging.hear(1, {"kind": "started"}) == []
    assert not merging.hear(0, report(begun=True, counts={"closed": 1}))[0]["begun"]
    [both] = merging.hear(1, report(begun=True, seconds=2.0, counts={"closed": 2}))
    assert both == report(begun=True, seconds=2.0, waiting=2, open=4, connections=6, counts={"closed": 3})
    assert merging.hear(0, {"kind": "result", "one": 1}) == []
    assert merging.has_result(0)
    assert not merging.has_result(1)
    assert merging.hear(1, {"kind": "result", "two": 2})[0]["results"] == [
        {"kind": "result", "one": 1},
        {"kind": "result", "two": 2},
    ]
    assert merging.hear(1, {"kind": "error"}) == [{"kind": "error"}]


@pytest.mark.parametrize(
    ("address", "here"),
    [
        (("127.0.0.1", 1), True),
        (("127.9.9.9", 1), True),
        (("::1", 1), True),
        (("localhost", 1), True),
        ("/tmp/socket", True),
        (b"\0name", True),
        (("192.0.2.1", 1), False),
        (("example.org", 1), False),
        (("0.0.0.0", 1), False),
    ],
    ids=str,
)
def test_what_is_on_this_machine(address: Any, here: bool) -> None:
    assert _is_here(address) is here
