"""The honest client among the others: is it still served, and how fast?"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._support import PeerClosed, ServertestError, UsageError
from ..clients import connect

if TYPE_CHECKING:
    from .._support import Address, Transport

__all__ = ("Probe", "Probed", "Prober")


@dataclass(frozen=True, slots=True)
class Probe:
    """What an honest client asks, and what it has to be told.

    Attributes:
        request: What it sends; nothing if the server speaks first.
        reply: What has to come: bytes, or an expression; None for anything at all.
        timeout: Seconds that all of it may take.
        interval: Seconds from one probe to the next, where it is repeated.
    """

    request: bytes = b""
    reply: bytes | re.Pattern[bytes] | None = None
    timeout: float = 5.0
    interval: float = 0.25

    def __post_init__(self) -> None:
        if not self.timeout > 0 or not self.interval > 0:
            raise UsageError("a probe's timeout and interval are numbers of seconds above 0")


@dataclass(frozen=True, slots=True)
class Probed:
    """What became of a probe.

    Attributes:
        served: Whether it was told what it has to be told, in time.
        at: When it began, in seconds since the swarm began; below 0 before that.
        latency: Seconds until the reply was there, or until it was given up.
        connected: Seconds until it was connected; None if it never was.
        reply: What came.
        error: What went wrong, in words; nothing if it was served.
    """

    served: bool
    at: float
    latency: float
    connected: float | None = None
    reply: bytes = b""
    error: str = ""

    def __bool__(self) -> bool:
        return self.served

    def as_dict(self) -> dict[str, Any]:
        """All of it but the reply, as JSON has it."""
        plain = {"served": self.served, "at": round(self.at, 6), "latency": round(self.latency, 6)}
        if self.connected is not None:
            plain["connected"] = round(self.connected, 6)
        return plain | ({"error": self.error} if self.error else {})


class Prober:
    """Probes a server, once or at intervals.

    Args:
        address: Where the server is.
        transport: "stream" or "datagram".
        options: More for the client's ``connect``, such as ``tls``.
    """

    def __init__(self, address: Address, transport: Transport, options: dict[str, Any]) -> None:
        self._address = address
        self._transport: Transport = transport
        self._options = options
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.results: list[Probed] = []

    def probe(self, probe: Probe, started: float) -> Probed:
        """Ask once.

        Args:
            probe: What.
            started: When the swarm began, on this process's monotonic clock.
        """
        begun = time.monotonic()
        connected: float | None = None
        reply, error = b"", ""
        try:
            with connect(
                self._address, transport=self._transport, **{**self._options, "timeout": probe.timeout}
            ) as client:
                connected = time.monotonic() - begun
                reply = self._ask(client, probe, max(probe.timeout - connected, 0.001))
        except (ServertestError, OSError) as problem:
            error = f"{type(problem).__name__}: {problem}".partition("\n")[0]
        latency = time.monotonic() - begun
        return Probed(not error, begun - started, latency, connected, reply, error)

    def _ask(self, client: Any, probe: Probe, timeout: float) -> bytes:
        datagrams = self._transport == "datagram"
        if probe.request or datagrams:
            (client.send if datagrams else client.send_all)(probe.request, timeout=timeout)
        if probe.reply is not None:
            expected = client.expect(probe.reply, timeout=timeout)
            return bytes(expected.group() if isinstance(expected, re.Match) else expected)
        some = bytes((client.receive if datagrams else client.read_some)(timeout=timeout))
        if not some and not datagrams:
            raise PeerClosed("the server closed without a reply", b"")
        return some

    def begin(self, probe: Probe, started: float, tell: Callable[[Probed], object] | None = None) -> None:
        """Go on asking, in a thread of its own, until `end`."""
        self._thread = threading.Thread(
            target=self._repeat, args=(probe, started, tell), name="servertest probes", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Stop asking. A probe under way is waited for: no longer than its timeout."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _repeat(self, probe: Probe, started: float, tell: Callable[[Probed], object] | None) -> None:
        next_at = time.monotonic()
        while not self._stop.wait(max(0.0, next_at - time.monotonic())):
            next_at = max(next_at + probe.interval, time.monotonic())
            result = self.probe(probe, started)
            self.results.append(result)
            if tell is not None:
                tell(result)
