"""Connections that are there at the same time are accepted together, and only then handled; where that could make one wait, it is not done."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import ref

import pytest

from servertest import servers
from servertest.servers import _inet
from tests.servers._running import LIMIT, Echo, Held, connect, read_all, serving

LOCAL = ("127.0.0.1", 0)
TURNS = ["accepted", "started"] * 4
TOGETHER = ["accepted"] * 4 + ["started"] * 4


class Noting(servers.ThreadingTCPServer):
    """Writes down in which order connections are accepted and their threads started."""

    request_queue_size = 64

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.notes: list[str] = []
        self.actions = 0
        self.errors: list[str] = []

    def service_actions(self) -> None:
        self.actions += 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.errors.append("failed")


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Noting]:
    """Servers put in here write down when they accept, and when they start a thread."""
    watched: list[Noting] = []
    accept, start = socket.socket.accept, threading.Thread.start

    def accepted(listener: socket.socket) -> Any:
        for server in watched:
            if server.socket is listener:
                server.notes.append("accepted")
        return accept(listener)

    def noted(thread: threading.Thread) -> None:
        if "process_request_thread" in thread.name:
            for server in watched:
                server.notes.append("started")
        start(thread)

    monkeypatch.setattr(socket.socket, "accept", accepted)
    monkeypatch.setattr(threading.Thread, "start", noted)
    return watched


@contextmanager
def waiting(server: Any, count: int, *, silent: bool = False) -> Iterator[list[socket.socket]]:
    """Clients in the queue of a server that does not serve yet, each with a line sent unless they are silent."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(count)]
        for number, client in enumerate([] if silent else clients):
            client.sendall(b"%c\n" % (97 + number))
            client.shutdown(socket.SHUT_WR)
        yield clients


def answers(clients: list[socket.socket]) -> list[bytes]:
    return [read_all(client) for client in clients]


def is_over(client: socket.socket) -> bool:
    """Whether the server has ended the connection: a reset says so too, where it had not read the line."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def second_start_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The second thread that is started for a request is not."""
    start, numbers = threading.Thread.start, iter(range(100))

    def failing(thread: threading.Thread) -> None:
        if "process_request_thread" in thread.name and next(numbers) == 1:
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", failing)


def third_accept_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    accept, numbers = socket.socket.accept, iter(range(100))

    def failing(listener: socket.socket) -> Any:
        if next(numbers) == 2:
            raise error
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", failing)


def capitals(count: int) -> list[bytes]:
    return [b"%c\n" % (65 + number) for number in range(count)]


def test_all_that_is_there_is_accepted_before_the_first_thread_starts(starts: list[Noting]) -> None:
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients:
        starts.append(server)
        with serving(server):
            assert answers(clients) == capitals(4)
        assert server.notes == TOGETHER
        assert server.actions >= 1


def test_more_than_a_bunch_is_served_too() -> None:
    with Noting(LOCAL, Echo) as server, waiting(server, 26) as clients, serving(server):
        assert answers(clients) == capitals(26)


class OwnGetRequest(Noting):
    def get_request(self) -> Any:
        return self.socket.accept()


class OwnProcessRequest(Noting):
    def process_request(self, request: Any, client_address: Any) -> None:
        super().process_request(request, client_address)


class OwnVerifyRequest(Noting):
    def verify_request(self, request: Any, client_address: Any) -> bool:
        return True


class OwnNoblock(Noting):
    def _handle_request_noblock(self) -> None:
        super()._handle_request_noblock()


class Limited(Noting):
    max_threads = 8


@pytest.mark.parametrize("cls", [OwnGetRequest, OwnVerifyRequest, OwnProcessRequest, OwnNoblock, Limited])
def test_one_by_one_where_a_step_may_take_its_time(starts: list[Noting], cls: type[Noting]) -> None:
    with cls(LOCAL, Echo) as server, waiting(server, 4) as clients:
        starts.append(server)
        with serving(server):
            assert answers(clients) == capitals(4)
        assert server.notes == TURNS


