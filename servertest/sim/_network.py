"""The simulated network: hosts, addresses, ports, and the ways between hosts."""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from ..faults import Plan, Site, derived_seed, plan as to_plan, start
from ._call_sites import CallSites, refuse_forks
from ._datagram_ways import DatagramWays
from ._handles import Descriptors, Handle, failure
from ._hosts import ANY, Host
from ._names import reuse_port
from ._recording import NetworkRecorder
from ._route import Link, Resending, Route
from ._streams import StreamEnd
from ._wire import Wire

if TYPE_CHECKING:
    from ..faults import Faults
    from ._kernel import Kernel

__all__ = ("Network",)

#: Seconds between attempts to reach somebody who does not answer: tcp_syn_retries is 6.
_ATTEMPTS = (1, 2, 4, 8, 16, 32, 64)


class Network(DatagramWays):
    """All that the sockets of one simulation share.

    Args:
        kernel: The kernel.
        seed: Where faults have their random numbers from.
        link: What ways between hosts are like; also within a host, where it was asked for.
        faults: The faults on each of them.
    """

    def __init__(self, kernel: Kernel, seed: int | str, link: Link, faults: Faults) -> None:
        super().__init__(kernel, link, NetworkRecorder(kernel))
        self.seed = seed
        self.descriptors = Descriptors()
        self.sites = CallSites(self)
        faults = refuse_forks(to_plan(faults))
        if faults.entries:
            self.plans[""] = faults
        self.local = self.add_host("localhost", "10.0.0.100")

    # -- connections

    def listen(self, end: StreamEnd, backlog: int) -> None:
        """Let a socket take connections."""
        if end.state not in ("new", "listening"):
            raise failure(errno.EINVAL)
        if end.inet and end.bound is None:
            self.bind(end, self.any_address(end.family))
        elif not end.inet and end.bound is None:
            raise failure(errno.EINVAL)
        if end.inet and end.state == "new":
            for other in end.host.conflicts("tcp", end.family, end.local[0], end.local[1]):
                if other is not end and other.state == "listening" and not reuse_port(end, other):
                    raise failure(errno.EADDRINUSE)
        end.state = "listening"
        end.backlog = end.wanted_backlog = max(backlog, 0)
        self.sites.begin(end)

    def unlisten(self, end: StreamEnd) -> None:
        """A listener listens no more: those who wait for room are told."""
        for client in self.waiting.pop(end, []):
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
        listener = self.unix_at(end.host, address)
        if not isinstance(listener, StreamEnd):
            raise failure(errno.EPROTOTYPE)
        if listener.state != "listening" or listener.down & 1:
            raise failure(errno.ECONNREFUSED)
        if len(listener.queue) > listener.backlog:
            waiting = self.waiting.setdefault(listener, [])
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
        for client in self.waiting.pop(listener, []):
            client.changed()

    def _connect_inet(self, end: StreamEnd, address: Any) -> int:
        ip, port = self.inet_address(end, address)
        if ip in ANY:
            ip = "::1" if end.family == socket.AF_INET6 else "127.0.0.1"
        if ip.startswith("::ffff:"):
            ip = ip[7:]
        host = self.host_at(ip, end.host)
        own = end.local[0] if end.local[0] not in ANY else (ip if host is end.host else end.host.address)
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
        wire.set_stages(self.stages("stream", wire.number, wire.direction, wire.opened, wire.route))

    def stages(self, transport: Any, number: int, direction: Any, opened: float, route: Route) -> list[Any]:
        """See `DatagramWays`."""
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
        for route in list(self.routes.values()):
            for wire in list(route.wires):
                if wire.number and wire.source.state == "connected":
                    self.set_stages(wire)
        self.let_datagrams_go()

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
