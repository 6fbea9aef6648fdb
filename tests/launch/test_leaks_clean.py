"""A hundred clean cases, quiet and busy: no false alarm, nor a wait that nobody needed."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from servertest.launch._leaks import Snapshot, render_leaks, wait_clean

ROUNDS = 5


def talk_over_tcp() -> None:
    """The server's side is a thread that nobody joins: it ends when it sees the client close."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                while data := sock.recv(100):
                    sock.sendall(data)

        threading.Thread(target=serve).start()
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"


def talk_over_unix() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "s")
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind(path)
            listener.listen()
            client.connect(path)
            listener.accept()[0].close()


def talk_over_udp() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as left, socket.socket(type=socket.SOCK_DGRAM) as right:
        left.bind(("127.0.0.1", 0))
        right.sendto(b"hello", left.getsockname())
        assert left.recv(100) == b"hello"


def run_a_child() -> None:
    subprocess.run(["true"], check=True)


def leave_a_child_to_a_thread() -> None:
    process = subprocess.Popen(["true"])
    threading.Thread(target=process.wait).start()


def use_an_executor() -> None:
    pool = ThreadPoolExecutor(3)
    pool.map(int, range(5))
    pool.shutdown(wait=False)


def forget_an_executor() -> None:
    ThreadPoolExecutor(1).submit(int)


def start_threads_and_leave() -> None:
    for _ in range(5):
        threading.Thread(target=os.getpid).start()


def start_raw_threads_and_leave() -> None:
    import _thread

    for _ in range(5):
        _thread.start_new_thread(threading.current_thread, ())


def run_asyncio() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()
            await asyncio.to_thread(os.getpid)

    asyncio.run(main())


CASES: tuple[Callable[[], None], ...] = (
    talk_over_tcp,
    talk_over_unix,
    talk_over_udp,
    run_a_child,
    leave_a_child_to_a_thread,
    use_an_executor,
    forget_an_executor,
    start_threads_and_leave,
    start_raw_threads_and_leave,
    run_asyncio,
)


@pytest.fixture
def noise() -> Iterator[None]:
    """Another thread of this process, and another process, that are busy all the time."""
    over = threading.Event()

    def burn() -> None:
        while not over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=burn)
    thread.start()
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as process:
        try:
            yield
        finally:
            process.kill()
            over.set()
            thread.join()


def check(case: Callable[[], None]) -> None:
    for _ in range(ROUNDS):
        before = Snapshot.take()
        case()
        leaks = wait_clean(before, 10)
        assert not leaks, render_leaks(leaks)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_quiet(case: Callable[[], None]) -> None:
    check(case)


@pytest.mark.usefixtures("noise")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_busy(case: Callable[[], None]) -> None:
    check(case)
