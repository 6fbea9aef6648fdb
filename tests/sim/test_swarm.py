"""Swarms, slow clients and probes in a simulation: the same bytes from client k, and no time lost."""

from __future__ import annotations

from typing import Any

import pytest

from servertest import launch, servers
from servertest.clients.behaviours import BehavingClient, Flooder, Resetter, SlowReader, SlowWriter
from servertest.sim import Simulation
from servertest.swarm import Probe, swarm
from tests.swarm.test_same_bytes import EXPECTED, PROFILE, Line


class Patient(servers.StreamRequestHandler):
    """Cuts off who is silent for ten minutes."""

    timeout = 600

    def handle(self) -> None:
        try:
            for line in self.rfile:
                self.wfile.write(line.upper())
        except TimeoutError:
            pass


def run(seed: int, clients: int = 20) -> tuple[str, Any]:
    with Simulation(seed) as net:
        server = net.serve(Patient)
        with swarm(
            server,
            SlowWriter(b"hello\n" * 20, bytes_per_second=0.05, jitter=0.5),
            clients=clients,
            per_second=5,
            seed=3,
            duration=7200,
            probe=Probe(b"hi\n", b"HI\n", interval=600),
        ) as crowd:
            assert crowd.probe(b"hi\n", b"HI\n").served
    return net.digest, crowd.result


def test_slow_clients_for_hours() -> None:
    digest, result = run(1)
    assert result.engine == "thread"
    assert result.finished == 20
    assert result.seconds > 2000
    assert len(result.probes) > 5
    assert all(probe.served for probe in result.probes)
    assert run(1)[0] == digest
    assert run(2)[0] != digest


def test_client_k_sends_what_it_sends_anywhere_else() -> None:
    with Simulation(5) as net:
        server = net.serve(Line)
        with swarm(server, PROFILE) as crowd:
            pass
        sent = [connection.upstream for connection in net.transcript.connections]
        server.errors.clear()
    assert crowd.result.connections == len(EXPECTED)
    assert sorted(sent) == sorted(b"".join(pieces) for pieces in EXPECTED.values())


def test_who_is_cut_off_is_counted_and_their_handlers_are_excused() -> None:
    class Strict(Patient):
        timeout = 30

    class Plain(servers.StreamRequestHandler):
        def handle(self) -> None:
            while self.request.recv(10):
                pass

    with Simulation(1) as net:
        strict = net.serve(Strict, kind="ThreadPoolTCPServer")
        with swarm(strict, SlowWriter(b"x" * 10, bytes_per_second=0.01), clients=8, duration=900) as crowd:
            pass
        assert crowd.result.cut_off_by_server == 8
        plain = net.serve(Plain)
        with swarm(plain, Resetter(b"x" * 100), clients=20, per_second=5, duration=900) as crowd:
            pass
        assert crowd.result.connected == 20
    assert plain.errors == []


@pytest.mark.parametrize(
    "kind", ["ThreadingUDPServer", "ThreadingUnixStreamServer", "ThreadingTCPServer+tls"]
)
def test_other_transports(kind: str) -> None:
    class Datagrams(servers.DatagramRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.read().upper())

    with Simulation(1) as net:
        server = net.serve(Datagrams if "UDP" in kind else Patient, kind=kind)
        who = (
            Flooder(b"hello", per_second=1) if "UDP" in kind else SlowWriter(b"hello\n", bytes_per_second=0.1)
        )
        with swarm(server, who, clients=3, duration=300) as crowd:
            assert crowd.probe(b"hi\n", b"HI\n").served
        assert crowd.result.connected == 3
        assert crowd.result.failed == 0


def test_one_slow_client() -> None:
    with Simulation(1) as net:
        server = net.serve(Patient)
        behaviour = SlowReader(request=b"hello\n" * 50, size=1, pause=2.0, reply_bytes=300)
        with BehavingClient.connect(server.address, behaviour, timeout=2000) as client:
            outcome = client.run()
        assert outcome.received == 300
        assert net.now > 500


def test_a_swarm_that_is_stopped() -> None:
    with Simulation(1) as net:
        server = net.serve(Patient)
        crowd = swarm(
            server, SlowWriter(b"x" * 1000, bytes_per_second=0.01), clients=5, duration=5000
        ).start()
        crowd.wait_begun()
        net.sleep(100)
        result = crowd.stop()
        assert result.held == 5
        assert net.now < 200


def test_the_thread_engine_outside() -> None:
    with (
        launch(Patient) as server,
        swarm(
            server, SlowWriter(b"hi\n", bytes_per_second=100), clients=4, duration=1, engine="thread"
        ) as crowd,
    ):
        pass
    assert list(crowd.result.columns["sent"]) == [3] * 4
    assert crowd.result.engine == "thread"
