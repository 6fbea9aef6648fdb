"""Planned conversations: cuts, endings, virtual time, short sends, interruptions; and the process in which they are held."""

from __future__ import annotations

import os
import queue
import select
import selectors
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from servertest import servers
from servertest.contract import Bench, DatagramPlan, Piece, Plan, rehearse
from servertest.launch import HandlerTarget


class Upper(servers.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Reads(socketserver.BaseRequestHandler):
    """Answers with what each of its reads has returned."""

    def handle(self) -> None:
        while chunk := self.request.recv(100):
            self.request.sendall(b"[%s]" % chunk)


def test_pieces_arrive_one_by_one_and_replies_are_there_when_the_handler_waits() -> None:
    record = rehearse(Upper, Plan.of(b"hi\nh", b"o\n"))
    assert record.outcome == "returned"
    assert record.received == b"HI\nHO\n"
    assert [(wait.sent, wait.received) for wait in record.waits] == [(0, 0), (4, 3), (6, 6)]
    assert record.due(4) == b"HI\n"


@pytest.mark.parametrize("family", ["inet", "unix"])
def test_every_piece_is_one_read(family: Any) -> None:
    record = rehearse(Reads, Plan(pieces=(Piece(b"a"), Piece(b"bc"), Piece(b"d")), family=family))
    assert record.received == b"[a][bc][d]"


def test_clients_have_the_address_of_their_family() -> None:
    class Address(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(repr(self.client_address).encode())

    assert rehearse(Address, Plan(family="unix")).received == b"''"
    assert rehearse(Address, Plan()).received.startswith(b"('127.0.0.1', ")


def test_a_reset_is_a_reset() -> None:
    record = rehearse(Reads, Plan.of(b"a", ending="reset"))
    assert record.outcome == "raised"
    assert record.failure is not None
    assert record.failure.type_name == "ConnectionResetError"


def test_a_client_goes_in_the_midst_of_a_reply() -> None:
    class Long(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"x" * 1000)

    record = rehearse(Long, Plan(reset_after=10))
    assert record.received == b"x" * 10
    assert record.failure is not None


def test_send_takes_a_part_and_sendall_all() -> None:
    class Sending(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            assert self.request.send(b"abcdef") == 2
            self.request.sendall(b"ABCDEF")

    assert rehearse(Sending, Plan(send_limit=2)).received == b"abABCDEF"


def test_much_passes_both_ways() -> None:
    data = b"y" * 3_000_000 + b"\n"
    assert rehearse(Upper, Plan.of(data)).received == data.upper()


# -- time


class Patient(servers.StreamRequestHandler):
    timeout = 60.0

    def handle(self) -> None:
        with suppress(TimeoutError):
            while self.rfile.readline():
                self.wfile.write(b"ok\n")


def test_silence_takes_no_time() -> None:
    began = time.perf_counter()
    record = rehearse(Patient, Plan.of(b"a\n", ending="silence"))
    assert time.perf_counter() - began < 5
    assert record.outcome == "returned"
    assert record.silence == pytest.approx(60)


def test_who_has_no_time_out_is_known_to_wait_for_ever() -> None:
    assert rehearse(Upper, Plan.of(b"a\n", ending="silence")).outcome == "silent"


def test_a_pause_is_shorter_or_longer_than_the_time_out() -> None:
    def plan(pause: float) -> Plan:
        return Plan(pieces=(Piece(b"a\n"), Piece(b"b\n", pause=pause)))

    assert rehearse(Patient, plan(59)).received == b"ok\nok\n"
    late = rehearse(Patient, plan(61))
    assert late.received == b"ok\n"
    assert late.ended_before == 2


def test_clocks_show_what_was_waited_for() -> None:
    class Limited(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            end = time.monotonic() + 100
            with suppress(TimeoutError):
                while (left := end - time.monotonic()) > 0:
                    self.request.settimeout(min(left, 7))
                    with suppress(TimeoutError):
                        self.request.recv(1)

    record = rehearse(Limited, Plan(ending="silence"))
    assert record.outcome == "returned"
    assert record.elapsed == pytest.approx(100, abs=1)


class Working(servers.StreamRequestHandler):
    """A thread of its own answers each line, when it has counted for a while; and then waits."""

    def handle(self) -> None:
        lines: queue.Queue[bytes] = queue.Queue()
        thread = threading.Thread(target=self.work, args=(lines,))
        thread.start()
        with suppress(OSError):
            for line in self.rfile:
                lines.put(line)
        lines.put(b"")
        thread.join()

    def work(self, lines: queue.Queue[bytes]) -> None:
        while line := lines.get():
            sum(range(1_000_000))
            self.wfile.write(line.upper())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not tell what threads do")
def test_threads_that_wait_are_not_waited_for_and_those_that_work_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from servertest.contract import _script

    monkeypatch.setattr(_script, "_GRACE", 600.0)
    record = rehearse(Working, Plan.of(b"a\n", b"b\n"))
    assert record.received == b"A\nB\n"
    assert [(wait.sent, wait.received) for wait in record.waits] == [(0, 0), (2, 2), (4, 4)]


@pytest.mark.parametrize("how", ["select", "poll", "selectors"])
def test_waiting_with_select_takes_no_time_either(how: str) -> None:
    class Selecting(socketserver.BaseRequestHandler):
        def waits(self, seconds: float) -> bool:
            if how == "select":
                return not select.select([self.request], [], [], seconds)[0]
            if how == "poll":
                poll = select.poll()
                poll.register(self.request, select.POLLIN)
                return not poll.poll(seconds * 1000)
            with selectors.DefaultSelector() as selector:
                selector.register(self.request, selectors.EVENT_READ)
                return not selector.select(seconds)

        def handle(self) -> None:
            while not self.waits(30):
                if not (chunk := self.request.recv(100)):
                    return
                self.request.sendall(chunk)
            self.request.sendall(b"too slow")

    assert rehearse(Selecting, Plan.of(b"a", b"b")).received == b"ab"
    began = time.perf_counter()
    record = rehearse(Selecting, Plan.of(b"a", ending="silence"))
    assert time.perf_counter() - began < 5
    assert record.received == b"atoo slow"
    assert record.silence == pytest.approx(30)


def test_everything_is_as_before_afterwards() -> None:
    before = (
        time.monotonic,
        time.sleep,
        select.select,
        select.poll,
        selectors.DefaultSelector.select,
        threading.excepthook,
    )
    rehearse(Upper, Plan.of(b"a\n"))
    assert before == (
        time.monotonic,
        time.sleep,
        select.select,
        select.poll,
        selectors.DefaultSelector.select,
        threading.excepthook,
    )


def test_who_asks_again_and_again_is_spinning() -> None:
    class Spins(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while True:
                self.request.recv(1)

    assert rehearse(Spins, Plan()).outcome == "spinning"


# -- interruptions


def test_another_conversation_is_held_while_the_first_one_waits() -> None:
    record = rehearse(Upper, Plan(pieces=(Piece(b"a"), Piece(b"b\n")), inner=Plan.of(b"x\n"), at_wait=1))
    assert record.received == b"AB\n"
    assert record.inner is not None
    assert record.inner.received == b"X\n"
    assert not record.held_up


def test_who_holds_a_lock_while_it_waits_holds_others_up() -> None:
    lock = threading.Lock()

    class Locked(servers.StreamRequestHandler):
        def handle(self) -> None:
            with lock:
                self.wfile.write(self.rfile.readline().upper())

    assert rehearse(
        Locked, Plan(pieces=(Piece(b"a"), Piece(b"b\n")), inner=Plan.of(b"x\n"), at_wait=1)
    ).held_up


def test_between_reading_and_writing_another_one_comes() -> None:
    class Counter(servers.StreamRequestHandler):
        count = 0

        def handle(self) -> None:
            self.rfile.readline()
            type(self).count += 1
            self.wfile.write(b"%d" % type(self).count)

    steps = rehearse(Counter, Plan(pieces=(Piece(b"\n"),), count_steps=True)).steps
    [at] = [number for number, (_, _, what) in enumerate(steps) if what == "STORE_ATTR"]
    Counter.count = 0
    record = rehearse(Counter, Plan(pieces=(Piece(b"\n"),), inner=Plan.of(b"\n"), at_step=at))
    assert record.inner is not None
    assert (record.received, record.inner.received) == (b"1", b"1")


STEPS_UNDER_COVERAGE = """
import socketserver
from servertest.contract import Piece, Plan, rehearse

class Counter(socketserver.StreamRequestHandler):
    count = 0
    def handle(self):
        self.rfile.readline()
        type(self).count += 1
        self.wfile.write(b"%d" % type(self).count)

steps = rehearse(Counter, Plan(pieces=(Piece(b""),), count_steps=True)).steps
at = [what for _, _, what in steps].index("STORE_ATTR")
for _ in range(3):
    Counter.count = 0
    record = rehearse(Counter, Plan(pieces=(Piece(b""),), inner=Plan(), at_step=at))
    assert (record.received, record.inner.received) == (b"1", b"1"), record
"""


def test_steps_are_taken_while_coverage_is_measured(tmp_path: Path) -> None:
    """On Python 3.12 the interpreter crashed: tracing by instruction and a tracer in C do not go together there."""
    program = tmp_path / "program.py"
    program.write_text(STEPS_UNDER_COVERAGE)
    command = [sys.executable, "-m", "coverage", "run", "--rcfile=/dev/null", "--branch", str(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# -- what is left, and what was done to the server


def test_what_every_client_leaves_behind_is_counted() -> None:
    class Leaks(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            kept.append(os.open(os.devnull, os.O_RDONLY))

    kept: list[int] = []
    try:
        record = rehearse(Leaks, Plan(times=6))
        assert record.left == ("6 descriptors of /dev/null after 6 times",)
        assert rehearse(Upper, Plan.of(b"a\n")).left == ()
    finally:
        for number in kept:
            os.close(number)


def test_what_is_done_to_the_server_is_noted() -> None:
    class Closing(servers.StreamRequestHandler):
        def finish(self) -> None:
            self.server.shutdown()
            self.server.socket.close()

        def handle(self) -> None:
            pass

    notes = rehearse(Closing, Plan()).notes
    assert "shuts the whole server down" in notes
    assert "closes the listening socket" in notes
    assert any("does not call finish() of its base class" in note for note in notes)


# -- datagrams


class Shout(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        sock.sendto(data.upper(), self.client_address)


def test_datagrams_are_answered_to_their_senders() -> None:
    delivery = rehearse(Shout, DatagramPlan(datagrams=((0, b"a"), (1, b"b"), (0, b""))))
    assert delivery.replies == (((0, b"A"),), ((1, b"B"),), ((0, b""),))


def test_a_sender_without_an_address() -> None:
    delivery = rehearse(Shout, DatagramPlan(datagrams=((0, b"a"),), nameless=True, family="unix"))
    assert delivery.failure is not None
    assert delivery.failure.type_name == "TypeError"


# -- the subject's process


class Dangerous(socketserver.BaseRequestHandler):
    seen: list[bytes] = []  # noqa: RUF012 - this is the point

    def handle(self) -> None:
        word = self.request.recv(100)
        self.seen.append(word)
        if word == b"hang":
            threading.Event().wait(60)
        elif word == b"exit":
            os._exit(7)
        elif word == b"fork":
            if os.fork() == 0:
                return  # the child comes back out of the handler, as happens
            os.wait()
        elif word == b"timeout":
            socket.setdefaulttimeout(1)
        self.request.sendall(b"%d" % len(self.seen))


def test_the_subjects_process_survives_everything() -> None:
    with_words = [Plan.of(word) for word in (b"a", b"hang", b"exit", b"fork", b"timeout", b"z")]
    with Bench(HandlerTarget(Dangerous)) as bench:
        records = bench.rehearse(with_words, limit=0.5)
    assert [record.outcome for record in records[:3]] == ["returned", "hung", "died"]
    assert records[4].notes == ("sets a time-out for all new sockets of the process",)
    assert records[5].outcome == "returned"
    assert "wait(60)" in records[1].stacks or "in handle" in records[1].stacks
    assert "exit status 7" in records[2].stacks
    assert Dangerous.seen == []


def test_each_conversation_can_find_the_subject_fresh() -> None:
    with Bench(HandlerTarget(Dangerous)) as bench:
        assert [record.received for record in bench.rehearse([Plan.of(b"a")] * 3)] == [b"1", b"2", b"3"]
        assert [record.received for record in bench.rehearse([Plan.of(b"a")] * 3, fresh=True)] == [b"1"] * 3
