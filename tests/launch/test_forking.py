"""What is particular about servers that fork: their children end with them, and how they end is told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import time
from typing import Any, ClassVar

import pytest

from servertest import servers
from servertest._support import DeadlineExceeded, HandlerFailed, StillRunning
from servertest.launch import Kind, kinds, launch

from ._handlers import Upper, echo

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

#: Far below the ten seconds that busy children get.
AT_ONCE = 2.0
FORKING = kinds(transport="stream", concurrency=("forking", "prefork"))


@pytest.mark.parametrize("kind", FORKING, ids=str)
def test_idle_clients_do_not_delay_the_stop(kind: Kind) -> None:
    with contextlib.ExitStack() as clients, launch(Upper, kind) as running:
        for _ in range(3):
            # Not the launcher's own clients, which it would close.
            client = clients.enter_context(socket.socket(socket.AF_UNIX if kind.local else socket.AF_INET))
            client.settimeout(5)
            client.connect(running.address)
            client.sendall(b"hi\n")
            assert client.recv(3) == b"HI\n"
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < AT_ONCE


class Fussy(servers.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"?")
        if not self.rfile.read(1):
            raise EOFError("nothing came")


@pytest.mark.parametrize("kind", FORKING, ids=str)
def test_what_a_child_raises_because_of_our_end_of_input_is_no_error(kind: Kind) -> None:
    with launch(Fussy, kind) as running:
        running.connect().read_exactly(1)


@pytest.mark.parametrize("kind", FORKING, ids=str)
def test_errors_of_children_count_and_name_the_connection(kind: Kind) -> None:
    with launch(Fussy, kind) as running:
        with running.expects_error(EOFError) as expected, running.connect() as client:
            client.read_exactly(1)
        assert expected.error is not None
        assert (expected.error.where, expected.error.connection) == ("handle", 1)


@pytest.mark.parametrize("kind", ["ForkingTCPServer", "ForkingUDPServer", "PreForkTCPServer"])
@pytest.mark.parametrize(
    ("act", "words"),
    [("kill", "was killed by SIGKILL|killed by signal 9"), ("leave", "exited with status 3")],
)
def test_how_a_child_ends_is_told(kind: str, act: str, words: str) -> None:
    class Suicidal(servers.BaseRequestHandler):
        def handle(self) -> None:
            if act == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(3)

    with pytest.raises(HandlerFailed, match=words):
        with launch(Suicidal, kind) as running, running.connect() as client:
            if running.kind.transport == "datagram":
                client.send(b"x")
                assert running.transcript is not None
                running.transcript.wait_for(connections=1)
            else:
                client.read_eof()


class Ignoring(servers.StreamRequestHandler):
    def handle(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.wfile.write(b"?")
        time.sleep(20)


def test_a_child_that_ignores_sigterm_is_described_and_killed() -> None:
    began = time.monotonic()
    with pytest.raises(StillRunning) as caught:
        with launch(Ignoring, "ForkingTCPServer", timeout=0.5) as running:
            running.connect().read_exactly(1)
    assert time.monotonic() - began < 5
    text = str(caught.value)
    assert "did not end in time, and was killed: sleeping" in text
    assert "ignores or blocks SIGTERM" in text


def test_a_busy_child_gets_its_time() -> None:
    class Busy(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"?")
            time.sleep(0.1)
            self.wfile.write(b"!")

    with launch(Busy, "ForkingTCPServer") as running:
        running.connect().read_exactly(1)
    assert running.transcript is not None
    assert running.transcript.connections[0].downstream == b"?!"


def test_a_child_for_the_rest_of_a_request() -> None:
    class Halving(servers.FinishInChildMixIn, servers.TCPServer):
        pass

    class Half(servers.StreamRequestHandler):
        server: Any

        def handle(self) -> None:
            self.wfile.write(b"at once, ")
            self.server.finish_in_child(self, self.rest)

        def rest(self) -> None:
            self.wfile.write(self.rfile.readline())
            raise ValueError("in the child")

    with launch(Halving, Half) as running:
        assert running.kind.host == "process"
        with running.expects_error(ValueError, match="in the child") as expected, running.connect() as client:
            client.send_all(b"later\n")
            assert client.read_eof() == b"at once, later\n"
        assert expected.error is not None
        assert expected.error.connection == 1
    assert running.transcript is not None
    (conversation,) = running.transcript.connections
    assert conversation.downstream == b"at once, later\n"


@pytest.mark.parametrize("kind", ["ForkingTCPServer", "PreForkUnixStreamServer"])
def test_restart(kind: str) -> None:
    with launch(Upper, kind) as running:
        echo(running)
        address = running.address
        running.restart()
        assert running.address == address
        echo(running)


@pytest.mark.parametrize(
    "base", [servers.ForkingTCPServer, socketserver.ForkingTCPServer], ids=["ours", "standard"]
)
def test_a_child_that_ends_as_it_is_looked_for_is_told_of(base: Any) -> None:
    class Late(base):  # type: ignore[misc]
        """Its child ends just as the loop is about to collect those that have ended."""

        forked: ClassVar[set[int]] = set()

        def process_request(self, request: Any, client_address: Any) -> None:
            super().process_request(request, client_address)
            self.forked.update(self.active_children or ())

        def collect_children(self, *, blocking: bool = False) -> None:
            while self.forked:
                pid = self.forked.pop()
                os.kill(pid, signal.SIGKILL)
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            super().collect_children(blocking=blocking)

    class Waiting(servers.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1)

    with pytest.raises(HandlerFailed, match=r"was killed by SIGKILL|killed by signal 9"):
        with launch(Late, Waiting) as running, running.connect() as client:
            client.read_eof()


@pytest.mark.parametrize(
    "base", [servers.ForkingTCPServer, socketserver.ForkingTCPServer], ids=["ours", "standard"]
)
def test_as_many_children_as_are_allowed(base: Any) -> None:
    class Full(base):  # type: ignore[misc]
        max_children = 2

    class Waiting(servers.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"x")
            self.request.recv(1)

    with launch(Full, Waiting) as running:
        first, second, third = (running.connect() for _ in range(3))
        assert first.read_exactly(1) == second.read_exactly(1) == b"x"
        with pytest.raises(DeadlineExceeded):
            third.read_exactly(1, timeout=0.3)
        first.send(b".")
        assert third.read_exactly(1) == b"x"


def test_a_server_of_ours_that_is_full_goes_on() -> None:
    class Full(servers.ForkingTCPServer):
        max_children = 1

        def service_actions(self) -> None:
            super().service_actions()
            for pid in self.active_children or ():
                os.kill(pid, signal.SIGKILL)

    class Waiting(servers.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1)

    with (
        launch(Full, Waiting) as running,
        running.expects_error(ChildProcessError, match="SIGKILL|signal 9"),
    ):
        with running.connect() as client:
            assert client.read_eof() == b""
