"""What handlers of a selector server wait for, how long, and that nobody waits for nothing or for ever."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import selectors
import socket
import threading
from collections.abc import Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from servertest import servers
from servertest.servers._loop import Loop, PollSelector, Timer
from servertest.servers._selecting import SelectorRequestHandler, SelectorTCPServer
from servertest.servers._selector_task import Task, Wait
from tests.servers._running import LIMIT, ask, connect, read_all, serving
from tests.servers._selecting import Handler, Upper, Witness, converse, peer_does, small_buffers

needs_epoll = pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs epoll")


# -- sleep, readable, writable ------------------------------------------------------------------------------------------------------


def test_sleep_is_as_long_as_it_says_whatever_the_timeout() -> None:
    async def script(handler: Any, peer: socket.socket) -> float:
        begin = monotonic()
        await handler.sleep(0.01)
        return monotonic() - begin

    assert converse(script, timeout=0.001) >= 0.01


def test_sleepers_wake_in_order() -> None:
    order = []

    class Sleeper(Handler):
        async def handle(self) -> None:
            seconds = float(await self.rfile.readline())
            due = monotonic() + seconds
            await self.sleep(seconds)
            order.append(due)

    with serving(SelectorTCPServer(("127.0.0.1", 0), Sleeper)) as server, contextlib.ExitStack() as stack:
        times = [0.03, 0.0, 0.02, 0.01]
        found = [stack.enter_context(connect(server)) for _ in times]
        for client, seconds in zip(found, times, strict=True):
            client.sendall(f"{seconds}\n".encode())
        for client in found:
            assert client.recv(1) == b""
    assert len(order) == 4
    assert order == sorted(order)


def test_readable_and_writable_of_something_else() -> None:
    async def script(handler: Any, peer: socket.socket) -> bytes:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            await handler.writable(ours)
            small_buffers(ours)
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(bytes(4096))
            peer_does(handler, lambda: theirs.recv(1 << 20))
            await handler.writable(ours.fileno())
            peer_does(handler, lambda: theirs.send(b"x"))
            await handler.readable(ours)
            return ours.recv(10)

    assert converse(script) == b"x"


@pytest.mark.parametrize(("name", "word"), [("readable", "readable"), ("writable", "writable")])
def test_such_waits_have_the_limit_too(name: str, word: str) -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    ours.send(bytes(4096))
            with pytest.raises(
                TimeoutError, match=rf"descriptor {ours.fileno()} was not {word} within 0.001 s"
            ):
                await getattr(handler, name)(ours)
            with pytest.raises(TimeoutError):  # the wait before was given up, so there may be another
                await getattr(handler, name)(ours)

    converse(script, timeout=0.001)


def test_what_cannot_be_waited_for_is_an_error_where_the_handler_waits() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        with socket.socket() as closed:
            pass
        with pytest.raises(ValueError, match="closed"):
            await handler.readable(closed)
        with pytest.raises(ValueError, match="closed"):
            await handler.readable(-1)
        with pytest.raises(AttributeError):
            await handler.readable("no file")
        assert await handler.rfile.read1(0) == b""

    converse(script)


@needs_epoll
def test_a_regular_file_is_always_ready_and_so_refused(tmp_path: Any) -> None:
    errors: queue.Queue[BaseException] = queue.Queue()

    class Reading(SelectorRequestHandler):
        async def handle(self) -> None:
            with (tmp_path / "file").open("w") as file:
                try:
                    await self.readable(file)
                except PermissionError as error:
                    errors.put(error)

    with serving(Witness(Reading)) as server, connect(server) as client:
        assert client.recv(1) == b""
    assert errors.qsize() == 1


def test_one_descriptor_for_two_handlers_is_an_error_of_the_second() -> None:
    ours, theirs = socket.socketpair()
    results: queue.Queue[Any] = queue.Queue()

    class Sharing(Handler):
        async def handle(self) -> None:
            await self.rfile.readline()
            try:
                await self.readable(ours)
                results.put("readable")
            except RuntimeError as error:
                results.put(str(error))
                theirs.send(b"x")

    with ours, theirs, serving(Witness(Sharing)) as server:
        with connect(server) as first, connect(server) as second:
            for client in (first, second):
                client.sendall(b"\n")
            assert "cannot wait for the same descriptor twice at a time" in results.get(timeout=LIMIT)
            assert results.get(timeout=LIMIT) == "readable"


def test_two_readers_of_one_connection_is_an_error_of_the_second() -> None:
    peers: list[Handler] = []

    class Meddling(Handler):
        async def handle(self) -> None:
            what = await self.rfile.readline()
            peers.append(self)
            if what == b"meddle\n":
                try:
                    await peers[0].rfile.readline()
                except RuntimeError as error:
                    await self.wfile.write(str(error).encode())
                return
            await self.wfile.write(b"ok\n")
            await self.rfile.readline()

    with serving(Witness(Meddling)) as server, connect(server) as first:
        first.sendall(b"first\n")
        assert first.recv(10) == b"ok\n"
        assert ask(server, b"meddle\n").startswith(b"somebody reads already what the client at (")


# -- timeouts -----------------------------------------------------------------------------------------------------------------------


def test_the_timeout_is_for_each_wait_and_may_change() -> None:
    async def script(handler: Any, peer: socket.socket) -> list[str]:
        failures = []
        for timeout in (0.002, None, 0.001):
            handler.timeout = timeout
            if timeout is None:
                peer_does(handler, lambda: None, lambda: peer.send(b"x"))
                await handler.rfile.read1()
                continue
            try:
                await handler.rfile.readline()
            except TimeoutError as error:
                failures.append(str(error))
        return failures

    assert [failure.split(" for ")[1] for failure in converse(script)] == ["0.002 s", "0.001 s"]


def test_a_timeout_that_is_not_caught_goes_to_handle_error() -> None:
    class Limited(Handler):
        async def handle(self) -> None:
            await self.wfile.write(await self.rfile.readline())
            self.timeout = 0.002
            await self.rfile.readline()

    with serving(Witness(Limited)) as server, connect(server) as client:
        client.sendall(b"one\ntw")
        assert read_all(client) == b"one\n"
    assert "the client at ('127.0.0.1', " in str(server.errors[0])
    assert isinstance(server.errors[0], TimeoutError)


def test_a_client_that_keeps_sending_is_not_idle() -> None:
    """The limit begins anew with each wait, even of a single call."""
    deadlines: list[float] = []

    async def script(handler: Any, peer: socket.socket) -> bytes:
        def send() -> None:
            deadlines.append(handler._servertest_task.deadline)
            peer.send(b"x")

        peer_does(handler, send, send, send)
        return bytes(await handler.rfile.readexactly(3))

    assert converse(script, timeout=1000) == b"xxx"
    assert deadlines == sorted(set(deadlines))


class Clock:
    """Time that stands still, and a loop that remembers its timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def __call__(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> Timer:
        self.timers.append(Timer(self, when, callback))  # type: ignore[arg-type]
        return self.timers[-1]

    def _note_cancelled(self) -> None:
        pass

    def ring(self, timer: Timer) -> None:
        self.now = timer.when
        callback = timer.callback
        timer.callback = None
        assert callback is not None
        callback()


class Expiring(Wait):
    """Notes when it expires."""

    def __init__(self) -> None:
        self.expired: list[float] = []

    def begin(self, task: Task) -> None:
        task.expect(task.limit)

    def expire(self, task: Task) -> None:
        self.expired.append(task.loop())  # type: ignore[operator, misc]  # the clock


def test_one_timer_serves_many_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set again when it rings early, replaced when a shorter wait begins, and taken back at the end."""
    clock, wait = Clock(), Expiring()
    monkeypatch.setattr("servertest.servers._selector_task.monotonic", clock)
    limits = SimpleNamespace(timeout=10.0)

    def life() -> Iterator[Wait]:
        while True:
            yield wait

    task = Task(life(), limits, "client")  # type: ignore[arg-type]
    owner = SimpleNamespace(_servertest_task_ended=lambda task, error: None)
    task.start(clock, owner)  # type: ignore[arg-type]
    for clock.now in (1.0, 2.0, 3.0):
        task.resume()
    assert [timer.when for timer in clock.timers] == [10.0]
    clock.ring(clock.timers[0])
    assert wait.expired == []
    limits.timeout = 1.0
    task.resume()
    assert [timer.when for timer in clock.timers] == [10.0, 13.0, 11.0]
    assert clock.timers[1].callback is None
    clock.ring(clock.timers[2])
    assert wait.expired == [11.0]
    limits.timeout = None
    task.resume()
    assert task.deadline is None
    clock.ring(clock.timers[-1] if clock.timers[-1].callback else clock.call_at(12.0, task._ring))
    assert wait.expired == [11.0]
    limits.timeout = 1.0
    task.resume()
    task.resume(error=ValueError())
    assert all(timer.callback is None for timer in clock.timers)


def test_timers_do_not_pile_up() -> None:
    """Handlers wait again and again for what comes long before the time; the loop keeps about one timer for each."""
    sizes = []

    class Restless(Handler):
        timeout = 1000

        async def handle(self) -> None:
            loop = self._servertest_task.loop
            assert loop is not None
            for _ in range(500):
                await self.rfile.read1(1)
                await self.sleep(1e-6)
            sizes.append(len(loop._timers))

    with serving(Witness(Restless)) as server:
        assert ask(server, b"x" * 500) == b""
    assert sizes[0] <= 300


# -- nobody burns the processor -------------------------------------------------------------------------------------------------------


class Counting(Witness):
    turns = 0

    def service_actions(self) -> None:
        self.turns += 1


@pytest.mark.parametrize("how", ["unread data", "end", "reset"])
def test_what_a_handler_does_not_want_costs_nothing(how: str) -> None:
    """While it sleeps, its client sends, ends its side, or goes: the kernel reports that again and again to those who ask."""
    turns: queue.Queue[int] = queue.Queue()
    asleep = threading.Event()

    class Asleep(Handler):
        async def handle(self) -> None:
            await self.wfile.write(await self.rfile.readline())
            before = self.server.turns
            asleep.set()
            await self.sleep(0.05)
            turns.put(self.server.turns - before)

    with serving(Counting(Asleep)) as server, connect(server) as client:
        client.sendall(b"x\n")
        assert client.recv(10) == b"x\n"
        assert asleep.wait(LIMIT)
        if how == "unread data":
            client.sendall(b"y")
        elif how == "end":
            client.shutdown(socket.SHUT_WR)
        else:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        assert turns.get(timeout=LIMIT) < 10


def test_a_handler_that_reads_while_much_is_to_be_sent_costs_nothing() -> None:
    turns: queue.Queue[int] = queue.Queue()

    class Writing(Handler):
        async def handle(self) -> None:
            small_buffers(self.request)
            self.wfile.write(bytes(200_000))
            before = self.server.turns
            with contextlib.suppress(TimeoutError):
                self.timeout = 0.03
                await self.rfile.readline()
            turns.put(self.server.turns - before)
            self.timeout = LIMIT
            await self.wfile.flush()

    with serving(Counting(Writing)) as server, connect(server) as client:
        assert turns.get(timeout=LIMIT) < 20
        assert len(read_all(client)) == 200_000


def test_the_kernel_is_asked_to_watch_once() -> None:
    """A dialogue needs a single registration, however long it is."""
    changes = []

    class Recording(selectors.DefaultSelector):
        def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
            changes.append("register")
            return super().register(fileobj, events, data)

        def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:
            changes.append("modify")
            return super().modify(fileobj, events, data)

        def unregister(self, fileobj: Any) -> Any:
            changes.append("unregister")
            return super().unregister(fileobj)

    class Choosy(SelectorTCPServer):
        def _servertest_selector(self) -> Any:
            return Recording()

    with serving(Choosy(("127.0.0.1", 0), Upper)) as server, connect(server) as client:
        for _ in range(20):
            client.sendall(b"hello\n")
            assert client.recv(100) == b"HELLO\n"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert changes.count("register") == 3  # the listener, the waker, the connection
    assert changes.count("modify") == 0
    assert changes.count("unregister") == 1


# -- fairness ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["lines", "bytes", "writes", "nothing"])
def test_nobody_keeps_the_loop_to_himself(how: str) -> None:
    """One handler has enough to do for a long time without ever waiting; the other's turn comes in between."""
    log: list[str] = []
    other = socket.socket()

    class Busy(Handler):
        async def handle(self) -> None:
            if await self.rfile.readline() == b"other\n":
                log.append("other")
                return
            other.sendall(b"other\n")
            for _ in range(5000):
                if how == "lines":
                    await self.rfile.readline()
                elif how == "bytes":
                    await self.rfile.read(1000)
                elif how == "writes":
                    await self.wfile.write(b"x")
                else:
                    await self.sleep(0)
                log.append("busy")

    # Bytes are there whenever the handler asks: somebody else feeds them all the time.
    with serving(SelectorTCPServer(("127.0.0.1", 0), Busy)) as server, other, connect(server) as client:
        other.connect(server.server_address)
        feeder = threading.Thread(target=client.sendall, args=(b"begin\n" + b"\n" * 5000,))
        if how == "bytes":
            feeder = threading.Thread(target=client.sendall, args=(b"begin\n" + b"x" * 5_000_000,))
        feeder.start()
        assert other.makefile("rb").read() == b""
        feeder.join(LIMIT)
        server.shutdown()
    assert log.index("other") < 4000


@pytest.mark.parametrize(("limit", "turns"), [(5, [5]), (70, [64, 6])])
def test_connections_are_accepted_in_bunches(limit: int, turns: list[int]) -> None:
    """Through the server's own methods, only while they are wanted, and not so many that others wait long."""
    accepted = [0]

    class Stopping(Witness):
        def process_request(self, request: Any, client_address: Any) -> None:
            super().process_request(request, client_address)
            accepted[-1] += 1
            if sum(accepted) == limit:
                self.shutdown()

        def service_actions(self) -> None:
            accepted.append(0)

    server = Stopping(Upper)
    with contextlib.ExitStack() as stack:
        for _ in range(limit + 3):
            stack.enter_context(connect(server))
        server.serve_forever()
        assert accepted[:-1] == turns
        server.server_close()


# -- other programs' selectors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", [selectors.SelectSelector, selectors.DefaultSelector, PollSelector])
def test_the_program_may_choose_the_selector(chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Chosen(chosen):  # type: ignore[misc]
        def __init__(self) -> None:
            made.append(self)
            super().__init__()

    monkeypatch.setattr(servers, "_ServerSelector", Chosen)
    with serving(SelectorTCPServer(("127.0.0.1", 0), Upper)) as server:
        assert ask(server) == b"HELLO\n"
    assert len(made) == 1


def test_without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.PollSelector)
    with serving(SelectorTCPServer(("127.0.0.1", 0), Upper)) as server:
        assert ask(server) == b"HELLO\n"


@needs_epoll
class TestEpollSelector:
    @pytest.fixture
    def selector(self) -> Any:
        from servertest.servers._selector_epoll import EpollSelector

        with EpollSelector() as selector:
            yield selector

    @pytest.fixture
    def pair(self) -> Any:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            yield ours, theirs

    def test_events(self, selector: Any, pair: Any) -> None:
        ours, theirs = pair
        key = selector.register(ours, selectors.EVENT_READ, "data")
        assert selector.select(0) == []
        theirs.send(b"x")
        assert selector.select() == [(key, selectors.EVENT_READ)]
        key = selector.modify(ours, selectors.EVENT_READ | selectors.EVENT_WRITE, "both")
        assert selector.select(-1) == [(key, selectors.EVENT_READ | selectors.EVENT_WRITE)]
        assert selector.get_map()[ours.fileno()] is key
        assert selector.unregister(ours) is key
        assert selector.select(0) == []

    def test_a_hang_up_counts_as_what_was_asked_for(self, selector: Any, pair: Any) -> None:
        ours, theirs = pair
        key = selector.register(ours, selectors.EVENT_WRITE)
        theirs.close()
        assert selector.select(0) == [(key, selectors.EVENT_WRITE)]

    def test_errors_are_those_of_the_interface(self, selector: Any, pair: Any) -> None:
        ours, theirs = pair
        selector.register(ours, selectors.EVENT_READ)
        with pytest.raises(KeyError, match="already registered"):
            selector.register(ours.fileno(), selectors.EVENT_READ)
        with pytest.raises(KeyError, match="is not registered"):
            selector.unregister(theirs)
        with pytest.raises(KeyError, match="is not registered"):
            selector.modify(theirs, selectors.EVENT_READ)
        theirs.close()
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            selector.register(theirs, selectors.EVENT_READ)

    def test_closed_without_a_word(self, selector: Any) -> None:
        """unregister() works still, by object; and a number may be registered again when it is somebody else's."""
        ours, theirs = socket.socketpair()
        selector.register(ours, selectors.EVENT_READ)
        number = ours.fileno()
        ours.close()
        again = socket.fromfd(theirs.fileno(), theirs.family, theirs.type)
        with theirs, again:
            assert again.fileno() == number
            key = selector.register(again, selectors.EVENT_WRITE)
            assert selector.select(0) == [(key, selectors.EVENT_WRITE)]
            again.close()
            assert selector.unregister(again) is key


# -- the loop's own ------------------------------------------------------------------------------------------------------------------------


class TestLoop:
    @pytest.fixture
    def loop(self) -> Any:
        loop = Loop(())
        with PollSelector() as loop.selector:
            yield loop

    def run(self, loop: Any, unfinished: Any, seconds: float | None = LIMIT) -> None:
        loop.run_while(loop.selector, unfinished, None if seconds is None else monotonic() + seconds)

    def test_calls_come_in_the_order_of_their_times(self, loop: Any) -> None:
        now, made = monotonic(), []
        for number, delay in enumerate([0.002, 0.001, 0.003, 0.001]):
            loop.call_at(now + delay, lambda number=number: made.append(number))
        self.run(loop, lambda: len(made) < 4)
        assert made == [1, 3, 0, 2]

    def test_a_cancelled_call_is_not_made(self, loop: Any) -> None:
        made: list[str] = []

        def cancel_the_third() -> None:
            made.append("second")
            third.cancel()

        first = loop.call_at(monotonic(), lambda: made.append("first"))
        second = loop.call_at(monotonic(), cancel_the_third)
        third: Any = loop.call_at(monotonic(), lambda: made.append("third"))
        first.cancel()
        first.cancel()
        self.run(loop, lambda: loop._timers)
        second.cancel()
        assert made == ["second"]
        assert loop._cancelled == 0

    def test_cancelled_timers_are_thrown_out(self, loop: Any) -> None:
        far = monotonic() + 1000
        kept = [loop.call_at(far + number, lambda: None) for number in range(50)]
        for _ in range(1000):
            loop.call_at(far, lambda: None).cancel()
        assert len(loop._timers) < 50 + 150
        assert min(loop._timers)[2] in (
            kept[0],
            *[entry[2] for entry in loop._timers if entry[2].callback is None],
        )

    def test_what_is_asked_for_soon_comes_in_the_next_turn(self, loop: Any) -> None:
        made: list[int] = []

        def again() -> None:
            made.append(len(made))
            if len(made) < 3:
                loop.call_soon(again)

        loop.call_soon(again)
        turns: list[int] = []

        def unfinished() -> bool:
            turns.append(len(made))
            return len(made) < 3

        self.run(loop, unfinished)
        assert turns == [0, 1, 2, 3]

    def test_it_ends_at_its_time(self, loop: Any) -> None:
        begin = monotonic()
        self.run(loop, lambda: True, 0.005)
        assert 0.005 <= monotonic() - begin < LIMIT

    def test_soon_from_another_thread_wakes_the_loop(self) -> None:
        done = threading.Event()
        server = SelectorTCPServer(("127.0.0.1", 0), Upper)
        with serving(server, poll_interval=None):
            ask(server)
            (loop,) = server.__dict__["_BaseServer__serving"]
            loop.call_soon(done.set)
            assert done.wait(LIMIT)

    def test_a_listener_closed_elsewhere_leaves_its_number_to_others(self) -> None:
        """In a turn that serves others: the number is watched again before the loop has noticed."""
        first, second = (SelectorTCPServer(("127.0.0.1", 0), Upper) for _ in range(2))
        loop = Loop((first, second))
        with PollSelector() as loop.selector:
            for seat in loop._seats:
                loop._sit(seat)
            number = first.fileno()
            first.server_close()
            with socket.socket() as other:
                if other.fileno() != number:
                    os.dup2(other.fileno(), number)
                loop.watch(number, selectors.EVENT_READ, print)
                assert loop.selector.get_map()[number].data is print
                assert loop._seats[0].fd is None
                if other.fileno() != number:
                    os.close(number)
        second.server_close()
