"""Profiles with a name: the modes of slowhttptest, and what else has brought servers down."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..clients.behaviours import (
    ConnectAndDrop,
    DribbledHandshake,
    Flooder,
    HalfCloser,
    HalfOpen,
    Honest,
    IdleAfterConnect,
    IdleMidRequest,
    NeverCloses,
    NeverReads,
    Pipeliner,
    Resetter,
    SlowBody,
    SlowReader,
    SlowWriter,
    StalledHandshake,
)
from ._profile import Part, Profile

__all__ = ("PROFILES",)

_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: servertest\r\nAccept: */*\r\n"
_RANGES = b"Range: bytes=0-" + b"".join(b",5-%d" % end for end in range(5, 1305)) + b"\r\n"
_WHOLE = _HEAD + b"Connection: keep-alive\r\n\r\n"

# As slowhttptest: every 10 s a piece of at most 32 bytes.
_EVERY_10_S = {"bytes_per_second": 1.2, "chunk": 12, "variation": 11, "jitter": 0.2}


def _one(name: str, about: str, *parts: Part, **settings: object) -> Profile:
    usual: dict[str, object] = {"clients": 50, "per_second": 50.0, "duration": 240.0}
    return Profile(parts, name=name, about=about, **(usual | settings))  # type: ignore[arg-type]


_ALL = (
    _one(
        "slow-headers",
        "slowhttptest -H: heads of HTTP requests that never end (slowloris)",
        Part(SlowBody(_HEAD, b"X-a: b\r\n", repeat=None, **_EVERY_10_S)),  # type: ignore[arg-type]
    ),
    _one(
        "slow-body",
        "slowhttptest -B: bodies that were announced and come a few bytes at a time (R-U-Dead-Yet)",
        Part(SlowBody(_HEAD.replace(b"GET", b"POST") + b"Content-Length: 4096\r\n\r\n", **_EVERY_10_S)),  # type: ignore[arg-type]
    ),
    _one(
        "range",
        "slowhttptest -R: a request for 1300 overlapping ranges (Apache killer, CVE-2011-3192)",
        Part(
            SlowWriter(_HEAD.replace(b"GET", b"HEAD") + _RANGES + b"\r\n", bytes_per_second=1e6, chunk=65536)
        ),
    ),
    _one(
        "slow-read",
        "slowhttptest -X: replies that are read 5 bytes a second through a tiny window",
        Part(SlowReader(_WHOLE, window=512, size=5, pause=1.0)),
    ),
    _one("slow-writer", "requests of any protocol, a byte a second", Part(SlowWriter()), duration=60.0),
    _one("idle", "connections on which nothing is said", Part(IdleAfterConnect()), duration=60.0),
    _one("mid-request", "requests that are never finished", Part(IdleMidRequest()), duration=60.0),
    _one(
        "never-read",
        "requests whose replies are not read",
        Part(NeverReads(_WHOLE, repeat=20)),
        duration=60.0,
    ),
    _one("never-close", "clients that do not close when the server has", Part(NeverCloses()), duration=60.0),
    _one("half-open", "clients that vanish without a FIN", Part(HalfOpen(b"hello\n")), duration=60.0),
    _one("churn", "connections that are dropped at once, again and again", Part(ConnectAndDrop(every=0.1))),
    _one("resets", "connections that are reset in mid-request", Part(Resetter(b"hello\n", 3, every=0.1))),
    _one("half-close", "requests that end with FIN", Part(HalfCloser()), duration=60.0),
    _one("pipeline", "a hundred requests at once", Part(Pipeliner()), duration=60.0),
    _one(
        "slow-handshake",
        "TLS handshakes, 10 bytes a second",
        Part(DribbledHandshake()),
        tls=True,
        duration=60.0,
    ),
    _one("stalled-handshake", "TLS handshakes that stop", Part(StalledHandshake()), tls=True, duration=60.0),
    _one(
        "connection-flood",
        "new connections as fast as asked, each reset at once",
        Part(Flooder(b"")),
        duration=10.0,
    ),
    _one(
        "datagram-flood", "datagrams as fast as asked", Part(Flooder()), transport="datagram", duration=10.0
    ),
    _one("honest", "clients that ask, read and close, once a second", Part(Honest(every=1.0)), duration=10.0),
    _one(
        "mixed",
        "a bad day: slow, idle, rude and honest clients together",
        Part(Honest(every=1.0), 40),
        Part(SlowWriter(), 30),
        Part(IdleAfterConnect(), 15),
        Part(ConnectAndDrop(every=1.0), 10),
        Part(Resetter(every=1.0), 5),
        duration=60.0,
    ),
)

PROFILES: Mapping[str, Profile] = MappingProxyType({each.name: each for each in _ALL})
"""The profiles that exist, by name."""