@pytest.mark.parametrize("name", ["get_request", "verify_request", "process_request"])
def test_one_by_one_where_the_instance_has_a_step_of_its_own(starts: list[Noting], name: str) -> None:
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients:
        starts.append(server)
        setattr(server, name, getattr(super(Noting, server), name))
        with serving(server):
            assert answers(clients) == capitals(4)
        assert server.notes == TURNS


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (servers.TCPServer, "get_request"),
        (servers.BaseServer, "verify_request"),
        (servers.ThreadingMixIn, "process_request"),
    ],
)
def test_one_by_one_where_a_step_was_replaced_for_all_servers(
    monkeypatch: pytest.MonkeyPatch, starts: list[Noting], base: type, name: str
) -> None:
    step = getattr(base, name)
    monkeypatch.setattr(base, name, lambda *arguments: step(*arguments))
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients:
        starts.append(server)
        with serving(server):
            assert answers(clients) == capitals(4)
        assert server.notes == TURNS


def test_a_get_request_replaced_for_all_servers_sees_each_datagram(monkeypatch: pytest.MonkeyPatch) -> None:
    get, seen, all_seen = servers.UDPServer.get_request, [], threading.Event()

    def noted(server: servers.UDPServer) -> Any:
        request = get(server)
        seen.append(request[0][0])
        if len(seen) == 4:
            all_seen.set()
        return request

    monkeypatch.setattr(servers.UDPServer, "get_request", noted)
    with servers.UDPServer(LOCAL, servers.BaseRequestHandler) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for number in range(4):
                client.sendto(b"%d" % number, server.server_address)
        with serving(server):
            assert all_seen.wait(LIMIT), seen


