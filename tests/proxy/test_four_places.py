"""Every fault that exists, or will, does the same in a proxy, inside a server, around a client, and around any socket."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from servertest import faulty, servers
from servertest._support import family_of
from servertest.faults import Decision, Fault, Trace, plan, registry, upstream
from servertest.launch import Running, launch
from servertest.proxy import link
from servertest.wire._line import ABORTED
from tests.faults._driving import carry
from tests.wire._relays import LIMIT, LONG, read_all, send_all
from tests.wire.test_faulty_laws import ON_DATAGRAMS
from tests.wire.test_relay_laws import DATA, ON_STREAMS, SEED, aimed, direction_of

ON_CALLS = [kind for _, kind in sorted(registry.items()) if kind.place == "calls"]
SERVERS = ["ThreadingTCPServer", "ThreadingUnixStreamServer"]
SENT = [b"%03d" % number * (number % 7 + 1) for number in range(40)]


# -- streams: the other three places have their laws in tests/wire and tests/launch


@dataclass
class Linked:
    """A connection through a link with one fault, and what came out of it."""

    fault: Fault
    stack: ExitStack
    kind: str
    result: list[tuple[bytes, str]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        up = direction_of(self.fault) == "upstream"
        outer = self

        class Talk(servers.BaseRequestHandler):
            def handle(self) -> None:
                if up:
                    outer.told(read_all(self.request))
                else:
                    send_all(self.request, DATA)
                    self.request.settimeout(LONG)
                    read_all(self.request)

        server = self.stack.enter_context(launch(Talk, kind=self.kind))
        self.link = self.stack.enter_context(link(server, aimed(self.fault), seed=SEED))
        self.thread = threading.Thread(target=self.talk, args=(up,), daemon=True)
        try:
            self.client = self.stack.enter_context(socket.socket(family_of(self.link.address)))
            self.client.settimeout(LIMIT)
            self.client.connect(self.link.address)
            self.client.settimeout(LONG)
        except ConnectionError:
            if not up:
                self.told((b"", "rst"))  # it was cut off before connect() had come back
            self.thread = threading.Thread()
        self.thread.start()

    def talk(self, up: bool) -> None:
        if up:
            send_all(self.client, DATA)
        else:
            self.told(read_all(self.client))

    def told(self, result: tuple[bytes, str]) -> None:
        self.result.append(result)
        self.done.set()


@pytest.fixture(scope="module")
def linked() -> Iterator[dict[tuple[str, str], Linked]]:
    """All of them at once: what takes its time takes it together."""
    with ExitStack() as stack:
        made = {
            (kind.name, server): Linked(kind.example(), stack, server)
            for kind in ON_STREAMS
            for server in SERVERS
        }
        yield made
        for one in made.values():
            one.link.set(None)
            one.done.wait(LIMIT)
            one.thread.join(LIMIT)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("kind", ON_STREAMS, ids=lambda kind: kind.name)
def test_a_link_gives_what_a_line_gives(
    kind: type[Fault], server: str, linked: dict[tuple[str, str], Linked]
) -> None:
    one = linked[kind.name, server]
    wanted = carry(aimed(one.fault), DATA, seed=SEED, direction=direction_of(one.fault))

    if wanted.ended is None:
        one.link.set(None)
    assert one.done.wait(LIMIT), one.link

    data, end = one.result[0]
    assert data == (DATA if kind.lossless else wanted.data)
    if wanted.ended is not None:
        # A Unix client to which nothing was left to say knows no RST.
        assert end == ("rst" if wanted.ended is ABORTED and "Unix" not in server else "fin")
    assert [decision.what for decision in one.link.trace][: len(wanted.decided)] == wanted.decided


# -- datagrams


class Gathered:
    """What came, and what was decided; and whether that is all there will be."""

    def __init__(self, datagrams: int, decisions: int) -> None:
        self.came: list[bytes] = []
        self.trace = Trace()
        self._wanted = datagrams, decisions
        self._changed = threading.Condition()

    def add(self, data: bytes) -> None:
        with self._changed:
            self.came.append(data)
            self._changed.notify_all()

    def decided(self, decision: Any) -> None:
        if isinstance(decision, Decision):
            self.trace.add(decision)
            with self._changed:
                self._changed.notify_all()

    def wait(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (len(self.came), len(self.trace)) >= self._wanted, LIMIT), (
                f"{len(self.came)} datagrams and {len(self.trace)} decisions, not {self._wanted}"
            )


def gatherer(gathered: Gathered) -> type[servers.BaseRequestHandler]:
    class Gather(servers.BaseRequestHandler):
        def handle(self) -> None:
            gathered.add(self.request[0])

    return Gather


def through_link(fault: Fault, gathered: Gathered, stack: ExitStack) -> None:
    server = stack.enter_context(launch(gatherer(gathered), kind="UDPServer"))
    made = stack.enter_context(link(server, upstream(fault), seed=SEED, watch=gathered.decided))
    send_datagrams(made.connect())


def inside_server(fault: Fault, gathered: Gathered, stack: ExitStack) -> None:
    server = stack.enter_context(
        launch(gatherer(gathered), kind="UDPServer", faults=upstream(fault), seed=SEED)
    )
    watch_trace(server.hits, gathered)
    send_datagrams(server.connect())


def around_client(fault: Fault, gathered: Gathered, stack: ExitStack) -> None:
    server = stack.enter_context(launch(gatherer(gathered), kind="UDPServer"))
    client = stack.enter_context(server.connect(faults=upstream(fault), seed=SEED))
    watch_trace(client.hits, gathered)
    send_datagrams(client)


def around_socket(fault: Fault, gathered: Gathered, stack: ExitStack) -> None:
    server = stack.enter_context(launch(gatherer(gathered), kind="UDPServer"))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(server.address)
    made = stack.enter_context(
        faulty(sock, upstream(fault), seed=SEED, side="client", trace=gathered.decided)
    )
    for data in SENT:
        made.send(data)


def watch_trace(trace: Trace, gathered: Gathered) -> None:
    """Let the one tell the other."""
    add = trace.add

    def tell(decision: Decision) -> None:
        add(decision)
        gathered.decided(decision)

    for decision in trace:
        gathered.decided(decision)
    trace.add = tell  # type: ignore[method-assign]


def send_datagrams(client: Any) -> None:
    for data in SENT:
        client.send(data)


PLACES: list[Callable[[Fault, Gathered, ExitStack], None]] = [
    through_link,
    inside_server,
    around_client,
    around_socket,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("kind", ON_DATAGRAMS, ids=lambda kind: kind.name)
def test_datagrams_meet_the_same_fate_everywhere(
    kind: type[Fault], place: Callable[[Fault, Gathered, ExitStack], None]
) -> None:
    fault = kind.example()
    wanted = carry(upstream(fault), SENT, "datagram", seed=SEED, direction="upstream")
    gathered = Gathered(len(wanted.datagrams), len(wanted.decided))
    with ExitStack() as stack:
        place(fault, gathered, stack)
        gathered.wait()
    # When what is delayed comes is a matter of the clock, and what comes at the same time may overtake.
    assert sorted(gathered.came) == sorted(wanted.datagrams)
    assert [decision.what for decision in gathered.trace] == wanted.decided


# -- calls


def use(sock: socket.socket) -> list[bytes | int | str]:
    """What a program's calls give: it reads and writes without a loop around."""
    sock.settimeout(LIMIT)
    results: list[bytes | int | str] = []
    calls: Iterable[Callable[[], bytes | int]] = (
        *[lambda: sock.recv(2)] * 4,
        *[lambda: sock.send(b"xyz")] * 3,
        lambda: sock.recv(2),
    )
    for call in calls:
        try:
            results.append(call())
        except OSError as error:
            results.append(errno.errorcode[error.errno or 0])
    return results


