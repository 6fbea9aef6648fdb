"""The simulation's sockets, pollers and names."""

from __future__ import annotations

import _socket
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._active import participant
from ._handles import failure
from ._patched_files import dup
from ._polling import SimEpoll, SimPoll, select_simulated
from ._replacing import class_of, either, on_virtual
from ._socket import BareSocket, SimSocket, simulated_class

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("GUARDED", "guarded", "names", "new_socket", "wrap_socket")

_Function = Callable[..., Any]


#: Methods that would go to the system on a socket that was made outside, and not come back.
GUARDED = (
    "_accept",
    "connect",
    "connect_ex",
    "recv",
    "recv_into",
    "recvfrom",
    "recvfrom_into",
    "recvmsg",
    "recvmsg_into",
    "send",
    "sendall",
    "sendmsg",
    "sendto",
)


def names() -> list[tuple[Any, Any]]:
    """Pollers, and functions that look up names or make sockets, each with what replaces it."""
    pairs: list[tuple[Any, Any]] = [
        (select.select, either(select.select, select_simulated)),
        (_socket.dup, on_virtual(_socket.dup, lambda kernel, fd: dup(kernel, fd))),
        (_socket.close, on_virtual(_socket.close, lambda kernel, fd: kernel.network.descriptors.close(fd))),
        (_socket.getaddrinfo, either(_socket.getaddrinfo, _getaddrinfo)),
        (_socket.gethostbyname, either(_socket.gethostbyname, _gethostbyname)),
        (_socket.gethostname, either(_socket.gethostname, lambda kernel: kernel.current.host.name)),
        (_socket.gethostbyaddr, either(_socket.gethostbyaddr, _gethostbyaddr)),
        (_socket.getnameinfo, either(_socket.getnameinfo, _getnameinfo)),
    ]
    if hasattr(_socket, "socketpair"):
        pairs.append((_socket.socketpair, either(_socket.socketpair, _socketpair)))
    if hasattr(select, "poll"):
        pairs.append((select.poll, either(select.poll, SimPoll)))
    if hasattr(select, "epoll"):
        pairs.append((select.epoll, class_of(select.epoll, SimEpoll)))
    return pairs


def new_socket(cls: Any, *args: Any, **keywords: Any) -> Any:
    kernel = participant()
    if kernel is None:
        return _socket.socket.__new__(cls)
    if cls is not socket.socket:
        kernel.patches.notice_ssl()
    return _socket.socket.__new__(simulated_class(cls))


def guarded(name: str) -> _Function:
    real = getattr(_socket.socket, name)
    simulated = getattr(BareSocket, name)

    def chosen(self: Any, *args: Any, **keywords: Any) -> Any:
        if isinstance(self, BareSocket):
            # Who goes past a subclass, as in socket.socket.recv(tls_socket, 100), means the socket below.
            return simulated(self, *args, **keywords)
        kernel = participant()
        if kernel is not None:
            raise kernel.refuse("a socket that was made outside of the simulation")
        return real(self, *args, **keywords)

    chosen.__name__ = name
    return chosen


class _Detachable:
    """What `_socket.socketpair()` gives; `socket.socketpair()` takes its descriptor away."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def detach(self) -> int:
        """The descriptor."""
        return self._fd


def _socketpair(
    kernel: Kernel, family: int = socket.AF_UNIX, type: int = socket.SOCK_STREAM, proto: int = 0
) -> tuple[Any, Any]:
    if int(family) != socket.AF_UNIX:
        raise failure(95)
    network = kernel.network
    ends = [network.new_end(int(family), int(type) & 0xF, proto, kernel.current.host) for _ in range(2)]
    if int(type) & 0xF == socket.SOCK_DGRAM:
        ends[0].partner, ends[1].partner = ends[1], ends[0]
        ends[0].remote = ends[1].remote = ""
    else:
        network.join_ends(ends[0], ends[1], 0)
        ends[0].remote = ends[1].remote = ""
    first, second = (_Detachable(network.descriptors.add(end)) for end in ends)
    return first, second


def _getaddrinfo(
    kernel: Kernel, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Any]:
    passive = flags & socket.AI_PASSIVE
    if host is None and passive:
        host = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - what the system answers
    found = kernel.network.lookup(host, kernel.current.host)
    if found is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    number = _port(port)
    kinds = [
        (kind, protocol)
        for kind, protocol in ((socket.SOCK_STREAM, 6), (socket.SOCK_DGRAM, 17), (socket.SOCK_RAW, 0))
        if type in (0, kind) and proto in (0, protocol)
    ]
    if ":" in found or (family == socket.AF_INET6 and host in ("localhost", None)):
        address: Any = (found if ":" in found else "::1", number, 0, 0)
        given = socket.AF_INET6
    else:
        address, given = (found, number), socket.AF_INET
    if family not in (0, given):
        raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
    return [(int(given), int(kind), protocol, "", address) for kind, protocol in kinds]


def _port(port: Any) -> int:
    if port is None:
        return 0
    if isinstance(port, bytes):
        port = port.decode()
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    return socket.getservbyname(port)


def _gethostbyname(kernel: Kernel, name: str) -> str:
    found = kernel.network.lookup(name, kernel.current.host)
    if found is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return str(found)


def _gethostbyaddr(kernel: Kernel, address: str) -> tuple[str, list[str], list[str]]:
    for host in kernel.network.hosts.values():
        if address in (host.address, host.name) or (host.name == "localhost" and address == "::1"):
            return host.name, [], [host.address]
    raise socket.herror(1, "Unknown host")


def _getnameinfo(kernel: Kernel, address: Any, flags: int) -> tuple[str, str]:
    return str(address[0]), str(address[1])


def wrap_socket(self: Any, sock: Any, *arguments: Any, **keywords: Any) -> Any:
    import _ssl

    base: Any = _ssl._SSLContext
    if isinstance(sock, SimSocket):
        from ._tls import wrap_simulated

        return wrap_simulated(self, base._wrap_bio, sock, arguments, keywords)
    return base._wrap_socket(self, sock, *arguments, **keywords)
