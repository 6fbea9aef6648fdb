"""How connections of a selector server end when the server does, and how they outlive a loop."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from servertest.servers._selecting import SelectorTCPServer
from tests._descriptors import new_descriptors, open_descriptors
from tests.servers._running import LIMIT, ask, connect, join, read_all, serving
from tests.servers._selecting import Handler, Upper, Witness


class Patient(Handler):
    """Notes how it ends."""

    notes: list[str]

    async def handle(self) -> None:
        try:
            while line := await self.rfile.readline():
                await self.wfile.write(line.upper())
        except BaseException as error:
            self.notes.append(type(error).__name__)
            raise
        finally:
            self.notes.append("finally")

    def finish(self) -> None:
        self.notes.append("finish")
        super().finish()


def patient(base: type = Patient) -> Any:
    return type("Handler", (base,), {"notes": []})


@contextlib.contextmanager
def clients(server: Any, number: int) -> Iterator[list[socket.socket]]:
    """So many connections, each of which has got an answer."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(connect(server)) for _ in range(number)]
        for client in found:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"HELLO\n"
        yield found


def test_connections_outlive_the_loop() -> None:
    handler = patient()
    with Witness(handler) as server:
        with serving_only(server), clients(server, 3) as open_ones:
            pass
        assert open_ones  # closed on their side; nobody was there to notice
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(connect(server))
            with serving_only(server):
                client.sendall(b"one\n")
                assert client.recv(100) == b"ONE\n"
            assert handler.notes == ["finally", "finish"] * 3
            client.sendall(b"two\n")
            with serving_only(server):
                assert client.recv(100) == b"TWO\n"


