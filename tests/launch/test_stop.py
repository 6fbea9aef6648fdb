"""Stopping: at once in the good case, bounded in every case, and never without saying what was in the way."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from servertest import servers
from servertest._support import DeadlineExceeded, HandlerFailed, StillRunning, UsageError
from servertest.launch import FactoryTarget, Kind, kinds, launch
from tests._descriptors import new_descriptors, open_descriptors
from tests._threads import new_threads

from ._handlers import Upper, echo, handler_for

#: Far below the half second that the standard module's own stop takes, far above what a busy machine takes for ours.
AT_ONCE = 0.3

STREAMS = kinds(transport="stream", family="inet", host="thread")


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets go, at the end of the test, of handlers that could not be stopped."""
    event = threading.Event()
    before = set(threading.enumerate())
    yield event
    event.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)


class StandardUpper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


# -- the good case


@pytest.mark.parametrize("cls", [socketserver.TCPServer, socketserver.ThreadingTCPServer])
def test_a_server_of_the_standard_module_stops_at_once(cls: type[Any]) -> None:
    with launch(cls, StandardUpper) as running:
        echo(running)
        began = time.monotonic()
    assert time.monotonic() - began < AT_ONCE


def test_a_server_of_the_standard_module_stops_at_once_that_never_had_a_client() -> None:
    running = launch(socketserver.UDPServer, socketserver.DatagramRequestHandler)
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < AT_ONCE


def test_without_epoll_a_server_of_the_standard_module_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("select.epoll")
    with launch(socketserver.TCPServer, StandardUpper) as running:
        echo(running)
        began = time.monotonic()
    assert time.monotonic() - began < AT_ONCE


class OwnLoop(socketserver.TCPServer):
    """A loop and a shutdown of its own, which share nothing with the class's."""

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        self.wake, self.sleeper = socket.socketpair()
        self.ready.set()
        with self.wake, self.sleeper:
            self.sleeper.recv(1)

    ready: threading.Event

    def shutdown(self) -> None:
        self.ready.wait()
        self.wake.sendall(b"x")


def test_a_server_with_a_loop_of_its_own_is_stopped_by_its_own_shutdown() -> None:
    OwnLoop.ready = threading.Event()
    running = launch(OwnLoop, StandardUpper)
    running.stop()
    assert OwnLoop.ready.is_set()


@pytest.mark.parametrize(
    "base", [socketserver.TCPServer, servers.ThreadingTCPServer], ids=["standard", "ours"]
)
@pytest.mark.parametrize("how", ["a flag of its own", "the framework's flag", "no flag"])
def test_a_loop_around_handle_request_stops_at_once(base: type[Any], how: str) -> None:
    """The loop that recipes for servers of the standard module have; it may rest in handle_request() without limit."""
    ended = threading.Event()

    class OneByOne(base):  # type: ignore[misc]
        going = True

        def serve_forever(self, poll_interval: float = 0.5) -> None:
            try:
                while self.goes_on():
                    self.handle_request()
            finally:
                ended.set()

        def goes_on(self) -> bool:
            return {
                "a flag of its own": self.going,
                "the framework's flag": not self._BaseServer__shutdown_request,
                "no flag": True,
            }[how]

    class WithShutdown(OneByOne):
        def shutdown(self) -> None:
            self.going = False

    with launch(WithShutdown if how == "a flag of its own" else OneByOne, StandardUpper) as running:
        echo(running)
        began = time.monotonic()
    assert time.monotonic() - began < AT_ONCE
    assert ended.is_set()


def test_threads_of_handlers_have_ended_when_stop_returns() -> None:
    threads: list[threading.Thread] = []

    class SlowToClose(servers.ThreadingTCPServer):
        def shutdown_request(self, request: Any) -> None:
            threads.append(threading.current_thread())
            threading.Event().wait(0.05)
            super().shutdown_request(request)

    with launch(SlowToClose, Upper) as running:
        running.connect().send_all(b"hi\n")
        assert running.transcript is not None
        running.transcript.wait_for(downstream=b"HI\n")
    assert [thread.is_alive() for thread in threads] == [False]


