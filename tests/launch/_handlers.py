"""Handlers that most tests of launching use."""

from __future__ import annotations

from typing import Any

from servertest import servers
from servertest.launch import Kind, Running

__all__ = ("DatagramUpper", "Raising", "Upper", "echo", "handler_for")


class Upper(servers.StreamRequestHandler):
    """Answers each line in capitals."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class DatagramUpper(servers.DatagramRequestHandler):
    """Answers each datagram in capitals."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


class Raising(servers.StreamRequestHandler):
    """Raises what the line says: the name of a built-in exception."""

    def handle(self) -> None:
        name = self.rfile.readline().decode().strip()
        raise getattr(__import__("builtins"), name)(f"asked for {name}")


def handler_for(kind: Kind) -> Any:
    return DatagramUpper if kind.transport == "datagram" else Upper


def echo(running: Running, **options: Any) -> None:
    """One exchange with Upper or DatagramUpper."""
    with running.connect(**options) as client:
        if running.kind.transport == "datagram":
            client.send(b"hi")
            assert client.receive() == b"HI"
        else:
            client.send_all(b"hi\n")
            assert client.readline() == b"HI\n"
