"""A threaded TLS server of the smallest kind, and the three clients that look at it."""

from __future__ import annotations

import http.client
import queue
import selectors
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from servertest.tls import CertificateFiles, Profile, ServerCredential

LIMIT = 10.0
OPENSSL = shutil.which("openssl") or "/usr/bin/openssl"

Reply = Callable[[ssl.SSLSocket], None]


class TinyServer:
    """Wraps each connection in a thread of its own, by `Profile.wrap`, and notes how that went."""

    def __init__(
        self,
        credential: ServerCredential,
        reply: Reply | None = None,
        *,
        deadline: float = LIMIT,
        after_hello: bool = False,
    ) -> None:
        self.profile: Profile = credential.profile
        self.context = credential.server_context()
        self.outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._reply = reply or reply_in_capitals
        self._deadline = deadline
        self._after_hello = after_hello
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cancelled, self._cancel = socket.socketpair()
        self._threads = [threading.Thread(target=self._accept)]
        self.address: tuple[str, int] = self._listener.getsockname()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        for thread in self._threads:
            thread.join(LIMIT)
        assert not any(thread.is_alive() for thread in self._threads)
        for sock in (self._listener, self._cancelled, self._cancel):
            sock.close()

    def cancel(self) -> None:
        """Stop accepting, and give up handshakes that are going on."""
        self._cancel.send(b"!")

    def outcome(self) -> BaseException | None:
        """How the next connection went."""
        return self.outcomes.get(timeout=LIMIT)

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._cancelled, selectors.EVENT_READ)
            while all(key.fileobj is self._listener for key, _ in selector.select(LIMIT)):
                connection, _ = self._listener.accept()
                worker = threading.Thread(target=self._work, args=[connection])
                self._threads.append(worker)
                worker.start()

    def _work(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(LIMIT)
            if self._after_hello:  # the deadline counts from then on
                connection.recv(1, socket.MSG_PEEK)
            with self.profile.wrap(
                connection, self.context, self._deadline, cancelled=self._cancelled.fileno()
            ) as tls:
                self._reply(tls)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.outcomes.put(error)
        else:
            self.outcomes.put(None)


def reply_in_capitals(tls: ssl.SSLSocket) -> None:
    """Answer a line, and part."""
    with tls.makefile("rb") as lines:
        tls.sendall(lines.readline().upper())
    part(tls)


def reply_in_http(tls: ssl.SSLSocket, *, promised: int = 2) -> None:
    """Answer a request with two bytes, which may be fewer than promised."""
    with tls.makefile("rb") as lines:
        while lines.readline().strip():
            pass
    tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\nHI" % promised)
    part(tls)


def part(tls: ssl.SSLSocket) -> None:
    """Say that nothing more will come, and wait until the client has gone."""
    try:
        tls.shutdown(socket.SHUT_WR)
        while tls.recv(4096):
            pass
    except OSError:
        pass  # it has all it wants, and went before our goodbye came: http.client does that


@dataclass
class Seen:
    """What a client saw: how far it came, and what stopped it."""

    when: str
    error: BaseException | None = None
    received: bytes = b""


def look_with_ssl(
    address: tuple[str, int], context: ssl.SSLContext, *, timeout: float = LIMIT, host: str = "127.0.0.1"
) -> Seen:
    """A correct client: it verifies, it has a timeout, and it does not take a ragged end for the end."""
    seen = Seen("connect")
    try:
        with socket.create_connection(address, timeout) as plain:
            seen.when = "handshake"
            with context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False) as tls:
                seen.when = "first read"
                tls.sendall(b"hi\n")
                seen.received = tls.recv(4096)
                seen.when = "end of data"
                while more := tls.recv(4096):
                    seen.received += more
    except OSError as error:
        seen.error = error
    return seen


def look_with_http(address: tuple[str, int], context: ssl.SSLContext, *, timeout: float = LIMIT) -> Seen:
    """http.client, used as its documentation shows."""
    seen = Seen("request")
    connection = http.client.HTTPSConnection(*address, timeout=timeout, context=context)
    try:
        connection.request("GET", "/")
        seen.when = "getresponse"
        response = connection.getresponse()
        seen.when = "read"
        seen.received = response.read()
    except (OSError, http.client.HTTPException) as error:
        seen.error = error
    finally:
        connection.close()
    return seen


def look_with_openssl(address: tuple[str, int], files: CertificateFiles, *, with_certificate: bool) -> str:
    """What a person sees who types this; who, as Python does, wants TLS 1.2 at least."""
    own = ["-cert", str(files.client_certificate), "-key", str(files.client_key)] if with_certificate else []
    verify = ["-CAfile", str(files.authority), "-verify_ip", address[0], "-verify_return_error"]
    connect = ["-connect", f"{address[0]}:{address[1]}", "-no_tls1", "-no_tls1_1", "-ign_eof"]
    done = subprocess.run(
        [OPENSSL, "s_client", *connect, *verify, *own],
        input="hi\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.stdout
