"""Stopping: from anywhere, at once, and without burning the processor when something is wrong."""

from __future__ import annotations

import ctypes
import errno
import functools
import operator
import os
import signal
import socket
import threading
import time
from typing import Any, ClassVar, Self

import pytest

from servertest import servers
from servertest.servers import _signals
from servertest.servers._loop import PollSelector
from tests._descriptors import new_descriptors, open_descriptors
from tests.servers._running import LIMIT, Echo, ask, connect, join, serving

LOCAL = ("127.0.0.1", 0)


class LatestPossible(PollSelector):
    """Lets a signal come when it is too late for its handler to be run before the wait: nothing but C lies between the two."""

    came = False
    woken = False

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is None
        if LatestPossible.came:
            return super().select(timeout)
        LatestPossible.came = True
        send = functools.partial(ctypes.CDLL(None).kill, os.getpid(), signal.SIGUSR1)
        _, events = map(operator.call, (send, functools.partial(self._poll.poll, LIMIT * 1000)))
        LatestPossible.woken = bool(events)
        return super().select(0)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals here")
@pytest.mark.parametrize("forked", [False, True])
def test_a_signal_handler_stops_a_loop_that_has_no_limit_to_its_wait(
    monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    monkeypatch.setattr(servers, "_ServerSelector", LatestPossible)
    monkeypatch.setattr(LatestPossible, "came", False)
    monkeypatch.setattr(LatestPossible, "woken", False)
    if forked:
        # As in a child that was forked inside such a loop.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        monkeypatch.setattr(_signals, "_ours", (writer, os.getppid()))
    with servers.TCPServer(LOCAL, Echo) as server:
        previous = signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
        try:
            server.serve_forever(None)
        finally:
            signal.signal(signal.SIGUSR1, previous)
    assert LatestPossible.woken
    assert signal.set_wakeup_fd(-1) == -1
    if forked:
        os.close(reader)
        os.close(writer)


def test_a_wake_up_descriptor_of_the_program_s_own_is_left_alone() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    try:
        with servers.TCPServer(LOCAL, Echo) as server:
            timer = threading.Timer(0.01, server.shutdown)
            timer.start()
            server.serve_forever(None)
            join(timer)
    finally:
        assert signal.set_wakeup_fd(-1) == writer
        os.close(reader)
        os.close(writer)


def test_one_that_the_program_puts_in_its_place_stays() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    class Server(servers.TCPServer):
        def service_actions(self) -> None:
            signal.set_wakeup_fd(writer)
            self.shutdown()

    with Server(LOCAL, Echo) as server, connect(server) as client:
        client.close()
        server.serve_forever(None)
    assert signal.set_wakeup_fd(-1) == writer
    os.close(reader)
    os.close(writer)


def test_shutdown_before_the_loop_ends_it_as_it_begins() -> None:
    with servers.TCPServer(LOCAL, Echo) as server:
        server.shutdown()
        server.serve_forever()
        with serving(server):
            assert ask(server) == b"HELLO\n"


def test_shutdown_from_the_handler_ends_the_loop_after_the_request() -> None:
    class Stopper(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.server.shutdown()
            self.wfile.write(b"stopping\n")

    with servers.TCPServer(LOCAL, Stopper) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert ask(server) == b"stopping\n"
        join(thread)


def test_shutdown_from_service_actions() -> None:
    class Server(servers.TCPServer):
        def service_actions(self) -> None:
            self.shutdown()

    with Server(LOCAL, Echo) as server:
        server.serve_forever(0.01)


def test_shutdown_from_a_signal_handler_of_the_serving_thread() -> None:
    with servers.TCPServer(LOCAL, Echo) as server:
        previous = signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
        main = threading.main_thread().ident
        assert main is not None

        def send() -> None:
            ask(server)  # so the loop runs
            signal.pthread_kill(main, signal.SIGUSR1)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            server.serve_forever(None)
        finally:
            join(sender)
            signal.signal(signal.SIGUSR1, previous)


def test_writing_the_private_flag_stops_at_once_as_programs_do_from_handlers() -> None:
    with servers.TCPServer(LOCAL, Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(None,))
        thread.start()
        ask(server)
        server._BaseServer__shutdown_request = True  # type: ignore[attr-defined]
        join(thread)
        assert server.__dict__["_BaseServer__shutdown_request"] is False
        assert server._BaseServer__is_shut_down.is_set()  # type: ignore[attr-defined]


def test_the_end_event_is_unset_before_and_during_the_loop_and_set_after_it() -> None:
    with servers.TCPServer(LOCAL, Echo) as server:
        event: Any = server.__dict__["_BaseServer__is_shut_down"]
        assert isinstance(event, threading.Event)
        assert not event.is_set()
        with serving(server):
            ask(server)
            assert not event.is_set()
            server.shutdown()
            assert event.is_set()


def test_shutdown_waits_for_a_loop_of_the_programs_own() -> None:
    """A subclass may copy serve_forever(): clear the event, look at the flag, set the event."""

    class Own(servers.TCPServer):
        began = threading.Event()
        ended = False

        def serve_forever(self, poll_interval: float | None = 0.5) -> None:
            self._BaseServer__is_shut_down.clear()  # type: ignore[attr-defined]
            try:
                self.began.set()
                self.handle_request()
                self.ended = True
            finally:
                self._BaseServer__is_shut_down.set()  # type: ignore[attr-defined]

    with Own(LOCAL, Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert server.began.wait(LIMIT)
        stopper = threading.Thread(target=server.shutdown)
        stopper.start()
        ask(server)
        join(stopper)
        assert server.ended
        join(thread)


def test_a_class_attribute_may_shadow_the_flag() -> None:
    """Programs do so in tests, with an __init__ that does nothing."""

    class Stopped(servers.TCPServer):
        _BaseServer__shutdown_request = True

        def __init__(self) -> None:
            self.socket = socket.create_server(LOCAL)

    with Stopped() as server:
        server.serve_forever()


def test_a_server_that_answers_to_every_name_is_not_asked_for_ours() -> None:
    """Programs hand what is missing on to an object of theirs, which may answer to anything."""

    class Delegating(servers.ThreadingTCPServer):
        def __getattr__(self, name: str) -> object:
            if name.startswith("_servertest"):
                raise LookupError(name)
            raise AttributeError(name)

    with Delegating(LOCAL, Echo) as server, serving(server):
        assert ask(server) == b"HELLO\n"


def test_one_shutdown_stops_all_loops_of_a_server() -> None:
    class Server(servers.TCPServer):
        serving: ClassVar[set[int]] = set()
        all_serve = threading.Event()

        def service_actions(self) -> None:
            self.serving.add(threading.get_ident())
            if len(self.serving) == 3:
                self.all_serve.set()

    with Server(LOCAL, Echo) as server:
        threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert server.all_serve.wait(LIMIT)
        ask(server)
        server.shutdown()
        for thread in threads:
            join(thread)


def test_closing_without_a_shutdown_ends_the_loop() -> None:
    server = servers.TCPServer(LOCAL, Echo)
    thread = threading.Thread(target=server.serve_forever, args=(None,))
    thread.start()
    ask(server)
    server.server_close()
    join(thread)


def test_a_replaced_listener_is_followed() -> None:
    class Server(servers.TCPServer):
        def service_actions(self) -> None:
            turned.set()

    turned = threading.Event()
    with Server(LOCAL, Echo) as server, servers.TCPServer(LOCAL, Echo) as spare:
        with serving(server, poll_interval=0.01):
            ask(server)
            server.socket, spare.socket = spare.socket, server.socket
            turned.clear()
            assert turned.wait(LIMIT)
            assert ask(spare) == b"HELLO\n"


class Starving(servers.TCPServer):
    """accept() fails as it does in a process that has no descriptors left, until `fed`."""

    fed = threading.Event()
    attempts = 0

    def get_request(self) -> Any:
        if not self.fed.is_set():
            self.attempts += 1
            if self.attempts == 3:
                self.fed.set()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().get_request()


def test_a_listener_that_cannot_be_served_is_left_alone_for_a_while() -> None:
    reported: list[OSError] = []

    class Server(Starving):
        fed = threading.Event()

        def handle_accept_error(self, error: OSError) -> None:
            reported.append(error)

    with Server(LOCAL, Echo) as server, serving(server):
        began = time.thread_time()
        assert ask(server) == b"HELLO\n"
        # 5 and 10 and 20 ms of rest, where the standard module asks 400,000 times a second.
        assert server.attempts == 3
        assert [error.errno for error in reported] == [errno.EMFILE] * 3
        assert time.thread_time() - began < 1


def test_a_starving_server_stops_at_once() -> None:
    class Server(Starving):
        fed = threading.Event()
        starved = threading.Event()

        def get_request(self) -> Any:
            self.starved.set()
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    with Server(LOCAL, Echo) as server, connect(server), serving(server, poll_interval=None):
        assert server.starved.wait(LIMIT)


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO])
def test_an_error_of_one_client_in_accept_is_forgotten(number: int) -> None:
    class Server(servers.TCPServer):
        failed = False

        def get_request(self) -> Any:
            if not self.failed:
                self.failed = True
                super().get_request()[0].close()
                raise OSError(number, os.strerror(number))
            return super().get_request()

    with Server(LOCAL, Echo) as server, serving(server), connect(server):
        assert ask(server) == b"HELLO\n"


def test_any_other_exception_in_get_request_leaves_serve_forever() -> None:
    class Server(servers.TCPServer):
        def get_request(self) -> Any:
            raise ZeroDivisionError("in get_request")

    with Server(LOCAL, Echo) as server, connect(server), pytest.raises(ZeroDivisionError):
        server.serve_forever()


def test_a_loop_without_a_descriptor_to_spare_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*args: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "eventfd", no_more)
    with servers.TCPServer(LOCAL, Echo) as server, serving(server, poll_interval=0.01):
        assert ask(server) == b"HELLO\n"


