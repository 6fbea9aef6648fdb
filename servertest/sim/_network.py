"""The simulated network: hosts, addresses, ports, and the ways between hosts."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import stat
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ..faults import Plan, Site, derived_seed, plan as to_plan, start
from ..wire._line import Ended, Line
from ._call_sites import CallSites, refuse_forks
from ._datagrams import DatagramEnd
from ._handles import Descriptors, Handle, failure
from ._recording import NetworkRecorder
from ._route import Link, Resending, Route
from ._streams import StreamEnd
from ._wire import LinePump, Wire

if TYPE_CHECKING:
    from ..faults import Faults
    from ._kernel import Kernel

__all__ = ("Host", "Network")

#: Paths that exist only here; all others are made in the file system, for programs look at them.
VIRTUAL_PATHS = "/simulated/"

_FIRST_PORT = 40_000
_LONGEST_PATH = 107
_ANY = ("0.0.0.0", "::", "")  # noqa: S104 - looked up, not bound

#: Seconds between attempts to reach somebody who does not answer: tcp_syn_retries is 6.
_ATTEMPTS = (1, 2, 4, 8, 16, 32, 64)


class Host:
    """A simulated machine.

    Attributes:
        name: What it is called; names are looked up.
        address: Its IPv4 address, beside 127.0.0.1.
        up: Whether it runs.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.up = True
        self.bound: dict[tuple[str, int, str, int], list[Any]] = {}
        self.abstract: dict[str | bytes, Any] = {}
        self.files: dict[Any, Any] = {}
        self.next_port = _FIRST_PORT

    def __repr__(self) -> str:
        return f"<Host {self.name} at {self.address}{'' if self.up else ', down'}>"

    def owns(self, ip: str) -> bool:
        """Whether an address is its own."""
        return ip == self.address or ip.startswith("127.") or ip in ("::1", *_ANY)

    def free_port(self, proto: str, family: int, ip: str) -> int:
        """A port that nobody has, in ascending order."""
        while True:
            port = self.next_port
            self.next_port = port + 1 if port < 65_000 else _FIRST_PORT
            if not any(self.conflicts(proto, family, ip, port)):
                return port

    def free_abstract_name(self) -> bytes:
        """What a socket is called that is bound to no name at all: five digits in the abstract namespace, as unix(7) has it."""
        number = next(number for number in itertools.count() if b"\0%05x" % number not in self.abstract)
        return b"\0%05x" % number

    def conflicts(self, proto: str, family: int, ip: str, port: int) -> Iterator[Any]:
        """Who is bound there."""
        for (other_proto, other_family, other_ip, other_port), ends in self.bound.items():
            same_family = other_family == family or "::" in (ip, other_ip)
            same_ip = ip == other_ip or ip in _ANY or other_ip in _ANY
            if (other_proto, other_port) == (proto, port) and same_family and same_ip:
                yield from ends

    def at(self, proto: str, family: int, ip: str, port: int) -> list[Any]:
        """Who is bound to an address, the most special first."""
        for key in ((proto, family, ip, port), (proto, family, _ANY[family == socket.AF_INET6], port)):
            if ends := self.bound.get(key):
                return ends
        if family == socket.AF_INET:
            return [
                end
                for end in self.bound.get((proto, socket.AF_INET6, "::", port), ())
                if not end.options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
            ]
        return []


