"""A stop that has to be forced is told once: what held it up, without anything of ours, and without what the force itself did."""

from __future__ import annotations

import asyncio
import os
import signal
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from servertest import servers
from servertest._support import StillRunning
from servertest.launch import FactoryTarget, Running, launch, no_leaks

#: Seconds that a stop may take here: it will not be enough.
BRIEF = 0.2

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets go, at the end of the test, of handlers that could not be stopped."""
    event = threading.Event()
    before = set(threading.enumerate())
    yield event
    event.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)


def dreaming(wait: Callable[[], object]) -> type[Any]:
    class Dreaming(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"?")
            wait()

    return Dreaming


def forced(running: Running) -> StillRunning:
    """The complaint of a server with one client that is being served."""
    running.connect().read_exactly(1)
    with pytest.raises(StillRunning) as caught:
        running.stop()
    return caught.value


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer", "ThreadPoolTCPServer"])
def test_what_could_not_be_ended_is_no_leak_as_well(kind: str, release: threading.Event) -> None:
    with no_leaks():
        told = str(forced(launch(dreaming(lambda: release.wait(20)), kind, timeout=BRIEF)))
    assert told.count("release.wait(20)") == 1
    assert told.count("it was accepted") == 1
    assert "server_close" not in told


def test_what_else_is_left_behind_is_still_a_leak(release: threading.Event) -> None:
    own: list[threading.Thread] = []

    def work() -> None:
        own.append(threading.Thread(target=release.wait, args=(20,), name="of the handler", daemon=True))
        own[0].start()
        release.wait(20)

    with pytest.raises(AssertionError, match="of the handler") as caught, no_leaks(0.1):
        forced(launch(dreaming(work), timeout=BRIEF))
    assert str(caught.value).startswith("1 thing was left behind")


@forks
@pytest.mark.parametrize("kind", ["ForkingTCPServer", "PreForkTCPServer", "FinishInChild"])
def test_a_child_that_was_killed_is_no_error_as_well(kind: str) -> None:
    sleeping = dreaming(lambda: time.sleep(1000))
    if kind == "FinishInChild":
        running = launch(_Split, _SplitHandler, host="process", timeout=1)
    else:
        running = launch(sleeping, kind, timeout=1)
    complaint = forced(running)
    assert complaint.__cause__ is None
    assert "child process" in str(complaint)
    assert "time.sleep(1000)" in str(complaint)
    assert "most recent call first" not in str(complaint)
    assert not running.errors


class _Split(servers.FinishInChildMixIn, servers.TCPServer):
    pass


class _SplitHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.server.finish_in_child(self, self.rest)  # type: ignore[attr-defined]

    def rest(self) -> None:
        self.wfile.write(b"?")
        time.sleep(1000)


async def awaiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"?")
    await asyncio.sleep(1000)


@pytest.mark.parametrize("host", ["thread", pytest.param("process", marks=forks)])
def test_a_callback_that_was_cancelled_is_no_error_as_well(host: Any) -> None:
    with no_leaks():
        complaint = forced(launch(awaiting, host=host, timeout=1))
    assert complaint.__cause__ is None
    assert "await asyncio.sleep(1000)" in str(complaint)
    assert "_main" not in str(complaint)


def test_what_holds_up_an_event_loop_is_shown(release: threading.Event) -> None:
    async def blocking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"?")
        await writer.drain()
        await asyncio.sleep(0)
        hidden(release)

    with no_leaks():
        told = str(forced(launch(blocking, timeout=BRIEF)))
    assert "the event loop is held up" in told
    assert "release.wait(20)" in told


def test_a_function_that_does_not_return_is_told_of_with_its_connections(release: threading.Event) -> None:
    def answer(listener: Any) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"?")
            release.wait(20)

    with no_leaks():
        told = str(forced(launch(answer, timeout=BRIEF)))
    assert told.count("release.wait(20)") == 1
    assert "connection 1 from 127.0.0.1:" in told


def test_an_object_whose_stop_does_not_return_is_told_of_once(release: threading.Event) -> None:
    class Stubborn:
        def start(self) -> None:
            self.server_address = ("127.0.0.1", 1)

        def stop(self) -> None:
            release.wait(20)

    with no_leaks():
        running = launch(FactoryTarget(lambda address: Stubborn()), timeout=BRIEF)
        with pytest.raises(StillRunning, match="stop\\(\\) of Stubborn does not return"):
            running.stop()


def test_what_holds_up_a_selector_server_is_shown(release: threading.Event) -> None:
    class Blocking(servers.SelectorStreamRequestHandler):
        async def handle(self) -> None:
            await self.wfile.write(b"?")
            hidden(release)

    with no_leaks():
        told = str(forced(launch(Blocking, "SelectorTCPServer", timeout=BRIEF)))
    assert "the serving loop is held up" in told
    assert told.count("release.wait(20)") == 1


def hidden(release: threading.Event) -> None:
    release.wait(20)


@forks
def test_what_holds_up_an_event_loop_in_a_process_is_shown() -> None:
    async def blocking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"?")
        await writer.drain()
        time.sleep(1000)

    assert "time.sleep(1000)" in str(forced(launch(blocking, host="process", timeout=1)))


@pytest.mark.parametrize("hook", ["shutdown", "server_close"])
def test_a_hook_that_does_not_return_is_named(hook: str, release: threading.Event) -> None:
    def endless(self: Any) -> None:
        getattr(servers.ThreadingTCPServer, hook)(self)
        release.wait(20)

    cls = type("Endless", (servers.ThreadingTCPServer,), {hook: endless})
    with no_leaks():
        running = launch(cls, dreaming(lambda: None), timeout=BRIEF)
        with pytest.raises(StillRunning) as caught:
            running.stop()
    assert f"Endless.{hook}() does not return" in str(caught.value)
    assert str(caught.value).count("release.wait(20)") == 1


class Stuck(servers.StreamRequestHandler):
    """Says so, and then hears nothing any more."""

    def handle(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.wfile.write(self.rfile.readline())
        time.sleep(60)


@forks
def test_the_last_bytes_of_a_server_in_a_process_are_told() -> None:
    with pytest.raises(StillRunning) as caught:
        with launch(Stuck, "ForkingTCPServer", timeout=0.3) as running, running.connect() as client:
            client.send_all(b"question\n")
            client.expect(b"question\n")
            # The child writes down what it has sent once it has sent it.
            assert running.transcript is not None
            running.transcript.wait_for(downstream=b"question\n")
            assert "  sent 9 bytes, last b'question\\n'" in running.dump()
            client.half_close()
            running.stop()
    assert "connection 1 from 127.0.0.1:" in str(caught.value)
    assert "  received 9 bytes, last b'question\\n'" in str(caught.value)
