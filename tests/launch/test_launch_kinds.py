"""Every kind that runs in a thread, through its whole life."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from servertest._support import PeerRefused
from servertest.launch import Kind, kinds, launch

from ._handlers import echo, handler_for

IN_THREADS = kinds(family=None, host="thread") + kinds(transport="stream", tls=True, host="thread")


def skip_unless_available(kind: Kind) -> None:
    if kind.reason is not None:
        pytest.skip(kind.reason)


@pytest.mark.parametrize("kind", IN_THREADS, ids=str)
def test_launch_talk_restart_and_stop(kind: Kind) -> None:
    skip_unless_available(kind)
    before = set(threading.enumerate())
    with launch(handler_for(kind), kind) as running:
        echo(running)
        address = running.address
        running.restart()
        assert running.address == address
        echo(running)
        if kind.family == "unix":
            assert os.path.exists(running.path)
    assert set(threading.enumerate()) <= before
    assert not running.running
    assert running.transcript is not None
    # A datagram client has another port each time, as a stream client has.
    assert len(running.transcript.connections) == 2
    assert [one.upstream_total for one in running.transcript.connections] == [
        3 - (kind.transport == "datagram")
    ] * 2


@pytest.mark.parametrize("kind", kinds(transport="stream", host="thread"), ids=str)
def test_after_the_stop_clients_are_refused_and_nothing_is_left(kind: Kind) -> None:
    with launch(handler_for(kind), kind) as running:
        directory = os.path.dirname(running.path) if kind.family == "unix" else None
    with pytest.raises((PeerRefused, FileNotFoundError)):
        running.connect()
    assert directory is None or not os.path.exists(directory)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("transport", ["stream", "datagram"])
def test_dual_stack_serves_both(host: str, transport: Any) -> None:
    kind = Kind(transport, family="dual")
    skip_unless_available(kind)
    with launch(handler_for(kind), kind) as running:
        echo(running, host=host)
        assert running.transcript is not None
        if transport == "datagram":
            return  # whose socket knows its own address alone
        # The transcript has the address that the client came to, not the one that the server listens on.
        assert running.transcript.connections[0].server[0].endswith(host)


@pytest.mark.parametrize("kind", kinds(host="thread"), ids=str)
def test_without_a_transcript(kind: Kind) -> None:
    with launch(handler_for(kind), kind, transcript=False) as running:
        echo(running)
        assert running.transcript is None


@pytest.mark.parametrize("kind", [kind for kind in kinds(host="process") if kind.available], ids=str)
def test_launch_talk_and_stop_in_a_process(kind: Kind) -> None:
    with launch(handler_for(kind), kind) as running:
        echo(running)
        assert running.pid not in (None, os.getpid())
        assert running.server is None
    assert running.transcript is not None
    assert len(running.transcript.connections) == 1
