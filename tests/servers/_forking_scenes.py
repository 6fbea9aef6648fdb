"""Scenes with forks, each played by a process of its own that has no other threads: `python -m tests.servers._forking_scenes NAME`.

The clients are in that process too: a child that is forked while a client is open would inherit its descriptor, so clients connect from
a helper process that is forked first.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from servertest import servers
from servertest.servers._inet import is_unshared
from tests.servers._running import (
    LIMIT,
    Echo,
    Held,
    ask,
    connect,
    read_all,
    serving,
    third_comes_when_first_goes,
)

LOCAL = ("127.0.0.1", 0)
SCENES: dict[str, Callable[[], None]] = {}


def scene(function: Callable[[], None]) -> Callable[[], None]:
    SCENES[function.__name__] = function
    return function


@contextlib.contextmanager
def client(server: Any, play: Callable[[], object]) -> Iterator[None]:
    """`play` in a process of its own, which stops the server of this one when it is done."""
    parent = os.getpid()
    signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            server.socket.close()
            play()
            status = 0
        except BaseException:  # noqa: BLE001 - printed, and told by the status
            sys.excepthook(*sys.exc_info())
        finally:
            os.kill(parent, signal.SIGUSR1)
            os._exit(status)
    try:
        yield
    finally:
        _, status = os.waitpid(pid, 0)
        assert status == 0, "the client failed"


def play(server: Any, clients: Callable[[], object], poll_interval: float | None = None) -> None:
    with server, client(server, clients):
        server.serve_forever(poll_interval)
    assert not server.active_children


class Pid(servers.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            if line == b"die\n":
                os._exit(3)
            self.wfile.write(b"%d\n" % os.getpid())


@scene
def each_request_has_a_process_and_none_is_left() -> None:
    server = servers.ForkingTCPServer(LOCAL, Pid)

    def clients() -> None:
        pids = {ask(server) for _ in range(5)}
        assert len(pids) == 5

    play(server, clients)


@scene
def what_a_child_prints_is_flushed_and_what_the_parent_printed_is_not_repeated() -> None:
    class Printing(Pid):
        def handle(self) -> None:
            super().handle()
            print("from the child")

    print("from the parent")
    server = servers.ForkingTCPServer(LOCAL, Printing)
    play(server, lambda: ask(server))


@scene
def a_full_server_accepts_again_when_a_child_ends() -> None:
    class Server(servers.ForkingTCPServer):
        max_children = 2

    server = Server(LOCAL, Held)

    play(server, lambda: third_comes_when_first_goes(server))


@scene
def a_full_server_stops_at_once() -> None:
    class Server(servers.ForkingTCPServer):
        max_children = 1

    server = Server(LOCAL, Held)
    ready, go = os.pipe()

    def clients() -> None:
        with connect(server) as first:
            assert first.recv(5) == b"here\n"
            os.kill(os.getppid(), signal.SIGUSR1)
            os.read(ready, 1)  # the loop has ended although all children are busy

    with server, client(server, clients):
        server.serve_forever(None)
        os.write(go, b"!")


@scene
def a_full_server_never_waits_for_a_foreign_child() -> None:
    class Server(servers.ForkingTCPServer):
        max_children = 1

    foreign = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(7)"])
    os.waitid(os.P_PID, foreign.pid, os.WEXITED | os.WNOWAIT)
    server = Server(LOCAL, Pid)
    play(server, lambda: [ask(server) for _ in range(4)])
    assert foreign.wait(LIMIT) == 7


@scene
def handle_request_waits_for_room_too() -> None:
    class Server(servers.ForkingTCPServer):
        max_children = 1

    server = Server(LOCAL, Pid)

    def clients() -> None:
        for _ in range(3):
            ask(server)

    with server, client(server, clients):
        for _ in range(3):
            server.handle_request()


@scene
def an_exception_in_a_child_is_reported_there() -> None:
    class Failing(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            raise ZeroDivisionError("in the child")

    server = servers.ForkingTCPServer(LOCAL, Failing)
    play(server, lambda: ask(server))


@scene
def shutdown_in_a_child_does_not_hang() -> None:
    class Stopping(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.server.shutdown()
            self.wfile.write(b"not stopped\n")

    server = servers.ForkingTCPServer(LOCAL, Stopping)

    def clients() -> None:
        assert ask(server) == b"not stopped\n"

    play(server, clients)


@scene
def closing_without_waiting_leaves_the_children_to_themselves() -> None:
    class Server(servers.ForkingTCPServer):
        block_on_close = False

    server = Server(LOCAL, Held)

    def clients() -> None:
        with connect(server) as held:
            assert held.recv(5) == b"here\n"

    with client(server, clients):
        server.serve_forever(None)
    server.server_close()
    for pid in server.active_children or ():
        os.waitpid(pid, 0)


class Split(servers.StreamRequestHandler):
    """Answers the first line here and the rest in a child."""

    def handle(self) -> None:
        name = self.rfile.readline()
        self.wfile.write(b"accepted %s" % name)
        if name == b"slow\n":
            self.server.finish_in_child(self, self.rest, name)
        elif name == b"broken\n":
            self.server.finish_in_child(self, self.fail)

    def rest(self, name: bytes) -> None:
        for line in self.rfile:
            self.wfile.write(b"%d %s" % (os.getpid(), line))

    def fail(self) -> None:
        raise ZeroDivisionError("in the rest")


class SplitServer(servers.FinishInChildMixIn, servers.TCPServer):
    pass


@scene
def the_rest_of_a_request_is_finished_in_a_child() -> None:
    server = SplitServer(LOCAL, Split)
    parent = os.getpid()

    def clients() -> None:
        with connect(server) as slow:
            slow.sendall(b"slow\n")
            assert slow.recv(100) == b"accepted slow\n"
            # The server is free, although that request is not finished.
            assert ask(server, b"quick\n") == b"accepted quick\n"
            slow.sendall(b"more\n")
            slow.shutdown(socket.SHUT_WR)
            pid, line = read_all(slow).split()
            assert line == b"more"
            assert int(pid) != parent

    play(server, clients)


@scene
def a_failing_rest_is_reported_and_ends_the_connection() -> None:
    class Handler(Split):
        wbufsize = -1

    server = SplitServer(LOCAL, Handler)

    def clients() -> None:
        assert ask(server, b"broken\n") == b"accepted broken\n"

    play(server, clients)


class TwoWorkers(servers.PreForkTCPServer):
    worker_processes = 2


@scene
def workers_share_the_requests() -> None:
    server = TwoWorkers(LOCAL, Pid)

    def clients() -> None:
        with connect(server) as first, connect(server) as second:
            pids = set()
            for held in (first, second):
                held.sendall(b"pid\n")
                pids.add(held.recv(100))
            assert len(pids) == 2

    play(server, clients)


@scene
def a_dead_worker_is_replaced() -> None:
    class Server(TwoWorkers):
        exits: ClassVar[list[int]] = []

        def handle_worker_exit(self, pid: int, status: int) -> None:
            self.exits.append(status)

    server = Server(LOCAL, Pid)

    def clients() -> None:
        for _ in range(4):
            assert ask(server, b"die\n") == b""
        assert int(ask(server, b"pid\n"))

    play(server, clients, 0.01)
    # Two workers have died four times: two at least were replaced, and the last may die as the server stops.
    assert server.exits in ([3] * 2, [3] * 3, [3] * 4), server.exits


@scene
def a_handler_in_a_worker_stops_all_of_them() -> None:
    class Stopping(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.server.shutdown()
            self.wfile.write(b"stopping\n")

    server = TwoWorkers(LOCAL, Stopping)
    pid = os.fork()
    if pid == 0:
        server.socket.close()
        os._exit(ask(server) != b"stopping\n")
    with server:
        server.serve_forever(None)
    assert os.waitpid(pid, 0)[1] == 0
    assert not server.active_children


@scene
def workers_end_with_their_parent() -> None:
    server = TwoWorkers(LOCAL, Pid)
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(reader)
        server.serve_forever()
    os.close(writer)
    ask(server)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(reader, 1) == b""  # no process holds the other end any more
    server.server_close()


@scene
def a_worker_that_does_not_end_is_killed_after_the_drain_timeout() -> None:
    import warnings

    class Server(TwoWorkers):
        drain_timeout = 1.0  # the other worker ends in time, also on a busy machine

    server = Server(LOCAL, Held)

    def clients() -> None:
        with connect(server) as held:
            assert held.recv(5) == b"here\n"
            os.kill(os.getppid(), signal.SIGUSR1)
            assert held.recv(1) == b""

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with client(server, clients):
            server.serve_forever(None)
            server.server_close()
    [warning] = caught
    assert "killed 1 worker(s) that still ran after drain_timeout=1.0 s" in str(warning.message)


@scene
def workers_can_be_started_again() -> None:
    server = TwoWorkers(LOCAL, Pid)
    with server:
        for _ in range(2):
            with client(server, lambda: ask(server)):
                server.serve_forever()


@scene
def a_pool_of_threads_in_each_worker() -> None:
    class Server(servers.PreForkMixIn, servers.ThreadPoolMixIn, servers.TCPServer):
        worker_processes = 1

    server = Server(LOCAL, Held)

    def clients() -> None:
        with connect(server) as first, connect(server) as second:
            assert first.recv(5) == second.recv(5) == b"here\n"

    play(server, clients)


@scene
def datagrams_in_worker_processes() -> None:
    from tests.servers._running import EchoDatagram

    class Server(servers.PreForkUDPServer):
        worker_processes = 2

    server = Server(LOCAL, EchoDatagram)

    def clients() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(LIMIT)
            for _ in range(20):
                sock.sendto(b"hello", server.server_address)
            assert {sock.recv(100) for _ in range(20)} == {b"HELLO"}

    play(server, clients)


@scene
def a_unix_path_is_removed_by_the_process_that_made_it_alone() -> None:
    import tempfile

    class Server(servers.ForkingUnixStreamServer):
        unlink_on_close = True

    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/s"

        class Closing(Echo):
            def handle(self) -> None:
                self.server.server_close()
                self.wfile.write(b"%d\n" % os.path.exists(path))

        server = Server(path, Closing)

        def clients() -> None:
            with connect(server) as sock:
                assert read_all(sock) == b"1\n"

        play(server, clients)
        assert not os.path.exists(path)


@scene
def workers_of_one_server_do_not_keep_those_of_another_alive() -> None:
    first, second = TwoWorkers(LOCAL, Pid), TwoWorkers(LOCAL, Pid)
    held, answered = os.pipe()

    def clients() -> None:
        ask(first)
        ask(second)
        os.kill(os.getppid(), signal.SIGUSR2)
        os.read(held, 1)  # the first has ended, workers and all, while the second serves
        ask(second)

    def close_first(*_: object) -> None:
        first.server_close()
        os.write(answered, b"!")

    signal.signal(signal.SIGUSR2, close_first)
    with second, client(second, clients):
        servers.serve_together(first, second)
    assert not first.active_children


@scene
def a_pre_fork_server_may_be_closed_from_its_own_loop() -> None:
    class Server(TwoWorkers):
        def service_actions(self) -> None:
            super().service_actions()
            self.server_close()

    Server(LOCAL, Pid).serve_forever(0.01)


@scene
def a_worker_that_dies_young_is_replaced_without_a_poll() -> None:
    class Server(servers.PreForkTCPServer):
        worker_processes = 1

    server = Server(LOCAL, Pid)

    def clients() -> None:
        for _ in range(3):
            assert ask(server, b"die\n") == b""
        assert int(ask(server, b"pid\n"))

    play(server, clients, None)


@scene
def a_fork_that_fails_is_tried_again() -> None:
    class Server(servers.PreForkTCPServer):
        worker_processes = 1
        failures = 0

        def handle_accept_error(self, error: OSError) -> None:
            self.failures += 1

    server = Server(LOCAL, Pid)
    fork, left = os.fork, [2]

    def sometimes() -> int:
        if left[0]:
            left[0] -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    with server, client(server, lambda: ask(server)):
        os.fork = sometimes
        try:
            server.serve_forever(None)
        finally:
            os.fork = fork
    assert server.failures == 2


@scene
def pre_forked_datagram_servers_lose_no_reply() -> None:
    import tempfile

    from tests.servers._running import EchoDatagram

    class Server(servers.PreForkUnixDatagramServer):
        worker_processes = 2

    with tempfile.TemporaryDirectory() as directory:
        server = Server(f"{directory}/s", EchoDatagram)
        play(server, lambda: slow_reader(server, f"{directory}/c"))


def slow_reader(server: Any, path: str) -> None:
    """Sends from one process and reads in another, which is in no hurry: a Unix socket queues ten datagrams or so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LIMIT)
        sock.bind(path)
        pid = os.fork()
        if pid == 0:
            for _ in range(60):
                sock.sendto(b"hello", server.server_address)
            os._exit(0)
        assert [sock.recv(100) for _ in range(60)] == [b"HELLO"] * 60
        os.waitpid(pid, 0)