def test_a_socket_pair_wakes_the_loop_where_there_is_no_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "eventfd")
    with servers.TCPServer(LOCAL, Echo) as server, serving(server, poll_interval=None):
        assert ask(server) == b"HELLO\n"


def test_nothing_is_left_open_by_a_loop() -> None:
    with servers.TCPServer(LOCAL, Echo) as server:
        before = open_descriptors()
        for _ in range(20):
            with_thread = threading.Thread(target=server.serve_forever)
            with_thread.start()
            ask(server)
            server.shutdown()
            join(with_thread)
        assert not new_descriptors(before)


def test_service_actions_keep_their_cadence_when_nothing_comes() -> None:
    class Server(servers.TCPServer):
        calls = 0
        enough = threading.Event()

        def service_actions(self) -> None:
            self.calls += 1
            if self.calls == 5:
                self.enough.set()

    with Server(LOCAL, Echo) as server, serving(server, poll_interval=0.005):
        assert server.enough.wait(LIMIT)


def test_service_actions_follow_each_request_but_not_the_stop() -> None:
    calls: list[str] = []

    class Server(servers.TCPServer):
        def process_request(self, request: Any, client_address: Any) -> None:
            calls.append("request")
            super().process_request(request, client_address)

        def service_actions(self) -> None:
            calls.append("actions")

    with Server(LOCAL, Echo) as server, serving(server, poll_interval=None):
        ask(server)
        ask(server)
    assert calls[:3] == ["request", "actions", "request"]
    assert calls.count("actions") <= 2


