"""A port for a program that must be told one and binds it itself.

Nobody can hold a port for another program: it is free until that program binds it. What can be done is to choose
one that nobody else would choose. The kernel hands out ports of a range of its own (Linux: `ip_local_port_range`)
to whoever asks for any port, and to every outgoing connection; so the port is taken from outside of that range. And
processes that use this package reserve ports among themselves, by binding an abstract Unix name for each, which the
kernel gives back whatever happens to the process. What remains is a program that happens to use that very port as
its fixed one, or starts to in the same moment.
"""

from __future__ import annotations

import errno
import random
import socket
import sys

from .._support import AddressInUse

__all__ = ("PortReservation", "reserve_port")

_LOWEST, _HIGHEST = 10_000, 65_535
#: How many ports outside of the kernel's range there must be for a choice.
_ENOUGH = 1_000
#: How many of them are tried.
_TRIES = 100
_RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"


class PortReservation:
    """A port that was free a moment ago and that no other process that uses this package will choose.

    Attributes:
        port: Its number.
    """

    def __init__(self, port: int, name: socket.socket | None) -> None:
        self.port = port
        self._name = name

    def release(self) -> None:
        """Let others choose it again."""
        if self._name is not None:
            self._name.close()
            self._name = None


def reserve_port(host: str, family: int, kind: int) -> PortReservation:
    """Choose a port on which a socket of this family and kind can be bound at `host`.

    Raises:
        AddressInUse: Each of many ports is in use.
        OSError: Nothing can be bound at `host`.
    """
    candidates = _candidates()
    if not candidates:
        return PortReservation(_any_port(host, family, kind), None)
    for port in candidates:
        if (name := _reserve(port)) is None:
            continue
        if _is_free(host, port, family, kind):
            return PortReservation(port, name)
        name.close()
    raise AddressInUse(f"{_TRIES} ports of {host} have been tried, and all are in use")


def _candidates() -> list[int]:
    """Ports outside of the kernel's range, in a random order; none where that range cannot be learned."""
    if sys.platform != "linux":
        return []
    try:
        with open(_RANGE_FILE) as file:
            low, high = map(int, file.read().split())
    except OSError:
        return []
    outside = [*range(_LOWEST, low), *range(max(high + 1, _LOWEST), _HIGHEST + 1)]
    return random.SystemRandom().sample(outside, _TRIES) if len(outside) >= _ENOUGH else []


def _reserve(port: int) -> socket.socket | None:
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0servertest-port-{port}")
    except OSError:
        name.close()
        return None
    return name


def _is_free(host: str, port: int, family: int, kind: int) -> bool:
    """Whether it can be bound without SO_REUSEADDR, which the program may not set."""
    with socket.socket(family, kind) as sock:
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _any_port(host: str, family: int, kind: int) -> int:
    """One that the kernel has chosen, and may give to somebody else before the program binds it."""
    with socket.socket(family, kind) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])
