"""What is particular about selector servers: their handlers wait without a thread."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from typing import Any

import pytest

from servertest import servers
from servertest._support import HandlerFailed, StillRunning, UsageError, hard_reset
from servertest.launch import Kind, kinds, launch, no_leaks
from servertest.launch._handshake import Handshake
from servertest.tls import shared_authority

from ._handlers import Upper, echo

SELECTOR = kinds(concurrency="selector", host=("thread", "process"), family=None)


class AsyncUpper(servers.SelectorStreamRequestHandler):
    async def handle(self) -> None:
        while line := await self.rfile.readline():
            await self.wfile.write(line.upper())


class Dreaming(servers.SelectorStreamRequestHandler):
    async def handle(self) -> None:
        await self.wfile.write(b"?")
        await self.sleep(20)


class Fussy(servers.SelectorStreamRequestHandler):
    async def handle(self) -> None:
        await self.wfile.write(b"?")
        if not await self.rfile.readline():
            raise EOFError("nothing came")
        raise ValueError("something came")


@pytest.mark.parametrize("kind", SELECTOR, ids=str)
def test_launch_talk_restart_and_stop(kind: Kind) -> None:
    if kind.reason is not None:
        pytest.skip(kind.reason)
    with launch(AsyncUpper, kind) as running:
        echo(running)
        running.restart()
        echo(running)
    assert running.transcript is not None
    assert [one.downstream for one in running.transcript.connections] == [b"HI\n"] * 2


@pytest.mark.parametrize("kind", ["SelectorTCPServer+tls", "SelectorUnixStreamServer+tls:mutual"])
def test_tls(kind: str) -> None:
    with launch(AsyncUpper, kind) as running:
        with socket.socket(running.server.address_family) as silent:
            silent.connect(running.address)
            echo(running)
            running.stop()
    assert running.transcript is not None
    assert running.transcript.connections[1].upstream == b"hi\n"


def test_a_profile_whose_point_is_the_refusal() -> None:
    with launch(AsyncUpper, "SelectorTCPServer", tls="expired") as running:
        with pytest.raises(ssl.SSLCertVerificationError):
            running.connect()


@pytest.mark.parametrize("profile", ["handshake-stall", "handshake-reset"])
def test_a_profile_that_misbehaves(profile: str) -> None:
    with launch(AsyncUpper, "SelectorTCPServer", tls=profile) as running:
        with pytest.raises(OSError):
            running.connect(timeout=0.1)


def test_idle_clients_do_not_delay_the_stop_and_handlers_come_to_their_end() -> None:
    ended: list[str] = []

    class Ending(AsyncUpper):
        async def handle(self) -> None:
            await super().handle()
            ended.append("in good order")

    with launch(Ending, "SelectorTCPServer") as running:
        for _ in range(3):
            client = running.connect()
            client.send_all(b"hi\n")
            assert client.readline() == b"HI\n"
        began = time.monotonic()
        running.stop()
    assert time.monotonic() - began < 0.3
    assert ended == ["in good order"] * 3


def test_a_handler_that_waits_too_long_is_described_with_its_place() -> None:
    with pytest.raises(StillRunning) as caught:
        with launch(Dreaming, "SelectorTCPServer", timeout=0.05) as running:
            running.connect().read_exactly(1)
    text = str(caught.value)
    assert "in its handler, in the server's loop" in text
    assert "await self.sleep(20)" in text
    assert "left behind" not in text


def test_what_a_handler_raises_because_of_our_end_of_input_is_no_error() -> None:
    with launch(Fussy, "SelectorTCPServer") as running:
        running.connect().read_exactly(1)


@pytest.mark.parametrize(("data", "error"), [(b"", EOFError), (b"x\n", ValueError)])
def test_what_a_handler_raises_counts(data: bytes, error: type[Exception]) -> None:
    with launch(Fussy, "SelectorTCPServer") as running:
        with running.expects_error(error) as expected, running.connect() as client:
            client.send_all(data)
            client.half_close()
            client.read_eof()
        assert expected.error is not None
        assert (expected.error.where, expected.error.connection) == ("handle", 1)


def test_an_unclaimed_error_fails_the_test() -> None:
    with pytest.raises(HandlerFailed, match="something came"):
        with launch(Fussy, "SelectorTCPServer") as running, running.connect() as client:
            client.send_all(b"x\n")
            client.read_eof()


def test_a_blocking_handler_is_refused() -> None:
    with pytest.raises(UsageError, match="Upper cannot be served by SelectorTCPServer"):
        launch(Upper, "SelectorTCPServer")


@pytest.mark.parametrize("kind", kinds(transport="stream", family="inet", host="thread"), ids=str)
def test_a_handler_for_selectors_runs_on_other_kinds_too(kind: Any) -> None:
    with launch(AsyncUpper, kind) as running:
        echo(running)


def test_a_client_that_resets_before_its_handshake_leaves_nothing_open() -> None:
    shared_authority()  # whose making takes descriptors of its own
    handshake = Handshake(shared_authority().server_credential(("127.0.0.1", 0), "good"))
    try:
        with no_leaks(), socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
            hard_reset(client)
            # The reset has arrived when the socket says so.
            select.select([accepted], [], [], 5)
            with contextlib.suppress(OSError):
                handshake.prepare(accepted).close()
    finally:
        handshake.cancelled.close()
