"""From an address to a connected socket, without blocking and without leaving a socket behind when it fails."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from .._support import AddressError, PeerRefused, PeerReset, UsageError, check_path, family_of, format_address
from ._own_name import OwnName
from ._steps import Call, Operation, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._support import Address
    from ._steps import Steps

__all__ = ("dial_datagram", "dial_stream", "fail_with", "send_blocking")


def dial_stream(
    address: Address, source: Address | None, *, window: int | None = None
) -> Operation[socket.socket]:
    """Open a stream connection to ``address``, from ``source`` if that is given, with a receive buffer of ``window`` bytes."""
    return Operation(_dial_any(address, source, window), f"a connection to {format_address(address)}")


def dial_datagram(address: Address, name: OwnName, connected: bool) -> Steps[tuple[socket.socket, Address]]:
    """Make a datagram socket, name it, connect it if asked to; give it with the peer's full address."""
    family, place = next(_places(address, socket.SOCK_DGRAM))
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        name.give(sock, place)
        if connected:
            yield from _connect(sock, place)
    except OSError as error:
        sock.close()
        fail_with(error, address)
    except BaseException:
        sock.close()
        raise
    return sock, place


def fail_with(error: OSError, address: Address) -> NoReturn:
    """Raise for an error that a call with this address met: our own, or the same one with the address in it."""
    shown = format_address(address)
    if error.errno == errno.ECONNREFUSED:
        raise PeerRefused(f"nobody listens at {shown}: the connection was refused") from error
    if error.errno == errno.ECONNRESET:
        raise PeerReset(f"{shown} reset the connection as soon as it was made") from error
    if error.filename is None and isinstance(address, (str, bytes)):
        error.filename = shown
    error.add_note(f"the peer's address was {shown}")
    raise error


def send_blocking(sock: socket.socket, data: memoryview, address: Address) -> Steps[None]:
    """Send a datagram to an address that the socket is not connected to, for when the receiver's queue is full: poll(2)
    does not tell when it has room again, the blocking call does.
    """
    yield from _patiently(sock, lambda: sock.sendto(data, address))


def _dial_any(address: Address, source: Address | None, window: int | None) -> Steps[socket.socket]:
    """The first of the host's addresses that takes the connection; if none does, the last one's error."""
    *others, last = _places(address, socket.SOCK_STREAM)
    for family, place in others:
        try:
            return (yield from _dial_one(family, place, OwnName(source), window))
        except OSError:
            continue
    try:
        return (yield from _dial_one(*last, OwnName(source), window))
    except OSError as error:
        fail_with(error, address)


def _dial_one(family: int, place: Address, name: OwnName, window: int | None) -> Steps[socket.socket]:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if window is not None:
            # Before connecting: it decides what the handshake offers (tcp(7)).
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        name.give(sock, place)
        yield from _connect(sock, place)
    except BaseException:
        sock.close()
        raise
    finally:
        # Once connected, the server knows the name from the socket; the path itself has no further use.
        name.take_back()
    return sock


def _places(address: Address, kind: socket.SocketKind) -> Iterator[tuple[int, Address]]:
    """Families and addresses to try. Names are looked up by the system's resolver, which knows no deadline."""
    family = family_of(address)
    if not isinstance(address, tuple):
        check_path(address)
        yield family, address
        return
    try:
        found = socket.getaddrinfo(address[0], address[1], type=kind)
    except socket.gaierror as error:
        raise AddressError(f"{format_address(address)} cannot be resolved: {error.strerror}") from error
    for family, _, _, _, place in found:
        # A scope and a flow label that the caller gave are kept: getaddrinfo saw only the first two items.
        yield family, address if len(address) == len(place) == 4 else place


def _connect(sock: socket.socket, place: Address) -> Steps[None]:
    try:
        sock.connect(place)
    except (BlockingIOError, InterruptedError):
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            yield Wait(sock, write=True)
            _raise_pending(sock)
        else:
            # A Unix server whose backlog is full: the system says "try again" and does not tell when (unix(7)); only the
            # blocking call waits for room.
            yield from _patiently(sock, lambda: sock.connect(place))


def _raise_pending(sock: socket.socket) -> None:
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _patiently(sock: socket.socket, function: Callable[[], Any]) -> Steps[None]:
    """Call a function that waits inside the kernel, with the socket set to block for as long."""
    failed: list[OSError] = []
    yield Call(partial(_blocking, sock, function, failed))
    for error in failed:
        raise error


def _blocking(
    sock: socket.socket, function: Callable[[], Any], failed: list[OSError], seconds: float
) -> bool:
    """Call the function, bounded by SO_SNDTIMEO (socket(7)); tells whether it ended in time."""
    if not sys.platform.startswith("linux"):
        raise UsageError(
            "this system does not tell when a Unix peer has room again; let the server read faster"
        )
    timeout = sock.gettimeout()
    seconds = max(seconds, 0.001)  # 0 would mean for ever
    whole = int(seconds)
    sock.setblocking(True)
    sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", whole, int((seconds - whole) * 1e6))
    )
    try:
        function()
    except BlockingIOError:
        return False
    except OSError as error:
        failed.append(error)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))
        sock.settimeout(timeout)
    return True
