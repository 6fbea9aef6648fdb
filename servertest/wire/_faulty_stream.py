"""A stream socket between which and the real one the network is as bad as its faults want it.

What the program holds is one end of a private pair, so that its descriptor is real: it can be waited for, duplicated, inherited
and wrapped in TLS. It answers for the real one where that matters.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._faulty_calls import CallFaults, FaultyCalls, system_error
from ._faulty_pair import private_pair
from ._relay_connection import RelayedConnection
from ._relay_leg import Leg

if TYPE_CHECKING:
    from ..transcript import Side
    from ._observing import Buffer
    from ._relay import Relay
    from ._relay_passage import Tell

__all__ = ("FaultyConnection", "FaultySocket", "between", "disguise")

_UNIX = getattr(socket, "AF_UNIX", None)

#: Options that tell of the peer, with the size of what they tell: those of the private pair would tell of ourselves.
_OF_PEER = {
    (socket.SOL_SOCKET, option): size
    for name, size in (("SO_PEERCRED", 12), ("SO_PEERSEC", 256))
    if (option := getattr(socket, name, {"SO_PEERSEC": 31}.get(name))) is not None
}


class FaultyConnection(RelayedConnection):
    """The way between a faulty socket and the real one.

    Attributes:
        home: The leg at whose other end is the faulty socket.
        away: The real socket's leg.
        left: Whether the program has closed the faulty socket for good.
    """

    __slots__ = ("away", "home", "left")

    def __init__(self, relay: Relay, home: Leg, away: Leg, **more: Any) -> None:
        self.home = home
        self.away = away
        self.left = False
        client, server = (home, away) if home.peer == "client" else (away, home)
        super().__init__(relay, client, server, **more)

    def let_go(self) -> None:
        """The program has closed its socket for good: what it has sent goes on, and nothing is read for it any more."""
        if self.end is None and not self.left:
            self.left = True
            flow = self.home.outgoing
            flow.broken = True
            flow.line, flow.stages, flow.pending = None, {}, None
            self.flow_done()
            if self.ended is None and flow.reading:
                # What comes is thrown away; how it ends is worth knowing.
                flow.source.readable = True
                flow.pump()

    def flow_done(self) -> None:
        """See `RelayedConnection.flow_done`."""
        if self.end is not None or not self.left:
            super().flow_done()
        elif self.home.incoming.done:
            self.away.close()
            self.home.close()
            self._over("finished")
        elif self.home.outgoing.done and self._is_stuck():
            self.force()

    def _is_stuck(self) -> bool:
        """Whether nothing that the program has sent is on its way and will ever arrive."""
        flow = self.home.incoming
        return not flow.pending and (flow.line is None or flow.line.due is None)

    def wind_up(self) -> None:
        """Whoever had the faulty socket has ended: carry what was sent, and end what will never arrive."""
        if self.end is not None:
            return
        flow = self.home.incoming
        flow.source.readable = True
        while flow.reading and flow.source.readable and not flow.pending:
            if flow.line is not None and flow.line.full:
                break
            flow.pump()
        self.let_go()
        if self.ended is None and self._is_stuck():
            self.force()

    def peer_has_finished(self) -> bool:
        """Whether the real peer says nothing more, and so probably listens no more either."""
        if self.end is not None or not hasattr(select, "POLLRDHUP"):
            return self.end is not None
        poll = select.poll()
        poll.register(self.away.sock.fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))


class Guise:
    """What a faulty socket says of itself, in the place of its descriptor; shared by its duplicates.

    Attributes:
        family: The real socket's.
        proto: The real socket's.
        here: The real socket's own address.
        there: Its peer's address; None if it was gone already.
        options: What it has told of its peer.
        connection: The way to it.
        pid: Of the process in which that way is.
        cut: See `InnerEnd`.
        holders: How many sockets share it.
    """

    __slots__ = ("connection", "cut", "family", "here", "holders", "options", "pid", "proto", "there")

    def __init__(self, real: socket.socket) -> None:
        self.family = real.family
        self.proto = real.proto
        self.here = real.getsockname()
        self.there: Any = None
        with contextlib.suppress(OSError):
            self.there = real.getpeername()
        self.options: dict[tuple[int, int], bytes] = {}
        if real.family == _UNIX:
            for (level, option), size in _OF_PEER.items():
                with contextlib.suppress(OSError):
                    self.options[level, option] = real.getsockopt(level, option, size)
        self.connection: FaultyConnection | None = None
        self.pid = os.getpid()
        self.cut: Any = None
        self.holders = 1

    def closed(self) -> None:
        """One of the sockets was closed."""
        self.holders -= 1
        connection = self.connection
        if self.holders or connection is None or connection.end is not None or self.pid != os.getpid():
            return
        relay = connection.relay
        with contextlib.suppress(Exception):  # it may be about to stop: then it sees to all
            relay.post(connection.let_go)


class FaultySocket(FaultyCalls, socket.socket):
    """A `socket.socket` with faults; made by `faulty`.

    Attributes:
        servertest_guise: What it says of itself; None if it is on the real descriptor, because only its calls go wrong.
        servertest_calls: What goes wrong in its calls.
    """

    servertest_guise: Guise | None = None

    # -- who it is

    @property
    def family(self) -> Any:
        """The real socket's."""
        guise = self.servertest_guise
        return super().family if guise is None else guise.family

    @property
    def proto(self) -> Any:
        """The real socket's."""
        guise = self.servertest_guise
        return super().proto if guise is None else guise.proto

    def getsockname(self) -> Any:
        """The real socket's own address."""
        own = super().getsockname()  # raises if it is closed
        return own if self.servertest_guise is None else self.servertest_guise.here

    def getpeername(self) -> Any:
        """The real peer's address."""
        guise = self.servertest_guise
        if guise is None:
            return super().getpeername()
        super().getsockname()  # raises if it is closed
        if guise.there is None:
            raise system_error("ENOTCONN")
        return guise.there

    def getsockopt(self, level: int, option: int, *size: Any) -> Any:
        """As the real socket, for what tells of the peer."""
        guise = self.servertest_guise
        if guise is not None and (level, option) in guise.options and size:
            return guise.options[level, option][: size[0]]
        return super().getsockopt(level, option, *size)

    # -- receiving and sending where the system knows no RST

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive."""
        data = super().recv(bufsize, flags)
        if not data and bufsize:
            self._look_whether_cut()
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive."""
        count = super().recv_into(buffer, nbytes, flags)
        if not count and memoryview(buffer).nbytes:
            self._look_whether_cut()
        return count

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Send."""
        try:
            return super().send(data, flags)
        except BrokenPipeError:
            self._look_whether_cut()
            raise

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Send everything."""
        try:
            super().sendall(data, flags)
        except BrokenPipeError:
            self._look_whether_cut()
            raise

    def _look_whether_cut(self) -> None:
        """The end of a Unix connection may have been meant as a RST; as with TCP, that is told once."""
        cut = None if self.servertest_guise is None else self.servertest_guise.cut
        if cut is not None and cut[0]:
            cut[0] = 0
            raise system_error("ECONNRESET")

    # -- its life

    def dup(self) -> FaultySocket:
        """Duplicate; the connection has ended when both are closed."""
        guise = self.servertest_guise
        double = type(self)(
            super(socket.socket, self).family, self.type, super(socket.socket, self).proto, _dup(self)
        )
        double.settimeout(self.gettimeout())
        vars(double).update(vars(self))
        if guise is not None:
            guise.holders += 1
        return double

    def detach(self) -> int:
        """Let go of the descriptor. Faults stay on what passes; those of the calls are no more."""
        self.servertest_calls = CallFaults()
        return super().detach()

    def _real_close(self, *args: Any) -> None:
        open_before = self.fileno() >= 0
        super()._real_close(*args)  # type: ignore[misc]
        if open_before and self.servertest_guise is not None:
            self.servertest_guise.closed()

    def __del__(self) -> None:
        open_before = self.fileno() >= 0
        super().__del__()  # type: ignore[misc]
        if open_before and self.servertest_guise is not None:
            self.servertest_guise.closed()