class Network:
    """All that the sockets of one simulation share.

    Args:
        kernel: The kernel.
        seed: Where faults have their random numbers from.
        link: What ways between hosts are like; also within a host, where it was asked for.
        faults: The faults on each of them.
    """

    def __init__(self, kernel: Kernel, seed: int | str, link: Link, faults: Faults) -> None:
        self.kernel = kernel
        self.seed = seed
        self.link = link
        self.descriptors = Descriptors()
        self.recorder = NetworkRecorder(kernel)
        self.plans: dict[object, Plan] = {}
        self.sites = CallSites(self)
        faults = refuse_forks(to_plan(faults))
        if faults.entries:
            self.plans[""] = faults
        self.hosts: dict[str, Host] = {}
        self.links: dict[tuple[str, str], Link] = {}
        self._routes: dict[tuple[str, str], Route] = {}
        self._waiting: dict[StreamEnd, list[StreamEnd]] = {}
        self._datagram_pumps: dict[tuple[DatagramEnd, Any], LinePump] = {}
        self._peers: dict[Any, int] = {}
        self._shown: dict[Any, str] = {}
        self.ends: dict[Any, None] = {}
        self.local = self.add_host("localhost", "10.0.0.100")

    # -- hosts and ways

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
        route = self._routes.get(key)
        if route is None:
            route = self._routes[key] = Route(self.links.get(key, self.link))
        return route

    def set_link(self, source: str, target: str, link: Link) -> None:
        """What the way between two hosts is like from now on; connections that are there keep theirs."""
        for key in ((source, target), (target, source)):
            self.links[key] = link
            if key in self._routes:
                self._routes[key].link = link

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
            end = StreamEnd(self, host, family, kind, proto)
        elif kind == socket.SOCK_DGRAM:
            end = DatagramEnd(self, host, family, kind, proto)
        else:
            raise self.kernel.refuse(f"a socket of family {family} and type {kind}")
        end.local = "" if family == socket.AF_UNIX else self._any(family)
        self.ends[end] = None
        return end

    def _any(self, family: int) -> Any:
        return ("::", 0, 0, 0) if family == socket.AF_INET6 else ("0.0.0.0", 0)  # noqa: S104

    def bind(self, end: Any, address: Any) -> None:
        """Give a socket its address."""
        if end.family == socket.AF_UNIX:
            self._bind_unix(end, address)
            return
        if end.bound is not None or end.local[1]:
            raise failure(errno.EINVAL)
        host, port = self._inet(end, address)
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

    def _inet(self, end: Any, address: Any) -> tuple[str, int]:
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

    def _unix_at(self, host: Host, address: Any) -> Any:
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
        self._waiting.pop(end, None)
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

    # -- connections

    def listen(self, end: StreamEnd, backlog: int) -> None:
        """Let a socket take connections."""
        if end.state not in ("new", "listening"):
            raise failure(errno.EINVAL)
        if end.inet and end.bound is None:
            self.bind(end, self._any(end.family))
        elif not end.inet and end.bound is None:
            raise failure(errno.EINVAL)
        if end.inet and end.state == "new":
            for other in end.host.conflicts("tcp", end.family, end.local[0], end.local[1]):
                if other is not end and other.state == "listening" and not _reuse_port(end, other):
                    raise failure(errno.EADDRINUSE)
        end.state = "listening"
        end.backlog = end.wanted_backlog = max(backlog, 0)
        self.sites.begin(end)

    def unlisten(self, end: StreamEnd) -> None:
        """A listener listens no more: those who wait for room are told."""
        for client in self._waiting.pop(end, []):
            if not client.inet:
                client.changed()

    def connect(self, end: StreamEnd, address: Any) -> int:
        """Begin to connect a stream socket.

        Returns:
            0 if it is connected, EINPROGRESS if it is under way, EAGAIN if a Unix listener has no room.
        """
        if end.state in ("connected", "listening") or (end.state == "closed" and not end.in_progress):
            if end.in_progress:
                end.in_progress = False
                return 0
            raise failure(errno.EISCONN)
        if end.state == "connecting":
            raise failure(errno.EALREADY)
        if end.state == "closed":
            raise failure(end.report_error() or errno.ECONNABORTED)
        return self._connect_inet(end, address) if end.inet else self._connect_unix(end, address)

    def _connect_unix(self, end: StreamEnd, address: Any) -> int:
        listener = self._unix_at(end.host, address)
        if not isinstance(listener, StreamEnd):
            raise failure(errno.EPROTOTYPE)
        if listener.state != "listening" or listener.down & 1:
            raise failure(errno.ECONNREFUSED)
        if len(listener.queue) > listener.backlog:
            waiting = self._waiting.setdefault(listener, [])
            if end not in waiting:
                waiting.append(end)
            return errno.EAGAIN
        end.remote = listener.local
        served = self._join(end, listener, listener.local, end.local)
        listener.queue.append(served)
        listener.changed()
        return 0

    def room_in_backlog(self, listener: StreamEnd) -> None:
        """A connection was accepted."""
        for client in self._waiting.pop(listener, []):
            client.changed()

    def _connect_inet(self, end: StreamEnd, address: Any) -> int:
        ip, port = self._inet(end, address)
        if ip in _ANY:
            ip = "::1" if end.family == socket.AF_INET6 else "127.0.0.1"
        if ip.startswith("::ffff:"):
            ip = ip[7:]
        host = self.host_at(ip, end.host)
        own = end.local[0] if end.local[0] not in _ANY else (ip if host is end.host else end.host.address)
        local_port = end.local[1] or end.host.free_port("tcp", end.family, own)
        v6 = end.family == socket.AF_INET6
        end.local = (own, local_port, 0, 0) if v6 else (own, local_port)
        end.remote = (ip, port, 0, 0) if v6 else (ip, port)
        end.state = "connecting"
        end.in_progress = True
        self.recorder.log(f"connects to {ip}:{port}")
        self._send_syn(end, host, ip, port, 0)
        return errno.EINPROGRESS

    def _send_syn(self, end: StreamEnd, host: Host, ip: str, port: int, attempt: int) -> None:
        if end.state != "connecting" or end.gone:
            return
        there, back = self.route(end.host, host), self.route(host, end.host)
        if there.closed or back.closed or not host.up or self._backlog_full(end, host, ip, port):
            if attempt == len(_ATTEMPTS):
                end.pending = errno.ETIMEDOUT
                end.state, end.down = "closed", 3
                end.changed()
                return
            again = partial(self._send_syn, end, host, ip, port, attempt + 1)
            self.kernel.call_at(self.kernel.now + _ATTEMPTS[attempt] * 1_000_000_000, again)
            return
        delay = round((there.link.latency + back.link.latency) * 1e9)
        if delay:
            self.kernel.call_at(self.kernel.now + delay, partial(self._answer, end, host, ip, port))
        else:
            self._answer(end, host, ip, port)

    def _listener(self, end: StreamEnd, host: Host, ip: str, port: int) -> StreamEnd | None:
        listening: list[StreamEnd] = [
            one for one in host.at("tcp", end.family, ip, port) if one.state == "listening"
        ]
        if not listening:
            return None
        return listening[end.local[1] % len(listening)] if len(listening) > 1 else listening[0]

    def _backlog_full(self, end: StreamEnd, host: Host, ip: str, port: int) -> bool:
        listener = self._listener(end, host, ip, port)
        return listener is not None and len(listener.queue) > listener.backlog

    def _answer(self, end: StreamEnd, host: Host, ip: str, port: int) -> None:
        if end.state != "connecting" or end.gone:
            return
        listener = self._listener(end, host, ip, port)
        if listener is None or not host.up:
            end.pending = errno.ECONNREFUSED
            end.state, end.down = "closed", 3
            end.changed()
            return
        mapped = listener.family == socket.AF_INET6 and end.family == socket.AF_INET
        own, peer = end.remote, end.local
        if mapped:
            own, peer = (f"::ffff:{own[0]}", own[1], 0, 0), (f"::ffff:{peer[0]}", peer[1], 0, 0)
        served = self._join(end, listener, own, peer)
        listener.queue.append(served)
        end.changed()
        listener.changed()

    def turn_away(self, listener: StreamEnd) -> None:
        """Who is first in the queue of a listener is reset, and nobody's any more."""
        end = listener.take_connection()
        if end is not None:
            end.options[socket.SOL_SOCKET, socket.SO_LINGER] = (1, 0)
            end.dispose()

    def _join(self, client: StreamEnd, listener: StreamEnd, own: Any, peer: Any) -> StreamEnd:
        served = StreamEnd(self, listener.host, listener.family, listener.kind, listener.proto)
        served.options = dict(listener.options)
        served.local, served.remote = own, peer
        self.ends[served] = None
        number = self.recorder.connects(
            client.local, listener.local if client.inet else self.shown(listener.local)
        )
        self.join_ends(client, served, number)
        return served

    def join_ends(self, client: StreamEnd, server: StreamEnd, number: int) -> None:
        """Make two sockets the ends of one connection; with the number 0 it is a pair that nobody watches."""
        for end, other, side, direction in (
            (client, server, "client", "upstream"),
            (server, client, "server", "downstream"),
        ):
            end.peer = other
            end.state = "connected"
            end.side, end.number = side, number
            end.out = Wire(end, other, self.route(end.host, other.host), number, direction)
        if number:
            for end in (client, server):
                assert end.out is not None
                self.set_stages(end.out)
                self.sites.begin(end)

    def set_stages(self, wire: Wire) -> None:
        """Put the faults that are at work now on one direction of a connection."""
        wire.set_stages(self._stages("stream", wire.number, wire.direction, wire.opened, wire.route))

    def _stages(self, transport: Any, number: int, direction: Any, opened: float, route: Route) -> list[Any]:
        given = {"connection": number, "direction": direction, "transport": transport, "opened": opened}
        stages: list[Any] = []
        for key, faults in self.plans.items():
            seed = self.seed if key == "" else derived_seed(self.seed, str(key))
            made = start(faults, seed=seed, note=self.recorder.decided, **given)
            stages += [(f"{key}/{name}", make) for name, make in made]
        link_seed = derived_seed(self.seed, "link")
        if transport == "stream" and route.link.loss:
            site = Site(link_seed, "resend", **given)
            stages.append(("link/resend", partial(Resending, site, route.link.loss)))
        for name, make in start(route.link.plan(transport), seed=link_seed, **given):
            stages.append((f"link/{name}", make))
        return stages

    def change_faults(self, key: object, plan: Plan | None) -> None:
        """Let other faults be at work from now on in the place of those of this key, also on what is under way; None for none."""
        if plan is None:
            self.plans.pop(key, None)
        else:
            self.plans[key] = refuse_forks(plan)
        self.sites.changed(key, plan)
        for route in list(self._routes.values()):
            for wire in list(route.wires):
                if wire.number and wire.source.state == "connected":
                    self.set_stages(wire)
        for pump in self._datagram_pumps.values():
            pump.line.set_stages((), pump.now)
            pump.pump()
        self._datagram_pumps.clear()

    # -- datagrams

    def send_packet(self, source: DatagramEnd, data: bytes, address: Any) -> None:
        """A UDP datagram goes on its way."""
        ip, port = self._inet(source, address)
        if ip in _ANY:
            ip = "::1" if source.family == socket.AF_INET6 else "127.0.0.1"
        if not port:
            raise failure(errno.EINVAL)
        if ip.startswith("::ffff:"):
            ip = ip[7:]
        host = self.host_at(ip, source.host)
        if not source.local[1]:
            self.bind(source, self._any(source.family))
        route = self.route(source.host, host)
        if route.drops or not host.up:
            self.recorder.log(f"a datagram of {len(data)} to {ip}:{port} is lost")
            return
        sender = self._sender(source, ip, host)
        deliver = partial(self._deliver, source, sender, host, ip, port)
        if route.closed:
            route.kept.append(partial(deliver, data))
            return
        pump = self._datagram_pump(source, host, ip, port, route, deliver)
        if pump is None:
            deliver(data)
        else:
            pump.line.put(data, pump.now)
            pump.pump()

    def _sender(self, source: DatagramEnd, ip: str, host: Host) -> Any:
        own = source.local[0]
        if own in _ANY:
            own = ip if host is source.host else source.host.address
        return (own, source.local[1], 0, 0) if source.family == socket.AF_INET6 else (own, source.local[1])

    def _datagram_pump(
        self, source: DatagramEnd, host: Host, ip: str, port: int, route: Route, deliver: Any
    ) -> LinePump | None:
        key = source, (ip, port)
        pump = self._datagram_pumps.get(key)
        if pump is not None:
            return pump
        if not self.plans and not route.link.plan("datagram").entries:
            return None
        upstream = source.side != "server"
        peer = (source.host.name, source.local[1]) if upstream else (host.name, port)
        number = self._peers.setdefault(peer, len(self._peers) + 1)
        direction = "upstream" if upstream else "downstream"
        stages = self._stages("datagram", number, direction, self.kernel.now / 1e9, route)
        if not stages:
            return None

        def come(output: bytes | Ended) -> None:
            if isinstance(output, bytes) and not route.drops:
                deliver(output)

        line = Line(ordered=False)
        pump = self._datagram_pumps[key] = LinePump(self.kernel, line, come, lambda: None)
        line.set_stages(stages, pump.now)
        return pump

    def _deliver(self, source: DatagramEnd, sender: Any, host: Host, ip: str, port: int, data: bytes) -> None:
        target = self._receiver(host, source.family, ip, port, sender)
        if target is None or not host.up:
            if host.up and source.remote is not None and source.remote[:2] == (ip, port) and not source.gone:
                source.pending = errno.ECONNREFUSED
                source.changed()
            return
        if target.family == socket.AF_INET6 and source.family == socket.AF_INET:
            sender = (f"::ffff:{sender[0]}", sender[1], 0, 0)
        self.recorder.datagram(source, target, data)
        target.on_datagram(data, sender)

    def _receiver(self, host: Host, family: int, ip: str, port: int, sender: Any) -> DatagramEnd | None:
        found = None
        for end in host.at("udp", family, ip, port):
            if end.remote is None:
                found = end
            elif end.remote[:2] == sender[:2]:
                return end  # type: ignore[no-any-return]
        return found

    def connect_datagrams(self, end: DatagramEnd, address: Any) -> None:
        """What connect(2) does on a datagram socket: whom it talks to from now on."""
        if end.inet:
            ip, port = self._inet(end, address)
            if ip in _ANY:
                ip = "::1" if end.family == socket.AF_INET6 else "127.0.0.1"
            host = self.host_at(ip, end.host)
            if not end.local[1]:
                own = ip if host is end.host else end.host.address
                self.bind(end, (own, 0))
            end.remote = (ip, port, 0, 0) if end.family == socket.AF_INET6 else (ip, port)
            return
        partner = self._unix_at(end.host, address)
        if not isinstance(partner, DatagramEnd):
            raise failure(errno.EPROTOTYPE)
        if partner.partner is not None and partner.partner is not end:
            raise failure(errno.EPERM)
        end.partner, end.remote = partner, partner.local

    def unix_datagrams_at(self, address: Any) -> DatagramEnd:
        """The socket that has a Unix address."""
        target = self._unix_at(self.kernel.current.host, address)
        if not isinstance(target, DatagramEnd):
            raise failure(errno.EPROTOTYPE)
        return target

    def room_for_datagrams(self, receiver: DatagramEnd) -> None:
        """A Unix socket has taken a datagram: who waits to send to it may look again."""
        if receiver.inet:
            return
        for end in list(self.ends):
            if isinstance(end, DatagramEnd) and not end.inet and end.waiters:
                end.changed()

    # -- what happens to hosts

    def crash(self, host: Host) -> None:
        """A machine is gone, without a word to anybody."""
        host.up = False
        self.kernel.kill([task for task in self.kernel.tasks if task.host is host])
        for end in [end for end in self.ends if end.host is host]:
            end.gone = True
            if isinstance(end, StreamEnd):
                end.state = "crashed"
            self.ends.pop(end, None)
            end.references = 1 << 30
        host.bound.clear()
        host.abstract.clear()
        host.files.clear()

    def handle(self, fd: int) -> Handle:
        """What a descriptor stands for."""
        return self.descriptors.get(fd)


def _proto(end: Any) -> str:
    return "tcp" if isinstance(end, StreamEnd) else "udp"


def _option(end: Any, name: int) -> bool:
    return bool(end.options.get((socket.SOL_SOCKET, name)))


def _reuse_port(end: Any, other: Any) -> bool:
    return _option(end, socket.SO_REUSEPORT) and _option(other, socket.SO_REUSEPORT)


def _share(end: Any, other: Any) -> bool:
    """Whether two sockets may have the same address."""
    if _reuse_port(end, other):
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
