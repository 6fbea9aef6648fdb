"""One test over all kinds there are: plain and TLS, IPv4, IPv6, dual stack, Unix and abstract, in threads and in processes."""

from __future__ import annotations

import gc
import os
import threading
from typing import Any

import pytest

from servertest import Kind, kinds, launch, servers
from tests._threads import new_threads


class Upper(servers.SelectorStreamRequestHandler):
    """Runs on every stream kind: it says what it waits for, and elsewhere it just waits."""

    async def handle(self) -> None:
        while line := await self.rfile.readline():
            await self.wfile.write(line.upper())


class UpperDatagram(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.packet.upper())


EVERY = list(
    dict.fromkeys(
        kind
        for host in (None, "process")
        for kind in kinds(
            family=None,
            concurrency=("sync", "threading", "forking", "pool", "prefork", "selector"),
            tls=None,
            host=host,
        )
    )
)


def test_there_are_as_many_kinds_as_there_should_be() -> None:
    streams = [kind for kind in EVERY if kind.transport == "stream"]
    # five families, plain and TLS, six concurrencies, of which two are in processes anyway
    assert len(streams) == 5 * 2 * (4 * 2 + 2)
    assert len(EVERY) - len(streams) == 5 * (3 * 2 + 2)


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_every_kind(serve: Any, kind: Kind) -> None:
    if kind.reason is not None:
        pytest.skip(kind.reason)
    stream = kind.transport == "stream"
    server = serve(Upper if stream else UpperDatagram, kind)
    with server.connect() as client:
        if stream:
            client.send_all(b"hello\n")
        else:
            client.send(b"hello\n")
        client.expect(b"HELLO\n")


@pytest.mark.timeout(300)
def test_two_thousand_launches_leave_nothing_behind() -> None:
    """Descriptors, threads, children and memory are where they were."""

    def once(kind: str) -> None:
        with launch(Upper, kind) as server, server.connect() as client:
            client.send_all(b"hello\n")
            client.expect(b"HELLO\n")

    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    names = ["TCPServer", "ThreadingTCPServer", "ThreadPoolUnixStreamServer", "SelectorTCPServer"]
    for number in range(200):
        once(names[number % 4])
    once("ForkingTCPServer")
    before, threads, memory = descriptors(), threading.enumerate(), resident()
    for number in range(1900):
        once(names[number % 4])
    for _ in range(100):
        once("ForkingTCPServer")
    assert descriptors() <= before
    assert not new_threads(threads)
    assert resident() - memory < 4 << 20  # 2 KiB a launch would be a leak; an arena of the allocator is none
