"""How one knows that a program has begun to serve: it says so, or it takes a connection."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, TypeAlias

from .._support import UsageError

if TYPE_CHECKING:
    from .._support import Address

__all__ = ("LineSearch", "Ready", "is_bound", "takes_connection")

Ready: TypeAlias = str | bytes | re.Pattern[str] | re.Pattern[bytes] | None
"""What a program prints when it serves: part of a line, or a pattern found in one; None: it says nothing."""

#: Bytes of one line that are looked at.
_LONGEST_LINE = 65_536


class LineSearch:
    """Looks for a line in what a program prints, as it comes.

    Attributes:
        match: What was found: a match, or the text that was asked for; None as long as it was not.
        has_group: Whether the pattern tells something: its first group is the port.
    """

    def __init__(self, ready: Ready) -> None:
        self._wanted = _as_pattern(ready)
        self.has_group = self._wanted is not None and self._wanted.groups > 0
        self.match: re.Match[bytes] | None = None
        self._line = b""

    def feed(self, data: bytes) -> None:
        """Take what was printed next."""
        if self._wanted is None or self.match is not None:
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._look_at(line.rstrip(b"\r"))
        if not self.has_group:  # of a number that is still being printed, one would find half
            self._look_at(self._line)
        self._line = self._line[-_LONGEST_LINE:]

    def _look_at(self, line: bytes) -> None:
        if self.match is None and self._wanted is not None:
            self.match = self._wanted.search(line)

    @property
    def port(self) -> int:
        """The number in the first group.

        Raises:
            UsageError: It is none.
        """
        found = b"" if self.match is None else self.match.group(1)
        if not found.isdigit() or not 0 < int(found) < 65_536:
            raise UsageError(f"the first group of ready= is to be the port, and was {found!r}")
        return int(found)

    def __str__(self) -> str:
        return "" if self._wanted is None else repr(self._wanted.pattern)


def _as_pattern(ready: Ready) -> re.Pattern[bytes] | None:
    if ready is None:
        return None
    if isinstance(ready, re.Pattern):
        pattern = ready.pattern
        if isinstance(pattern, bytes):
            return re.compile(pattern, ready.flags)
        return re.compile(pattern.encode(), ready.flags & ~re.UNICODE)
    return re.compile(re.escape(ready if isinstance(ready, bytes) else ready.encode()))


def takes_connection(address: Address, family: int, kind: int) -> bool:
    """Try to connect once.

    A datagram socket with a path can be connected to as soon as it is bound, so this works for those as well.
    """
    with socket.socket(family, kind) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(address)
        except OSError:
            return False
        # Without a listener, a port of the kernel's own range may be given to the very socket that asks for it (RFC
        # 9293, section 3.5, simultaneous open): then it has connected to itself.
        return (
            kind != socket.SOCK_STREAM or sock.getsockname() != sock.getpeername() or not sock.getsockname()
        )


def is_bound(port: int) -> bool:
    """Whether some UDP socket of this machine is bound to the port; proc_net_udp(5), Linux only."""
    wanted = f":{port:04X}"
    for name in ("/proc/net/udp", "/proc/net/udp6"):
        try:
            with open(name) as file:
                if any(line.split()[1].endswith(wanted) for line in list(file)[1:]):
                    return True
        except OSError:
            continue
    return False