class _Disguised:
    """What a TLS socket on a faulty one says of itself; mixed in before its class."""

    servertest_guise: Guise

    def getsockname(self) -> Any:
        """The real socket's own address."""
        super().getsockname()  # type: ignore[misc]  # raises if it is closed
        return self.servertest_guise.here

    def getpeername(self) -> Any:
        """The real peer's address."""
        super().getpeername()  # type: ignore[misc]  # raises if it is closed, or cut off
        return self.servertest_guise.there

    def _real_close(self, *args: Any) -> None:
        open_before = self.fileno() >= 0  # type: ignore[attr-defined]
        super()._real_close(*args)  # type: ignore[misc]
        if open_before:
            self.servertest_guise.closed()


def disguise(sock: socket.socket, plain: socket.socket) -> None:
    """Let a socket that has taken the descriptor of a faulty one over (TLS does that) answer as that one did."""
    guise = getattr(plain, "servertest_guise", None)
    if guise is not None and hasattr(sock, "__dict__"):
        kind = type(sock)
        sock.__class__ = type(f"Faulty{kind.__name__}", (_Disguised, kind), {"__module__": __name__})
        vars(sock)["servertest_guise"] = guise


def _dup(sock: socket.socket) -> int:
    return socket.dup(sock.fileno())


def between(
    relay: Relay,
    real: socket.socket,
    begin: Callable[[FaultyConnection], None],
    *,
    side: Side,
    seed: int | str,
    number: int,
    tell: Tell,
    on_end: Callable[[Any], object],
) -> FaultySocket:
    """Put a way with faults between a real connected socket, which belongs to the relay from now on, and the one returned.

    Args:
        relay: Carries it.
        real: The real socket.
        begin: Is called in the relay's thread, and lets the connection begin with its faults.
        side: Whose socket it is.
        seed: Where random numbers come from.
        number: The connection's number, from 1.
        tell: Is told each decision.
        on_end: Is called when the connection has ended.
    """
    timeout = real.gettimeout()
    guise = Guise(real)
    outer, inner = private_pair(real.family)
    made = FaultySocket(outer.family, outer.type, outer.proto, outer.detach())
    made.settimeout(timeout)
    taken = socket.socket(real.family, real.type, real.proto, real.detach())
    guise.cut = inner.cut

    def start() -> FaultyConnection:
        other: Side = "client" if side == "server" else "server"
        home = Leg(inner, side, None, 0)
        away = Leg(taken, other, None, 0)
        connection = FaultyConnection(relay, home, away, seed=seed, number=number, tell=tell, on_end=on_end)
        relay.add(connection)
        try:
            begin(connection)
        except BaseException:
            relay.forget(connection)
            raise
        return connection

    try:
        guise.connection = relay.call(start)
    except BaseException:
        for sock in (made, inner, taken):
            sock.close()
        raise
    made.servertest_guise = guise
    return made
