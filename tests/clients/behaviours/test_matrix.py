"""Every behaviour on everything that carries it: alone, for threads and for asyncio, and in a swarm; they all see the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from servertest import servers
from servertest.clients.behaviours import (
    Behaviour,
    ConnectAndDrop,
    DribbledHandshake,
    Flooder,
    HalfCloser,
    HalfOpen,
    Honest,
    IdleAfterConnect,
    IdleMidRequest,
    NeverCloses,
    NeverReads,
    Outcome,
    Pipeliner,
    Resetter,
    SlowBody,
    SlowReader,
    SlowWriter,
    StalledHandshake,
    behaviours,
)
from servertest.swarm import swarm

SECONDS = 1.5

STREAMS = (
    "ThreadingTCPServer",
    "ThreadingTCPServer+ipv6",
    "ThreadingTCPServer+tls",
    "ThreadingUnixStreamServer",
    "ThreadingUnixStreamServer+abstract",
    "ThreadingUnixStreamServer+tls",
)
DATAGRAMS = (
    "ThreadingUDPServer",
    "ThreadingUDPServer+ipv6",
    "ThreadingUnixDatagramServer",
    "ThreadingUnixDatagramServer+abstract",
)

# How each of them ends before a server that answers lines in capitals and hangs up after 0.2 s of silence, how many bytes it has sent, and
# how many have come; a range where that depends on the moment.
ON_STREAMS: dict[Behaviour, tuple[str, Any, Any]] = {
    Honest(b"hello\n", 6): ("finished", 6, 6),
    SlowWriter(b"hello\n", bytes_per_second=1): ("closed", 1, 0),
    SlowBody(b"head\n", b"body\n", bytes_per_second=1): ("closed", 6, 5),
    IdleAfterConnect(): ("closed", 0, 0),
    IdleMidRequest(b"hello\n"): ("closed", 5, 0),
    Pipeliner(b"hello\n", 10, reply_bytes=60): ("finished", 60, 60),
    HalfCloser(b"hello\n", 6): ("finished", 6, 6),
    SlowReader(b"hello\n", size=2, pause=0.1, reply_bytes=6): ("finished", 6, 6),
    NeverReads(b"hello\n"): ("closed", 6, 0),
    NeverCloses(b"hello\n"): ("held", 6, 6),
    HalfOpen(b"hello\n"): ("held", 6, 0),
    ConnectAndDrop(every=None): ("finished", 0, 0),
    Resetter(b"hello\n", 3): ("finished", 3, 0),
    Flooder(b"hello\n", 0.1): ("finished", 6, 0),
}
ON_TLS: dict[Behaviour, tuple[str, Any, Any]] = {
    DribbledHandshake(20_000, 100, payload=b"hello\n"): ("finished", 0, 6),
    StalledHandshake(16): ("held", 0, 0),
}
ON_DATAGRAMS: dict[Behaviour, tuple[str, Any, Any]] = {
    Honest(b"hello", 5): ("finished", 5, 5),
    Flooder(b"hello", 20): ("held", range(70, 200), range(200)),
}


class Upper(servers.StreamRequestHandler):
    timeout = 0.2

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            for line in self.rfile:
                self.wfile.write(line.upper())


class Echo(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


Found = dict[Behaviour, Outcome]


def put_up(serve: Any, kind: str) -> tuple[Any, dict[Behaviour, tuple[str, Any, Any]]]:
    """A server, and what is expected there."""
    if kind in DATAGRAMS:
        return serve(Echo, kind), ON_DATAGRAMS
    return serve(Upper, kind), ON_STREAMS | (ON_TLS if "tls" in kind else {})


def alone(server: Any, wanted: Iterable[Behaviour]) -> Found:
    """Each of them in a thread of its own."""

    def run(behaviour: Behaviour) -> Outcome:
        with server.connect(behaviour) as client:
            return client.run(SECONDS)  # type: ignore[no-any-return]

    with ThreadPoolExecutor(30) as pool:
        return dict(zip(wanted, pool.map(run, wanted), strict=True))


def alone_with_asyncio(server: Any, wanted: Iterable[Behaviour]) -> Found:
    """Each of them in a task of its own."""

    async def run(behaviour: Behaviour) -> Outcome:
        async with await server.connect_async(behaviour) as client:
            return await client.run(SECONDS)  # type: ignore[no-any-return]

    async def run_all() -> Found:
        return dict(zip(wanted, await asyncio.gather(*map(run, wanted)), strict=True))

    return asyncio.run(run_all())


def in_a_swarm(server: Any, wanted: Iterable[Behaviour]) -> Found:
    """All of them in one swarm."""
    with swarm(server, [*wanted], clients=len([*wanted]), duration=SECONDS) as crowd:
        pass
    roles = list(crowd.profile.roles())
    return {each: crowd.result.outcome(roles.index(number) + 1) for number, each in enumerate(wanted)}


@pytest.mark.parametrize("play", [alone, alone_with_asyncio, in_a_swarm], ids=lambda play: play.__name__)
@pytest.mark.parametrize("kind", [*STREAMS, *DATAGRAMS])
def test_every_behaviour(serve: Any, kind: str, play: Any) -> None:
    server, expected = put_up(serve, kind)
    found = play(server, expected)

    assert {
        each.name: (
            outcome.how,
            _seen(outcome.sent, expected[each][1]),
            _seen(outcome.received, expected[each][2]),
        )
        for each, outcome in found.items()
    } == {each.name: wanted for each, wanted in expected.items()}
    assert all(outcome.connected is not None for outcome in found.values())


def _seen(number: int, wanted: Any) -> Any:
    return wanted if isinstance(wanted, range) and number in wanted else number


def test_no_behaviour_is_left_out() -> None:
    streams, tls, datagrams = (
        {type(each) for each in expected} for expected in (ON_STREAMS, ON_TLS, ON_DATAGRAMS)
    )

    assert streams | tls == {kind for kind in behaviours.values() if "stream" in kind.carried_by}
    assert tls == {kind for kind in behaviours.values() if kind.needs_tls}
    assert datagrams == {kind for kind in behaviours.values() if "datagram" in kind.carried_by}
