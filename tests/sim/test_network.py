"""Links, hosts and faults of the simulated network."""

import contextlib
import itertools
import socket
import socketserver
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from servertest._support import UsageError
from servertest.faults import (
    PRESETS,
    Bandwidth,
    Corrupt,
    Duplicate,
    Latency,
    LimitData,
    Loss,
    Reorder,
    ResetPeer,
    Slicer,
    Stall,
    plan,
)
from servertest.sim import Link, Simulation
from tests.sim.conftest import Upper, UpperDatagrams


class Source(socketserver.StreamRequestHandler):
    size = 10_000_000

    def handle(self) -> None:
        self.wfile.write(bytes(self.size))


class Quiet(socketserver.StreamRequestHandler):
    """Ends without a word when its client is gone."""

    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.wfile.write(line.upper())
        except OSError:
            pass


def ask(net: Simulation, server: Any, line: bytes = b"hi\n", **options: Any) -> bytes:
    with net.connect(server, **options) as client:
        client.send(line)
        return bytes(client.readline())


def test_latency_takes_its_time() -> None:
    with Simulation(1, link=Link(latency=0.05)) as net:
        server = net.serve(Upper)
        assert ask(net, server) == b"HI\n"
        assert net.now == pytest.approx(
            0.2, abs=0.001
        )  # one way each: two for the connection, two for the answer


def test_bandwidth_takes_its_time() -> None:
    with Simulation(1, link=Link(bandwidth=1_000_000)) as net:
        server = net.serve(Source)
        with server.connect() as client:
            assert len(client.read_eof(timeout=100)) == Source.size
        assert net.now == pytest.approx(10, rel=0.02)


def test_loss_delays_streams_and_loses_nothing() -> None:
    with Simulation(3, link=Link(latency=0.01, loss=0.5)) as net:
        server = net.serve(Upper)
        for _ in range(20):
            assert ask(net, server, timeout=300) == b"HI\n"
        assert net.now > 2


def test_loss_and_duplicates_of_datagrams() -> None:
    class Count(socketserver.BaseRequestHandler):
        seen: ClassVar[list[bytes]] = []

        def handle(self) -> None:
            self.seen.append(self.request[0])

    from servertest import servers

    with Simulation(1, link=Link(latency=0.01, loss=0.3, duplicate=0.3, reorder=0.3)) as net:
        Count.seen = []
        server = net.serve(Count, kind=servers.UDPServer)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for number in range(200):
                client.sendto(b"%d" % number, server.address)
                time.sleep(0.01)
        net.sleep(5)
    numbers = [int(data) for data in Count.seen]
    assert 120 < len(set(numbers)) < 180
    assert len(numbers) > len(set(numbers))
    assert numbers != sorted(numbers)


def test_a_small_window_makes_the_sender_wait() -> None:
    with Simulation(1, link=Link(latency=0.1, window=10_000)) as net:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        client.setblocking(False)
        assert client.send(bytes(50_000)) == 10_000
        with pytest.raises(BlockingIOError):
            client.send(b"x")
        net.sleep(1)
        assert len(server.recv(20_000)) == 10_000
        client.setblocking(True)
        assert client.send(b"x") == 1
        for sock in (client, server, listener):
            sock.close()


@pytest.mark.parametrize(
    "faults",
    [
        Latency(0.05, jitter=0.02),
        Slicer(average_size=2, delay=0.01),
        Bandwidth(50),
        Stall(after_bytes=1, duration=3),
        Latency(0.1) | Slicer(average_size=3),
    ],
    ids=lambda faults: repr(plan(faults))[:40],
)
def test_faults_that_lose_nothing(faults: Any) -> None:
    outcomes = []
    for _ in range(2):
        with Simulation(5, faults=faults) as net:
            server = net.serve(Upper)
            assert ask(net, server, b"hello world\n", timeout=60) == b"HELLO WORLD\n"
            outcomes.append((net.now, net.decisions, net.digest))
            assert net.decisions
            assert net.now > 0
    assert outcomes[0] == outcomes[1]


def test_a_fault_that_cuts_off() -> None:
    with Simulation(1, faults=ResetPeer(after_bytes=2)) as net:
        server = net.serve(Quiet)
        with socket.create_connection(server.address) as client:
            client.sendall(b"hello\n")
            with pytest.raises(ConnectionResetError):
                client.recv(10)


def test_a_fault_that_closes() -> None:
    with Simulation(1, faults=LimitData(3)) as net:
        server = net.serve(Quiet)
        with socket.create_connection(server.address) as client:
            client.sendall(b"hello\n")
            assert client.recv(10) == b""


def test_a_fault_that_changes_bytes() -> None:
    with Simulation(1, faults=Corrupt(1.0)) as net:
        server = net.serve(Quiet)
        with socket.create_connection(server.address, timeout=5) as client:
            client.sendall(b"hello\n")
            try:
                assert client.recv(10) != b"HELLO\n"
            except TimeoutError:
                pass  # the end of the line was hit


@pytest.mark.parametrize(
    "fault", [Loss(1.0), Duplicate(1.0), Reorder(1.0, delay=0.2), Latency(0.3)], ids=repr
)
def test_faults_on_datagrams(fault: Any) -> None:
    from servertest import servers

    with Simulation(1, faults=fault) as net:
        server = net.serve(UpperDatagrams, kind=servers.UDPServer)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(b"hi", server.address)
            if isinstance(fault, Loss):
                with pytest.raises(TimeoutError):
                    client.recv(10)
            else:
                assert client.recv(10) == b"HI"