def test_the_selector_is_looked_up_where_programs_replace_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import selectors

    seen: list[Any] = []

    class Recording(selectors.SelectSelector):
        def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
            seen.append(fileobj)
            return super().register(fileobj, events, data)

        def select(self, timeout: float | None = None) -> Any:
            seen.append(timeout)
            return super().select(timeout)

    monkeypatch.setattr(servers, "_ServerSelector", Recording)
    with servers.TCPServer(LOCAL, Echo) as server, serving(server, poll_interval=0.25):
        ask(server)
        assert seen[0] is server
        assert 0.25 in seen


def test_a_selector_may_do_with_register_and_select_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual selectors of other people's tests ignore what they do not know and return anything that is true."""
    served = threading.Event()

    class Virtual:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *args: object) -> None:
            pass

        def register(self, *args: object) -> None:
            pass

        def select(self, timeout: float | None = None) -> list[object]:
            return [object()]

    class Server(servers.TCPServer):
        def _handle_request_noblock(self) -> None:
            served.set()
            self.shutdown()

    monkeypatch.setattr(servers, "_ServerSelector", Virtual)
    with Server(LOCAL, Echo) as server:
        server.serve_forever()
    assert served.is_set()


def test_several_servers_in_one_loop() -> None:
    with servers.TCPServer(LOCAL, Echo) as first, servers.TCPServer(LOCAL, Echo) as second:
        thread = threading.Thread(target=servers.serve_together, args=(first, second))
        thread.start()
        assert ask(first) == ask(second) == b"HELLO\n"
        first.shutdown()
        assert ask(second) == b"HELLO\n"
        assert thread.is_alive()
        second.shutdown()
        join(thread)


