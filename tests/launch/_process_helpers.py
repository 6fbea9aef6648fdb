"""What the tests of server processes share: targets made of plain functions, and a place that keeps what is heard."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

from servertest._support import Deadline, bound_socket
from servertest.clients import StreamClient
from servertest.launch._errors import Errors, HandlerError
from servertest.launch._host import Plan, Servable
from servertest.launch._kinds import Kind
from servertest.launch._process import ProcessHost
from servertest.launch._targets import HandlerTarget
from servertest.transcript import Transcript

#: Seconds that a test waits for what must happen.
SOON = 10.0


class Ear:
    """An observer that keeps what it is told."""

    def __init__(self, *, recording: bool = True) -> None:
        self.transcript = Transcript() if recording else None
        self.errors = Errors()

    def decided(self, decision: object) -> None:
        raise AssertionError("there are no faults here")

    def failed(self, error: HandlerError) -> None:
        self.errors.add(error)


class Stop:
    """An event that may be set in a signal handler while the very thread is about to wait for it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        self._queue.put(None)

    def wait(self) -> None:
        self._queue.get()
        self._queue.put(None)


class Scripted:
    """A servable made of a function that serves until an event is set, or until it feels like ending."""

    def __init__(self, plan: Plan, script: Callable[[Plan, Stop], object]) -> None:
        assert plan.listener is not None
        self.address = plan.listener.getsockname()
        self.server = script
        self.plan = plan
        self.script = script
        self.stopped = Stop()

    def serve(self) -> None:
        self.script(self.plan, self.stopped)

    def stop(self) -> None:
        self.stopped.set()

    def close(self, deadline: Deadline) -> list[str]:
        assert self.plan.listener is not None
        self.plan.listener.close()
        return []

    def describe(self) -> str:
        return "scripted"


@dataclasses.dataclass(frozen=True)
class Script:
    """A target whose server is a function `script(plan, stopped)`, which runs in the main thread of the process."""

    script: Callable[[Plan, Stop], object]
    binds = False
    repeatable = True

    @property
    def name(self) -> str:
        return getattr(self.script, "__name__", "script")

    def build(self, plan: Plan) -> Servable:
        return Scripted(plan, self.script)


@dataclasses.dataclass
class Launched:
    """A server process in a test."""

    host: ProcessHost
    ear: Ear
    kind: Kind

    def connect(self) -> StreamClient:
        return StreamClient.connect(self.host.address)

    def stop(self, seconds: float = SOON) -> list[str]:
        return self.host.stop(Deadline(seconds, "the server to stop"))

    @property
    def pid(self) -> int:
        assert self.host.pid is not None
        return self.host.pid


def launch(
    target: Any,
    kind: str = "ForkingTCPServer",
    *,
    recording: bool = True,
    listener: socket.socket | None = None,
) -> Launched:
    """Put a target up in a process: one of ours, a handler class, or a function for `Script`."""
    parsed = Kind.parse(kind)
    if isinstance(target, type):
        target = HandlerTarget(target)
    elif not hasattr(target, "build"):
        target = Script(target)
    ear = Ear(recording=recording)
    listener = listener or bound_socket(parsed.transport, parsed.family)
    host = ProcessHost()
    try:
        host.start(Plan(target, parsed, ear, listener))
    finally:
        listener.close()
    return Launched(host, ear, parsed)


@contextlib.contextmanager
def running(target: Any, kind: str = "ForkingTCPServer", **options: Any) -> Iterator[Launched]:
    """The same, stopped at the end; and in order, without an error that nobody has claimed."""
    launched = launch(target, kind, **options)
    try:
        yield launched
    except BaseException:
        launched.stop(0)
        raise
    assert launched.stop() == []
    assert list(launched.ear.errors) == []


def wait_for_end(pid: int) -> bool:
    """Wait until a process that is not ours has ended; whether it has."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(SOON * 1000))
    finally:
        os.close(fd)


def wait_for_output(server: Launched, word: bytes) -> None:
    """Wait until the server has printed something."""
    process = server.host._process
    assert process is not None
    assert process.wait(lambda: word in process.output.getvalue(), Deadline(SOON, "some output"))