@scene
def starting_again_leaves_no_zombies_and_the_listener_as_it_was() -> None:
    server = TwoWorkers(LOCAL, Pid)
    server.socket.settimeout(7)
    with server:
        for _ in range(3):
            with client(server, lambda: ask(server)):
                server.serve_forever()
            # They have been told, and take their time: wait until they have ended, and leave them to be collected.
            for pid in server.active_children or ():
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert server.socket.gettimeout() == 7
        # Workers of the first runs were collected when those of the last one were looked after.
        assert len(server.active_children or ()) <= 2


@scene
def a_pool_is_made_anew_after_a_fork() -> None:
    server = servers.ThreadPoolTCPServer(LOCAL, Pid)
    first = os.fork()
    if first == 0:
        ask(server)
        ask(server)
        os._exit(0)
    server.handle_request()  # a worker has been started, here
    pid = os.fork()  # beside that thread: only this scene's filter lets the warning of 3.12 pass
    if pid == 0:
        server.handle_request()
        server.server_close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.waitpid(first, 0)[1] == 0
    server.server_close()


@scene
def closing_a_threading_server_in_a_forked_child_ends() -> None:
    server = servers.ThreadingTCPServer(LOCAL, Held)
    with connect(server) as held:
        server.handle_request()
        assert held.recv(5) == b"here\n"
        pid = os.fork()
        if pid == 0:
            server.server_close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        held.sendall(b"done\n")
        server.server_close()


