"""What the contract finds in request handlers that nobody here wrote: ``python -m tests.real.findings`` prints the table for docs/findings.md.

Packages that are not installed are left out; put the ones of the table into an environment of their own.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import re
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servertest import Exchange
from servertest.contract import Report, check
from servertest.launch import HandlerTarget

WWW = Path(__file__).parents[2] / "fixtures" / "www"


@dataclass(frozen=True)
class Subject:
    """Somebody's handler.

    Attributes:
        name: What it is called.
        handler: Makes it.
        exchanges: What clients say.
        promises: What can fairly be asked of it: what its documentation says, or its protocol.
        attributes: Makes what its server has.
        kind: On which kind of server.
        needs: The module without which it is left out.
    """

    name: str
    handler: Callable[[], Any]
    exchanges: Sequence[Exchange]
    promises: dict[str, Any] = field(default_factory=dict)
    attributes: Callable[[], dict[str, Any]] = dict
    kind: str = "ThreadingTCPServer"
    needs: str = ""

    def report(self, **options: Any) -> Report:
        """What the contract finds in it."""
        target = HandlerTarget(self.handler(), self.attributes())
        return check(
            target, list(self.exchanges), kinds=[self.kind], promises=self.promises, timeout=2.0, **options
        )


def _named(module: str, name: str) -> Any:
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise ImportError(f"there is no {name} in {module}")
    return found


def _quiet(cls: Any) -> Any:
    """The same handler without its log."""
    return type(
        cls.__name__, (cls,), {"log_message": lambda *arguments: None, "log": lambda *arguments: None}
    )


def _posting() -> Any:
    from http.server import BaseHTTPRequestHandler

    class PostHandler(BaseHTTPRequestHandler):
        """As the documentation of BaseHTTPRequestHandler lets one write it: keep-alive, a body by its length."""

        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.upper())

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    return PostHandler


def _xmlrpc_server(module: str = "xmlrpc.server", name: str = "SimpleXMLRPCDispatcher") -> dict[str, Any]:
    dispatcher = _named(module, name)()
    dispatcher.register_function(lambda a, b: a + b, "add")
    attributes = {one: getattr(dispatcher, one) for one in ("_marshaled_dispatch", "_dispatch")}
    return {**attributes, "logRequests": False, "_send_traceback_header": False}


def _wsgi_server() -> dict[str, Any]:
    return {"get_app": lambda: _hello, "base_environ": {"SERVER_NAME": "localhost", "SERVER_PORT": "0"}}


def _hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"hello\n"]


def _werkzeug_server() -> dict[str, Any]:
    keys = ("multithread", "multiprocess", "passthrough_errors")
    return {"app": _hello, "ssl_context": None, **dict.fromkeys(keys, False), "host": "localhost", "port": 0}


def _logging_handler() -> Any:
    import logging.config

    return logging.config.listen(0).hdlr  # type: ignore[attr-defined]  # it is not started


def _pydoc_handler() -> Any:
    import pydoc

    thread = pydoc._start_server(lambda url, kind: "<p>hello</p>\n", "localhost", 0)  # type: ignore[attr-defined]
    handler = thread.docserver.RequestHandlerClass
    thread.stop()
    return handler


def _logging_config() -> bytes:
    text = json.dumps({"version": 1, "incremental": True}).encode()
    return struct.pack(">L", len(text)) + text


def _dns_query() -> bytes:
    return b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\3abc\3com\0\0\1\0\1"


def _dns_server(stream: bool) -> dict[str, Any]:
    import socket

    from dnslib.server import BaseResolver, DNSLogger

    class Resolver(BaseResolver):  # type: ignore[misc]
        def resolve(self, request: Any, handler: Any) -> Any:
            return request.reply()

    kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
    return {"resolver": Resolver(), "logger": DNSLogger(logf=lambda text: None), "socket_type": kind}


def _osc_server() -> dict[str, Any]:
    dispatcher = _named("pythonosc.dispatcher", "Dispatcher")()
    dispatcher.map("/ping", lambda address, *values: ("/pong", *values))
    return {"dispatcher": dispatcher}


def _modbus_server() -> dict[str, Any]:
    slaves = _named("pymodbus.datastore", "ModbusSlaveContext")()
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    return {
        "framer": _named("pymodbus.transaction", "ModbusSocketFramer"),
        "decoder": _named("pymodbus.factory", "ServerDecoder")(),
        "threads": [],
        "context": _named("pymodbus.datastore", "ModbusServerContext")(slaves=slaves, single=True),
        "broadcast_enable": False,
        "ignore_missing_slaves": False,
    }


def _websocket_server() -> dict[str, Any]:
    logging.getLogger("websocket_server").setLevel(logging.CRITICAL)
    return {
        "key": None,
        "cert": None,
        "_new_client_": lambda handler: None,
        "_client_left_": lambda handler: None,
        "_message_received_": lambda handler, text: handler.send_message(text.upper()),
        "_ping_received_": lambda handler, text: handler.send_pong(text),
        "_pong_received_": lambda handler, text: None,
    }


_HTTP = {"half_close": True, "concurrent": True, "unix": True, "last_closes": True, "max_request": 65536}
_CALL = (
    b"<methodCall><methodName>add</methodName><params><param><value><int>2</int></value></param>"
    b"<param><value><int>3</int></value></param></params></methodCall>"
)
_JSON = b'{"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}'


def _post(path: bytes, body: bytes, version: bytes = b"1.0") -> bytes:
    return b"POST %s HTTP/%s\r\nHost: a\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n%s" % (
        path,
        version,
        len(body),
        body,
    )


def _ok(body: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"HTTP/1\.[01] 200 OK\r\n(?:[^\r\n]+\r\n)*\r\n" + body, re.DOTALL)


_GET = (Exchange(b"GET /hello.txt HTTP/1.0\r\n\r\n", _ok(b".*\n")),)
_FRAME = b"\x81\x82\0\0\0\0hi"
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

SUBJECTS = (
    Subject(
        "http.server.SimpleHTTPRequestHandler",
        lambda: functools.partial(_quiet(_named("http.server", "SimpleHTTPRequestHandler")), directory=WWW),
        _GET,
        _HTTP,
    ),
    Subject(
        "http.server.BaseHTTPRequestHandler (a POST handler after the documentation)",
        _posting,
        (
            Exchange(_post(b"/", b"hello", b"1.1"), _ok(b"HELLO")),
            Exchange(_post(b"/", b"again", b"1.1"), _ok(b"AGAIN")),
        ),
        {"half_close": True, "concurrent": True, "unix": True, "pipelining": True, "max_request": 65536},
    ),
    Subject(
        "http.server.CGIHTTPRequestHandler",
        lambda: functools.partial(_quiet(_named("http.server", "CGIHTTPRequestHandler")), directory=WWW),
        _GET,
        _HTTP,
    ),
    Subject(
        "xmlrpc.server.SimpleXMLRPCRequestHandler",
        lambda: _named("xmlrpc.server", "SimpleXMLRPCRequestHandler"),
        (Exchange(_post(b"/RPC2", _CALL), _ok(b".*<int>5</int>.*</methodResponse>\n")),),
        _HTTP,
        _xmlrpc_server,
    ),
    Subject(
        "wsgiref.simple_server.WSGIRequestHandler",
        lambda: _quiet(_named("wsgiref.simple_server", "WSGIRequestHandler")),
        (Exchange(b"GET / HTTP/1.0\r\n\r\n", _ok(b"hello\n")),),
        _HTTP,
        _wsgi_server,
    ),
    Subject(
        "logging.config.listen: ConfigStreamHandler",
        _logging_handler,
        (Exchange(_logging_config(), b""),),
        {"replies": "none", "max_request": 65536, "last_closes": True},
        lambda: {"ready": None, "verify": None},
    ),
    Subject(
        "pydoc: DocHandler",
        _pydoc_handler,
        (Exchange(b"GET /index.html HTTP/1.0\r\n\r\n", _ok(b"<p>hello</p>\n")),),
        _HTTP,
    ),
    Subject(
        "dnslib.server.DNSHandler (UDP)",
        lambda: _named("dnslib.server", "DNSHandler"),
        (Exchange(_dns_query(), re.compile(rb"\x12\x34\x85\x80.*", re.DOTALL)),),
        {"max_request": 512, "ipv6": True},
        lambda: _dns_server(stream=False),
        "ThreadingUDPServer",
        needs="dnslib",
    ),
    Subject(
        "dnslib.server.DNSHandler (TCP)",
        lambda: _named("dnslib.server", "DNSHandler"),
        (
            Exchange(
                struct.pack("!H", len(_dns_query())) + _dns_query(),
                re.compile(rb"\0.\x12\x34\x85\x80.*", re.DOTALL),
            ),
        ),
        {"max_request": 4096, "concurrent": True, "half_close": True, "ipv6": True, "last_closes": True},
        lambda: _dns_server(stream=True),
        needs="dnslib",
    ),
    Subject(
        "werkzeug.serving.WSGIRequestHandler",
        lambda: _quiet(_named("werkzeug.serving", "WSGIRequestHandler")),
        (Exchange(b"GET / HTTP/1.0\r\n\r\n", _ok(b"hello\n")),),
        _HTTP,
        _werkzeug_server,
        needs="werkzeug",
    ),
    Subject(
        "jsonrpclib.SimpleJSONRPCServer.SimpleJSONRPCRequestHandler",
        lambda: _named("jsonrpclib.SimpleJSONRPCServer", "SimpleJSONRPCRequestHandler"),
        (Exchange(_post(b"/", _JSON), _ok(b'.*"result": 5.*')),),
        _HTTP,
        lambda: {
            **_xmlrpc_server("jsonrpclib.SimpleJSONRPCServer", "SimpleJSONRPCDispatcher"),
            "json_config": _named("jsonrpclib.config", "DEFAULT"),
        },
        needs="jsonrpclib",
    ),
    Subject(
        "pythonosc.osc_server: _UDPHandler",
        lambda: _named("pythonosc.osc_server", "_UDPHandler"),
        (Exchange(b"/ping\0\0\0,i\0\0\0\0\0\7", b"/pong\0\0\0,i\0\0\0\0\0\7"),),
        {"max_request": 1024, "idempotent": True},
        _osc_server,
        "ThreadingUDPServer",
        needs="pythonosc",
    ),
    Subject(
        "pymodbus 2.5.3: ModbusConnectedRequestHandler",
        lambda: _named("pymodbus.server.sync", "ModbusConnectedRequestHandler"),
        (
            Exchange(b"\0\1\0\0\0\6\1\3\0\0\0\2", b"\0\1\0\0\0\7\1\3\4\0\0\0\0"),
            Exchange(b"\0\2\0\0\0\6\1\3\0\4\0\1", b"\0\2\0\0\0\5\1\3\2\0\0"),
        ),
        {"pipelining": True, "concurrent": True, "half_close": True, "max_request": 260},
        _modbus_server,
        needs="pymodbus.server.sync",
    ),
    Subject(
        "websocket_server.WebSocketHandler",
        lambda: _named("websocket_server.websocket_server", "WebSocketHandler"),
        (
            Exchange(_UPGRADE, re.compile(rb"HTTP/1.1 101 .*\r\n\r\n", re.DOTALL)),
            Exchange(_FRAME, b"\x81\2HI"),
            Exchange(_FRAME, b"\x81\2HI"),
        ),
        {"concurrent": True, "max_request": 65536, "pipelining": True},
        _websocket_server,
        needs="websocket_server",
    ),
)


def subject(name: str) -> Subject:
    """The one whose name begins so."""
    return next(one for one in SUBJECTS if one.name.startswith(name))


def present() -> Iterator[Subject]:
    """Those that are there."""
    for one in SUBJECTS:
        try:
            if one.needs:
                importlib.import_module(one.needs)
            one.handler()
        except ImportError:
            continue
        yield one


def main() -> None:
    """Print what is found, as a table and with reproductions."""
    wanted = sys.argv[1:]
    for one in present():
        if wanted and not any(word in one.name for word in wanted):
            continue
        report = one.report()
        counts = f"{sum(r.verdict in ('passed', 'violated') for r in report.results)} checks"
        print(f"\n## {one.name}\n\n{counts}", flush=True)
        for outcome in report.outcomes:
            for found in outcome.findings:
                print(f"- plainly: {found.what}\n{found.details}")
        for result in report.results:
            if result.verdict == "broke":
                print(f"- servertest broke in {result.check}: {result.reason}")
        for violation in report.violations:
            print(f"\n- **{violation.check}**: {violation.explanation} (and {violation.also} more)")
            print(f"\n```python\n{violation.reproduction or violation.details}\n```", flush=True)


if __name__ == "__main__":
    main()
