"""What is measured inside the process of the server: ``python -m tests.bench._inside WHAT MODULE CLASS CYCLES``. Prints seconds, as JSON.

`stop` is shutdown() + server_close() after one request; `start` is from the constructor to the first reply.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.bench._server import handler_for

LIMIT = 15.0  # seconds for any one step


@contextmanager
def places(server_class: Any) -> Iterator[Any]:
    """A function that gives a new address to bind for each server, and one that gives a client's socket."""
    with tempfile.TemporaryDirectory(prefix="st-") as folder:
        used: list[str] = []

        def path() -> str:
            used.append(str(Path(folder) / str(len(used))))
            return used[-1]

        def address() -> Any:
            return ("127.0.0.1", 0) if server_class.address_family == socket.AF_INET else path()

        def client() -> socket.socket:
            sock = socket.socket(server_class.address_family, server_class.socket_type)
            sock.settimeout(LIMIT)
            if (
                server_class.address_family != socket.AF_INET
                and server_class.socket_type == socket.SOCK_DGRAM
            ):
                sock.bind(path())
            return sock

        yield address, client


def ask(client: socket.socket, address: Any) -> None:
    """One request, and on a stream the end of the connection too."""
    client.connect(address)
    client.sendall(b"hello\n")
    assert client.recv(64) == b"hello\n"


def end(client: socket.socket, server_class: Any) -> None:
    if server_class.socket_type == socket.SOCK_STREAM:
        client.shutdown(socket.SHUT_WR)
        assert client.recv(64) == b""
    client.close()


def handler(module: Any, server_class: Any) -> Any:
    if server_class.socket_type == socket.SOCK_DGRAM:
        return handler_for("datagram", module)
    cooperative = issubclass(server_class, getattr(module, "SelectorMixIn", ()))
    return handler_for("lines" if cooperative else "echo", module)


def observed(server_class: Any) -> Any:
    """The class, with an event for each turn of its loop: the loop is then about to wait again, as a server mostly does."""

    class Observed(server_class):  # type: ignore[misc]
        def service_actions(self) -> None:
            super().service_actions()
            self.turned.set()

    return Observed


def stops(module: Any, server_class: Any, cycles: int) -> list[float]:
    seconds = []
    in_workers = issubclass(
        server_class, getattr(module, "PreForkMixIn", ())
    )  # requests pass the parent's loop by
    with places(server_class) as (address, client):
        for _ in range(cycles):
            server = observed(server_class)(address(), handler(module, server_class))
            server.turned = threading.Event()
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            peer = client()
            ask(peer, server.server_address)
            end(peer, server_class)
            assert in_workers or server.turned.wait(LIMIT)
            started = perf_counter()
            server.shutdown()
            server.server_close()
            seconds.append(perf_counter() - started)
            thread.join(LIMIT)
    return seconds


def starts(module: Any, server_class: Any, cycles: int) -> list[float]:
    seconds = []
    with places(server_class) as (address, client):
        for _ in range(cycles):
            peer = client()
            started = perf_counter()
            server = server_class(address(), handler(module, server_class))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            ask(peer, server.server_address)
            seconds.append(perf_counter() - started)
            end(peer, server_class)
            # Not stopped: the standard module would take half a second for each, and the process ends soon.
    return seconds


if __name__ == "__main__":
    what, name, class_name, cycles = sys.argv[1:]
    signal.alarm(120)
    module = import_module(name)
    measure = {"stop": stops, "start": starts}[what]
    print(json.dumps(measure(module, getattr(module, class_name), int(cycles))), flush=True)
    os._exit(0)
