"""Sockets that are bound before anything runs, addresses that refuse, and connections that end in a RST."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Literal, TypeAlias

from ._addresses import format_address
from ._errors import AddressError, AddressInUse, UsageError
from ._paths import SocketDirectory, check_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._addresses import Address

__all__ = ("Family", "Transport", "bound_socket", "check_pair", "hard_reset", "have_ipv6", "refused_address")

Transport: TypeAlias = Literal["stream", "datagram"]
Family: TypeAlias = Literal["inet", "inet6", "dual", "unix", "abstract"]

_LOOPBACK: dict[str, tuple[str, int]] = {"inet": ("127.0.0.1", 0), "inet6": ("::1", 0), "dual": ("::", 0)}

# struct linger is two ints, but two unsigned shorts on Windows.
_LINGER_ZERO = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


def bound_socket(
    transport: Transport,
    family: Family,
    *,
    address: Address | None = None,
    directory: SocketDirectory | None = None,
    backlog: int = 128,
) -> socket.socket:
    """A socket that holds its address already: bound, and listening if it is a stream.

    Without an address it is on the loopback interface and a free port, on a fresh path in ``directory``, or on an
    abstract name that the kernel picks (autobind, unix(7)); none of these can be taken by somebody else in between.
    A dual-stack socket must be bound to ``::``; where the system allows it (Linux 5.7), it is tied to the loopback
    interface all the same.

    Args:
        transport: ``"stream"`` or ``"datagram"``.
        family: ``"inet"``, ``"inet6"``, ``"dual"`` (both of these on one socket), ``"unix"`` or ``"abstract"``.
        address: Where to bind, instead of a free address.
        directory: Where a fresh Unix path is to be made.
        backlog: Connections that may wait to be accepted.

    Raises:
        AddressInUse: Something else holds the address.
        AddressError: The address is malformed or too long, or the family is missing on this machine.
        UsageError: A Unix socket with neither an address nor a directory.
    """
    sock = _new_socket(transport, family)
    try:
        _prepare(sock, transport, family)
        _bind(sock, _place(family, address, directory), transport)
        if transport == "stream":
            _listen(sock, backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def hard_reset(sock: socket.socket) -> None:
    """Close a TCP connection with a RST instead of a FIN, dropping what was not sent yet (``SO_LINGER`` with 0 s).

    Unix sockets know no RST: their peer gets ``ECONNRESET`` if data was left unread here, and plain EOF otherwise.
    The RST goes out when the last descriptor is closed: none does as long as a duplicate or a forked child holds one.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    except OSError as error:
        # macOS refuses the option once the peer is gone; closing is all that is left to do then.
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        sock.close()


@functools.cache
def have_ipv6() -> bool:
    """Whether ``::1`` can be bound here. Containers often have an IPv6 stack and no such address."""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def refused_address(
    transport: Transport = "stream", family: Family = "inet", *, directory: SocketDirectory | None = None
) -> Iterator[Address]:
    """An address that refuses whoever connects (or, for datagrams, sends from a connected socket), for as long as
    the block lasts: it is held, so nobody else can begin to listen on it.

    How it is held depends on the kind. A stream socket is bound and never listens. A UDP socket is bound and connected
    to itself, so that the kernel answers everybody else with "port unreachable". A Unix datagram socket is closed and
    leaves its path behind. An abstract datagram name is one of 2**128 that nobody binds.

    Args:
        transport: ``"stream"`` or ``"datagram"``.
        family: As in `bound_socket`.
        directory: Where to make a Unix path; a directory of its own if left out.

    Raises:
        AddressError: The family is missing on this machine.
    """
    with contextlib.ExitStack() as stack:
        if family == "unix" and directory is None:
            directory = stack.enter_context(SocketDirectory())
        if family == "abstract" and transport == "datagram":
            _require(family)
            yield b"\0servertest-" + os.urandom(16).hex().encode()
            return
        sock = stack.enter_context(_new_socket(transport, family))
        if family == "dual":
            _span_both(sock)
        # No SO_REUSEADDR here: with it on both sides, somebody else could bind the port beside us.
        _bind(sock, _place(family, None, directory), transport)
        address: Address = sock.getsockname()
        _hold(sock, address, transport, family)
        yield address


def _new_socket(transport: str, family: str) -> socket.socket:
    if transport not in ("stream", "datagram"):
        raise UsageError(f"a transport is 'stream' or 'datagram', not {transport!r}")
    _require(family)
    kind = socket.SOCK_STREAM if transport == "stream" else socket.SOCK_DGRAM
    if family == "inet":
        return socket.socket(socket.AF_INET, kind)
    if family in ("inet6", "dual"):
        return socket.socket(socket.AF_INET6, kind)
    return socket.socket(socket.AF_UNIX, kind)


