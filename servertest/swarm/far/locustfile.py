"""What Locust runs for a swarm. It is loaded by Locust's own processes only: to import it anywhere else would patch the interpreter.

Each worker plays its share of the clients with the engine that the other ways have too, in one greenlet; Locust's users stand
for them in its web UI, and each connection is told to its statistics.
"""

# mypy: disable-error-code="import-untyped, untyped-decorator, no-untyped-call, misc, unused-ignore"

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

import gevent
from gevent import monkey
from gevent.event import Event
from gevent.hub import Waiter, get_hub
from locust import User, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from servertest.swarm._engine import Engine
from servertest.swarm._job import Job

__all__ = ("Client",)

_REPORT = "servertest-report"
_STOP = "servertest-stop"

_LINE = 65536

over = Event()


class Poller:
    """epoll that lets other greenlets run while it waits."""

    def __init__(self) -> None:
        select = monkey.get_original("select", ["epoll"])
        self._epoll = select[0]()

    def watch(self, fd: int, watched: Any) -> None:
        """See `servertest.wire`: registered once, edge-triggered, for reading, writing and the peer's end."""
        self._epoll.register(fd, 0x1 | 0x4 | 0x2000 | (1 << 31))

    def replace(self, fd: int, watched: Any) -> None:
        """Nothing to do: who is told is known by the number."""

    def forget(self, fd: int, stays_open: bool) -> None:
        """Stop watching."""
        if stays_open:
            self._epoll.unregister(fd)

    def poll(self, seconds: float | None) -> Iterable[tuple[int, int]]:
        """Wait, while others run."""
        if seconds is None or seconds > 0:
            self._wait(seconds)
        else:
            gevent.sleep(0)
        found: list[tuple[int, int]] = self._epoll.poll(0, 64)
        return found

    def _wait(self, seconds: float | None) -> None:
        loop = get_hub().loop
        waiter: Any = Waiter()
        watchers = [loop.io(self._epoll.fileno(), 1)]
        if seconds is not None:
            watchers.append(loop.timer(seconds))
        try:
            for watcher in watchers:
                watcher.start(waiter.switch, None)
            waiter.get()
        finally:
            for watcher in watchers:
                watcher.stop()
                watcher.close()

    def close(self) -> None:
        """Give it back."""
        self._epoll.close()


class Client(User):
    """Stands for a client of the swarm in Locust's figures."""

    @task
    def stay(self) -> None:
        """Stay as long as the swarm does."""
        over.wait()
        raise StopUser


@events.init.add_listener
def _begin(environment: Any, **_: Any) -> None:
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        _forward(runner)
    elif isinstance(runner, WorkerRunner):
        _play(environment, runner)


def _forward(runner: MasterRunner) -> None:
    """The master passes on what the workers say, and to them that they are to stop."""
    out = int(os.environ["SERVERTEST_SWARM_OUT"])

    def write(report: dict[str, Any]) -> None:
        data = json.dumps(report, separators=(",", ":")).encode() + b"\n"
        while data:
            data = data[os.write(out, data) :]

    def heard(environment: Any, msg: Any, **_: Any) -> None:
        write({**json.loads(msg.data["report"]), "worker": runner.get_worker_index(msg.node_id)})

    runner.register_message(_REPORT, heard)
    write({"kind": "port", "port": runner.server.port})
    gevent.spawn(_listen, lambda line: runner.send_message(_STOP))


def _listen(heard: Callable[[bytes], object]) -> None:
    """Hear what the process says that has started this one, and end with it."""
    gevent.os.make_nonblocking(0)
    while data := gevent.os.nb_read(0, _LINE):
        heard(data)
    os.kill(os.getpid(), signal.SIGTERM)


def _play(environment: Any, runner: WorkerRunner) -> None:
    """A worker plays its clients as soon as Locust's users are there, which keep it busy until then."""
    stopped, stop = os.pipe()
    heard: list[bytes] = []
    told = Event()
    # A path is meant as it is seen from there.
    os.chdir(os.environ["SERVERTEST_SWARM_DIRECTORY"])
    playing: list[Any] = []

    def tell(report: dict[str, Any]) -> None:
        runner.send_message(_REPORT, {"report": json.dumps(report)})

    def ended(course: Any, behaviour: str) -> None:
        _tell_locust(environment, course, behaviour)

    def hear(data: bytes) -> None:
        heard.append(data)
        if data.endswith(b"\n"):
            told.set()

    def play() -> None:
        told.wait()
        plain = json.loads(b"".join(heard))
        workers = int(os.environ["SERVERTEST_SWARM_WORKERS"])
        plain.update(first=runner.worker_index + 1, step=workers)
        # What is there stays: a collection need not look at it, which would hold all clients up.
        gc.collect()
        gc.freeze()
        try:
            engine = Engine(
                Job.from_dict(plain),
                tell,
                stop_fd=stopped,
                poller=Poller(),
                socket_type=monkey.get_original("socket", ["socket"])[0],
                ended=ended,
            )
            tell(engine.run())
        except Exception as error:  # noqa: BLE001 - told to whoever has started all this
            tell({"kind": "error", "type": type(error).__name__, "message": str(error)})
        finally:
            over.set()

    def begin(**_: Any) -> None:
        # Once only: whoever changes the number of users in the web UI makes Locust say it again.
        if not playing:
            playing.append(gevent.spawn(play))

    def end(**_: Any) -> None:
        os.write(stop, b".")

    events.spawning_complete.add_listener(begin)
    events.test_stop.add_listener(end)  # the button of the web UI
    runner.register_message(_STOP, end)
    gevent.spawn(_listen, hear)


def _tell_locust(environment: Any, course: Any, behaviour: str) -> None:
    """One connection, as Locust counts: what was turned away has failed; what the server has cut off has a name of its own."""
    outcome = course.outcome
    failed = outcome.how in ("refused", "timed_out", "failed")
    times = [("connect", outcome.connected)]
    if outcome.connected is not None:
        first = None if outcome.first_byte is None else outcome.first_byte - outcome.connected
        times += [("first byte", first), (outcome.how.replace("_", " "), outcome.held)]
    for what, seconds in times:
        if seconds is not None or (failed and what == "connect"):
            environment.events.request.fire(
                request_type=what,
                name=behaviour,
                response_time=(outcome.ended or 0.0) * 1000 if seconds is None else seconds * 1000,
                response_length=outcome.received,
                exception=ConnectionError(outcome.error or outcome.how)
                if failed and what == "connect"
                else None,
                context={},
            )
