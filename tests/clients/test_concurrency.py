"""Threads and tasks that share a client: full duplex, closing under a wait, cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from servertest._support import DeadlineExceeded, UsageError, bound_socket
from servertest.clients import AsyncDatagramClient, AsyncStreamClient, StreamClient
from servertest.clients._steps import Wait, ready

from ._twins import PATIENCE, Background, Threads
from .conftest import Link

Start = Callable[..., Background]


def once_waiting(client: StreamClient) -> threading.Event:
    """Is set when a call on the client has begun: it looks whether the client is open, then waits."""
    waiting = threading.Event()
    original = client._core.shared.require_open

    def noticed() -> None:
        original()
        waiting.set()

    client._core.shared.require_open = noticed  # type: ignore[method-assign] # that is how it is noticed
    return waiting


# Threads

threads = pytest.mark.parametrize("twin", [Threads], indirect=True)


@threads
@pytest.mark.parametrize("kind", ["inet", "inet6", "unix", "abstract"])  # for TLS see test_tls.py
def test_one_thread_reads_while_another_writes(
    make_link: Callable[..., Link], background: Start, kind: str
) -> None:
    link = make_link(kind)
    message = bytes(range(256)) * 8000

    def echo() -> None:
        size = 0
        while size < len(message):
            data = link.peer.recv(65536)
            size += len(data)
            link.peer.sendall(data)

    echoing = background(echo)
    writing = background(link.client.send_all, message)
    assert link.client.read_exactly(len(message)) == message
    writing.result()
    echoing.result()


@threads
@pytest.mark.parametrize("end", ["close", "reset"])
def test_ending_a_client_ends_a_read_in_another_thread(link: Link, background: Start, end: str) -> None:
    waiting = once_waiting(link.client)
    reading = background(link.client.readline)
    assert waiting.wait(PATIENCE)
    getattr(link.client, end)()
    with pytest.raises(UsageError, match="is closed"):
        reading.result()


@threads
@pytest.mark.parametrize("kind", ["inet", "inet+tls"])
def test_a_reset_under_a_blocked_write_is_a_reset(
    make_link: Callable[..., Link], background: Start, kind: str
) -> None:
    link = make_link(kind)
    while ready(Wait(link.client.socket, write=True), 0.05):
        with contextlib.suppress(DeadlineExceeded):
            link.client.send_all(b"x" * 1_000_000, timeout=0.01)
    waiting = once_waiting(link.client)
    writing = background(link.client.send_all, b"x" * 1000)
    assert waiting.wait(PATIENCE)
    link.client.reset()
    with pytest.raises(UsageError, match="is closed"):
        writing.result()
    with pytest.raises(ConnectionResetError):
        while socket.socket.recv(link.peer, 1 << 20):
            pass


@threads
def test_two_reads_at_once_are_refused(tcp: Link, background: Start) -> None:
    waiting = once_waiting(tcp.client)
    reading = background(tcp.client.readline)
    assert waiting.wait(PATIENCE)
    with pytest.raises(UsageError, match="another call already reads on the connection"):
        tcp.client.read_some()
    tcp.peer.sendall(b"for the first\n")
    assert reading.result() == b"for the first\n"


# Tasks


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[AsyncStreamClient, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    with theirs:
        async with AsyncStreamClient(ours) as client:
            yield client, theirs


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, PATIENCE))


async def until_waiting(client: AsyncStreamClient | AsyncDatagramClient) -> None:
    """Let other tasks run until one of them waits on the client's socket."""
    while not client._waiter._waits:
        await asyncio.sleep(0)


def test_one_task_reads_while_another_writes() -> None:
    message = bytes(range(256)) * 8000

    async def main() -> None:
        async with connected() as (client, peer):
            peer.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=peer.dup())

            async def echo() -> None:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()

            async with asyncio.TaskGroup() as group:
                group.create_task(echo())
                group.create_task(client.send_all(message))
                assert await client.read_exactly(len(message)) == message
                await client.half_close()
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.mark.parametrize("end", ["close", "reset"])
def test_ending_a_client_ends_a_read_in_another_task(end: str) -> None:
    async def main() -> None:
        async with connected() as (client, _):
            reading = asyncio.create_task(client.readline())
            await until_waiting(client)
            await getattr(client, end)()
            with pytest.raises(UsageError, match="is closed"):
                await reading

    run(main())


