"""The small services of 1983: echo, discard, chargen, daytime and time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from ._base import Peer, ready

__all__ = ("Chargen", "Daytime", "Discard", "Echo", "Time")

#: Seconds from 1900, where RFC 868 begins, to 1970.
_EPOCH = 2_208_988_800

_LINE = 72


class Echo(Peer):
    """Sends back what comes, as it comes (RFC 862)."""

    datagrams: ClassVar[bool] = True

    def converse(self, sock: Any) -> None:
        """Until the client has finished sending."""
        while data := sock.recv(65_536):
            sock.sendall(data)

    def answer(self, data: bytes) -> bytes:
        """The same datagram."""
        return data


class Discard(Peer):
    """Throws away what comes, and says nothing (RFC 863)."""

    datagrams: ClassVar[bool] = True

    def converse(self, sock: Any) -> None:
        """Until the client has finished sending."""
        while sock.recv(65_536):
            pass


class Chargen(Peer):
    """Sends lines of characters without end, in a pattern that moves on by one with each line (RFC 864)."""

    datagrams: ClassVar[bool] = True

    def converse(self, sock: Any) -> None:
        """Until the client closes the connection; what it sends is thrown away."""
        lines = _pattern()
        rest = b""
        while True:
            # What is left of them, if the client takes no more at the moment.
            rest = rest or b"".join(itertools.islice(lines, 50))
            readable, writable = ready(sock, writing=True)
            if readable and not sock.recv(65_536):
                return
            if writable:
                rest = rest[_send(sock, rest) :]

    def answer(self, data: bytes) -> bytes:
        """Seven lines: RFC 864 has from 0 to 512 characters."""
        return b"".join(itertools.islice(_pattern(), 512 // (_LINE + 2)))


class Daytime(Peer):
    """Says what time it is, for people, and closes (RFC 867). UTC, so that it is the same everywhere."""

    datagrams: ClassVar[bool] = True

    def converse(self, sock: Any) -> None:
        """One line."""
        sock.sendall(self.answer(b""))

    def answer(self, data: bytes) -> bytes:
        """One line."""
        return time.strftime("%A, %B %d, %Y %H:%M:%S-UTC\r\n", time.gmtime()).encode("ascii")


class Time(Peer):
    """Says the seconds since 1900 in 32 bits, and closes (RFC 868). In 2036 they begin anew."""

    datagrams: ClassVar[bool] = True

    def converse(self, sock: Any) -> None:
        """Four bytes."""
        sock.sendall(self.answer(b""))

    def answer(self, data: bytes) -> bytes:
        """Four bytes."""
        return ((int(time.time()) + _EPOCH) % (1 << 32)).to_bytes(4, "big")


def _pattern() -> Iterator[bytes]:
    ring = bytes(range(32, 127)) * 2
    for start in itertools.cycle(range(95)):
        yield ring[start : start + _LINE] + b"\r\n"


def _send(sock: Any, data: bytes) -> int:
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        return int(sock.send(data))
    except BlockingIOError:
        return 0
    finally:
        sock.settimeout(timeout)