def test_one_by_one_where_a_second_loop_may_be_faster(starts: list[Noting]) -> None:
    class Halting(Noting):
        """Its loops come to a halt after their first turn, until they are let go."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.halts = {name: (threading.Event(), threading.Event()) for name in ("first", "second")}

        def service_actions(self) -> None:
            halted, let_go = self.halts[threading.current_thread().name]
            halted.set()
            assert let_go.wait(LIMIT)

    with Halting(LOCAL, Echo) as server:
        loops = [
            threading.Thread(target=server.serve_forever, args=(0.01,), name=name) for name in server.halts
        ]
        try:
            for loop in loops:
                loop.start()
                assert server.halts[loop.name][0].wait(LIMIT)
            with waiting(server, 4) as clients:
                starts.append(server)
                server.halts["first"][1].set()
                assert answers(clients) == capitals(4)
        finally:
            for _, let_go in server.halts.values():
                let_go.set()
            server.shutdown()
            for loop in loops:
                loop.join(LIMIT)
        assert server.notes == TURNS


def test_one_by_one_from_a_listener_that_others_may_accept_from(starts: list[Noting]) -> None:
    """Whoever is faster would leave us in accept(), and those that were accepted before without a thread."""
    with Noting(LOCAL, Echo) as first, Noting.adopt(first.socket.dup(), Echo) as server:
        with waiting(server, 4) as clients:
            starts.append(server)
            with serving(server):
                assert answers(clients) == capitals(4)
        assert server.notes == TURNS
        # The socket object itself, of which the other server knows that it has made it.
        again = Noting.adopt(first.socket, Echo)
        starts[:] = [again]
        with waiting(again, 4) as clients, serving(again):
            assert answers(clients) == capitals(4)
        assert again.notes == TURNS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork nobody gets a copy")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_one_by_one_once_a_fork_has_copied_the_listener(starts: list[Noting]) -> None:
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        starts.append(server)
        with serving(server):
            assert answers(clients) == capitals(4)
        assert server.notes == TURNS


def test_each_is_verified_when_those_before_it_are_under_way() -> None:
    """A program may refuse by what there is to do already."""

    class Choosy(Noting):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return len(self._threads) < 2

    with Choosy(LOCAL, Held) as server, waiting(server, 4, silent=True) as clients, serving(server):
        assert [client.recv(5) for client in clients[:2]] == [b"here\n"] * 2
        assert all(is_over(client) for client in clients[2:])
        for client in clients[:2]:
            client.sendall(b"done\n")


def test_a_thread_that_cannot_be_started_is_an_error_of_its_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second_start_raises(monkeypatch, RuntimeError("can't start new thread"))
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients, serving(server):
        first, second, third, fourth = clients
        assert answers([first, third, fourth]) == [b"A\n", b"C\n", b"D\n"]
        assert is_over(second)
        assert server.errors == ["failed"]


def test_a_thread_that_cannot_be_made_is_an_error_of_its_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Scarce(threading.Thread):
        def __init__(self, *, args: tuple[Any, ...] = (), **rest: Any) -> None:
            super().__init__(args=args, **rest)
            if args[1:] == (second.getsockname(),):
                raise RuntimeError("no more threads")

    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients:
        first, second, third, fourth = clients
        monkeypatch.setattr(threading, "Thread", Scarce)
        with serving(server):
            assert answers([first, third, fourth]) == [b"A\n", b"C\n", b"D\n"]
            assert is_over(second)
        assert server.errors == ["failed"]
        assert len(server._threads) == 0


def test_an_interruption_while_threads_are_made_comes_when_all_are_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[threading.Thread] = []

    class Interrupted(threading.Thread):
        def __init__(self, **rest: Any) -> None:
            super().__init__(**rest)
            made.append(self)
            if len(made) == 2:
                raise KeyboardInterrupt

    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(threading, "Thread", Interrupted)
            server.serve_forever()
        assert answers(clients) == capitals(4)


@pytest.mark.parametrize("own", [True, False])
def test_threads_are_made_before_the_first_starts_unless_the_program_lists_them_itself(
    monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    steps: list[str] = []

    class Watched(threading.Thread):
        def __init__(self, **rest: Any) -> None:
            super().__init__(**rest)
            self.note("made")

        def start(self) -> None:
            self.note("started")
            super().start()

        def note(self, step: str) -> None:
            if "process_request_thread" in self.name:
                steps.append(step)

    with Noting(LOCAL, Echo) as server, waiting(server, 3) as clients:
        if own:
            server._threads = servers._NoThreads()
        monkeypatch.setattr(threading, "Thread", Watched)
        with serving(server):
            assert answers(clients) == capitals(3)
    assert steps == (["made", "started"] * 3 if own else ["made"] * 3 + ["started"] * 3)


def test_a_thread_that_has_ended_is_not_held_until_the_last_has_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From Python 3.13 on its stack, 8 MiB of addresses, is kept as long as the thread is held."""
    start = threading.Thread.start
    threads: list[ref[threading.Thread]] = []
    held: list[list[ref[threading.Thread]]] = []

    def ended(thread: threading.Thread) -> None:
        if "process_request_thread" in thread.name:
            held.append([other for other in threads if other() is not None])
            threads.append(ref(thread))
            start(thread)
            thread.join(LIMIT)
        else:
            start(thread)

    monkeypatch.setattr(threading.Thread, "start", ended)
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients, serving(server):
        assert answers(clients) == capitals(4)
        assert held == [[]] * 4


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ECONNABORTED, errno.EAGAIN])
def test_an_error_of_accept_ends_the_bunch_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, starts: list[Noting], number: int
) -> None:
    class Hearing(Noting):
        def handle_accept_error(self, error: OSError) -> None:
            self.errors.append(errno.errorcode[error.errno or 0])

    third_accept_raises(monkeypatch, OSError(number, os.strerror(number)))
    with Hearing(LOCAL, Echo) as server, waiting(server, 4) as clients:
        starts.append(server)
        with serving(server):
            assert answers(clients) == capitals(4)
        assert server.notes[:4] == ["accepted"] * 2 + ["started"] * 2
        # Somebody else was faster: that is no error.
        assert server.errors == ([] if number == errno.EAGAIN else [errno.errorcode[number]])


def test_a_stop_in_the_midst_serves_what_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def stopping(thread: threading.Thread) -> None:
        if "process_request_thread" in thread.name:
            server.shutdown()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", stopping)
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients, serving(server):
        assert answers(clients) == capitals(4)


