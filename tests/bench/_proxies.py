"""What a link costs: against nginx's stream module, socat, and what was asked of it."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from time import perf_counter

from tests.bench import _load as load
from tests.bench._backend import CHUNK, HEAD
from tests.bench._figures import Figure, Side, Target
from tests.bench._relaying import link, nginx, socat, through
from tests.bench._sampling import Open, Sample, Scale

__all__ = ("proxies",)

Measure = Callable[[load.Address, Scale, int], float]

_MESSAGE = b"x" * 64
_GIB = 1 << 30
_DELAY = 0.05
_RATE = 1e6


def proxies() -> list[Figure]:
    """All figures of the proxy."""
    return [*_throughput(), *_round_trips(), *_connections(), *_precision(), *_memory()]


def _throughput() -> Iterator[Figure]:
    for way, measure in (("up", _upload), ("down", _download)):
        for label, peer in (("nginx", nginx), ("socat", socat)):
            yield Figure(
                f"proxy-{way}-{label}",
                f"1 GiB {way}stream in one connection",
                "B/s",
                Side("link", through(link(), measure)),
                Side(label, through(peer, measure)),
                Target(1.0),
                rounds=1,
                samples=5,
            )
        yield Figure(
            f"proxy-{way}-faults",
            f"256 MiB {way}stream, faults both ways",
            "B/s",
            Side("link", through(link("latency:0.001|bandwidth:1e10", record=True), _quarter(measure))),
            Side("asked for", _constant(100e6)),
            Target(1.0),
            rounds=1,
            samples=3,
        )


def _round_trips() -> Iterator[Figure]:
    for clients, target in ((1, 1.6), (16, 1.2)):
        for record in (False, True):
            yield Figure(
                f"proxy-round-trip-{clients}{'-recorded' if record else ''}",
                f"64 bytes there and back, {clients} at a time",
                "s",
                Side("link", through(link(record=record), _round_trip(clients))),
                Side("nginx", through(nginx, _round_trip(clients))),
                Target(target, at_most=True),
                rounds=2,
                samples=5,
            )


def _connections() -> Iterator[Figure]:
    def many(address: load.Address, scale: Scale, _: int) -> float:
        return load.connections(address, scale(1500), 16)

    for record in (False, True):
        yield Figure(
            f"proxy-connections{'-recorded' if record else ''}",
            "16 clients",
            "conn/s",
            Side("link", through(link(record=record), many)),
            Side("nginx", through(nginx, many)),
            Target(0.7),
            rounds=2,
            samples=5,
        )
    yield Figure(
        "proxy-5000",
        "5,000 connections, each asks in turn; against 16",
        "requests/s",
        Side("link", through(link(record=True), _requests(5000))),
        Side("link, 16", through(link(record=True), _requests(16))),
        Target(0.5),
        rounds=1,
        samples=3,
    )


def _precision() -> Iterator[Figure]:
    for name, faults in (("alone", ""), ("together", "|bandwidth:1e6")):
        yield Figure(
            f"proxy-latency-{name}",
            f"distance from 50 ms, {name}",
            "s",
            Side("link", through(link(f"upstream(latency:{_DELAY}{faults})"), _lateness)),
            None,
            Target(0.001, at_most=True, absolute=True),
            rounds=1,
            samples=3,
        )
    for name, faults in (("alone", ""), ("together", f"|latency:{_DELAY}")):
        yield Figure(
            f"proxy-rate-{name}",
            f"time for 2 MB at 1 MB/s, {name}; off either way",
            "s",
            Side("link", through(link(f"upstream(bandwidth:{_RATE:g}{faults})"), _off_rate(bool(faults)))),
            Side("asked for", _constant(2.0)),
            Target(1.02, at_most=True),
            rounds=1,
            samples=3,
        )


def _memory() -> Iterator[Figure]:
    for name, relaying in (
        ("bare", link()),
        ("recorded", link(record=True)),
        ("faults", link("latency:0.001|slicer:100", record=True)),
    ):
        yield Figure(
            f"proxy-memory-{name}",
            "memory for each of 9,500 live connections",
            "B",
            Side("link", through(relaying, _growth)),
            Side("asked for", _constant(20 * 1024.0)),
            Target(1.0, at_most=True),
            rounds=1,
            samples=1,
        )


# -- measures


def _upload(address: load.Address, scale: Scale, _: int, size: int = _GIB) -> float:
    size = scale(size >> 20) << 20
    with _connected(address) as sock:
        started = perf_counter()
        sock.sendall(b"U" + b"%020d" % size)
        for _ in range(size >> 20):
            sock.sendall(CHUNK)
        if sock.recv(64) != b"done":
            raise ConnectionError("not all of it was taken")
        return size / (perf_counter() - started)


def _download(address: load.Address, scale: Scale, _: int, size: int = _GIB) -> float:
    size = scale(size >> 20) << 20
    room = bytearray(1 << 20)
    with _connected(address) as sock:
        started = perf_counter()
        sock.sendall(b"D" + b"%020d" % size)
        left = size
        while left > 0:
            left -= sock.recv_into(room) or left + 1
        if left:
            raise ConnectionError("not all of it came")
        return size / (perf_counter() - started)


def _quarter(measure: Callable[..., float]) -> Measure:
    return lambda address, scale, pid: measure(address, scale, pid, _GIB // 4)


def _round_trip(clients: int) -> Measure:
    """The median over all messages of some clients, each of which has one under way at a time."""

    def measure(address: load.Address, scale: Scale, _: int) -> float:
        sockets = {sock.fileno(): sock for sock in (_connected(address) for _ in range(clients))}
        poll = select.epoll()
        try:
            for fd in sockets:
                poll.register(fd, select.EPOLLIN)
            return median(_times(sockets, poll, scale(2000) * min(clients, 4)))
        finally:
            poll.close()
            for sock in sockets.values():
                sock.close()

    return measure


def _times(sockets: dict[int, socket.socket], poll: select.epoll, count: int) -> list[float]:
    sent: dict[int, float] = {}
    times: list[float] = []
    for fd, sock in sockets.items():
        sent[fd] = perf_counter()
        sock.send(_MESSAGE)
    while len(times) < count:
        ready = poll.poll(load.LIMIT)
        if not ready:
            raise load.Stalled(f"no reply after {len(times)}")
        for fd, _ in ready:
            sockets[fd].recv(64)
            now = perf_counter()
            times.append(now - sent[fd])
            sent[fd] = now
            sockets[fd].send(_MESSAGE)
    return times


def _requests(clients: int) -> Measure:
    return lambda address, scale, _: load.requests(address, 10_000, clients)


def _lateness(address: load.Address, scale: Scale, _: int) -> float:
    times = []
    with _connected(address) as sock:
        for _ in range(20):
            started = perf_counter()
            sock.sendall(_MESSAGE)
            sock.recv(64)
            times.append(perf_counter() - started)
    return abs(median(times) - _DELAY)


def _off_rate(delayed: bool) -> Measure:
    """Seconds, as many too many as there were too many or too few."""

    def measure(address: load.Address, scale: Scale, _: int) -> float:
        with _connected(address) as sock:
            size = int(2 * _RATE)
            started = perf_counter()
            sock.sendall(b"U" + b"%020d" % (size - HEAD) + b"x" * (size - HEAD))
            if sock.recv(64) != b"done":
                raise ConnectionError("not all of it was taken")
            seconds = perf_counter() - started - (_DELAY if delayed else 0)
        return 2 + abs(seconds - 2)

    return measure


def _growth(address: load.Address, scale: Scale, pid: int) -> float:
    before, count = _resident(pid), scale(9500)
    with load.idle(address, count):
        return (_resident(pid) - before) / count


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _connected(address: load.Address) -> socket.socket:
    sock = socket.create_connection(address, load.LIMIT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _constant(value: float) -> Open:
    return lambda scale: nullcontext(lambda: Sample(value))