@contextlib.contextmanager
def serving_only(server: Any) -> Iterator[None]:
    """A loop in a thread, without server_close() afterwards."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        join(thread)


def test_each_wait_outlives_the_loop() -> None:
    """For data, for room, for another descriptor, for a while, for the others."""
    begun: queue.Queue[bytes] = queue.Queue()
    theirs, other = socket.socketpair()

    class Waiting(Handler):
        timeout = 20
        bulk = b"x" * 5_000_000

        async def handle(self) -> None:
            what = await self.rfile.readline()
            begun.put(what)
            if what == b"data\n":
                await self.rfile.readline()
            elif what == b"room\n":
                await self.wfile.write(self.bulk)
            elif what == b"other\n":
                await self.readable(theirs)
            elif what == b"while\n":
                await self.sleep(0.02)
            self.wfile.write(b"done")

    with (
        theirs,
        other,
        SelectorTCPServer(("127.0.0.1", 0), Waiting) as server,
        contextlib.ExitStack() as stack,
    ):
        kinds = [b"data\n", b"room\n", b"other\n", b"while\n"]
        found = [stack.enter_context(connect(server)) for _ in kinds]
        with serving_only(server):
            for client, what in zip(found, kinds, strict=True):
                client.sendall(what)
            assert sorted(begun.get(timeout=LIMIT) for _ in kinds) == sorted(kinds)
        found[0].sendall(b"more\n")
        other.send(b"x")
        with serving_only(server):
            assert [len(read_all(client)) for client in found] == [4, 5_000_004, 4, 4]


def test_what_was_waited_for_is_gone_when_the_next_loop_begins() -> None:
    errors: queue.Queue[BaseException] = queue.Queue()
    begun = threading.Event()
    ours, theirs = socket.socketpair()

    class Waiting(Handler):
        async def handle(self) -> None:
            begun.set()
            try:
                await self.readable(ours)
            except OSError as error:
                errors.put(error)

    with theirs, SelectorTCPServer(("127.0.0.1", 0), Waiting) as server, connect(server) as client:
        with serving_only(server):
            assert begun.wait(LIMIT)
        ours.close()
        with serving_only(server):
            assert client.recv(10) == b""
            assert isinstance(errors.get(timeout=LIMIT), OSError)


def test_a_handler_that_was_interrupted_by_a_signal_on_its_way() -> None:
    """It waits for nothing then, so it cannot go on; server_close() ends it like the others."""
    handler = patient()
    server = Witness(handler)
    with clients_of(server, 1) as found:
        (task,) = server.__dict__["_SelectorMixIn__requests"].tasks
        task.wait.forget(task)
        task.wait = None  # where a KeyboardInterrupt leaves it that comes between two lines
        with serving_only(server):
            pass
        server.server_close()
        assert found[0].recv(100) == b""
    assert handler.notes == ["GeneratorExit", "finally", "finish"]


def test_closed_while_a_handler_gives_way_to_others() -> None:
    begun = threading.Event()

    class Giving(Patient):
        async def handle(self) -> None:
            begun.set()
            try:
                while True:
                    await self.sleep(0)
            finally:
                self.notes.append("finally")

    handler = patient(Giving)
    server = Witness(handler)
    with connect(server):
        for _ in range(2):
            with serving_only(server):
                assert begun.wait(LIMIT)
        server.server_close()
    assert handler.notes == ["finally", "finish"]
    assert server.errors == []


def test_a_timeout_counts_the_time_between_two_loops() -> None:
    errors: queue.Queue[BaseException] = queue.Queue()
    begun = threading.Event()

    class Limited(Handler):
        timeout = 0.02

        async def handle(self) -> None:
            begun.set()
            try:
                await self.rfile.readline()
            except TimeoutError as error:
                errors.put(error)

    with SelectorTCPServer(("127.0.0.1", 0), Limited) as server, connect(server):
        with serving_only(server):
            assert begun.wait(LIMIT)
        with serving_only(server):
            assert isinstance(errors.get(timeout=LIMIT), TimeoutError)


def test_server_close_ends_all_connections() -> None:
    handler = patient()
    server = Witness(handler)
    with clients_of(server, 3) as found:
        server.server_close()
        assert [client.recv(100) for client in found] == [b""] * 3
    assert handler.notes == ["GeneratorExit", "finally", "finish"] * 3
    assert server.calls[-6:] == ["shutdown_request", "close_request"] * 3
    assert server.errors == []
    server.server_close()


@contextlib.contextmanager
def clients_of(server: Any, number: int) -> Iterator[list[socket.socket]]:
    """Connections that have outlived the loop."""
    with contextlib.ExitStack() as stack:
        with serving_only(server):
            found = stack.enter_context(clients(server, number))
        yield found


def test_what_was_written_last_is_sent_if_that_needs_no_waiting() -> None:
    class Polite(Handler):
        wbufsize = 100

        async def handle(self) -> None:
            try:
                await self.wfile.write(await self.rfile.readline())
                await self.wfile.flush()
                await self.rfile.readline()
            finally:
                await self.wfile.write(b"bye\n")

    server = Witness(Polite)
    with connect(server) as client:
        with serving_only(server):
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
        server.server_close()
        assert read_all(client) == b"bye\n"


def test_a_finally_block_that_would_wait_is_cut_short() -> None:
    notes: list[str] = []

    class Lingering(Patient):
        async def handle(self) -> None:
            try:
                await super().handle()
            finally:
                try:
                    await self.rfile.readline()
                finally:
                    notes.append("cut short")

    Lingering.notes = notes
    server = Witness(Lingering)
    with clients_of(server, 2):
        server.server_close()
    assert notes == ["GeneratorExit", "finally", "cut short", "finish"] * 2
    assert server.errors == []


def test_a_handler_that_will_not_end() -> None:
    class Stubborn(Handler):
        tries = 0

        async def handle(self) -> None:
            await self.wfile.write((await self.rfile.readline()).upper())
            while self.tries < 50:
                try:
                    await self.rfile.readline()
                except GeneratorExit:
                    type(self).tries += 1

    server = Witness(Stubborn)
    with clients_of(server, 1) as found:
        server.server_close()
        assert found[0].recv(100) == b""
    assert len(server.errors) == 1
    assert "Stubborn.handle() was told to end, and waited for something else 10 times" in str(
        server.errors[0]
    )
    assert server.calls.count("shutdown_request") == 1
    Stubborn.tries = 100  # or it would go on when it is collected


def test_errors_on_the_way_out_do_not_keep_the_others_open() -> None:
    class Failing(Patient):
        def finish(self) -> None:
            super().finish()
            raise RuntimeError("in finish")

    server = Witness(patient(Failing))
    with clients_of(server, 3) as found:
        server.server_close()
        assert [client.recv(100) for client in found] == [b""] * 3
    assert [str(error) for error in server.errors] == ["in finish"] * 3


def test_an_exit_on_the_way_out_does_not_keep_the_others_open() -> None:
    class Exiting(Patient):
        def finish(self) -> None:
            super().finish()
            raise SystemExit("in finish")

    server = Witness(patient(Exiting))
    with clients_of(server, 3) as found:
        with pytest.raises(SystemExit):
            server.server_close()
        assert [client.recv(100) for client in found] == [b""] * 3
    assert server.errors == []


# -- server_close() while the loop runs ---------------------------------------------------------------------------------------------------


def test_closed_by_another_thread() -> None:
    handler = patient()
    server = Witness(handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with clients(server, 2) as found:
        server.server_close()
        assert handler.notes == ["GeneratorExit", "finally", "finish"] * 2  # when it returns, all is over
        assert [client.recv(100) for client in found] == [b""] * 2
    join(thread)


def test_closed_by_a_handler() -> None:
    notes: list[str] = []

    class Closing(Patient):
        async def handle(self) -> None:
            if await self.rfile.readline() == b"close\n":
                self.server.server_close()
                notes.append("closed")
                await self.wfile.write(b"last words\n")
                await self.rfile.readline()
            await self.wfile.write(b"HELLO\n")
            await super().handle()

    Closing.notes = notes
    server = Witness(Closing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with clients(server, 1) as found, connect(server) as closing:
        closing.sendall(b"close\n")
        assert read_all(closing) == b"last words\n"
        assert found[0].recv(100) == b""
    join(thread)
    assert notes[0] == "closed"
    assert server.calls.count("shutdown_request") == 2


def test_closed_while_a_handler_blocks_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servertest.servers._selecting._PATIENCE", 0.01)
    blocked, release = threading.Event(), threading.Event()

    class Blocking(Handler):
        def handle(self) -> None:
            blocked.set()
            assert release.wait(LIMIT)

    server = Witness(Blocking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with connect(server):
        assert blocked.wait(LIMIT)
        with pytest.warns(ResourceWarning, match="the loop is busy in a handler that does not return"):
            server.server_close()
        release.set()
        join(thread)
    assert server.calls.count("shutdown_request") == 1


# -- drain_timeout --------------------------------------------------------------------------------------------------------------------------


class Slow(Handler):
    """Answers when it was told that it may."""

    go_on: socket.socket

    async def handle(self) -> None:
        await self.wfile.write((await self.rfile.readline()).upper())
        await self.readable(self.go_on)
        await self.wfile.write(b"and more\n")


def test_draining_lets_handlers_finish() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = Witness(type("Handler", (Slow,), {"go_on": ours}))
        server.drain_timeout = LIMIT
        with clients_of(server, 1) as found:
            theirs.send(b"x")
            server.server_close()
            assert read_all(found[0]) == b"and more\n"


def test_draining_has_an_end() -> None:
    handler = patient()
    server = Witness(handler)
    server.drain_timeout = 0.01
    with clients_of(server, 2) as found:
        assert server.drain(0.001) == 2
        server.server_close()
        assert [client.recv(100) for client in found] == [b""] * 2
    assert handler.notes == ["GeneratorExit", "finally", "finish"] * 2
    assert server.drain(LIMIT) == 0


def test_draining_when_the_loop_closes_itself() -> None:
    handler = patient()
    server = Witness(handler)
    server.drain_timeout = LIMIT
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with clients(server, 1) as found:
        closer = threading.Thread(target=server.server_close)
        closer.start()
        found[0].sendall(b"still served\n")
        assert found[0].recv(100) == b"STILL SERVED\n"
        found[0].shutdown(socket.SHUT_WR)
        assert found[0].recv(100) == b""
        join(closer)
    join(thread)
    assert handler.notes == ["finally", "finish"]


def test_a_handler_that_closes_the_server_while_it_drains() -> None:
    class Closing(Handler):
        async def handle(self) -> None:
            await self.wfile.write((await self.rfile.readline()).upper())
            await self.rfile.readline()
            self.server.server_close()
            await self.wfile.write(b"closed\n")

    server = Witness(Closing)
    server.drain_timeout = LIMIT
    with clients_of(server, 1) as found:
        found[0].sendall(b"close\n")
        begin = monotonic()
        server.server_close()
        assert monotonic() - begin < LIMIT / 2  # it does not wait for itself
        assert read_all(found[0]) == b"closed\n"


def test_an_interruption_while_it_drains_ends_all_the_same() -> None:
    class Interrupting(Patient):
        async def handle(self) -> None:
            await super().handle()
            raise KeyboardInterrupt

    handler = patient(Interrupting)
    server = Witness(handler)
    server.drain_timeout = LIMIT
    with clients_of(server, 2) as found:
        found[0].shutdown(socket.SHUT_WR)
        with pytest.raises(KeyboardInterrupt):
            server.server_close()
        assert found[1].recv(100) == b""
    assert sorted(handler.notes) == ["GeneratorExit", "finally", "finally", "finish", "finish"]


# -- max_connections ------------------------------------------------------------------------------------------------------------------------


def test_no_more_connections_than_allowed() -> None:
    server = Witness(Upper)
    server.max_connections = 2
    with serving(server):
        with clients(server, 2) as found, connect(server) as third:
            third.sendall(b"may I?\n")
            found[0].sendall(b"still two\n")
            assert found[0].recv(100) == b"STILL TWO\n"
            assert server.calls.count("get_request") == 2
            found[0].close()
            assert third.recv(100) == b"MAY I?\n"
        assert ask(server) == b"HELLO\n"


def test_handle_request_with_all_connections_resting() -> None:
    server = Witness(Upper)
    server.max_connections = 1
    server.timeout = LIMIT
    with server, clients_of(server, 1) as found, connect(server) as waiting:
        waiting.sendall(b"me too\n")
        waiting.shutdown(socket.SHUT_WR)
        found[0].shutdown(socket.SHUT_WR)
        server.handle_request()
        assert read_all(waiting) == b"ME TOO\n"


# -- descriptors --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors as Linux shows them")
def test_no_descriptor_is_left() -> None:
    def rude(server: Any, how: str) -> None:
        with connect(server) as client:
            client.sendall(b"hello\nhalf a li")
            assert client.recv(100) == b"HELLO\n"
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    before = open_descriptors()
    for drain_timeout in (None, 0.001):
        server = Witness(Upper)
        server.drain_timeout = drain_timeout
        with serving(server), clients(server, 3):
            for how in ("close", "reset") * 3:
                rude(server, how)
            server.shutdown()
            server.server_close()
    assert not new_descriptors(before)
    assert all(isinstance(error, ConnectionError) for error in server.errors)


def test_a_forked_worker_leaves_the_connections_of_its_parent_alone() -> None:
    handler = patient()
    server = Witness(handler)
    with clients_of(server, 1) as found:
        server._servertest_forget_loops()  # what a worker does first of all
        server.server_close()
        assert handler.notes == []
        found[0].settimeout(0)
        with pytest.raises(BlockingIOError):
            found[0].recv(1)
        inherited = server.__dict__["_SelectorMixIn__requests"].inherited
        for task in list(inherited.tasks):
            task.close()
            task.request.close()
