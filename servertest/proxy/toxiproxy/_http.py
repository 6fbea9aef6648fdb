"""HTTP around the routes: who may ask, and how much."""

from __future__ import annotations

import http.server
import ipaddress
import socket
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from ._problem import ApiProblem
from ._routes import Answer, answer

if TYPE_CHECKING:
    from ._server import Listener

__all__ = ("Handler",)

#: Bytes that a body may have, and one line that says how long a chunk of it is.
_MOST = 1 << 20
_LINE = 1024

#: Seconds without another byte after which a client that was refused is not listened to any more.
_PATIENCE = 0.5


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection's requests, one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = "servertest"
    sys_version = ""
    timeout: ClassVar[float | None] = 60.0
    disable_nagle_algorithm = True

    server: Listener  # type: ignore[assignment] # the only one that makes handlers

    def handle_one_request(self) -> None:
        """Read a request and answer it. Until all of it has come the connection is idle, and may be closed."""
        if not self.server.is_idle(self.connection):
            self.close_connection = True
            return
        super().handle_one_request()

    def _serve(self) -> None:
        try:
            self._guard()
            body = self._body()
        except ApiProblem as problem:
            self.close_connection = True  # what is left of the request was not read
            self._send(Answer.problem(problem))
            self._discard()
        else:
            self.server.is_busy(self.connection)
            self._send(self._answer(body))

    def _answer(self, body: bytes) -> Answer:
        try:
            return answer(self.server.collection, self.command, self.path, body)
        except Exception as error:  # noqa: BLE001 - a breakage of ours: the client has to hear of it too
            self.server.failed(error)
            return Answer.problem(ApiProblem(f"{type(error).__name__}: {error}", 500))

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = do_HEAD = do_OPTIONS = _serve  # noqa: N815 - the standard module's names

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A request that is none: the answer is like any other."""
        self.close_connection = True
        self._send(Answer.problem(ApiProblem(message or HTTPStatus(code).phrase, code)))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    # -- who may ask

    def _guard(self) -> None:
        """Refuse pages in a browser, wherever they are from: they can reach addresses of this machine.

        Raises:
            ApiProblem: It may be one.
        """
        if self.headers.get("User-Agent", "").startswith("Mozilla/"):
            raise ApiProblem("User agent not allowed", 403)
        if self.headers.get("Origin") is not None:
            raise ApiProblem("Origin not allowed: this is not for pages", 403)
        host = self.headers.get("Host")
        if host is not None and not _may_be_host(host, exposed=self.server.exposed):
            raise ApiProblem(f"Host {host!r} not allowed: ask for 127.0.0.1 or localhost", 403)

    # -- how much

    def _body(self) -> bytes:
        coding = self.headers.get("Transfer-Encoding")
        if coding is not None:
            if coding.strip().lower() != "chunked":
                raise ApiProblem(f"Transfer-Encoding {coding!r} is not known", 501)
            return self._chunks()
        length = self.headers.get("Content-Length", "0").strip()
        if not (length.isascii() and length.isdigit()):
            raise ApiProblem(f"Content-Length {length!r} is no number")
        return self._exactly(int(length) if len(length) < 20 else _MOST + 1)

    def _chunks(self) -> bytes:
        body = bytearray()
        while size := self._chunk_size():
            body += self._exactly(size, _MOST - len(body))
            self.rfile.readline(_LINE)
        while self.rfile.readline(_LINE).strip():
            pass  # what follows the last chunk
        return bytes(body)

    def _chunk_size(self) -> int:
        line = self.rfile.readline(_LINE)
        try:
            return int(line.partition(b";")[0].strip()[:16], 16)
        except ValueError:
            raise ApiProblem("a chunk has no length") from None

    def _exactly(self, size: int, most: int = _MOST) -> bytes:
        if not 0 <= size <= most:
            raise ApiProblem(f"the body is larger than {_MOST} bytes", 413)
        body = self.rfile.read(size)
        if len(body) < size:
            raise EOFError
        return body

    # -- the answer

    def _send(self, made: Answer) -> None:
        self.request_version = self.protocol_version  # one that was not understood gets a whole answer too
        self.send_response(made.status)
        if made.status != 204:
            self.send_header("Content-Type", made.content_type)
            self.send_header("Content-Length", str(len(made.body)))
            self.send_header("X-Content-Type-Options", "nosniff")
        if made.allow:
            self.send_header("Allow", made.allow)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(made.body)

    def _discard(self) -> None:
        """Take some of what the client still sends: cut off in the middle of that, it would not read the answer."""
        self.connection.settimeout(_PATIENCE)
        self.connection.shutdown(socket.SHUT_WR)
        until = monotonic() + 4 * _PATIENCE
        while monotonic() < until and self.connection.recv(1 << 16):
            pass

    def finish(self) -> None:
        """The connection is over. A client that has gone does not matter."""
        try:
            super().finish()
        except OSError:
            pass
        self.server.is_over(self.connection)


def _may_be_host(text: str, *, exposed: bool) -> bool:
    """Whether somebody who asks for this host has not been led here under a name of their own (DNS rebinding)."""
    host = text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() else text
    host = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    if host == "localhost" or (exposed and host == socket.gethostname().lower()):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return exposed or address.is_loopback
