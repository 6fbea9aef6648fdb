"""What the tests of simulations have in common."""

import socketserver
from collections.abc import Iterator
from typing import Any

import pytest

from servertest.sim import Simulation


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class UpperDatagrams(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.packet.upper())


@pytest.fixture
def net() -> Iterator[Any]:
    with Simulation(7) as net:
        yield net
