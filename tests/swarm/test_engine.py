"""The engine in this very process, against real servers."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from servertest import servers
from servertest._support import AddressError
from servertest.clients.behaviours import (
    ConnectAndDrop,
    Flooder,
    HalfOpen,
    Honest,
    How,
    IdleAfterConnect,
    NeverReads,
    Pipeliner,
    Resetter,
    SlowReader,
    SlowWriter,
)
from servertest.swarm import Result, profile, result_of
from servertest.swarm._engine import Engine
from servertest.swarm._job import Job


class Upper(servers.StreamRequestHandler):
    timeout = 0.4

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            for line in self.rfile:
                self.wfile.write(line.upper())


class Answer(servers.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.rfile.readline()
            self.wfile.write(b"x" * 1000)


class Echo(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


def play(address: Any, *behaviours: Any, told: list[dict[str, Any]] | None = None, **settings: Any) -> Result:
    """Let a swarm of 20 play for half a second."""
    made = profile(behaviours, **{"clients": 20, "duration": 0.5, **settings})
    job = Job(made, address)
    again = Job.from_dict(job.as_dict())
    assert again.as_dict() == job.as_dict()
    report = Engine(again, (told if told is not None else []).append).run()
    result = result_of(again, "local", [report])
    assert sum(result.count(how) for how in result.counts[0]) <= result.connections
    return result


def holding() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=200)


@pytest.mark.parametrize(
    "kind", ["ThreadingTCPServer", "ThreadingUnixStreamServer", "ThreadPoolTCPServer+tls"]
)
def test_honest_clients_are_served(serve: Any, kind: str) -> None:
    server = serve(Upper, kind)
    result = play(server.address, Honest(b"hi\n", 3), tls="tls" in kind, duration=5)

    assert result.finished == result.connected == result.connections == 20
    assert result.received == 20 * 3
    assert result.seconds < 4
    assert set(result.percentiles("first_byte")) == {50, 90, 99, 100}


def test_slow_writers_are_cut_off_and_keep_their_timetables(serve: Any) -> None:
    result = play(serve(Upper).address, SlowWriter(b"hello\n", bytes_per_second=1), duration=5)

    assert result.cut_off_by_server == 20
    assert result.seconds < 3
    assert 0.3 < result.percentiles("cut_off")[50] < 2
    assert result.outcome(20).cut_off_by_server
    assert result.timeline()[-1].states == (0, 0, 0, 20, 0)


def test_who_is_there_at_the_end_is_held() -> None:
    with holding() as listener:
        told: list[dict[str, Any]] = []
        result = play(listener.getsockname(), SlowWriter(b"x" * 50, bytes_per_second=20), told=told)

    assert result.held == 20
    assert max(result.columns["sent"]) <= 11
    assert min(result.columns["sent"]) >= 5
    assert told[0]["kind"] == "started"
    assert any(report.get("begun") for report in told)
    assert result.timeline()[-1].states == (0, 20, 0, 0, 0)


def test_churners_come_again_and_again(serve: Any) -> None:
    result = play(serve(Upper).address, ConnectAndDrop(every=0.05), clients=4)

    assert 8 <= result.connections <= 41
    assert result.finished == result.connections


def test_a_client_does_not_come_again_before_it_has_left() -> None:
    with holding() as listener:
        result = play(listener.getsockname(), Honest(every=0.05))

    assert result.connections == 20
    assert result.held == 20


def test_a_flood_of_connections(serve: Any) -> None:
    server = serve(Upper)
    result = play(server.address, Flooder(b"hi\n", per_second=50), clients=4)
    server.errors.clear()

    assert 8 <= result.connections <= 104
    assert result.finished == result.connections


def test_resets(serve: Any) -> None:
    server = serve(Upper)
    assert play(server.address, Resetter(b"hello\n", 2)).finished == 20


@pytest.mark.parametrize("kind", ["ThreadingUDPServer", "ThreadingUnixDatagramServer"])
def test_datagrams(serve: Any, kind: str) -> None:
    server = serve(Echo, kind)
    result = play(server.address, (Honest(b"hi", 2), 1), (Flooder(b"x", 50), 1), transport="datagram")
    with contextlib.suppress(Exception):
        server.stop()

    assert result.counts[0]["finished"] == 10
    assert result.counts[1]["held"] == 10
    assert 50 < result.sent - 20 < 300


def test_pipelined_replies_and_slow_readers(serve: Any) -> None:
    server = serve(Answer)
    result = play(
        server.address, Pipeliner(b"a\n", 5, reply_bytes=1000), SlowReader(b"\n", size=10, pause=0.05)
    )

    assert result.counts[0].get("finished", 0) + result.counts[0].get("reset", 0) == 10
    assert result.counts[1]["held"] == 10
    received = [
        result.outcome(number).received for number in range(1, 21) if result.columns["role"][number - 1]
    ]
    assert all(20 <= each <= 150 for each in received)


def test_who_never_reads_hears_of_the_end(serve: Any) -> None:
    assert play(serve(Answer).address, NeverReads(b"\n"), duration=3).cut_off_by_server == 20


def test_half_open_clients_leave_with_a_reset(serve: Any) -> None:
    server = serve(Upper)
    result = play(server.address, HalfOpen(b"hello\n"), clients=3)
    server.transcript.wait_idle()
    server.errors.clear()

    assert result.held == 3
    assert result.received == 0


@pytest.mark.parametrize(("family", "how"), [("inet", "refused"), ("unix", "refused")])
def test_nobody_listens(make_refused_address: Any, family: str, how: How) -> None:
    result = play(make_refused_address(family=family), IdleAfterConnect(), duration=5)

    assert result.count(how) == 20
    assert result.connected == 0
    assert result.seconds < 2
    assert result.timeline()[-1].states == (0, 0, 0, 0, 20)


def test_nobody_accepts_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        result = play(listener.getsockname(), IdleAfterConnect(), duration=1, connect_timeout=0.3)

    assert result.timed_out >= 15
    assert result.seconds >= 0.9  # those in the backlog are connected for all they know


def test_a_unix_server_with_a_full_backlog_is_asked_again(tmp_path: Path) -> None:
    path = os.path.relpath(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(2)
        accepted: list[socket.socket] = []

        def accept() -> None:
            accepted.extend(listener.accept()[0] for _ in range(10))

        thread = threading.Thread(target=accept)
        thread.start()
        result = play(
            path if "/" in path else f"./{path}", IdleAfterConnect(), clients=20, connect_timeout=0.3
        )
        thread.join(10)
        for each in accepted:
            each.close()

    assert 10 <= result.connected <= 14
    assert result.timed_out + result.connected == 20


def test_it_can_be_stopped() -> None:
    stopped, stop = os.pipe()
    with holding() as listener:
        job = Job(profile(IdleAfterConnect(), clients=5, duration=60), listener.getsockname())
        begun = time.monotonic()
        report = Engine(
            job, lambda report: report.get("begun") and os.write(stop, b"."), stop_fd=stopped
        ).run()
    for fd in (stopped, stop):
        os.close(fd)

    assert time.monotonic() - begun < 5
    assert report["stopped"]
    assert result_of(job, "local", [report]).held == 5


def test_shares_of_a_job_make_the_whole() -> None:
    with holding() as listener:
        made = profile([SlowWriter(b"ab"), IdleAfterConnect()], clients=7, duration=0.2)
        reports = [
            Engine(Job(made, listener.getsockname(), first=first, step=3), lambda report: None).run()
            for first in (1, 2, 3)
        ]
        result = result_of(Job(made, listener.getsockname()), "three", reports)

    assert [len(report["columns"]["how"]) for report in reports] == [3, 2, 2]
    assert result.held == 7
    assert list(result.columns["role"]) == list(made.roles())
    assert list(result.columns["sent"]) == [1 - role for role in made.roles()]


@pytest.mark.parametrize("duration", [5.0, 0.2], ids=["one", "several"])
def test_a_name_with_several_addresses(
    monkeypatch: pytest.MonkeyPatch, serve: Any, refused_address: Any, duration: float
) -> None:
    server = serve(Upper)
    found = [
        (socket.AF_INET, 0, 0, "", place) for place in (refused_address, server.address, ("127.0.0.1", 1))
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    result = play(
        ("some.host", 1), Honest(b"hi\n", 3, every=None if duration == 5 else 0.1), duration=duration
    )

    assert result.finished == result.connected == result.connections >= 20
    assert result.refused == 0
    assert result.timeline()[-1].states == (0, 0, 20, 0, 0)


def test_a_name_none_of_whose_addresses_answers(
    monkeypatch: pytest.MonkeyPatch, make_refused_address: Any
) -> None:
    found = [(socket.AF_INET, 0, 0, "", make_refused_address()) for _ in range(3)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    result = play(("some.host", 1), IdleAfterConnect(), duration=5)

    assert (result.refused, result.connections) == (20, 20)
    assert result.seconds < 2


def test_more_engines_than_clients() -> None:
    with holding() as listener:
        job = Job(profile(IdleAfterConnect(), clients=3, duration=0.1), listener.getsockname())
        reports = [
            Engine(Job(job.profile, job.address, first=first, step=5), lambda report: None).run()
            for first in (2, 5, 1, 4, 3)
        ]
        result = result_of(job, "five", reports)

    assert result.held == 3
    assert [result.outcome(number).how for number in (1, 2, 3)] == ["held"] * 3


IP_LOCAL_PORT_RANGE = 51
# A port is in use only together with the server's: nobody else is in the way of these.
FOUR_PORTS = struct.pack("=I", (40003 << 16) | 40000)


class Narrow(socket.socket):
    """A socket with four ports to connect from (ip(7))."""

    def connect_ex(self, address: Any) -> int:
        self.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, FOUR_PORTS)
        return super().connect_ex(address)


def _has_narrow_ranges() -> bool:
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, FOUR_PORTS)
        return True
    return False


@pytest.mark.skipif(not _has_narrow_ranges(), reason="needs IP_LOCAL_PORT_RANGE (Linux 6.3)")
def test_when_the_ports_have_run_out_clients_come_from_other_addresses() -> None:
    with holding() as listener:
        job = Job(profile(IdleAfterConnect(), clients=20, duration=0.5), listener.getsockname())
        result = result_of(job, "local", [Engine(job, lambda report: None, socket_type=Narrow).run()])
        listener.setblocking(False)
        sources = set()
        for _ in range(20):
            accepted, source = listener.accept()
            accepted.close()
            sources.add(source)

    assert result.held == 20
    assert {port for _, port in sources} <= set(range(40000, 40004))
    assert len({host for host, _ in sources}) >= 5
    assert re.search(r"clients came from ([5-9]|\d\d)", str(result))


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(AddressError, match="cannot be resolved"):
        Engine(Job(profile("honest"), ("nowhere.invalid", 1)), print)
