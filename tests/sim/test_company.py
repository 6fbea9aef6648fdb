"""The rest of the library runs in a simulation as it is: mock servers, the proxy, checks, faulty sockets, asyncio."""

import _thread
import asyncio
import socket
import threading

import pytest

import servertest
from servertest.clients import connect
from servertest.faults import Latency, Slicer
from servertest.mocks import MockServer
from servertest.proxy import link
from servertest.sim import Simulation, check_deterministic
from servertest.wire import faulty
from tests.sim.conftest import Upper


def test_a_mock_server_takes_its_time(net: Simulation) -> None:
    mock = MockServer()
    mock.banner(b"220 ready\r\n")
    mock.expect(b"HELO x\r\n").reply(b"250 ok\r\n", delay=60)
    with mock, connect(mock.address, timeout=100) as client:
        assert client.readline() == b"220 ready\r\n"
        client.send(b"HELO x\r\n")
        assert client.readline() == b"250 ok\r\n"
    assert net.now == pytest.approx(60, abs=0.1)


def through_a_proxy(net: Simulation) -> None:
    server = net.serve(Upper)
    with link(server.address, Latency(0.5) | Slicer(average_size=2), seed=5) as proxied:
        with connect(proxied.address) as client:
            client.send(b"hello\n")
            assert client.readline() == b"HELLO\n"


def test_the_proxy(net: Simulation) -> None:
    through_a_proxy(net)
    assert net.now == pytest.approx(1, abs=0.1)


def test_the_proxy_is_as_repeatable_as_the_rest() -> None:
    check_deterministic(through_a_proxy, range(3))


def test_faulty_sockets(net: Simulation) -> None:
    server = net.serve(Upper)
    with faulty(socket.create_connection(server.address), Latency(2)) as client:
        client.sendall(b"hi\n")
        assert client.recv(10) == b"HI\n"
    assert net.now == pytest.approx(4, abs=0.1)


def test_faulty_sockets_outside_are_as_before() -> None:
    with Simulation(1) as net:
        test_faulty_sockets(net)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with faulty(socket.create_connection(listener.getsockname()), Latency(0.01)) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"x")
                assert server.recv(10) == b"x"


def test_what_ends_outside_meanwhile_is_counted_there() -> None:
    begun, ended = _thread.allocate_lock(), _thread.allocate_lock()
    begun.acquire()
    ended.acquire()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = faulty(socket.create_connection(listener.getsockname()), Latency(0.001))
        server, _ = listener.accept()
        (relay,) = (thread for thread in threading.enumerate() if "faulty sockets" in thread.name)

        def close_outside() -> None:
            begun.acquire()
            client.close()
            server.close()
            relay.join(5)
            ended.release()

        closer = threading.Thread(target=close_outside)
        closer.start()
        with Simulation(1) as net:
            begun.release()
            ended.acquire()
            test_faulty_sockets(net)
        closer.join(5)
        assert not relay.is_alive()


def test_exchanges_are_checked(net: Simulation) -> None:
    report = servertest.check(
        Upper,
        [servertest.Exchange(b"hi\n", b"HI\n")],
        kinds=["TCPServer", "ThreadPoolTCPServer", "UnixStreamServer", "ThreadingTCPServer+tls"],
        checks=(),
    )
    assert [outcome.verdict for outcome in report.outcomes] == ["ok"] * 4


def test_an_asyncio_client(net: Simulation) -> None:
    server = net.serve(Upper)

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"hi\n")
        await asyncio.sleep(100)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    assert asyncio.run(talk()) == b"HI\n"
    assert net.now == pytest.approx(100, abs=0.1)