class Give(servers.BaseRequestHandler):
    """Gives what there is to read, and waits for the end."""

    def handle(self) -> None:
        self.request.sendall(b"abcdefghijkl")
        read_all(self.request)


def calls_of_a_handler(fault: Fault, stack: ExitStack) -> tuple[Any, Trace]:
    done: list[Any] = []

    class User(servers.BaseRequestHandler):
        def handle(self) -> None:
            done.append(use(self.request))

    server: Running = stack.enter_context(launch(User, faults=fault, seed=SEED))
    with socket.create_connection((server.host, server.port), LIMIT) as peer:
        peer.sendall(b"abcdefghijkl")
        read_all(peer)
    return done[0], server.hits


def calls_of_a_client(fault: Fault, stack: ExitStack) -> tuple[Any, Trace]:
    server = stack.enter_context(launch(Give))
    client = stack.enter_context(server.connect(faults=fault, seed=SEED))
    return use(client.socket), client.hits


def calls_of_any(fault: Fault, stack: ExitStack) -> tuple[Any, Trace]:
    server, trace = stack.enter_context(launch(Give)), Trace()
    sock = faulty(socket.create_connection((server.host, server.port), LIMIT), fault, seed=SEED, trace=trace)
    with sock:
        return use(sock), trace


@pytest.mark.parametrize("kind", ON_CALLS, ids=lambda kind: kind.name)
def test_calls_fail_alike_wherever_the_socket_is(kind: type[Fault]) -> None:
    fault = kind.example()
    with ExitStack() as stack:
        (inside, hits), (around, others), (plain, third) = (
            place(fault, stack) for place in (calls_of_a_handler, calls_of_a_client, calls_of_any)
        )
    assert inside == around == plain
    assert [one.what for one in hits] == [one.what for one in others] == [one.what for one in third] != []


def test_what_cannot_be_in_a_place_is_refused_there() -> None:
    assert plan("short_reads|fail_fork")
    for text in ("short_reads", "fail_fork"):
        with pytest.raises(ValueError, match="cannot be done here"):
            link(("127.0.0.1", 1), text)
