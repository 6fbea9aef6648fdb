"""Many connections at once, and what they have to do with each other."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from servertest.servers._selecting import SelectorTCPServer
from tests.servers._running import LIMIT, connect, read_all, serving
from tests.servers._selecting import Handler, Upper, Witness, small_buffers


@pytest.fixture
def room() -> Iterator[int]:
    """How many connections there may be, with both ends in this process: 2,000 if the system allows that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4200 if hard == resource.RLIM_INFINITY else min(4200, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield min((wanted - 200) // 2, 2000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousands_of_connections(room: int) -> None:
    """All open, all served, and a new one too; then half of them go, and the rest is ended with the server."""
    server = Witness(Upper)
    with serving(server), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(room)]
        for client in clients:
            client.sendall(b"hello\n")
        for client in clients:
            assert client.recv(10) == b"HELLO\n"
        with connect(server) as one_more:
            one_more.sendall(b"me too\n")
            assert one_more.recv(10) == b"ME TOO\n"
            one_more.shutdown(socket.SHUT_WR)
            assert one_more.recv(10) == b""
        for client in clients[::2]:
            client.shutdown(socket.SHUT_WR)
        for client in clients[::2]:
            assert client.recv(10) == b""
        assert server.calls.count("shutdown_request") == len(clients[::2]) + 1
        server.shutdown()
        server.server_close()
        for client in clients[1::2]:
            assert client.recv(10) == b""
    assert server.calls.count("close_request") == room + 1
    assert server.errors == []


class Chat(Handler):
    """Everybody hears what anybody says."""

    members: list[Handler]
    timeout = LIMIT
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.members.append(self)

    async def handle(self) -> None:
        await self.wfile.write(b"welcome\n")
        async for line in self.rfile:
            if line == b"leave\n":
                return
            for member in self.members:
                member.wfile.write(line)

    def finish(self) -> None:
        self.members.remove(self)
        super().finish()


@contextlib.contextmanager
def chatting(number: int) -> Iterator[tuple[Any, list[socket.socket]]]:
    chat = type("Handler", (Chat,), {"members": []})
    with serving(Witness(chat)) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(number)]
        for client in clients:
            assert client.recv(100) == b"welcome\n"
        yield server, clients
    assert server.errors == []


def test_a_handler_writes_to_all_connections() -> None:
    with chatting(20) as (_, clients):
        clients[0].sendall(b"hello all\n")
        for client in clients:
            assert client.recv(100) == b"hello all\n"
        clients[1].sendall(b"leave\n")
        assert clients[1].recv(100) == b""
        clients[2].sendall(b"who is there?\n")
        for client in clients[:1] + clients[2:]:
            assert client.recv(100) == b"who is there?\n"


def test_one_that_does_not_listen_holds_up_nobody() -> None:
    """What is said is kept for it, and it has heard everything in the end."""
    with chatting(3) as (_, clients):
        said = [b"%05d" % number + b"." * 50_000 + b"\n" for number in range(100)]
        with clients[1].makefile("rb") as listening, clients[2].makefile("rb") as deaf:
            for line in said:
                clients[0].sendall(line)
                with contextlib.closing(clients[0].makefile("rb")) as own:
                    assert own.readline() == line
                assert listening.readline() == line
            assert [deaf.readline() for _ in said] == said


class Forwarding(Chat):
    """The first member listens for a moment; the second writes much to it and waits until that has arrived."""

    patience = LIMIT

    async def handle(self) -> None:
        small_buffers(self.request)
        await self.wfile.write(b"welcome\n")
        if len(self.members) == 1:
            await self.rfile.readline()
            self.timeout = self.patience
            return
        try:
            await self.rfile.readline()
            await self.members[0].wfile.write(bytes(1_000_000))
            await self.wfile.write(b"it has all\n")
        except OSError as error:
            await self.wfile.write(type(error).__name__.encode())


@contextlib.contextmanager
def forwarding(**attributes: Any) -> Iterator[tuple[socket.socket, socket.socket]]:
    handler = type("Handler", (Forwarding,), {"members": [], **attributes})
    with serving(Witness(handler)) as server, connect(server) as first:
        assert first.recv(100) == b"welcome\n"
        with connect(server) as second:
            assert second.recv(100) == b"welcome\n"
            second.sendall(b"go\n")
            yield first, second
    assert [type(error) for error in server.errors] in ([], [ConnectionResetError])


def test_waiting_until_another_connection_has_taken_everything() -> None:
    with forwarding() as (first, second):
        with first.makefile("rb") as file:
            assert file.read(1_000_000) == bytes(1_000_000)
        assert read_all(second) == b"it has all\n"


def test_waiting_for_a_connection_that_is_lost() -> None:
    with forwarding() as (first, second):
        assert first.recv(1) == b"\0"
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        first.close()
        assert read_all(second) in (b"ConnectionResetError", b"BrokenPipeError")


def test_waiting_for_a_connection_whose_handler_gives_up() -> None:
    with forwarding(patience=0.002) as (first, second):
        assert first.recv(1) == b"\0"
        first.sendall(b"enough\n")
        assert read_all(second) == b"ConnectionAbortedError"


IN_PROCESSES = """
import os, signal, socket
from servertest import servers

class Who(servers.SelectorStreamRequestHandler):
    async def handle(self):
        while line := await self.rfile.readline():
            await self.wfile.write(b"%d " % os.getpid() + line)

class Server(servers.PreForkMixIn, servers.SelectorMixIn, servers.TCPServer):
    worker_processes = 2

server = Server(("127.0.0.1", 0), Who)
parent, clients = os.getpid(), os.fork()
if clients:
    signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
    server.serve_forever()
    server.server_close()
    assert os.waitpid(clients, 0)[1] == 0
else:
    found = [socket.create_connection(server.server_address) for _ in range(40)]
    for _ in range(2):
        for client in found:
            client.sendall(b"who?\\n")
        workers = {client.recv(100) for client in found}
        assert str(parent).encode() not in b"".join(workers)
    os.kill(parent, signal.SIGUSR1)
    assert {client.recv(100) for client in found} == {b""}
    os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_thousands_of_connections_in_several_processes() -> None:
    """The mix-ins go together: each worker holds its own, and ends them when it is told to stop."""
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", IN_PROCESSES]
    result = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT)
    assert (result.returncode, result.stderr) == (0, "")


def test_served_in_bunches_while_connections_are_busy() -> None:
    """New connections have their turn however busy the others are, and the others however many are new."""

    class Prompt(Upper):
        disable_nagle_algorithm = True

    with serving(SelectorTCPServer(("127.0.0.1", 0), Prompt)) as server, contextlib.ExitStack() as stack:
        busy = stack.enter_context(connect(server))
        answers = stack.enter_context(busy.makefile("rb"))
        for _ in range(10):
            clients = [stack.enter_context(connect(server)) for _ in range(10)]
            busy.sendall(b"x\n" * 10)
            assert answers.read(20) == b"X\n" * 10
            for client in clients:
                client.sendall(b"y\n")
                assert client.recv(2) == b"Y\n"
