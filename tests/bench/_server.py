"""A server process under measurement: ``python -m tests.bench._server JSON``. Says where it listens, and serves until it is killed.

The JSON names a module, a class of it and one of the handlers below; the module may be "asyncio", for its streams. The process ends
by itself after `limit` seconds, whatever has become of the one that started it.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from importlib import import_module
from typing import Any

__all__ = ("BACKLOG", "handler_for", "raise_descriptor_limit")

BACKLOG = 1024  # the same for both sides: the standard module's 5 would measure retransmitted SYNs
CHUNK = b"x" * 65536


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as the system lets it have; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def handler_for(name: str, module: Any) -> Any:
    """A request handler on `module`'s classes that does as little as it can, so that the framework is what is measured."""

    class Echo(module.BaseRequestHandler):  # type: ignore[misc]
        """One reply for one connection; a connection that begins with "i" stays, idle."""

        def handle(self) -> None:
            data = self.request.recv(1024)
            self.request.sendall(data)
            if data[:1] == b"i":
                self.request.recv(1024)

    class Datagram(module.BaseRequestHandler):  # type: ignore[misc]
        def handle(self) -> None:
            data, sock = self.request
            sock.sendto(data, self.client_address)

    class Upload(module.StreamRequestHandler):  # type: ignore[misc]
        """Says how many bytes it will take, takes them, and says that it has."""

        def handle(self) -> None:
            left = int(self.rfile.readline())
            while left > 0 and (data := self.rfile.read(min(left, len(CHUNK)))):
                left -= len(data)
            self.wfile.write(b"done\n")

    class Download(module.StreamRequestHandler):  # type: ignore[misc]
        def handle(self) -> None:
            left = int(self.rfile.readline())
            while left > 0:
                self.wfile.write(CHUNK)
                left -= len(CHUNK)

    handlers = {"echo": Echo, "datagram": Datagram, "upload": Upload, "download": Download}
    if name != "lines":
        return handlers[name]

    class Lines(module.SelectorStreamRequestHandler):  # type: ignore[misc]
        """Replies to line after line, for as long as the client likes."""

        async def handle(self) -> None:
            while line := await self.rfile.readline():
                await self.wfile.write(line)

    return Lines


def serve(spec: dict[str, Any]) -> None:
    """Serve as `spec` says."""
    module = import_module(spec["module"])

    class Measured(getattr(module, spec["class"])):  # type: ignore[misc]
        request_queue_size = BACKLOG

    server = Measured(("127.0.0.1", 0), handler_for(spec["handler"], module))
    say_ready(server.server_address)
    server.serve_forever()


def serve_with_asyncio() -> None:
    """Serve lines with asyncio's streams, in the way their documentation shows."""
    import asyncio

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except ConnectionResetError:
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(reply, "127.0.0.1", 0, backlog=BACKLOG)
        say_ready(server.sockets[0].getsockname())
        await server.serve_forever()

    asyncio.run(run())


def say_ready(address: object) -> None:
    print(json.dumps(address), flush=True)


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    signal.alarm(spec["limit"])
    raise_descriptor_limit()
    if spec["module"] == "asyncio":
        serve_with_asyncio()
    else:
        serve(spec)
