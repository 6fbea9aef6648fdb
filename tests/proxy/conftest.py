"""Servers to be reached through links, and links that are gone after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from servertest import servers
from servertest.launch import Running, launch
from servertest.proxy import Link, link

LIMIT = 10.0


class Upper(servers.StreamRequestHandler):
    """Lines in capitals, from somebody whom it does not surprise that connections are cut off."""

    def handle(self) -> None:
        with suppress(OSError):
            for line in self.rfile:
                self.wfile.write(line.upper())


class UpperDatagram(servers.DatagramRequestHandler):
    """A datagram in capitals."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def upper(stack: ExitStack) -> Running:
    return stack.enter_context(launch(Upper))


@pytest.fixture
def make(stack: ExitStack) -> Callable[..., Link]:
    """`link`, with an end."""

    def made(upstream: Any, faults: Any = None, **settings: Any) -> Link:
        return stack.enter_context(link(upstream, faults, **settings))

    return made
