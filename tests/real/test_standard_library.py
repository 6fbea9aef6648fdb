"""Servers and clients of the standard library, put up as they are and driven by their own clients."""

from __future__ import annotations

import http.client
import http.server
import imaplib
import logging
import logging.handlers
import pickle
import smtplib
import socketserver
import ssl
import struct
import urllib.request
import wsgiref.simple_server
import xmlrpc.client
import xmlrpc.server
from pathlib import Path
from typing import Any

import pytest

LIMIT = 10


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def get(server: Any, path: str = "/hello.txt", context: ssl.SSLContext | None = None) -> bytes:
    if context is None:
        client = http.client.HTTPConnection(server.host, server.port, timeout=LIMIT)
    else:
        client = http.client.HTTPSConnection(server.host, server.port, timeout=LIMIT, context=context)
    try:
        client.request("GET", path)
        return client.getresponse().read()
    finally:
        client.close()


@pytest.fixture
def www(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "hello.txt").write_bytes(b"hello from a file\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("cls", [http.server.HTTPServer, http.server.ThreadingHTTPServer])
@pytest.mark.parametrize("host", ["thread", "process"])
def test_http_server(serve: Any, www: Path, cls: Any, host: str) -> None:
    server = serve(cls, Quiet, host=host)
    assert get(server) == b"hello from a file\n"
    with urllib.request.urlopen(f"http://{server.host}:{server.port}/hello.txt", timeout=LIMIT) as reply:
        assert reply.read() == b"hello from a file\n"
    assert len(server.transcript.connections) == 2


def test_http_server_with_tls(serve: Any, www: Path) -> None:
    server = serve(http.server.ThreadingHTTPServer, Quiet, tls=True)
    assert get(server, context=server.client_context()) == b"hello from a file\n"
    [connection] = server.transcript.connections
    assert connection.upstream.startswith(b"GET /hello.txt HTTP/1.1\r\n")  # plain text, not TLS records


@pytest.mark.parametrize(
    "kind", ["TCPServer", "ThreadPoolTCPServer", "ForkingTCPServer", "PreForkTCPServer+tls"]
)
def test_the_http_handler_on_our_kinds(serve: Any, www: Path, kind: str) -> None:
    server = serve(Quiet, kind)
    assert get(server, context=server.client_context() if server.kind.tls else None) == b"hello from a file\n"


def test_an_http_client_that_keeps_its_connection_does_not_hold_up_the_stop(serve: Any, www: Path) -> None:
    class KeepAlive(Quiet):
        protocol_version = "HTTP/1.1"

    server = serve(http.server.ThreadingHTTPServer, KeepAlive)
    client = http.client.HTTPConnection(server.host, server.port, timeout=LIMIT)
    for _ in range(2):
        client.request("GET", "/hello.txt")
        assert client.getresponse().read() == b"hello from a file\n"
    server.stop()
    client.close()
    assert len(server.transcript.connections) == 1


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}\n".encode()]


class QuietWsgi(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_wsgiref(serve: Any) -> None:
    def make(address: Any) -> Any:
        host, port = address
        return wsgiref.simple_server.make_server(host, port, application, handler_class=QuietWsgi)

    assert get(serve.factory(make), "/path") == b"GET /path\n"


def test_a_wsgi_application(serve: Any) -> None:
    assert get(serve.wsgi(application), "/path") == b"GET /path\n"


def test_xmlrpc(serve: Any) -> None:
    class Calculator(xmlrpc.server.SimpleXMLRPCServer):
        def __init__(self, address: Any) -> None:
            super().__init__(address, logRequests=False, allow_none=True)
            self.register_function(pow)  # type: ignore[arg-type]

    server = serve(Calculator)
    with xmlrpc.client.ServerProxy(f"http://{server.host}:{server.port}/") as proxy:
        assert proxy.pow(2, 10) == 1024
        with pytest.raises(xmlrpc.client.Fault):
            proxy.pow("a", "b")


class LogReceiver(socketserver.StreamRequestHandler):
    """As the logging cookbook has it."""

    def handle(self) -> None:
        while size := self.rfile.read(4):
            record = logging.makeLogRecord(pickle.loads(self.rfile.read(struct.unpack(">L", size)[0])))
            self.server.records.append(record.getMessage())  # type: ignore[attr-defined]


def test_a_receiver_of_log_records(serve: Any) -> None:
    records: list[str] = []
    server = serve(LogReceiver, attributes={"records": records})
    handler = logging.handlers.SocketHandler(server.host, server.port)
    logger = logging.Logger("of this test")
    logger.addHandler(handler)
    for number in range(5):
        logger.info("record %d", number)
    handler.close()
    server.transcript.wait_for(closed=1)
    assert records == [f"record {number}" for number in range(5)]


def test_the_servers_own_receiver_of_log_configurations(serve: Any) -> None:
    """`logging.config.listen` makes a server class of its own inside a function: its handler can be had from there."""
    received: list[bytes] = []

    class ConfigHandler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            (size,) = struct.unpack(">L", self.connection.recv(4))
            received.append(self.connection.recv(size))

    server = serve(ConfigHandler)
    with server.connect() as client:
        client.send_all(struct.pack(">L", 2) + b"{}")
        assert client.read_eof() == b""
    assert received == [b"{}"]


class Smtp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            verb = line.split()[0].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while self.rfile.readline() != b".\r\n":
                    pass
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingTCPServer"])
def test_smtplib(serve: Any, kind: str) -> None:
    server = serve(Smtp, kind)
    with smtplib.SMTP(server.host, server.port, timeout=LIMIT) as client:
        client.sendmail("me@example.test", ["you@example.test"], "hello\r\n")
    server.transcript.wait_idle()
    assert b"RCPT TO:<you@example.test>" in server.transcript.connections[0].upstream.upper().replace(
        b"YOU@EXAMPLE.TEST", b"you@example.test"
    )


class Imap(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"* OK IMAP4rev1\r\n")
        for line in self.rfile:
            tag, verb = line.split()[:2]
            if verb == b"CAPABILITY":
                self.wfile.write(b"* CAPABILITY IMAP4rev1\r\n")
            if verb == b"LOGOUT":
                self.wfile.write(b"* BYE\r\n")
            self.wfile.write(tag + b" OK done\r\n")
            if verb == b"LOGOUT":
                return


def test_imaplib_with_tls(serve: Any) -> None:
    server = serve(Imap, tls=True)
    with imaplib.IMAP4_SSL(
        server.host, server.port, ssl_context=server.client_context(), timeout=LIMIT
    ) as client:
        assert client.noop()[0] == "OK"
