"""Every fault that exists, or will, does on a socket in the user's hands what it does to a line in virtual time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from servertest.faults import Decision, Fault, Trace, registry
from servertest.wire import change_faults, faulty
from servertest.wire._line import ABORTED
from tests.faults._driving import carry
from tests.wire._relays import LIMIT, LONG, connected, read_all, send_all
from tests.wire.test_relay_laws import DATA, ON_STREAMS, SEED, aimed, direction_of

ON_DATAGRAMS = [
    kind for _, kind in sorted(registry.items()) if kind.place == "line" and "datagram" in kind.carried_by
]
SIDES = ("server", "client")
FAMILIES = ["inet", "unix"]


@dataclass
class Passed:
    """One connection whose one end has one fault, and what came out at the other end of it."""

    fault: Fault
    side: Any
    family: str
    trace: Trace = field(default_factory=Trace)
    result: list[tuple[bytes, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        client, server = connected(self.family)
        if self.side == "server":
            server = self.faulty = faulty(
                server, aimed(self.fault), seed=SEED, side="server", trace=self.trace
            )
        else:
            client = self.faulty = faulty(
                client, aimed(self.fault), seed=SEED, side="client", trace=self.trace
            )
        self.client, self.server = client, server
        for sock in (client, server):
            sock.settimeout(LONG)
        up = direction_of(self.fault) == "upstream"
        self.sender, self.receiver = (client, server) if up else (server, client)

    def run(self) -> None:
        self.reader = threading.Thread(
            target=lambda: self.result.append(read_all(self.receiver)), daemon=True
        )
        self.reader.start()
        send_all(self.sender, DATA)

    def close(self) -> None:
        change_faults(self.faulty, None)
        self.reader.join(LIMIT)
        self.client.close()
        self.server.close()


@pytest.fixture(scope="module")
def passed() -> Iterator[dict[tuple[str, str, str], Passed]]:
    """All of them at once: what takes its time takes it together."""
    made = {
        (kind.name, side, family): Passed(kind.example(), side, family)
        for kind in ON_STREAMS
        for side in SIDES
        for family in FAMILIES
    }
    for one in made.values():
        one.run()
    yield made
    for one in made.values():
        one.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ON_STREAMS, ids=lambda kind: kind.name)
def test_what_arrives_is_what_a_line_gives(
    kind: type[Fault], side: str, family: str, passed: dict[tuple[str, str, str], Passed]
) -> None:
    one = passed[kind.name, side, family]
    wanted = carry(aimed(one.fault), DATA, seed=SEED, direction=direction_of(one.fault))

    if wanted.ended is None:
        change_faults(one.faulty, None)
    one.reader.join(LIMIT)

    assert one.result, "the stream does not end"
    data, end = one.result[0]
    # What keeps everything gives it back, at the latest when it is taken away.
    assert data == (DATA if kind.lossless else wanted.data)
    if wanted.ended is not None:
        # A real Unix socket, to which nothing was sent back, knows no RST.
        told = family == "inet" or one.receiver is one.faulty
        assert end == ("rst" if wanted.ended is ABORTED and told else "fin")
    assert [decision.what for decision in one.trace][: len(wanted.decided)] == wanted.decided


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ON_STREAMS, ids=lambda kind: kind.name)
def test_taking_it_away_heals_a_live_connection(kind: type[Fault], family: str) -> None:
    client, server = connected(family)
    server = faulty(server, kind.example(), seed=SEED)
    with client, server:
        change_faults(server, None)
        sender, receiver = (
            (client, server) if direction_of(kind.example()) == "upstream" else (server, client)
        )
        try:
            sender.sendall(b"after")
            sender.shutdown(socket.SHUT_WR)
            data, _ = read_all(receiver)
        except OSError:
            return  # it was cut off before
        assert data.endswith(b"after") or not data


@pytest.mark.parametrize("kind", ON_DATAGRAMS, ids=lambda kind: kind.name)
def test_what_arrives_of_datagrams_is_what_a_line_gives(kind: type[Fault]) -> None:
    fault = kind.example()
    sent = [b"%03d" % number * (number + 1) for number in range(40)]
    wanted = carry(aimed(fault), sent, "datagram", seed=SEED, direction=direction_of(fault))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as real,
    ):
        peer.bind(("127.0.0.1", 0))
        real.bind(("127.0.0.1", 0))
        trace, complete = Trace(), threading.Event()

        def note(decision: Decision) -> None:
            trace.add(decision)
            if len(trace) >= len(wanted.decided):
                complete.set()

        up = direction_of(fault) == "upstream"
        with faulty(real, aimed(fault), seed=SEED, trace=note) as server:
            sender, receiver = (peer, server) if up else (server, peer)
            for sock in (sender, receiver):
                sock.settimeout(LIMIT)
            for data in sent:
                sender.sendto(data, receiver.getsockname())
            got = [receiver.recv(65536) for _ in wanted.datagrams]
            assert not wanted.decided or complete.wait(LIMIT), trace

    # Those that are not delayed may be overtaken by none; when others come is a matter of the clock.
    assert sorted(got) == sorted(wanted.datagrams)
    assert [decision.what for decision in trace] == wanted.decided
