"""Unmodified servers and clients run in a simulation."""

import http.client
import http.server
import smtplib
import socket
import socketserver
import time
import urllib.request
import xmlrpc.client
import xmlrpc.server
from typing import Any

import pytest

import servertest
from servertest import servers
from servertest._support import HandlerFailed
from servertest.sim import Simulation
from tests.sim.conftest import Upper, UpperDatagrams

STREAMS = [
    "TCPServer",
    "ThreadingTCPServer",
    "ThreadPoolTCPServer",
    "UnixStreamServer",
    "ThreadingUnixStreamServer",
    "ThreadPoolUnixStreamServer",
]
DATAGRAMS = [
    "UDPServer",
    "ThreadingUDPServer",
    "ThreadPoolUDPServer",
    "UnixDatagramServer",
    "ThreadingUnixDatagramServer",
]


def classes(names: list[str]) -> list[Any]:
    found = [getattr(module, name, None) for name in names for module in (servers, socketserver)]
    return [
        pytest.param(
            one,
            id=f"{'ours' if one.__init__.__module__.startswith('servertest') else 'standard'}-{one.__name__}",
        )
        for one in found
        if one is not None
    ]


@pytest.mark.parametrize("kind", classes(STREAMS))
def test_streams(net: Simulation, kind: Any) -> None:
    server = net.serve(Upper, kind=kind)
    for _ in range(3):
        with server.connect() as client:
            client.send(b"hi\n")
            assert client.readline() == b"HI\n"
    assert net.now < 2


@pytest.mark.parametrize("kind", classes(DATAGRAMS))
def test_datagrams(net: Simulation, kind: Any) -> None:
    server = net.serve(UpperDatagrams, kind=kind)
    with server.connect() as client:
        client.send(b"hi")
        assert client.receive() == b"HI"


@pytest.mark.parametrize("kind", ["TCPServer+tls", "ThreadingTCPServer+tls", "ThreadPoolTCPServer+tls"])
def test_tls(net: Simulation, kind: str) -> None:
    server = net.serve(Upper, kind=kind)
    with server.connect() as client:
        client.send(b"secret\n")
        assert client.readline() == b"SECRET\n"
    net.settle()
    (conversation,) = net.transcript.connections
    assert bytes(conversation.upstream) == b"secret\n"
    assert bytes(conversation.downstream) == b"SECRET\n"


def test_tls_of_the_standard_module_on_both_sides(net: Simulation) -> None:
    server = net.serve(Upper, kind="ThreadingTCPServer+tls")
    context = server.client_context
    with socket.create_connection(server.address) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            client.sendall(b"x" * 100_000 + b"\n")
            answer = client.makefile("rb").readline()
            assert answer == b"X" * 100_000 + b"\n"
            assert client.version() == "TLSv1.3"


def test_a_client_that_stalls_in_the_tls_handshake(net: Simulation) -> None:
    server = net.serve(Upper, kind="ThreadingTCPServer+tls")
    with socket.create_connection(server.address) as client:
        client.sendall(b"\x16\x03")
        assert client.recv(100) == b""
    assert net.now == pytest.approx(10, abs=0.1)
    (error,) = server.errors
    assert "handshake" in str(error)
    server.errors.clear()


class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def test_http_server_and_clients(net: Simulation) -> None:
    port = net.serve(http.server.ThreadingHTTPServer, Web).address[1]
    connection = http.client.HTTPConnection("localhost", port)
    connection.request("GET", "/client")
    response = connection.getresponse()
    assert response.read() == b"/client"
    assert response.getheader("Date") == "Tue, 01 Jan 2030 00:00:00 GMT"
    connection.close()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/urllib") as opened:
        assert opened.read() == b"/urllib"


def test_xmlrpc(net: Simulation) -> None:
    server = xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
    server.register_function(lambda base, power: base**power, "pow")
    running = net.serve(server)
    with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{running.address[1]}") as proxy:
        assert proxy.pow(2, 10) == 1024


class Mail(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        in_data = False
        for line in self.rfile:
            command = line.lower()
            if in_data:
                in_data = line != b".\r\n"
                answer = b"" if in_data else b"250 taken\r\n"
            elif command.startswith(b"data"):
                in_data, answer = True, b"354 go on\r\n"
            else:
                answer = b"221 bye\r\n" if command.startswith(b"quit") else b"250 ok\r\n"
            self.wfile.write(answer)


def test_smtplib(net: Simulation) -> None:
    server = net.serve(Mail)
    with smtplib.SMTP(*server.address) as client:
        assert client.sendmail("a@example.org", ["b@example.org"], "Subject: hi\r\n\r\nhello") == {}


def test_an_hour_of_one_byte_a_minute(net: Simulation) -> None:
    server = net.serve(socketserver.ThreadingTCPServer, Upper)
    with socket.create_connection(server.address) as client:
        for _ in range(59):
            client.sendall(b"x")
            time.sleep(60)
        client.sendall(b"\n")
        assert client.recv(100) == b"X" * 59 + b"\n"
    assert net.now == pytest.approx(59 * 60)


def test_what_a_handler_raises_fails_the_simulation() -> None:
    class Broken(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            raise LookupError("no such thing")

    with pytest.raises(HandlerFailed, match="no such thing"), Simulation(1) as net:
        server = net.serve(Broken)
        with server.connect() as client:
            client.read_eof()


def test_errors_that_were_to_be_expected_can_be_taken_out(net: Simulation) -> None:
    class Broken(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            raise LookupError("no such thing")

    server = net.serve(Broken)
    with server.connect() as client:
        client.read_eof()
    assert isinstance(server.errors.pop(), LookupError)


def test_a_single_thread_serves_one_after_the_other(net: Simulation) -> None:
    server = net.serve(Upper, kind=servers.TCPServer)
    first = server.connect()
    first.send(b"a\n")
    assert first.readline() == b"A\n"
    second = socket.create_connection(server.address, timeout=15)
    second.sendall(b"b\n")
    with pytest.raises(TimeoutError):
        second.recv(10)
    assert net.now == pytest.approx(15)
    first.close()
    assert second.recv(10) == b"B\n"
    second.close()


@pytest.mark.parametrize(
    "kind",
    [
        "TCPServer",
        "ThreadingTCPServer",
        "ThreadPoolTCPServer",
        "UnixStreamServer",
        "UDPServer",
        "ThreadingUnixDatagramServer",
        "ThreadingTCPServer+tls",
    ],
)
def test_what_launch_puts_up_runs_in_it_too(kind: str) -> None:
    digests = set()
    for _ in range(2):
        with Simulation(5) as net:
            datagrams = "UDP" in kind or "Datagram" in kind
            running = servertest.launch(UpperDatagrams if datagrams else Upper, kind)
            with running.connect() as client:
                client.send(b"hi\n")
                assert (client.receive() if datagrams else client.readline()) == b"HI\n"
            running.stop()
            assert running.transcript is not None
            assert running.transcript.connections
        digests.add(net.digest)
    assert len(digests) == 1


def test_faults_inside_servers_work_in_it_too(net: Simulation) -> None:
    running = servertest.launch(Upper, "ThreadingTCPServer", faults="latency:0.5")
    with running.connect() as client:
        client.send(b"hi\n")
        assert client.readline() == b"HI\n"
    running.stop()
    assert net.now > 0.9
