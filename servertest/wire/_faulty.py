"""Faults on a socket in the user's hands."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ..faults import plan as to_plan
from ..faults._listener_faults import refuse_refusal, refuse_what_needs_a_server
from ._faulty_datagrams import FaultyDatagramSocket
from ._faulty_driver import FaultDriver, require_socket
from ._faulty_numbers import Numbers
from ._faulty_stream import FaultySocket

if TYPE_CHECKING:
    from ..faults import Decision, Faults, Plan
    from ..transcript import Side

__all__ = ("change_faults", "faulty")

if TYPE_CHECKING:
    _Mixin = socket.socket
else:
    _Mixin = object


class FaultyListening(_Mixin):
    """A listening socket that may fail to accept, and puts behind faults what it accepts."""

    if not TYPE_CHECKING:
        __slots__ = ()

    servertest_driver: FaultDriver

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept, if that is let happen."""
        return self.servertest_driver.accept(self, super().accept)

    def close(self) -> None:
        """Close; where nobody else does, this lets arrive what the accepted connections have sent."""
        super().close()
        after_close = self.servertest_driver.after_close
        if after_close is not None and self.fileno() < 0:
            after_close()


def faulty(
    sock: socket.socket,
    faults: Faults,
    *,
    seed: int | str = 0,
    side: Side = "server",
    connection: int = 1,
    trace: Callable[[Decision], None] | None = None,
) -> socket.socket:
    """Put a socket behind faults.

    Use the socket that is returned; the given one is detached and empty afterwards. It has a real descriptor: ``select``,
    ``makefile()``, ``dup()``, ``sendfile()``, asyncio (``sock=``) and TLS on top work as before, and it answers
    ``getpeername()``, ``getsockname()``, ``family`` as the given one would. Half-close is kept, RST is a RST, and
    what was sent before it is closed arrives, unless a fault says otherwise.

    Faults of what passes work on connected stream sockets and on datagram sockets (where each peer counts as a
    connection); those of calls, and `Refuse`, also on sockets that are not connected yet; those of listeners on listening ones,
    where the others then work on each connection that is accepted. `change_faults` changes them later.

    Args:
        sock: A real socket that speaks no TLS yet.
        faults: Faults joined with ``|``, or their text.
        seed: Where random numbers come from; the same seed gives the same decisions.
        side: On which side the socket is: "server", so that what it receives is upstream; or "client".
        connection: The number that the connection has for triggers and random numbers, from 1.
        trace: Is told each decision, such as a `Trace`.

    Raises:
        UsageError: A fault cannot work there; the message says why.
    """
    require_socket(sock)
    wanted = to_plan(faults)
    if sock.type == socket.SOCK_DGRAM:
        return _datagrams(sock, wanted, seed, side, connection, trace)
    if sock.type != socket.SOCK_STREAM:
        raise UsageError(f"faulty: the socket is neither for a stream nor for datagrams: {sock!r}")
    return _stream(sock, wanted, seed, side, connection, trace)


def change_faults(sock: socket.socket, faults: Faults) -> None:
    """Put other faults in the place of those of a socket that `faulty` has returned. None heals it.

    When this returns they are at work. What those before had held goes on at once, and nothing is lost.

    Args:
        sock: The faulty socket.
        faults: The faults.

    Raises:
        UsageError: The socket has none, or they cannot work there.
    """
    driver = getattr(sock, "servertest_driver", None)
    if driver is None:
        raise UsageError(f"change_faults: this is no socket that faulty() has made: {sock!r}")
    wanted = to_plan(faults)
    ends = getattr(sock, "servertest_guise", None) or getattr(sock, "servertest_hub", None)
    if isinstance(sock, FaultyListening):
        _refuse_what_a_listener_cannot(wanted)
    elif ends is None:
        wanted.check(driver.transport, ("calls",))
    driver.put("", wanted)


def faults_on(sock: socket.socket) -> Plan:
    """What goes wrong on a socket that `faulty` has returned."""
    driver: FaultDriver = sock.servertest_driver  # type: ignore[attr-defined]
    return driver.plans[""]


def _stream(
    sock: socket.socket, faults: Plan, seed: int | str, side: Side, connection: int, trace: Any
) -> socket.socket:
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        driver = FaultDriver(faults, seed=seed, side=side, tell=trace, numbers=Numbers(connection))
        _refuse_what_a_listener_cannot(faults)
        return listening_behind(driver, sock)
    faults.check("stream", ("line", "calls"))
    driver = FaultDriver(faults, seed=seed, side=side, tell=trace)
    if _needs_relay(faults):
        _refuse_unconnected(sock)
        made: Any = driver.stream(sock, connection)
    else:
        _refuse_what_comes_too_late(sock, faults)
        made = _on_the_same_descriptor(sock, FaultySocket)
        made.servertest_calls = driver.calls_for(connection)
    made.servertest_driver = driver
    return made  # type: ignore[no-any-return]


def _datagrams(
    sock: socket.socket, faults: Plan, seed: int | str, side: Side, connection: int, trace: Any
) -> socket.socket:
    faults.check("datagram", ("line", "calls"))
    driver = FaultDriver(
        faults, seed=seed, side=side, transport="datagram", tell=trace, numbers=Numbers(connection)
    )
    if _needs_relay(faults):
        made: Any = driver.datagrams(sock)
    else:
        made = _on_the_same_descriptor(sock, FaultyDatagramSocket)
        made.servertest_calls = driver.calls_for(connection)
    made.servertest_driver = driver
    return made  # type: ignore[no-any-return]


def _needs_relay(faults: Plan) -> bool:
    """Whether something is to happen on the way; also if nothing is, for then it may be later."""
    return not faults or any(entry.fault.place == "line" for entry in faults)


def _on_the_same_descriptor(sock: socket.socket, kind: type[Any]) -> Any:
    timeout = sock.gettimeout()
    made = kind(sock.family, sock.type, sock.proto, sock.detach())
    made.settimeout(timeout)
    return made


def _refuse_unconnected(sock: socket.socket) -> None:
    try:
        sock.getpeername()
    except OSError as error:
        raise UsageError(
            f"faulty: these faults work on what passes, and the socket is not connected ({error.strerror}): "
            "connect it first"
        ) from error


def _refuse_what_comes_too_late(sock: socket.socket, faults: Plan) -> None:
    for entry in faults:
        if entry.fault.at_connect and entry.trigger is None and _is_connected(sock):
            raise UsageError(
                f"{type(entry.fault).__name__} cannot be done here: the socket is connected already: give it before connect()"
            )


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _refuse_what_a_listener_cannot(faults: Plan) -> None:
    refuse_what_needs_a_server(faults, "a socket")
    refuse_refusal(faults)


def listening_behind(driver: FaultDriver, listener: socket.socket) -> socket.socket:
    """The same listening socket, as an instance of a subclass that puts behind faults what it accepts."""
    kind = type(listener)
    listener.__class__ = type(
        f"Faulty{kind.__name__}",
        (FaultyListening, kind),
        {"__slots__": (), "__module__": __name__, "servertest_driver": driver},
    )
    driver.listener = listener
    driver.set_backlog()
    return listener
