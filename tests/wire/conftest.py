"""A connected pair of sockets whose server side is observed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from servertest._support import Family, SocketDirectory, bound_socket
from servertest.transcript import Conversation, Transcript
from servertest.wire import observe

# Nothing here waits for long unless it is broken.
LIMIT = 5.0


@dataclass
class Pair:
    """The two ends of one connection."""

    server: socket.socket
    client: socket.socket
    transcript: Transcript

    @property
    def seen(self) -> Conversation:
        return self.transcript.connections[0]

    def story(self) -> list[str]:
        """The events in short: what a test compares."""
        return [short(event) for event in self.transcript.events[1:]]


def short(event: object) -> str:
    name = type(event).__name__
    parts = [
        str(getattr(event, field)) for field in ("direction", "by", "how", "data") if hasattr(event, field)
    ]
    return " ".join([name, *parts])


@pytest.fixture(params=["inet", "unix"])
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def pair(family: Family) -> Iterator[Pair]:
    yield from connected(family)


@pytest.fixture
def tcp() -> Iterator[Pair]:
    yield from connected("inet")


def connected(family: Family) -> Iterator[Pair]:
    with SocketDirectory() as directory, bound_socket("stream", family, directory=directory) as listener:
        client = socket.socket(listener.family)
        client.settimeout(LIMIT)
        client.connect(listener.getsockname())
        accepted, address = listener.accept()
        accepted.settimeout(LIMIT)
        transcript = Transcript()
        server = observe(accepted, transcript, transcript.connect(address, accepted.getsockname()))
        with client, server:
            yield Pair(server, client, transcript)
