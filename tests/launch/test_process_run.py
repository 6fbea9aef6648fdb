"""What is heard of a server process, in whatever order the reader comes to it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator

import pytest

from servertest.launch import _process_run
from servertest.launch._process_channel import Channel
from servertest.launch._process_exit import ProcessDied
from servertest.launch._process_run import ServerProcess
from servertest.launch._zygote_main import BORN, ENDED, REPORT
from servertest.transcript import Note
from tests._descriptors import new_descriptors, open_descriptors

from ._process_helpers import Ear

ADDRESS = ("127.0.0.1", 1)


class Far:
    """The other ends of its lines, held by the test in the place of a zygote and a server process."""

    def __init__(self, process: ServerProcess) -> None:
        self.channel = Channel(process._far_channel)
        self.lifeline = process._far_lifeline
        self.output = process._far_output

    def report(self, word: bytes, number: int) -> None:
        self.lifeline.send(REPORT.pack(word, number))

    def close(self) -> None:
        self.channel.close()
        self.lifeline.close()
        os.close(self.output)


class NoWatch:
    def end(self) -> None: ...


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def process(ear: Ear) -> Iterator[ServerProcess]:
    process = ServerProcess(ear, ())
    yield process
    if process._lifeline.fileno() != -1:
        process.close()
    process._stacks.close_far_end()


@pytest.fixture
def far(process: ServerProcess) -> Iterator[Far]:
    far = Far(process)
    yield far
    far.close()


def test_the_end_is_judged_when_everything_before_it_was_heard(
    process: ServerProcess, far: Far, ear: Ear
) -> None:
    far.report(BORN, 17)
    far.channel.send(("ready", ADDRESS))
    far.channel.send(("closing",))
    far.channel.send(("closed", []))
    far.report(ENDED, 0)
    process._on_lifeline()

    assert process.pid == 17
    assert process.status == 0
    assert process.forced == []
    assert list(ear.errors) == []


def test_who_serves_before_he_is_known_to_be_born_is_not_ready(process: ServerProcess, far: Far) -> None:
    far.channel.send(("ready", ADDRESS))
    process._on_channel()
    assert not process.ready
    far.report(BORN, 17)
    process._on_lifeline()

    assert process.ready


def test_last_words_are_in_the_report_of_a_death(process: ServerProcess, far: Far, ear: Ear) -> None:
    far.channel.send(("ready", ADDRESS))
    os.write(far.output, b"last words")
    far.report(ENDED, signal.SIGSEGV)
    process._on_lifeline()
    (error,) = ear.errors

    assert isinstance(error.exception, ProcessDied)
    assert "was killed by SIGSEGV without having been stopped; its output:\nlast words" in error.message


def test_more_messages_than_one_turn_takes_are_heard_before_the_end(
    process: ServerProcess, far: Far, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process_run, "_TURN", 3)
    for number in range(10):
        far.channel.send(("event", Note(float(number), 0, str(number))))
    far.channel.send(("ready", ADDRESS))
    far.channel.send(("closed", []))
    far.report(ENDED, 0)
    process._on_lifeline()

    assert ear.transcript is not None
    assert len(ear.transcript) == 10
    assert list(ear.errors) == []


def test_what_was_sent_is_taken_though_somebody_still_holds_the_line(
    process: ServerProcess, far: Far, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process_run, "DRAINING", 0.01)
    process._watch = NoWatch()  # type: ignore[assignment]
    far.channel.send(("event", Note(0.0, 0, "late")))
    os.write(far.output, b"late")
    problems = process.close()

    assert ear.transcript is not None
    assert len(ear.transcript) == 1
    assert process.output.getvalue() == b"late"
    assert "still holds the server's output" in problems[0]


def test_nothing_is_left_open_where_there_are_too_few_descriptors(ear: Ear) -> None:
    before = open_descriptors()
    with _limit_of_descriptors():
        for free in range(8):  # a line, a channel, output and stacks have two ends each
            held = _take_all_but(free)
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    ServerProcess(ear, ())
            finally:
                for fd in held:
                    os.close(fd)

    assert not new_descriptors(before)


@contextlib.contextmanager
def _limit_of_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _take_all_but(free: int) -> list[int]:
    held: list[int] = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        for _ in range(free):
            os.close(held.pop())
    return held


def test_an_end_that_nobody_could_tell_is_an_end(process: ServerProcess, far: Far) -> None:
    far.report(BORN, 17)
    far.lifeline.shutdown(2)
    process._on_lifeline()

    assert process.ended
    assert process.status is None
    assert "(pid 17) is lost" in process.describe_end(None)
