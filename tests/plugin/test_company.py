"""Together with the plugins that people have."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

HANG = """
import time

class Hanging(Upper):
    def handle(self):
        self.wfile.write(self.rfile.readline())
        self.rfile.readline()

@pytest.mark.timeout(3, method="{method}")
def test_hangs(serve):
    with serve(Hanging).connect() as client:
        client.send_all(b"a line of mine\\n")
        client.read_exactly(100, timeout=30)
"""


def test_a_timeout_by_signal_shows_what_the_server_was_doing(run: Run) -> None:
    result = run(HANG.format(method="signal"), subprocess=True)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Failed: Timeout*",
            "*servertest dump of ThreadingTCPServer serving Hanging*",
            "*received 15 bytes, last b'a line of mine*",
            "*in Hanging.handle",
            "*servertest transcript of*",
        ]
    )


def test_a_timeout_by_thread_shows_what_the_server_was_doing(run: Run) -> None:
    result = run(HANG.format(method="thread"), subprocess=True)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*Timeout*",
            "ThreadingTCPServer serving Hanging on *: running",
            "*received 15 bytes, last b'a line of mine*",
            "*in Hanging.handle",
            "this process, when the time was up",
        ]
    )


def test_xdist_workers_have_the_seed_of_the_run(run: Run) -> None:
    result = run(
        """
@pytest.mark.parametrize("number", range(8))
def test_seed(serve, pytestconfig, number):
    from servertest.plugin import _seed_key
    assert pytestconfig.stash[_seed_key] == 7
    with serve(Upper, "ForkingTCPServer").connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
""",
        "-n2",
        "--servertest-seed=7",
        subprocess=True,
    )
    result.assert_outcomes(passed=8)


def test_a_failed_test_may_keep_its_server_up(pytester: pytest.Pytester, run: Run) -> None:
    result = run(
        """
def test_fails(serve):
    serve(Upper)
    assert False
""",
        "--servertest-serve",
        subprocess=True,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_fails failed, its servers are kept up*", "*nc 127.0.0.1 *"])


def test_an_unrelated_run_imports_nothing_of_ours(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import sys

def test_imports():
    ours = {name for name in sys.modules if name.startswith("servertest")}
    assert ours == {"servertest", "servertest.plugin"}
    assert not {"trustme", "hypothesis.core", "rich", "cloudpickle"} & set(sys.modules)
""")
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)


ASYNC = """
async def use(serve):
    server = serve(Upper, "ForkingTCPServer")
    async with await server.connect_async() as client:
        await client.send_all(b"hi\\n")
        assert await client.readline() == b"HI\\n"
"""


def test_pytest_asyncio(run: Run) -> None:
    result = run(
        ASYNC
        + """
@pytest.mark.asyncio
async def test_async(serve):
    await use(serve)

async def serve_in_the_loop(serve):
    async def echo(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
    async with await serve.asyncio(echo).connect_async() as client:
        await client.send_all(b"hi\\n")
        assert await client.read_eof() == b"HI\\n"

@pytest.mark.asyncio
async def test_asyncio_server(serve):
    await serve_in_the_loop(serve)
""",
        subprocess=True,
    )
    result.assert_outcomes(passed=2)


def test_anyio(run: Run) -> None:
    result = run(
        ASYNC
        + """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_async(serve, anyio_backend):
    await use(serve)
""",
        subprocess=True,
    )
    result.assert_outcomes(passed=1)


def test_a_task_that_is_left_behind_is_blamed_on_its_test(run: Run) -> None:
    result = run(
        """
import asyncio

@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()

TASKS = []

def test_leaves_a_task(serve, loop):
    TASKS.append(loop.create_task(asyncio.sleep(3600), name="of mine"))
    loop.run_until_complete(asyncio.sleep(0))

def test_next(serve, loop):
    TASKS[0].cancel()
    loop.run_until_complete(asyncio.sleep(0))
""",
        subprocess=True,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*test_leaves_a_task left something behind*", "*of mine*"])


def test_pytest_socket(run: Run) -> None:
    source = """
import socket

@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingUnixStreamServer", "ThreadPoolTCPServer+tls"])
def test_loopback(serve, kind):
    with serve(Upper, kind).connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"

def test_the_world_is_shut_out():
    from pytest_socket import SocketConnectBlockedError
    with socket.socket() as client, pytest.raises((SocketConnectBlockedError, UserWarning)):
        client.connect(("192.0.2.1", 80))
"""
    result = run(source, "--allow-hosts=127.0.0.1,::1", "--allow-unix-socket", subprocess=True)
    result.assert_outcomes(passed=4)


def test_random_order_and_several_workers_together(run: Run) -> None:
    result = run(
        """
@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("kind", ["TCPServer", "ForkingUnixStreamServer"])
def test_kind(serve, kind, number):
    with serve(Upper, kind).connect() as client:
        client.send_all(b"hi\\n")
        assert client.readline() == b"HI\\n"
""",
        "-n2",
        "-p",
        "randomly",
        subprocess=True,
    )
    result.assert_outcomes(passed=20)
