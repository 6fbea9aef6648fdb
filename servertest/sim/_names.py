"""Machines, the ways between them, and the names of sockets."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from typing import TYPE_CHECKING, Any, cast

from .._support import UsageError
from ._datagrams import DatagramEnd
from ._handles import failure
from ._hosts import VIRTUAL_PATHS, Host
from ._route import Link, Route
from ._streams import StreamEnd

if TYPE_CHECKING:
    from ._kernel import Kernel
    from ._network import Network

__all__ = ("Names", "reuse_port")

_LONGEST_PATH = 107


class Names:
    """What a network knows of machines and addresses."""

    def __init__(self, kernel: Kernel, link: Link) -> None:
        self.kernel = kernel
        self.link = link
        self.hosts: dict[str, Host] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self.ends: dict[Any, None] = {}
        self.routes: dict[tuple[str, str], Route] = {}
        self.waiting: dict[StreamEnd, list[StreamEnd]] = {}
        self._shown: dict[Any, str] = {}

    def add_host(self, name: str, address: str) -> Host:
        """A new machine."""
        if name in self.hosts:
            raise UsageError(f"there is a host {name!r} already")
        if any(host.address == address for host in self.hosts.values()):
            raise UsageError(f"another host has the address {address}")
        host = self.hosts[name] = Host(name, address)
        return host

    def route(self, source: Host, target: Host) -> Route:
        """The way from one host to another."""
        key = source.name, target.name
        route = self.routes.get(key)
        if route is None:
            route = self.routes[key] = Route(self.links.get(key, self.link))
        return route

    def set_link(self, source: str, target: str, link: Link) -> None:
        """What the way between two hosts is like from now on; connections that are there keep theirs."""
        for key in ((source, target), (target, source)):
            self.links[key] = link
            if key in self.routes:
                self.routes[key].link = link

    def host_at(self, ip: str, seen_from: Host) -> Host:
        """Which machine has an address.

        Raises:
            OSError: None; ENETUNREACH.
        """
        if seen_from.owns(ip):
            return seen_from
        for host in self.hosts.values():
            if host.address == ip:
                return host
        error = failure(errno.ENETUNREACH)
        error.add_note(f"no host of the simulation has the address {ip}")
        raise error

    def lookup(self, name: Any, seen_from: Host) -> str | None:
        """The address of a host by its name."""
        if isinstance(name, bytes):
            name = name.decode()
        if name in (None, "localhost"):
            return "127.0.0.1"
        if name in self.hosts:
            return self.hosts[name].address
        if name == "":
            return "0.0.0.0"  # noqa: S104 - what the system makes of it
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, name)
            except (OSError, TypeError):
                continue
            return str(name)
        return None

    def shown(self, address: Any) -> str:
        """An address for histories: paths of the file system differ from run to run."""
        if isinstance(address, tuple):
            return f"{address[0]}:{address[1]}"
        if not address:
            return "(no address)"
        text = os.fsdecode(address)
        if text.startswith((VIRTUAL_PATHS, "\0")):
            return text
        return self._shown.setdefault(text, f"path {len(self._shown) + 1}")

    # -- names of sockets

    def new_end(self, family: int, kind: int, proto: int, host: Host) -> StreamEnd | DatagramEnd:
        """A new socket.

        Raises:
            OSError: There is none of that kind here.
        """
        if family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise failure(errno.EAFNOSUPPORT)
        end: StreamEnd | DatagramEnd
        if kind == socket.SOCK_STREAM or (kind == socket.SOCK_SEQPACKET and family == socket.AF_UNIX):
            end = StreamEnd(cast("Network", self), host, family, kind, proto)
        elif kind == socket.SOCK_DGRAM:
            end = DatagramEnd(cast("Network", self), host, family, kind, proto)
        else:
            raise self.kernel.refuse(f"a socket of family {family} and type {kind}")
        end.local = "" if family == socket.AF_UNIX else self.any_address(family)
        self.ends[end] = None
        return end

    def any_address(self, family: int) -> Any:
        """The address that stands for all of a machine, with no port."""
        return ("::", 0, 0, 0) if family == socket.AF_INET6 else ("0.0.0.0", 0)  # noqa: S104

    def bind(self, end: Any, address: Any) -> None:
        """Give a socket its address."""
        if end.family == socket.AF_UNIX:
            self._bind_unix(end, address)
            return
        if end.bound is not None or end.local[1]:
            raise failure(errno.EINVAL)
        host, port = self.inet_address(end, address)
        if not end.host.owns(host):
            raise failure(errno.EADDRNOTAVAIL)
        proto = _proto(end)
        if not port:
            port = end.host.free_port(proto, end.family, host)
        elif any(not _share(end, other) for other in end.host.conflicts(proto, end.family, host, port)):
            raise failure(errno.EADDRINUSE)
        end.bound = (proto, end.family, host, port)
        end.host.bound.setdefault(end.bound, []).append(end)
        end.local = (host, port, 0, 0) if end.family == socket.AF_INET6 else (host, port)

    def inet_address(self, end: Any, address: Any) -> tuple[str, int]:
        """An address as the system would understand it."""
        if not isinstance(address, tuple):
            raise TypeError(f"AF_INET address must be tuple, not {type(address).__name__}")
        host, port = address[:2]
        if not isinstance(port, int):
            raise TypeError(f"'{type(port).__name__}' object cannot be interpreted as an integer")
        if not 0 <= port <= 65535:
            raise OverflowError("bind(): port must be 0-65535.")
        found = self.lookup(host, end.host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if end.family == socket.AF_INET6:
            found = {"0.0.0.0": "::", "127.0.0.1": "::1"}.get(found, found)  # noqa: S104
        elif ":" in found:
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
        return found, port

    def _bind_unix(self, end: Any, address: Any) -> None:
        raw = _path(address)
        if end.bound is not None:
            raise failure(errno.EINVAL)
        if not raw and sys.platform == "linux":
            raw = end.host.free_abstract_name()
        if raw[:1] == b"\0":
            if raw in end.host.abstract:
                raise failure(errno.EADDRINUSE)
            end.host.abstract[raw] = end
            end.bound = ("abstract", raw)
            end.local = raw
            return
        path = os.fsdecode(raw)
        if path.startswith(VIRTUAL_PATHS):
            key: Any = path
            if key in end.host.files:
                raise failure(errno.EADDRINUSE)
        else:
            try:
                os.mknod(path, 0o777 | stat.S_IFSOCK)
            except FileExistsError:
                raise failure(errno.EADDRINUSE) from None
            status = os.stat(path)
            key = status.st_dev, status.st_ino
        end.host.files[key] = end
        end.bound = ("file", key)
        end.local = path

    def unix_at(self, host: Host, address: Any) -> Any:
        """The socket that has a Unix address.

        Raises:
            OSError: None has, or it is gone.
        """
        raw = _path(address)
        if raw[:1] == b"\0":
            end = host.abstract.get(raw)
        else:
            path = os.fsdecode(raw)
            if path.startswith(VIRTUAL_PATHS):
                if path not in host.files:
                    raise failure(errno.ENOENT)
                end = host.files[path]
            else:
                status = os.stat(path)
                end = host.files.get((status.st_dev, status.st_ino))
        if end is None or end.gone:
            raise failure(errno.ECONNREFUSED)
        return end

    def forget(self, end: Any) -> None:
        """A socket is gone, and with it its name; not the path, which is a file's."""
        self.ends.pop(end, None)
        self.waiting.pop(end, None)
        bound = end.bound
        if bound is None:
            return
        if bound[0] == "abstract":
            end.host.abstract.pop(bound[1], None)
        elif bound[0] == "file":
            if isinstance(bound[1], str):
                end.host.files.pop(bound[1], None)  # nobody can unlink what is not there
        else:
            ends = end.host.bound.get(bound, [])
            if end in ends:
                ends.remove(end)
            if not ends:
                end.host.bound.pop(bound, None)


def _proto(end: Any) -> str:
    return "tcp" if isinstance(end, StreamEnd) else "udp"


def _option(end: Any, name: int) -> bool:
    return bool(end.options.get((socket.SOL_SOCKET, name)))


def reuse_port(end: Any, other: Any) -> bool:
    """Whether two sockets have said that they share their port."""
    return _option(end, socket.SO_REUSEPORT) and _option(other, socket.SO_REUSEPORT)


def _share(end: Any, other: Any) -> bool:
    """Whether two sockets may have the same address."""
    if reuse_port(end, other):
        return True
    both = _option(end, socket.SO_REUSEADDR) and _option(other, socket.SO_REUSEADDR)
    return both and getattr(other, "state", "") != "listening"


def _path(address: Any) -> bytes:
    if not isinstance(address, (str, bytes, bytearray)):
        raise TypeError(f"a bytes-like object is required, not '{type(address).__name__}'")
    raw = os.fsencode(address) if not isinstance(address, bytearray) else bytes(address)
    if len(raw) > _LONGEST_PATH + (raw[:1] == b"\0"):
        raise OSError("AF_UNIX path too long")
    return raw