@pytest.mark.parametrize(
    "preset", [one for one in PRESETS if "stream" in one.carried_by], ids=lambda preset: preset.name
)
def test_presets_run(preset: Any) -> None:
    with Simulation(2, faults=preset.name) as net:
        server = net.serve(Quiet)
        with socket.create_connection(server.address, timeout=30) as client:
            try:
                client.sendall(b"hello\n")
                client.recv(10)
            except OSError:
                pass
        net.sleep(60)


def test_faults_come_and_go_on_a_live_connection(net: Simulation) -> None:
    server = net.serve(Upper)
    with server.connect() as client:
        for _ in range(2):
            begun = net.now
            with net.faults(Latency(1)):
                client.send(b"slow\n")
                assert client.readline() == b"SLOW\n"
            assert net.now - begun == pytest.approx(2, abs=0.01)
            begun = net.now
            client.send(b"quick\n")
            assert client.readline() == b"QUICK\n"
            assert net.now == begun


def test_faults_by_connection() -> None:
    with Simulation(1, faults=Latency(1).on(connection=2)) as net:
        server = net.serve(Upper)
        times = []
        for _ in range(3):
            begun = net.now
            ask(net, server)
            times.append(round(net.now - begun))
    assert times == [0, 2, 0]


# -- hosts


@contextlib.contextmanager
def two_hosts(**link: Any) -> Iterator[tuple[Simulation, Any]]:
    with Simulation(1, link=Link(**link)) as net:
        net.host("db", "10.0.0.2")
        yield net, net.serve(Quiet, host="db")


def test_hosts_have_names_and_addresses() -> None:
    with two_hosts(latency=0.1) as (net, server):
        assert server.address[0] == "10.0.0.2"
        with socket.create_connection(("db", server.address[1])) as client:
            assert client.getpeername() == server.address
            client.sendall(b"x\n")
            assert client.recv(10) == b"X\n"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("localhost", server.address[1]))
        assert socket.gethostbyname("db") == "10.0.0.2"
        with net.on("db"):
            assert socket.gethostname() == "db"
        with pytest.raises(UsageError, match="no host"):
            net.link("db", "web", latency=1)


def test_links_between_hosts(net: Simulation) -> None:
    net.host("near")
    net.host("far")
    net.link("localhost", "far", latency=1.0)
    times = []
    for name in ("near", "far"):
        server = net.serve(Upper, host=name)
        begun = net.now
        assert ask(net, server) == b"HI\n"
        times.append(net.now - begun)
    assert times == [pytest.approx(0, abs=0.01), pytest.approx(4, abs=0.01)]


def test_a_partition_holds_streams_up() -> None:
    with two_hosts(latency=0.01) as (net, server):
        client = server.connect()
        with net.partition("localhost", "db"):
            client.send(b"x\n")
            with pytest.raises(TimeoutError):
                client.readline(timeout=10)
        assert client.readline(timeout=10) == b"X\n"
        client.close()


def test_nobody_answers_across_a_partition() -> None:
    with two_hosts() as (net, server), net.partition("localhost", "db"):
        begun = net.now
        with pytest.raises(TimeoutError) as caught:
            socket.create_connection(server.address)
        assert caught.value.errno is not None
        assert net.now - begun == pytest.approx(127, abs=1)


def test_a_connection_comes_about_when_a_partition_ends() -> None:
    with two_hosts() as (net, server):

        def part() -> None:
            with net.partition("localhost", "db"):
                net.sleep(10)

        net.spawn(part)
        net.settle()
        with socket.create_connection(server.address):
            assert net.now == pytest.approx(15, abs=0.1)


def test_datagrams_are_lost_in_a_partition_and_kept_by_a_hold() -> None:
    from servertest import servers

    with Simulation(1) as net:
        net.host("db")
        server = net.serve(UpperDatagrams, kind=servers.UDPServer, host="db")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            with net.partition("localhost", "db"):
                client.sendto(b"lost", server.address)
                with pytest.raises(TimeoutError):
                    client.recv(10)
            with net.held("localhost", "db"):
                client.sendto(b"kept", server.address)
                with pytest.raises(TimeoutError):
                    client.recv(10)
            assert client.recv(10) == b"KEPT"


def test_connections_can_be_cut_off(net: Simulation) -> None:
    server = net.serve(Quiet)
    with socket.create_connection(server.address) as client:
        net.at(3, lambda: net.reset(client))
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(UsageError):
        net.reset(object())


def test_a_host_crashes_and_starts_again() -> None:
    with Simulation(1, link=Link(latency=0.01)) as net:
        boots = itertools.count(1)

        def boot() -> None:
            next(boots)
            with socketserver.ThreadingTCPServer(("10.0.0.1", 80), Quiet) as server:
                server.serve_forever()

        net.host("db", "10.0.0.1", boot=boot)
        net.settle()
        client = socket.create_connection(("db", 80), timeout=5)
        client.sendall(b"x\n")
        assert client.recv(10) == b"X\n"
        net.crash("db")
        client.sendall(b"anybody?\n")
        with pytest.raises(TimeoutError):
            client.recv(10)
        with pytest.raises(TimeoutError):
            socket.create_connection(("db", 80), timeout=5)
        net.restart("db")
        net.settle()
        client.sendall(b"anybody?\n")
        with pytest.raises(ConnectionResetError):
            client.recv(10)
        client.close()
        with socket.create_connection(("db", 80), timeout=5) as again:
            again.sendall(b"y\n")
            assert again.recv(10) == b"Y\n"
        assert next(boots) == 3


def test_the_machine_of_the_test_cannot_crash(net: Simulation) -> None:
    with pytest.raises(UsageError, match="cannot crash"):
        net.crash("localhost")


def test_numbers_out_of_range_are_refused() -> None:
    for fields in ({"latency": -1}, {"loss": 2}, {"window": 0}, {"bandwidth": 0}, {"jitter": float("inf")}):
        with pytest.raises(UsageError, match=next(iter(fields))):
            Link(**fields)
