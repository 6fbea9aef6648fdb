"""The ways of datagrams through the simulated network."""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from ..wire._line import Ended, Line
from ._datagrams import DatagramEnd
from ._handles import failure
from ._hosts import ANY
from ._names import Names
from ._wire import LinePump

if TYPE_CHECKING:
    from ..faults import Plan
    from ._hosts import Host
    from ._kernel import Kernel
    from ._recording import NetworkRecorder
    from ._route import Link, Route

__all__ = ("DatagramWays",)


class DatagramWays(Names):
    """Takes datagrams from one socket to another."""

    def __init__(self, kernel: Kernel, link: Link, recorder: NetworkRecorder) -> None:
        super().__init__(kernel, link)
        self.recorder = recorder
        self.plans: dict[object, Plan] = {}
        self._pumps: dict[tuple[DatagramEnd, Any], LinePump] = {}
        self._peers: dict[Any, int] = {}

    def stages(self, transport: Any, number: int, direction: Any, opened: float, route: Route) -> list[Any]:
        """The faults that are at work now on a connection, or between two sockets."""
        raise NotImplementedError

    def let_datagrams_go(self) -> None:
        """What other faults have held is on its way now."""
        for pump in self._pumps.values():
            pump.line.set_stages((), pump.now)
            pump.pump()
        self._pumps.clear()

    def send_packet(self, source: DatagramEnd, data: bytes, address: Any) -> None:
        """A UDP datagram goes on its way."""
        ip, port = self.inet_address(source, address)
        if ip in ANY:
            ip = "::1" if source.family == socket.AF_INET6 else "127.0.0.1"
        if not port:
            raise failure(errno.EINVAL)
        if ip.startswith("::ffff:"):
            ip = ip[7:]
        host = self.host_at(ip, source.host)
        if not source.local[1]:
            self.bind(source, self.any_address(source.family))
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
        if own in ANY:
            own = ip if host is source.host else source.host.address
        return (own, source.local[1], 0, 0) if source.family == socket.AF_INET6 else (own, source.local[1])

    def _datagram_pump(
        self, source: DatagramEnd, host: Host, ip: str, port: int, route: Route, deliver: Any
    ) -> LinePump | None:
        key = source, (ip, port)
        pump = self._pumps.get(key)
        if pump is not None:
            return pump
        if not self.plans and not route.link.plan("datagram").entries:
            return None
        upstream = source.side != "server"
        peer = (source.host.name, source.local[1]) if upstream else (host.name, port)
        number = self._peers.setdefault(peer, len(self._peers) + 1)
        direction = "upstream" if upstream else "downstream"
        stages = self.stages("datagram", number, direction, self.kernel.now / 1e9, route)
        if not stages:
            return None

        def come(output: bytes | Ended) -> None:
            if isinstance(output, bytes) and not route.drops:
                deliver(output)

        line = Line(ordered=False)
        pump = self._pumps[key] = LinePump(self.kernel, line, come, lambda: None)
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
            ip, port = self.inet_address(end, address)
            if ip in ANY:
                ip = "::1" if end.family == socket.AF_INET6 else "127.0.0.1"
            host = self.host_at(ip, end.host)
            if not end.local[1]:
                own = ip if host is end.host else end.host.address
                self.bind(end, (own, 0))
            end.remote = (ip, port, 0, 0) if end.family == socket.AF_INET6 else (ip, port)
            return
        partner = self.unix_at(end.host, address)
        if not isinstance(partner, DatagramEnd):
            raise failure(errno.EPROTOTYPE)
        if partner.partner is not None and partner.partner is not end:
            raise failure(errno.EPERM)
        end.partner, end.remote = partner, partner.local

    def unix_datagrams_at(self, address: Any) -> DatagramEnd:
        """The socket that has a Unix address."""
        target = self.unix_at(self.kernel.current.host, address)
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