def _require(family: str) -> None:
    if family not in ("inet", "inet6", "dual", "unix", "abstract"):
        raise UsageError(f"a family is one of inet, inet6, dual, unix, abstract; not {family!r}")
    if family in ("inet6", "dual") and not have_ipv6():
        raise AddressError(f"no IPv6 on this machine: ::1 cannot be bound, so there is no {family} socket")
    if family == "unix" and not hasattr(socket, "AF_UNIX"):
        raise AddressError("this platform has no Unix sockets")
    if family == "abstract" and not sys.platform.startswith("linux"):
        raise AddressError("abstract Unix names exist on Linux only: take family='unix'")


def _prepare(sock: socket.socket, transport: str, family: str) -> None:
    # Only for streams, and only on POSIX: two UDP sockets with SO_REUSEADDR share a port without an error on Linux,
    # and so do two TCP sockets on Windows.
    if transport == "stream" and family in _LOOPBACK and os.name == "posix":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == "inet6":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if family == "dual":
        _span_both(sock)


def _span_both(sock: socket.socket) -> None:
    """Take IPv4 as well, on the loopback interface only where the system lets an ordinary user say so."""
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    device = getattr(socket, "SO_BINDTODEVICE", None)
    if device is None:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, device, b"lo\0")
    except OSError as error:
        # Linux before 5.7 wants CAP_NET_RAW; a container may have no interface of that name.
        if error.errno not in (errno.EPERM, errno.ENODEV):
            raise


def _place(family: str, address: Address | None, directory: SocketDirectory | None) -> Address:
    if family in _LOOPBACK:
        place = _LOOPBACK[family] if address is None else address
        check_pair(place, family)
        return place
    if isinstance(address, tuple):
        raise AddressError(f"a Unix address is a path or a name, not {address!r}")
    return _abstract_name(address) if family == "abstract" else _unix_path(address, directory)


def check_pair(place: object, family: str = "inet") -> None:
    """Make sure that this is an address for IPv4 or IPv6.

    Raises:
        AddressError: It is no pair, or its port is none.
    """
    longest = 2 if family == "inet" else 4
    if not isinstance(place, tuple) or not 2 <= len(place) <= longest or not isinstance(place[0], str):
        raise AddressError(f"an {family} address is a (host, port) pair, not {place!r}")
    port = place[1]
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise AddressError(
            f"{place!r}: the port is a number from 0 to 65535, and 0 means a free one; not {port!r}"
        )


def _abstract_name(address: str | bytes | None) -> str | bytes:
    if address is None:
        return ""  # the kernel picks a name
    if os.fsencode(address)[:1] != b"\0":
        raise AddressError(f"an abstract Unix name begins with a NUL; {address!r} is a path")
    check_path(address)
    return address


def _unix_path(address: str | bytes | None, directory: SocketDirectory | None) -> str | bytes:
    if address is None:
        if directory is None:
            raise UsageError("a Unix socket needs an address, or a SocketDirectory to make one in")
        return directory.path()
    check_path(address)
    if os.fsencode(address)[:1] == b"\0":
        raise AddressError(f"{address!r} is an abstract name: take family='abstract'")
    return address


def _bind(sock: socket.socket, place: Address, transport: str) -> None:
    try:
        sock.bind(place)
    except OSError as error:
        raise _explain(error, place, transport) from error


def _listen(sock: socket.socket, backlog: int) -> None:
    # With SO_REUSEADDR two sockets may be bound to one port as long as neither listens: this call finds out.
    try:
        sock.listen(backlog)
    except OSError as error:
        raise _explain(error, sock.getsockname(), "stream") from error


def _explain(error: OSError, place: Address, transport: str) -> OSError | AddressError:
    shown = format_address(place)
    if error.errno == errno.EADDRINUSE:
        remedy = "take port 0" if isinstance(place, tuple) else "remove it, or take another one"
        return AddressInUse(f"the {transport} address {shown} is in use: {remedy}")
    if isinstance(place, str | bytes) and error.errno in (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EROFS,
    ):
        return AddressError(
            f"{shown} cannot be made: {error.strerror}; make its directory first, take another one, or leave the "
            "address out to get a short temporary path"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return AddressError(f"{shown} needs a privilege: ports below 1024 do; take port 0 to get a free one")
    if error.errno == errno.EADDRNOTAVAIL:
        return AddressError(f"{shown} is no address of this machine")
    if isinstance(error, socket.gaierror):
        return AddressError(f"{shown} cannot be resolved: {error}")
    if error.errno == errno.EINVAL:
        # For IPv6: ipv6(7), a link-local address without its interface.
        remedy = "; a link-local one needs the number of its interface: (host, port, 0, number)"
        return AddressError(f"{shown} cannot be bound: {error.strerror}{remedy if ':' in shown else ''}")
    return error


def _hold(sock: socket.socket, address: Address, transport: str, family: str) -> None:
    if transport == "stream":
        return
    if family == "unix":
        sock.close()
    else:
        sock.connect(address)
