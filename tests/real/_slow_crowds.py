"""Scenes: a server, a crowd of slow clients, and a defence or none. The tests judge them, and the pictures of the docs are made of them."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servertest import servers
from servertest.clients.behaviours import Behaviour, SlowBody, SlowWriter
from servertest.swarm import Crowd, Probe, swarm

__all__ = ("NGINX", "SCENES", "Scene", "nginx")

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

# Two bytes a second: nobody is silent for a whole second.
LINES = SlowWriter(b"a line that takes its time\n", bytes_per_second=2)
HEADERS = SlowBody(
    b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-a: b\r\n", bytes_per_second=16, chunk=8, repeat=None
)
LINE_PROBE = Probe(b"hi\n", b"HI\n", timeout=0.7, interval=0.2)
HTTP_PROBE = Probe(b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.", timeout=0.7, interval=0.2)


class Upper(servers.StreamRequestHandler):
    """No defence: it waits for ever."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Hasty(Upper):
    """A timeout, which begins anew with each byte."""

    timeout = 1.0


class Strict(Upper):
    """A second for the whole of it."""

    def setup(self) -> None:
        super().setup()
        self._timer = threading.Timer(1.0, self._cut_off)
        self._timer.daemon = True
        self._timer.start()

    def finish(self) -> None:
        self._timer.cancel()
        super().finish()

    def _cut_off(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has left already


class Limited(servers.ThreadingTCPServer):
    """No more threads than these."""

    max_threads = 50
    daemon_threads = True


class Pool(servers.ThreadPoolTCPServer):
    """As many threads as a server of middling size has."""

    pool_size = 32


class Selecting(servers.SelectorStreamRequestHandler):
    """The same, for one thread."""

    async def handle(self) -> None:
        while line := await self.rfile.readline():
            await self.wfile.write(line.upper())


class Page(http.server.BaseHTTPRequestHandler):
    """The standard library's, with a page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class HastyPage(Page):
    """It has a timeout that nobody sets; like the handlers' of socketserver it begins anew with each byte."""

    timeout = 1.0


_NGINX_CONF = """
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    limit_conn_zone $binary_remote_addr zone=each:1m;
    server {{
        listen 127.0.0.1:PORT;
        {defence}
        location / {{ return 200 "hello\\n"; }}
    }}
}}
"""


def nginx(serve: Any, directory: Path, defence: str = "") -> Any:
    """nginx with room for 64 connections."""
    (directory / "conf.in").write_text(_NGINX_CONF.format(directory=directory, defence=defence))
    prepare = f"sed s/PORT/{{port}}/ {directory}/conf.in > {directory}/conf"
    start = f"exec {NGINX} -e stderr -p {directory} -c {directory}/conf"
    return serve.command(["sh", "-c", f"{prepare} && {start}"])


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens.

    Attributes:
        name: What its picture is called.
        server: Which server.
        defence: How it defends itself, in words.
        put_up: Puts it up, given the fixture and an empty directory.
        behaviour: How the crowd behaves.
        probe: What an honest client asks.
        served: Whether honest clients are served all the time (True), never (False), or again after a while (None).
        cut_off: Whether the crowd is cut off.
    """

    name: str
    server: str
    defence: str
    put_up: Callable[[Any, Path], Any]
    behaviour: Behaviour
    probe: Probe
    served: bool | None
    cut_off: bool = False

    def crowd(self, server: Any, **settings: Any) -> Crowd:
        """The crowd for its server."""
        options = {"clients": 150, "per_second": 150, "duration": 4.0, "seed": 1}
        crowd = swarm(server, self.behaviour, probe=self.probe, **{**options, **settings})
        object.__setattr__(crowd.profile, "name", f"{self.server}, {self.defence}")
        return crowd


def _lines(handler: Any, server: Any) -> Callable[[Any, Path], Any]:
    return lambda serve, directory: serve(server, handler, host="process", transcript=False)


def _pages(handler: Any) -> Callable[[Any, Path], Any]:
    return lambda serve, directory: serve(
        http.server.ThreadingHTTPServer, handler, host="process", transcript=False
    )


def _nginx(defence: str = "") -> Callable[[Any, Path], Any]:
    return lambda serve, directory: nginx(serve, directory, defence)


SCENES = (
    Scene(
        "threading",
        "ThreadingTCPServer",
        "no defence",
        _lines(Upper, servers.ThreadingTCPServer),
        LINES,
        LINE_PROBE,
        True,
    ),
    Scene(
        "threading-limit",
        "ThreadingTCPServer",
        "max_threads alone",
        _lines(Upper, Limited),
        LINES,
        LINE_PROBE,
        False,
    ),
    Scene(
        "threading-deadline",
        "ThreadingTCPServer",
        "max_threads and a deadline",
        _lines(Strict, Limited),
        LINES,
        LINE_PROBE,
        None,
        cut_off=True,
    ),
    Scene("pool", "ThreadPoolTCPServer", "no defence", _lines(Upper, Pool), LINES, LINE_PROBE, False),
    Scene(
        "pool-timeout", "ThreadPoolTCPServer", "timeout = 1", _lines(Hasty, Pool), LINES, LINE_PROBE, False
    ),
    Scene(
        "pool-deadline",
        "ThreadPoolTCPServer",
        "a deadline",
        _lines(Strict, Pool),
        LINES,
        LINE_PROBE,
        None,
        cut_off=True,
    ),
    Scene(
        "selector",
        "SelectorTCPServer",
        "no defence",
        _lines(Selecting, servers.SelectorTCPServer),
        LINES,
        LINE_PROBE,
        True,
    ),
    Scene("http", "http.server", "no defence", _pages(Page), HEADERS, HTTP_PROBE, True),
    Scene("http-timeout", "http.server", "timeout = 1", _pages(HastyPage), HEADERS, HTTP_PROBE, True),
    Scene("nginx", "nginx", "no defence", _nginx(), HEADERS, HTTP_PROBE, False),
    Scene("nginx-limit", "nginx", "limit_conn", _nginx("limit_conn each 10;"), HEADERS, HTTP_PROBE, False),
    Scene(
        "nginx-timeout",
        "nginx",
        "client_header_timeout 1s",
        _nginx("client_header_timeout 1s;"),
        HEADERS,
        HTTP_PROBE,
        None,
        cut_off=True,
    ),
)