@scene
def a_forked_child_may_serve_although_a_loop_ran_in_the_parent() -> None:
    server: Any = servers.TCPServer(LOCAL, Echo)
    with server, serving(server):
        assert ask(server) == b"HELLO\n"
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for _ in range(2):
                    loop = threading.Thread(target=server.serve_forever, args=(None,), daemon=True)
                    loop.start()
                    server.shutdown()
                    loop.join(LIMIT)
                    assert not loop.is_alive()
                    assert not server._BaseServer__shutdown_request
                    assert server._BaseServer__is_shut_down.is_set()
                status = 0
            except BaseException:  # noqa: BLE001 - printed, and told by the status
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert ask(server) == b"HELLO\n"


@scene
def a_program_may_empty_the_set_of_children() -> None:
    class Server(servers.ForkingTCPServer):
        max_children = 1
        pids: ClassVar[list[int]] = []

        def process_request(self, request: Any, client_address: Any) -> None:
            super().process_request(request, client_address)
            self.pids.extend(self.active_children or ())
            self.active_children = set()

    server = Server(LOCAL, Held)

    def clients() -> None:
        with connect(server) as first, connect(server) as second:
            assert first.recv(5) == second.recv(5) == b"here\n"

    with server, client(server, clients):
        server.serve_forever(0.01)
    for pid in server.pids:
        os.waitpid(pid, 0)


