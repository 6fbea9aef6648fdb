"""Datagrams through a link: peers are told apart, forgotten when they are idle, and faults know each by its number."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from servertest._support import SocketDirectory, refused_address
from servertest.faults import Latency, Loss, Partition, Reorder, downstream, upstream
from servertest.launch import Running, launch
from servertest.proxy import Link
from servertest.proxy._gates import DatagramGate
from tests.proxy.conftest import LIMIT, UpperDatagram

Make = Callable[..., Link]


@pytest.fixture
def upper(stack: ExitStack) -> Running:
    return stack.enter_context(launch(UpperDatagram, kind="UDPServer"))


def ask(client: Any, data: bytes = b"hi") -> bytes:
    client.send(data)
    return bytes(client.receive())


def test_loss_takes_what_it_says_and_no_more(make: Make, upper: Running) -> None:
    made = make(upper, upstream(Loss(1.0).on(datagram=[2, 3])))
    with made.connect() as client:
        for data in (b"1", b"2", b"3", b"4"):
            client.send(data)
        assert [client.receive(), client.receive()] == [b"1", b"4"]
    assert sum("loses" in decision.what for decision in made.trace) == 2


def test_reordered_and_delayed_ones_arrive_after_all(make: Make, upper: Running) -> None:
    made = make(upper, upstream(Reorder()) | Latency(0.005, jitter=0.004), seed=4)
    with made.connect() as client:
        sent = [b"%02d" % number for number in range(30)]
        for data in sent:
            client.send(data)
        assert sorted(client.receive() for _ in sent) == sent


def test_faults_are_added_and_removed_while_a_peer_lives(make: Make, upper: Running) -> None:
    made = make(upper)
    with made.connect() as client:
        assert ask(client) == b"HI"
        with made.faults(downstream(Partition())):
            client.send(b"lost")
            assert made.upstream_transcript is not None
            made.upstream_transcript.wait_for(downstream=b"LOST")
        assert ask(client, b"back") == b"BACK"


def test_the_peer_that_was_idle_longest_makes_way(make: Make, upper: Running, stack: ExitStack) -> None:
    made = make(upper, max_peers=2)
    first, second, third = (stack.enter_context(made.connect()) for _ in range(3))
    for client in (first, second, first, third, first):
        assert ask(client) == b"HI"
    assert [known.state for known in made.connections] == ["open", "finished", "open"]
    assert ask(second) == b"HI"
    assert len(made.connections) == 4


def test_a_peer_that_says_nothing_is_forgotten(
    make: Make, upper: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    look = DatagramGate._forget_idle

    def forget_idle(self: DatagramGate, now: float) -> None:
        look(self, now)
        if not self._peers:
            looked.set()

    monkeypatch.setattr(DatagramGate, "_forget_idle", forget_idle)
    made = make(upper, idle_timeout=0.7)  # long enough for an answer on a busy machine
    with made.connect() as client:
        assert ask(client) == b"HI"
        (known,) = made.connections
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 1
        assert looked.wait(LIMIT)
        assert not known.is_open
        if before > 1:
            assert len(os.listdir("/proc/self/fd")) <= before - 1  # fewer where an earlier test left some
        assert ask(client) == b"HI"


def test_a_server_that_is_not_there_is_said(make: Make) -> None:
    with refused_address("datagram") as address:
        made = make(address, transport="datagram")
        with made.connect() as client:
            client.send(b"x")
            client.send(b"y")
            assert made.upstream_transcript is not None
            made.upstream_transcript.wait_for(
                until=lambda record: any("refused" in str(event) for event in record.events)
            )


def test_a_unix_client_without_a_name_is_heard(make: Make, stack: ExitStack) -> None:
    with SocketDirectory() as directory:
        server = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        server.settimeout(LIMIT)
        server.bind(directory.path())
        made = make(server.getsockname(), transport="datagram")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"from nobody", made.path)
            data, back = server.recvfrom(100)
            assert data == b"from nobody"
            server.sendto(b"to nobody", back)
            made.transcript.wait_for(  # type: ignore[union-attr]
                until=lambda record: any("without a name" in str(event) for event in record.events)
            )