def test_a_descriptor_is_not_closed_under_a_wait() -> None:
    async def main() -> None:
        async with connected() as (client, _):
            reading = asyncio.create_task(client.readline())
            await until_waiting(client)
            await client.close()
            assert client.closed
            # Its number must not become another socket's before the loop has stopped watching it.
            assert client.socket.fileno() >= 0
            with pytest.raises(UsageError, match="is closed"):
                await reading
            assert client.socket.fileno() == -1

    run(main())


def test_closing_ends_a_wait_even_where_shutdown_does_not() -> None:
    """As for an unconnected datagram socket on macOS."""

    class Unmoved(socket.socket):
        def shutdown(self, how: int) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            client = AsyncStreamClient(Unmoved(fileno=ours.detach()))
            reading = asyncio.create_task(client.readline())
            await until_waiting(client)
            await client.close()
            with pytest.raises(UsageError, match="is closed"):
                await reading

    run(main())


def test_a_loop_watches_a_socket_only_while_somebody_waits() -> None:
    async def main() -> None:
        async with connected() as (client, peer):
            peer.sendall(b"x")
            assert await client.read_some() == b"x"
            await client.send_all(b"y")
            with pytest.raises(DeadlineExceeded):
                await client.read_some(timeout=0)
            loop = asyncio.get_running_loop()
            assert not loop.remove_reader(client.socket)
            assert not loop.remove_writer(client.socket)

    run(main())


def test_closing_a_datagram_client_ends_a_wait_in_another_task() -> None:
    async def main() -> None:
        with bound_socket("datagram", "inet") as server:
            client = await AsyncDatagramClient.connect(server.getsockname())
            receiving = asyncio.create_task(client.receive())
            await until_waiting(client)
            await client.close()
            with pytest.raises(UsageError, match="is closed"):
                await receiving

    run(main())


def test_two_reads_at_once_are_refused_among_tasks_too() -> None:
    async def main() -> None:
        async with connected() as (client, peer):
            reading = asyncio.create_task(client.readline())
            await until_waiting(client)
            with pytest.raises(UsageError, match="another call already reads"):
                await client.read_some()
            peer.sendall(b"for the first\n")
            assert await reading == b"for the first\n"

    run(main())


@pytest.mark.parametrize("passes", range(5))
def test_a_cancelled_read_loses_nothing_whenever_it_is_cancelled(passes: int) -> None:
    """Cancelled after any number of passes of the loop, also in the very one in which the bytes come."""

    async def main() -> None:
        async with connected() as (client, peer):
            reading = asyncio.create_task(client.read_exactly(10))
            await until_waiting(client)
            peer.sendall(b"half ")
            for _ in range(passes):
                await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            peer.sendall(b"whole")
            assert await client.read_exactly(10) == b"half whole"

    run(main())


def test_a_callers_own_timeout_is_the_callers() -> None:
    async def main() -> None:
        async with connected() as (client, peer):
            peer.sendall(b"half")
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.01):
                    await client.readline()
            assert not isinstance(caught.value, DeadlineExceeded)
            peer.sendall(b" a line\n")
            assert await client.readline() == b"half a line\n"

    run(main())


def test_a_deadline_lets_other_tasks_run() -> None:
    async def main() -> None:
        async with connected() as (client, _):
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(tick())
            with pytest.raises(DeadlineExceeded):
                await client.readline(timeout=0.02)
            ticking.cancel()
            assert ticks >= 2

    run(main())


def test_a_socket_that_is_ready_when_the_timer_strikes_counts_as_ready() -> None:
    async def main() -> None:
        async with connected() as (client, peer):
            peer.sendall(b"just in time")
            # With no time at all, the loop comes to the timer before it comes to the socket.
            assert await client.read_some(timeout=0) == b"just in time"

    run(main())


def test_a_loop_that_cannot_watch_sockets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    async def main() -> None:
        async with connected() as (client, _):
            monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
            with pytest.raises(UsageError, match=r"take asyncio.SelectorEventLoop"):
                await client.readline()

    run(main())


def test_a_client_that_nobody_closed_is_warned_of() -> None:
    with pytest.warns(ResourceWarning, match="unclosed <socket"):
        forget()


def forget() -> None:
    ours, theirs = socket.socketpair()
    client = StreamClient(ours)
    theirs.close()
    del client, ours
    gc.collect()