def test_a_loop_that_dies_before_it_begins_does_not_hold_up_the_launch() -> None:
    class Stillborn(servers.TCPServer):
        def _servertest_selector(self) -> Any:
            raise OSError("no selector")

    began = time.monotonic()
    with launch(Stillborn, Upper) as running:
        assert time.monotonic() - began < 5
        assert running.errors.pop().message == "no selector"


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer", "ThreadPoolTCPServer"])
@pytest.mark.parametrize("call", ["stop", "restart"])
def test_a_handler_that_would_wait_for_its_own_end_is_told_so(kind: str, call: str) -> None:
    class Deadlock(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"here\n")
            try:
                getattr(running, call)()
            except UsageError as error:
                self.wfile.write(str(error).encode())

    with launch(Deadlock, kind) as running, running.connect() as client:
        client.expect(b"here\n")
        assert b"self.server.shutdown() does not wait" in client.read_eof()


def test_stop_is_done_once() -> None:
    running = launch(Upper)
    running.stop()
    running.stop()
    with running:
        pass
    assert not running.running


def test_a_server_that_its_own_handler_shuts_down_refuses_clients_from_then_on() -> None:
    class Last(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.server.shutdown()
            self.wfile.write(b"bye")

    with launch(Last) as running:
        with running.connect() as client:
            assert client.read_eof() == b"bye"
        assert running.transcript is not None
        running.transcript.wait_idle()


# -- idle clients (which hold up every server of the standard module, for ever)


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_idle_clients_do_not_delay_the_stop(kind: Kind) -> None:
    with launch(Upper, kind) as running:
        clients = [running.connect() for _ in range(3 if kind.concurrency != "sync" else 1)]
        for client in clients:
            client.send_all(b"hi\n")
            assert client.readline() == b"HI\n"
        began = time.monotonic()
        running.stop()
    assert time.monotonic() - began < AT_ONCE


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_a_client_that_was_never_accepted_does_not_delay_the_stop(kind: Kind) -> None:
    with launch(Upper, kind, attributes={"pool_size": 1}) as running:
        with running.connect() as first:
            first.send_all(b"hi\n")
            assert first.readline() == b"HI\n"
            running.connect()
            began = time.monotonic()
            running.stop()
    assert time.monotonic() - began < AT_ONCE


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_what_has_arrived_is_still_served(kind: Kind) -> None:
    read: list[bytes] = []
    begun = threading.Event()
    go_on = threading.Event()

    class Slow(servers.StreamRequestHandler):
        def handle(self) -> None:
            begun.set()
            go_on.wait(5)
            read.extend(self.rfile)
            self.wfile.write(b"done")

    with launch(Slow, kind) as running:
        client = running.connect()
        client.send_all(b"one\ntwo\n")
        begun.wait(5)
        threading.Timer(0.02, go_on.set).start()
        running.stop()
    assert read == [b"one\n", b"two\n"]
    assert running.transcript is not None
    assert running.transcript.connections[0].downstream == b"done"


def test_the_end_of_input_is_ours_and_is_not_written_down_as_the_clients() -> None:
    with launch(Upper) as running:
        running.connect().send_all(b"x\n")
        assert running.transcript is not None
        running.transcript.wait_for(downstream=b"X\n")
    (conversation,) = running.transcript.connections
    assert conversation.closed_by == "server"
    assert conversation.half_closed_by != "client"


class Fussy(servers.StreamRequestHandler):
    """Insists on a whole message."""

    def handle(self) -> None:
        self.wfile.write(b"?")
        message = self.rfile.read(4)
        if len(message) < 4:
            raise EOFError(f"only {len(message)} bytes")


@pytest.mark.parametrize("recording", [True, False])
def test_what_a_handler_raises_because_of_our_end_of_input_is_no_error(recording: bool) -> None:
    with launch(Fussy, transcript=recording) as running:
        running.connect().read_exactly(1)
    if running.transcript is not None:
        assert "only 0 bytes" in running.transcript.render()


def test_what_a_handler_raises_because_its_client_left_is_an_error() -> None:
    with launch(Fussy) as running:
        with running.expects_error(EOFError), running.connect() as client:
            client.read_exactly(1)


def test_what_a_busy_handler_raises_during_the_stop_is_an_error() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Busy(servers.StreamRequestHandler):
        def handle(self) -> None:
            begun.set()
            go_on.wait(5)
            raise ValueError("after all")

    with pytest.raises(HandlerFailed, match="after all"):
        with launch(Busy) as running:
            running.connect()
            begun.wait(5)
            threading.Timer(0.02, go_on.set).start()


def test_a_handler_that_sends_to_a_client_of_ours_which_does_not_read_is_let_go() -> None:
    class Flood(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"?")
            while True:
                self.wfile.write(bytes(1 << 20))

    began = time.monotonic()
    with launch(Flood) as running:
        running.connect().read_exactly(1)
    assert time.monotonic() - began < 3


def test_clients_that_were_left_open_are_closed() -> None:
    with launch(Upper) as running:
        client = running.connect()
    assert client.closed


# -- what does not end by itself


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_a_handler_that_takes_too_long_is_described_and_fails_the_test(
    kind: Kind, release: threading.Event
) -> None:
    class Dreaming(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline())
            release.wait(20)

    began = time.monotonic()
    with pytest.raises(StillRunning) as caught:
        with launch(Dreaming, kind, timeout=0.05) as running:
            client = running.connect()
            client.send_all(b"hello\n")
            client.readline()
    assert time.monotonic() - began < 5
    text = str(caught.value)
    assert str(running) in text
    assert "connection 1 from 127.0.0.1:" in text
    assert "received 6 bytes, last b'hello\\n'" in text
    assert "sent 6 bytes" in text
    assert "release.wait(20)" in text
    assert "left behind" in text
    assert running.transcript is not None
    assert running.transcript.connections[0].close_kind == "forced"


def test_a_handler_that_waits_in_its_socket_past_the_end_of_input_is_forced() -> None:
    class Deaf(servers.StreamRequestHandler):
        """Waits until it can write more, which it never can."""

        def handle(self) -> None:
            self.wfile.write(b"?")
            with pytest.raises(OSError):
                while True:
                    self.request.sendall(bytes(1 << 20))

    running = launch(Deaf, timeout=0.05)
    # Not one of the launcher's own clients, which it would close.
    with socket.create_connection((running.host, running.port), timeout=5) as client:
        client.recv(1)
        with pytest.raises(StillRunning) as caught:
            running.stop()
    assert "left behind" not in str(caught.value)


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer", "ThreadPoolTCPServer"])
def test_a_handler_in_an_endless_loop_is_left_behind(kind: str, release: threading.Event) -> None:
    class Endless(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"?")
            while not release.is_set():
                pass

    with pytest.raises(StillRunning, match="could not be ended"):
        with launch(Endless, kind, timeout=0.05) as running:
            running.connect().read_exactly(1)
    assert not [thread for thread in threading.enumerate() if not thread.daemon and "request" in thread.name]


def test_stop_may_be_given_another_timeout(release: threading.Event) -> None:
    class Dreaming(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"?")
            release.wait(20)

    running = launch(Dreaming)
    running.connect().read_exactly(1)
    began = time.monotonic()
    with pytest.raises(StillRunning):
        running.stop(timeout=0.02)
    assert time.monotonic() - began < 5


def test_a_server_close_that_hangs_is_left_behind(release: threading.Event) -> None:
    class Hanging(servers.ThreadingMixIn, servers.TCPServer):
        def server_close(self) -> None:
            super().server_close()
            release.wait(20)

    with pytest.raises(StillRunning, match="server_close"):
        with launch(Hanging, Upper, timeout=0.05) as running:
            echo(running)


@pytest.mark.parametrize("base", [socketserver.TCPServer, servers.TCPServer], ids=["standard", "ours"])
def test_a_serve_forever_that_cannot_be_stopped_is_left_behind(
    base: type[Any], release: threading.Event
) -> None:
    class Stubborn(base):  # type: ignore[misc]
        def serve_forever(self, poll_interval: float = 0.5) -> None:
            release.wait(20)

    with pytest.raises(StillRunning, match=r"release\.wait\(20\)"):
        with launch(Stubborn, StandardUpper, timeout=0.05):
            pass


def test_a_datagram_handler_that_takes_too_long(release: threading.Event) -> None:
    class Dreaming(servers.DatagramRequestHandler):
        def handle(self) -> None:
            self.socket.sendto(b"?", self.client_address)
            release.wait(20)

    with pytest.raises(StillRunning, match=r"connection 1 from 127\.0\.0\.1:\d+: in its handler"):
        with launch(Dreaming, "ThreadingUDPServer", timeout=0.05) as running, running.connect() as client:
            client.send(b"x")
            client.receive()


def test_a_function_that_does_not_return(release: threading.Event) -> None:
    def dream(listener: socket.socket) -> None:
        release.wait(20)

    with pytest.raises(StillRunning, match=r"did not return[\s\S]*release\.wait"):
        with launch(dream, timeout=0.05):
            pass


def test_a_function_that_goes_on_with_its_client_is_forced() -> None:
    def flood(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            while True:
                connection.sendall(bytes(1 << 20))

    running = launch(flood, timeout=0.05)
    with socket.create_connection((running.host, running.port), timeout=5) as client:
        client.recv(1)
        with pytest.raises(StillRunning, match="did not return"):
            running.stop()


def test_an_asyncio_callback_that_does_not_end_is_cancelled() -> None:
    cancelled: list[bool] = []

    async def dream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"?")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        finally:
            writer.close()

    with pytest.raises(StillRunning, match=r"dream[\s\S]*Event"):
        with launch(dream, timeout=0.05) as running:
            running.connect().read_exactly(1)
    assert cancelled == [True]


def test_an_event_loop_that_is_blocked_is_left_behind(release: threading.Event) -> None:
    async def block(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"?")
        await writer.drain()
        release.wait(20)
        writer.close()

    with pytest.raises(StillRunning, match="event loop did not end"):
        with launch(block, timeout=0.05) as running:
            running.connect().read_exactly(1)


def test_a_loop_that_does_not_begin(release: threading.Event) -> None:
    class Slow(servers.TCPServer):
        def _servertest_selector(self) -> Any:
            release.wait(20)
            return super()._servertest_selector()

    with pytest.raises(DeadlineExceeded, match=r"the loop of Slow to begin[\s\S]*release\.wait"):
        launch(Slow, Upper, timeout=0.05)


def test_a_stop_that_does_not_return(release: threading.Event) -> None:
    class Stubborn:
        server_address = ("127.0.0.1", 1)

        def start(self) -> None:
            pass

        def stop(self) -> None:
            release.wait(20)

    with pytest.raises(StillRunning, match="stop\\(\\) of Stubborn does not return"):
        launch(FactoryTarget(lambda address: Stubborn()), timeout=0.05).stop()


def test_a_start_that_does_not_return(release: threading.Event) -> None:
    class Stubborn:
        def start(self) -> None:
            release.wait(20)

        def stop(self) -> None:
            pass

    with pytest.raises(TimeoutError, match=r"start\(\) of Stubborn to return[\s\S]*release\.wait"):
        launch(FactoryTarget(lambda address: Stubborn()), timeout=0.05)


# -- nothing is left


@pytest.mark.parametrize("kind", kinds(host="thread"), ids=str)
def test_many_launches_leave_nothing(kind: Kind) -> None:
    for _ in range(3):
        with launch(handler_for(kind), kind) as running:
            echo(running)
    before, threads = open_descriptors(), threading.enumerate()
    for _ in range(10):
        with launch(handler_for(kind), kind) as running:
            echo(running)
    assert not new_descriptors(before)
    assert not new_threads(threads)
