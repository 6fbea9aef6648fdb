"""Every fault that exists, or will, does through real sockets what it does to a line in virtual time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from servertest.faults import Fault, Plan, Trace, downstream, registry, upstream
from servertest.wire._line import ABORTED
from servertest.wire._relay import Relay
from tests.faults._driving import carry
from tests.wire._relays import LIMIT, LONG, Joined, join, read_all, send_all

SEED = 11
DATA = bytes(range(256)) * 24

ON_LINES = [kind for _, kind in sorted(registry.items()) if kind.place == "line"]
ON_STREAMS = [kind for kind in ON_LINES if "stream" in kind.carried_by]


def direction_of(fault: Fault) -> Any:
    return fault.usual_direction or "downstream"


def aimed(fault: Fault) -> Plan:
    """On one direction, so that the other does not end the connection first."""
    return upstream(fault) if direction_of(fault) == "upstream" else downstream(fault)


@dataclass
class Passed:
    """One connection through one fault, and what came out of it so far."""

    fault: Fault
    joined: Joined
    trace: Trace
    reader: threading.Thread = field(init=False)
    result: list[tuple[bytes, str]] = field(default_factory=list)

    def run(self) -> None:
        sender, receiver = self.joined.ends(direction_of(self.fault))
        receiver.settimeout(LONG)
        self.reader = threading.Thread(target=lambda: self.result.append(read_all(receiver)), daemon=True)
        self.reader.start()
        send_all(sender, DATA)


@pytest.fixture(scope="module")
def passed() -> Iterator[dict[str, Passed]]:
    """All of them at once: what takes its time takes it together."""
    relay = Relay()
    made = {}
    try:
        for kind in ON_STREAMS:
            trace = Trace()
            fault = kind.example()
            made[kind.name] = Passed(fault, join(relay, aimed(fault), seed=SEED, trace=trace), trace)
        for one in made.values():
            one.run()
        yield made
        assert relay.errors == []
    finally:
        relay.stop()  # which is an end of file for everybody
        for one in made.values():
            one.reader.join(LIMIT)
            one.joined.close()


@pytest.mark.parametrize("kind", ON_STREAMS, ids=lambda kind: kind.name)
def test_what_arrives_is_what_a_line_gives(kind: type[Fault], passed: dict[str, Passed]) -> None:
    one = passed[kind.name]
    wanted = carry(aimed(one.fault), DATA, seed=SEED, direction=direction_of(one.fault))

    if wanted.ended is None:
        one.joined.connection.relay.call(lambda: one.joined.connection.remove_faults(""))
    one.reader.join(LIMIT)

    assert one.result, f"the stream does not end: {one.joined.connection}"
    data, end = one.result[0]
    # What keeps everything gives it back, at the latest when it is taken away.
    assert data == (DATA if kind.lossless else wanted.data)
    if wanted.ended is not None:
        assert end == ("rst" if wanted.ended is ABORTED else "fin")
    decided = [decision.what for decision in one.trace]
    assert decided[: len(wanted.decided)] == wanted.decided


@pytest.mark.parametrize("kind", ON_STREAMS, ids=lambda kind: kind.name)
def test_taking_it_away_heals_a_live_connection(kind: type[Fault]) -> None:
    relay = Relay()
    joined = join(relay, kind.example(), seed=SEED)
    try:
        sender, receiver = joined.ends(direction_of(kind.example()))
        relay.call(lambda: joined.connection.remove_faults(""))
        alive = joined.connection.end is None
        if alive:
            send_all(sender, b"after")
            assert read_all(receiver)[0].endswith(b"after")
        assert not alive or all(flow.line is None for flow in joined.connection.directions)
    finally:
        relay.stop()
        joined.close()
