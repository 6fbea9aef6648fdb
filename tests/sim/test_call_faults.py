"""Faults of calls and of listeners in a simulation: the same values, on the sockets of both ends."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest

from servertest import UsageError, servers
from servertest.faults import (
    AcceptError,
    FailCall,
    FailFork,
    FailThreadStart,
    Fault,
    FullBacklog,
    Interrupt,
    Refuse,
    ShortReads,
    ShortWrites,
    SlowAccept,
    SpuriousReadiness,
    downstream,
    registry,
    upstream,
)
from servertest.sim import Simulation


class Upper(servers.StreamRequestHandler):
    """Answers line by line."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


def sizes(net: Simulation, who: str, what: str) -> list[str]:
    return [line.split()[-4] for line in net.history if f"({who})" in line and f" {what} " in line]


def test_short_reads_and_writes() -> None:
    with Simulation(1) as net:
        server = net.serve(Upper)
        with net.faults(upstream(ShortReads(2)) | downstream(ShortWrites(1))), server.connect() as client:
            client.send_all(b"hello\n")
            assert client.readline() == b"HELLO\n"
        assert sizes(net, "server", "receives")[:3] == ["2", "2", "2"]
        assert sizes(net, "server", "sends") == ["1"] * 6
        assert sizes(net, "client", "sends") == ["6"]


def test_a_call_fails_at_the_end_that_is_meant() -> None:
    with Simulation(1) as net:
        server = net.serve(Upper)
        with net.faults(downstream(FailCall(call="send", error="EPIPE"))), server.connect() as client:
            client.send_all(b"hello\n")
            assert client.read_eof() == b""
        assert [type(error) for error in server.errors] == [BrokenPipeError]
        server.errors.clear()
        with (
            net.faults(upstream(FailCall(call="send", error="ECONNRESET"))),
            socket.create_connection(server.address) as plain,
            pytest.raises(ConnectionResetError),
        ):
            plain.send(b"x")


def test_connections_that_are_there_fail_as_well_and_heal_again() -> None:
    with Simulation(1) as net:
        server = net.serve(Upper)
        with socket.create_connection(server.address) as plain:
            with net.faults(FailCall(call="send", times=None)), pytest.raises(ConnectionResetError):
                plain.send(b"x")
            plain.sendall(b"x\n")
            assert plain.recv(10) == b"X\n"


def test_accept_fails_and_the_server_goes_on() -> None:
    with Simulation(1) as net:
        server = net.serve(Upper)
        with net.faults(AcceptError("EMFILE")), server.connect() as client:
            client.send_all(b"a\n")
            assert client.readline() == b"A\n"  # it stayed in the queue
        with net.faults(AcceptError("ECONNABORTED")):
            with server.connect() as gone, pytest.raises(ConnectionResetError):
                gone.read_some(1)
            with server.connect() as client:
                client.send_all(b"b\n")
                assert client.readline() == b"B\n"
        assert [decision.what for decision in net.decisions] == [
            "fails accept 1 with EMFILE",
            "fails accept 1 with ECONNABORTED",
        ]


def test_slow_accept_takes_virtual_time() -> None:
    with Simulation(1, faults=SlowAccept(90)) as net:
        server = net.serve(Upper)
        with server.connect(timeout=200) as client:
            client.send_all(b"a\n")
            assert client.readline() == b"A\n"
        assert net.now == pytest.approx(90, abs=0.001)


def test_refuse_with_and_without_a_trigger() -> None:
    with Simulation(1) as net:
        server = net.serve(Upper)
        with net.faults(Refuse().on(connection=2)):
            server.connect().close()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(server.address)
            server.connect().close()
        with net.faults(Refuse()), pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.address)
        server.connect().close()


def test_a_full_backlog_connects_nobody_for_a_while() -> None:
    with Simulation(1, faults=FullBacklog(30)) as net:
        server = net.serve(Upper)
        clients = [socket.create_connection(server.address, timeout=100) for _ in range(3)]
        assert net.now > 30
        for client in clients:
            client.sendall(b"x\n")
            assert client.recv(10) == b"X\n"
            client.close()


def test_a_backlog_that_stays_full_does_not_hang_the_end() -> None:
    with Simulation(1, faults=FullBacklog()) as net:
        server = net.serve(Upper)
        clients = [socket.create_connection(server.address)]
        with pytest.raises(TimeoutError):
            clients.extend(socket.create_connection(server.address) for _ in range(3))
        for client in clients:
            client.close()


def test_no_thread_for_a_connection() -> None:
    with Simulation(1) as net:
        server = net.serve(Upper)
        with net.faults(FailThreadStart()):
            with server.connect() as client:
                assert client.read_eof() == b""
            with server.connect() as client:
                client.send_all(b"a\n")
                assert client.readline() == b"A\n"
        assert [str(error) for error in server.errors] == ["can't start new thread"]
        server.errors.clear()


def test_what_python_hides_is_hidden() -> None:
    with Simulation(1) as net:
        server = net.serve(Upper)
        faults = (
            Interrupt("recv") | Interrupt("accept") | SpuriousReadiness("recv") | SpuriousReadiness("accept")
        )
        with net.faults(faults), server.connect() as client:
            client.send_all(b"a\n")
            assert client.readline() == b"A\n"


def test_forks_are_refused() -> None:
    with Simulation(1) as net, pytest.raises(UsageError, match="servers that fork cannot be simulated"):
        with net.faults(FailFork()):
            pass
    with pytest.raises(UsageError, match="servers that fork cannot be simulated"):
        Simulation(1, faults=FailFork())


def test_datagrams() -> None:
    class Echo(servers.DatagramRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.read())

    with Simulation(1) as net:
        server = net.serve(Echo, kind="UDPServer")
        with net.faults(downstream(FailCall(call="send", error="ENOBUFS"))), server.connect() as client:
            client.send(b"x")
            net.sleep(1)
        assert [error.errno for error in server.errors if isinstance(error, OSError)] == [errno.ENOBUFS]
        server.errors.clear()


@pytest.mark.parametrize(
    "fault", [kind for kind in registry.values() if kind.place != "line" and kind is not FailFork], ids=str
)
def test_every_fault_of_calls_repeats_by_its_seed(fault: type[Fault]) -> None:
    def history() -> str:
        with Simulation(5) as net:
            server = net.serve(Upper)
            with net.faults(fault()), contextlib.suppress(OSError):
                for _ in range(2):
                    with server.connect(timeout=5) as client:
                        client.send_all(b"hello\n")
                        client.readline()
            server.errors.clear()
        return net.digest

    assert history() == history()