def test_an_interrupted_accept_has_those_before_it_served(monkeypatch: pytest.MonkeyPatch) -> None:
    third_accept_raises(monkeypatch, KeyboardInterrupt())
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients:
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        assert answers(clients[:2]) == capitals(2)


def test_a_class_in_the_place_of_the_sockets_needs_no_weak_references(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = socket.socket

    class Slotted:
        __slots__ = ("_sock",)

        def __init__(self, *arguments: Any) -> None:
            self._sock = make(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._sock, name)

        def accept(self) -> Any:
            fd, address = self._sock._accept()  # type: ignore[attr-defined]
            return make(fileno=fd), address

    monkeypatch.setattr(socket, "socket", Slotted)
    with Noting(LOCAL, Echo) as server:
        monkeypatch.undo()
        with waiting(server, 2) as clients:
            monkeypatch.setattr(socket, "socket", Slotted)
            with serving(server):
                assert answers(clients) == capitals(2)


def test_a_server_that_is_gone_is_not_remembered() -> None:
    before = len(_inet.unshared)
    server = Noting(LOCAL, Echo)
    assert len(_inet.unshared) == before + 1
    server.server_close()
    del server
    assert len(_inet.unshared) == before


def test_what_ends_the_loop_does_so_when_all_that_were_accepted_are_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program may serve again after an exception; it would find the others in the queue, had they not been accepted."""
    second_start_raises(monkeypatch, KeyboardInterrupt())
    with Noting(LOCAL, Echo) as server, waiting(server, 4) as clients:
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        first, second, third, fourth = clients
        assert answers([first, third, fourth]) == [b"A\n", b"C\n", b"D\n"]
        assert is_over(second)


@pytest.mark.parametrize("seen", [True, False])
def test_a_thread_whose_start_was_interrupted_is_waited_for_too(
    monkeypatch: pytest.MonkeyPatch, seen: bool
) -> None:
    """An interruption may come when the thread has been started, and has shown itself or has not yet."""
    start, threads = threading.Thread.start, []
    running, go_on = threading.Event(), threading.Event()

    class Waiting(servers.BaseRequestHandler):
        def handle(self) -> None:
            running.set()
            assert go_on.wait(LIMIT)

    def interrupted(thread: threading.Thread) -> None:
        threads.append(thread)
        if seen:
            start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with Noting(LOCAL, Waiting) as server, waiting(server, 1):
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        if not seen:
            start(threads[0])
        assert running.wait(LIMIT)
        waited_for = list(server._threads)
        go_on.set()
        threads[0].join(LIMIT)
        assert waited_for == threads
        assert len(server._threads) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no children without fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_that_is_interrupted_as_it_begins_leaves_the_others_to_its_parent() -> None:
    asked, statuses = [], []

    class Forking(servers.TCPServer):
        def process_request(self, request: Any, client_address: Any) -> None:
            asked.append(request)
            if len(asked) == 1:
                pid = os.fork()
                if pid == 0:
                    raise KeyboardInterrupt
                statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            self.shutdown_request(request)

    with Forking(LOCAL, Echo) as server:
        pairs = [socket.socketpair() for _ in range(3)]
        try:
            server._servertest_take_all([(ours, None) for ours, _ in pairs])
        except BaseException:  # noqa: BLE001 - the child must not run the other tests
            os._exit(len(asked))
        assert statuses == [1]
        assert len(asked) == 3
        for ours, peer in pairs:
            assert ours.fileno() == -1
            peer.close()


def test_a_verify_request_that_ends_the_loop_leaves_those_after_it_to_the_next_loop() -> None:
    class Ending(Noting):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            self.notes.append("asked")
            if len(self.notes) == 3:
                raise KeyboardInterrupt
            return True

    with Ending(LOCAL, Echo) as server, waiting(server, 4) as clients:
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        assert answers(clients[:2]) == capitals(2)
        assert is_over(clients[2])
        with serving(server):
            assert answers(clients[3:]) == [b"D\n"]