@scene
def a_datagram_may_be_answered_by_a_child() -> None:
    class Rest(servers.DatagramRequestHandler):
        def handle(self) -> None:
            self.server.finish_in_child(self, self.wfile.write, self.packet.upper())

    class Server(servers.FinishInChildMixIn, servers.UDPServer):
        pass

    server = Server(LOCAL, Rest)

    def clients() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(LIMIT)
            sock.sendto(b"hello", server.server_address)
            assert sock.recv(100) == b"HELLO"

    play(server, clients)


@contextlib.contextmanager
def waiting_clients(server: Any) -> Iterator[None]:
    """Clients that have connected, in a process that is not forked from here: a copy of the listener is out of the question."""
    host, port = server.server_address
    # A signal, for each of the children would inherit a pipe.
    signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, "--clients", host, str(port)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"connected\n"
        yield
    finally:
        assert process.wait(LIMIT) == 0, "the clients failed"
        process.stdout.close()


class Bunching(servers.ForkingTCPServer):
    """Writes down in which order it accepts and forks."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.notes = ""

    def close_request(self, request: Any) -> None:
        self.notes += "f"  # in the parent: it has forked
        super().close_request(request)


def held_clients(address: tuple[str, int]) -> None:
    with contextlib.ExitStack() as stack:
        first, second, third = (
            stack.enter_context(socket.create_connection(address, LIMIT)) for _ in range(3)
        )
        print("connected", flush=True)
        assert first.recv(5) == b"here\n"
        second.sendall(b"done\n")
        assert read_all(second) == b"here\n"
        # Nobody has it open there any more, so that whatever is sent is answered by a reset: also not the child that was forked first.
        poll = select.poll()
        poll.register(second, 0)
        second.sendall(b"too late\n")
        assert poll.poll(LIMIT * 1000), "somebody keeps the connection open"
        first.sendall(b"done\n")
        assert read_all(first) == b""
        third.sendall(b"done\n")
        assert read_all(third) == b"here\n"


def play_bunch(server: Any) -> None:
    accept = socket.socket.accept

    def noted(listener: socket.socket) -> Any:
        server.notes += "a"
        return accept(listener)

    # A get_request() of the server's own would take no bunches. This process plays one scene.
    setattr(socket.socket, "accept", noted)  # noqa: B010 - for the type checker
    with server, waiting_clients(server):
        server.serve_forever(None)


@scene
def children_hold_no_connection_but_their_own() -> None:
    server = Bunching(LOCAL, Held)
    play_bunch(server)
    assert server.notes == "aaafff", server.notes
    # The children accept nothing: that they have copies changes nothing for the next ones.
    assert is_unshared(server.socket)


@scene
def no_more_are_accepted_than_may_have_children() -> None:
    server = Bunching(LOCAL, Held)
    server.max_children = 2
    play_bunch(server)
    assert server.notes == "aaffaf", server.notes


@scene
def a_fork_of_somebody_else_ends_the_bunches() -> None:
    server = Bunching(LOCAL, Held)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    play_bunch(server)
    assert server.notes == "afafaf", server.notes


@scene
def a_fork_of_somebody_else_in_the_midst_ends_the_bunches() -> None:
    class Forking(Bunching):
        def close_request(self, request: Any) -> None:
            if self.notes.endswith("a"):
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
            super().close_request(request)

    server = Forking(LOCAL, Held)
    play_bunch(server)
    assert server.notes == "aaafff", server.notes
    assert not is_unshared(server.socket)


@scene
def a_process_request_of_its_own_has_one_after_the_other() -> None:
    class Own(Bunching):
        def process_request(self, request: Any, client_address: Any) -> None:
            super().process_request(request, client_address)

    server = Own(LOCAL, Held)
    play_bunch(server)
    assert server.notes == "afafaf", server.notes


@scene
def there_is_room_for_as_many_as_the_children_leave() -> None:
    server = servers.ForkingTCPServer(LOCAL, Held)
    server.max_children = 5
    server.active_children = {1, 2}
    assert server._servertest_at_once(17) == 3
    assert server._servertest_at_once(2) == 2
    server.active_children = None
    server.server_close()


def main() -> None:
    signal.alarm(30)
    if sys.argv[1] != "--clients":
        SCENES[sys.argv[1]]()
        return
    host, port = sys.argv[2:]
    try:
        held_clients((host, int(port)))
    finally:
        os.kill(os.getppid(), signal.SIGUSR1)


if __name__ == "__main__":
    main()
