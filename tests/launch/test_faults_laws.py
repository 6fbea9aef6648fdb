"""Every fault that exists, or will, does inside a server and around a client what it does to a line in virtual time."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from servertest import launch, servers
from servertest._support import PeerReset
from servertest.faults import Fault, Plan, Trace
from servertest.launch import Running
from servertest.wire._line import ABORTED
from tests.faults._driving import carry
from tests.wire._relays import LIMIT, LONG, read_all
from tests.wire.test_relay_laws import DATA, ON_STREAMS, SEED, aimed, direction_of


class Talk(servers.StreamRequestHandler):
    """Takes what comes, or sends what there is, as its first byte says; and tells what has come."""

    def handle(self) -> None:
        server: Any = self.server
        if server.upstream:
            data, end = read_all(self.request)
            server.told(data, end)
        else:
            try:
                self.request.sendall(DATA)
                self.request.shutdown(1)
                read_all(self.request)
            except OSError as error:
                if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                    raise


@dataclass
class Passed:
    """One connection, at one end of which there is one fault."""

    fault: Fault
    place: str
    result: list[tuple[bytes, str]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.up = direction_of(self.fault) == "upstream"
        faults = Plan() if self.place == "client" else aimed(self.fault)
        attributes = {"upstream": self.up, "told": self.told}
        self.running: Running = launch(Talk, faults=faults, seed=SEED, attributes=attributes)
        options: dict[str, Any] = (
            {"faults": aimed(self.fault), "seed": SEED} if self.place == "client" else {}
        )
        self.client: Any = None
        self.thread = threading.Thread(target=self.talk, daemon=True)
        try:
            self.client = self.running.connect(timeout=LONG, **options)
        except ConnectionError:
            if not self.up:
                self.told(b"", "rst")  # it was cut off before connect() had come back
            self.thread = threading.Thread()
        self.thread.start()

    def talk(self) -> None:
        if not self.up:
            self.told(*self.read())
            return
        with contextlib.suppress(ConnectionError):
            self.client.send_all(DATA)
            self.client.half_close()

    def read(self) -> tuple[bytes, str]:
        got = b""
        try:
            while data := self.client.read_some():
                got += data
        except PeerReset:
            return got, "rst"
        return got, "fin"

    def told(self, data: bytes, end: str) -> None:
        self.result.append((data, end))
        self.done.set()

    @property
    def hits(self) -> Trace:
        hits: Trace = self.client.hits if self.place == "client" else self.running.hits
        return hits

    def heal(self) -> None:
        if self.place == "client":
            self.client.faults = None
        else:
            self.running._host.faults.driver.put("", Plan())  # type: ignore[attr-defined]

    def close(self) -> None:
        self.heal()
        self.done.wait(LIMIT)
        if self.client is not None:
            self.client.close()
        self.running.errors.clear()
        self.running.stop()
        self.thread.join(LIMIT)


@pytest.fixture(scope="module")
def passed() -> Iterator[dict[tuple[str, str], Passed]]:
    """All of them at once: what takes its time takes it together."""
    made: dict[tuple[str, str], Passed] = {}
    try:
        for kind in ON_STREAMS:
            for place in ("server", "client"):
                made[kind.name, place] = Passed(kind.example(), place)
        yield made
    finally:
        for one in made.values():
            one.close()


@pytest.mark.parametrize("place", ["server", "client"])
@pytest.mark.parametrize("kind", ON_STREAMS, ids=lambda kind: kind.name)
def test_what_arrives_is_what_a_line_gives(
    kind: type[Fault], place: str, passed: dict[tuple[str, str], Passed]
) -> None:
    one = passed[kind.name, place]
    wanted = carry(aimed(one.fault), DATA, seed=SEED, direction=direction_of(one.fault))

    if wanted.ended is None:
        one.heal()
    assert one.done.wait(LIMIT), one.running.dump()

    data, end = one.result[0]
    assert data == (DATA if kind.lossless else wanted.data)
    if wanted.ended is not None:
        assert end == ("rst" if wanted.ended is ABORTED else "fin")
    assert [decision.what for decision in one.hits][: len(wanted.decided)] == wanted.decided