def test_one_of_several_servers_may_be_closed() -> None:
    with servers.TCPServer(LOCAL, Echo) as first, servers.ThreadingTCPServer(LOCAL, Echo) as second:
        thread = threading.Thread(target=servers.serve_together, args=(first, second))
        thread.start()
        ask(first)
        first.server_close()
        assert ask(second) == b"HELLO\n"
        second.server_close()
        join(thread)


def test_serving_nothing_together_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one server"):
        servers.serve_together()


def test_a_server_whose_init_never_ran_serves() -> None:
    server = servers.TCPServer.__new__(servers.TCPServer)
    with servers.TCPServer(LOCAL, Echo) as template:
        server.__dict__.update(socket=template.socket, server_address=template.server_address)
        server.RequestHandlerClass = Echo
        with serving(server):
            assert ask(server) == b"HELLO\n"


def test_fileno_lets_one_selector_watch_several_servers() -> None:
    import selectors

    with servers.TCPServer(LOCAL, Echo) as first, servers.TCPServer(LOCAL, Echo) as second:
        with selectors.DefaultSelector() as selector:
            for server in (first, second):
                selector.register(server, selectors.EVENT_READ)
            with connect(second) as client:
                client.sendall(b"hello\n")
                client.shutdown(1)
                [(key, _)] = selector.select(LIMIT)
                assert key.fileobj is second
                second._handle_request_noblock()
                assert client.recv(100) == b"HELLO\n"


def test_handle_request_times_out_without_a_client() -> None:
    class Server(servers.TCPServer):
        timeout = 0.01

        def handle_timeout(self) -> str:
            return "nobody came"

    with Server(LOCAL, Echo) as server:
        assert server.handle_request() == "nobody came"


def test_handle_request_takes_the_shorter_of_both_timeouts() -> None:
    class Server(servers.TCPServer):
        timeout = 3600

        def handle_timeout(self) -> str:
            return "nobody came"

    with Server(LOCAL, Echo) as server:
        server.socket.settimeout(0.01)
        assert server.handle_request() == "nobody came"


def test_handle_request_on_a_closed_server_is_an_error() -> None:
    server = servers.TCPServer(LOCAL, Echo)
    server.server_close()
    server.socket = socket.socket()
    server.socket.close()
    with pytest.raises((ValueError, OSError)):
        server.handle_request()
