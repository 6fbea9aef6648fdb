"""Servers of other packages, put up as they are and driven by their own or by real clients."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import smtplib
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

LIMIT = 10


def get(server: Any, path: str = "/") -> bytes:
    client = http.client.HTTPConnection(server.host, server.port, timeout=LIMIT)
    try:
        client.request("GET", path)
        return client.getresponse().read()
    finally:
        client.close()


@pytest.mark.parametrize("threaded", [False, True])
def test_werkzeug(serve: Any, threaded: bool) -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server
    from werkzeug.wrappers import Request, Response

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    @Request.application
    def application(request: Request) -> Response:
        return Response(f"{request.method} {request.path}")

    def make(address: Any) -> Any:
        host, port = address
        return make_server(host, port, application, threaded=threaded, request_handler=Quiet)

    assert get(serve.factory(make), "/path") == b"GET /path"


def test_an_application_of_werkzeug_that_raises_does_not_fail_in_silence(serve: Any) -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    def application(environ: Any, start_response: Any) -> list[bytes]:
        raise ZeroDivisionError("in the application")

    def make(address: Any) -> Any:
        host, port = address
        return make_server(host, port, application, request_handler=Quiet)

    server = serve.factory(make)
    assert b"Internal Server Error" in get(server)  # werkzeug's own answer: it has handled the error
    assert server.transcript.connections[0].downstream.startswith(b"HTTP/1.0 500")


def test_aiosmtpd(serve: Any) -> None:
    from aiosmtpd.smtp import SMTP

    mails: list[bytes] = []

    class Keeper:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            mails.append(envelope.content)
            return "250 kept"

    def factory() -> asyncio.Protocol:
        return SMTP(Keeper(), hostname="localhost", loop=asyncio.get_running_loop())

    server = serve.asyncio(factory)
    with smtplib.SMTP(server.host, server.port, timeout=LIMIT) as client:
        client.sendmail("me@example.test", ["you@example.test"], "Subject: hello\r\n\r\nhello\r\n")
    assert mails == [b"Subject: hello\r\n\r\nhello\r\n"]


@pytest.mark.parametrize("tcp", [False, True])
def test_dnslib(serve: Any, tcp: bool) -> None:
    from dnslib import QTYPE, RR, A, DNSRecord
    from dnslib.server import BaseResolver, DNSLogger, DNSServer

    class Resolver(BaseResolver):  # type: ignore[misc]
        def resolve(self, request: Any, handler: Any) -> Any:
            reply = request.reply()
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A("192.0.2.7"), ttl=60))
            return reply

    def make(address: Any) -> Any:
        logger = DNSLogger(logf=lambda text: None)
        return DNSServer(Resolver(), address=address[0], port=address[1], tcp=tcp, logger=logger).server

    server = serve.factory(make, transport="stream" if tcp else "datagram")
    question = DNSRecord.question("example.test")
    answer = DNSRecord.parse(question.send(server.host, server.port, tcp=tcp, timeout=LIMIT))
    assert str(answer.a.rdata) == "192.0.2.7"


UVICORN = (sys.executable, "-m", "uvicorn", "--lifespan", "off")

ASGI = """
async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"hello\\n"})
"""


def test_uvicorn_as_a_command(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "asgi_of_mine.py").write_text(ASGI)
    server = serve.command(
        [
            *UVICORN,
            "--host",
            "{host}",
            "--port",
            "{port}",
            "--app-dir",
            str(tmp_path),
            "asgi_of_mine:application",
        ],
        ready="Uvicorn running on",
    )
    assert get(server) == b"hello\n"


def test_uvicorn_on_a_unix_socket(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "asgi_of_mine.py").write_text(ASGI)
    server = serve.command(
        [*UVICORN, "--uds", "{path}", "--app-dir", str(tmp_path), "asgi_of_mine:application"],
        address="unix",
    )
    with server.connect() as client:
        client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_eof().endswith(b"\r\n\r\nhello\n")


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed here")
def test_redis(serve: Any, tmp_path: Path) -> None:
    server = serve.command(
        ["redis-server", "--bind", "{host}", "--port", "{port}", "--save", "", "--dir", str(tmp_path)],
        ready="Ready to accept connections",
    )
    with server.connect() as client:
        client.send_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        client.expect(b"+OK\r\n$5\r\nvalue\r\n")
    server.restart()
    with server.connect() as client:
        client.send_all(b"GET k\r\n")
        client.expect(b"$-1\r\n")  # nothing was saved


NGINX = """
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr notice;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen unix:{directory}/nginx.sock;
        location / {{ return 200 "hello from nginx\\n"; }}
    }}
}}
"""


NGINX_PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.mark.skipif(NGINX_PROGRAM is None, reason="nginx is not installed here")
def test_nginx(serve: Any) -> None:
    from servertest._support import SocketDirectory

    with SocketDirectory() as directory:
        path = directory.path("nginx.sock")
        folder = Path(path).parent
        (folder / "nginx.conf").write_text(
            NGINX.replace("{directory}/nginx.sock", path).format(directory=folder)
        )
        server = serve.command(
            [
                str(NGINX_PROGRAM),
                "-e",
                "stderr",
                "-p",
                str(folder),
                "-c",
                str(folder / "nginx.conf"),
                "-g",
                "env SERVES={path};",
            ],
            address=path,
        )
        with server.connect() as client:
            client.send_all(b"GET / HTTP/1.0\r\n\r\n")
            assert client.read_eof().endswith(b"hello from nginx\n")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
def test_openssl_s_client_against_a_tls_kind(serve: Any, tmp_path: Path) -> None:
    import subprocess

    from servertest import servers

    class Once(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper())

    server = serve(Once, "ThreadPoolTCPServer+tls")
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"{server.host}:{server.port}", "-quiet"],
        input=b"hello\n",
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert b"HELLO\n" in result.stdout


def test_a_socket_client_that_knows_nothing_of_us(serve: Any) -> None:
    from servertest import servers

    class Upper(servers.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(line.upper())

    with socket.create_connection(serve(Upper).address, LIMIT) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
