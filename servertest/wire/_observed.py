"""Putting sockets under observation."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from .._support import UsageError
from ._datagrams import ObservedDatagramSocket
from ._observation import Observation
from ._observing import UNOBSERVED, Observing, ObservingThrough

if TYPE_CHECKING:
    import ssl

    from ..transcript import Recorder, Side

__all__ = (
    "ObservedListener",
    "ObservedSocket",
    "observe",
    "observe_context",
    "observe_listener",
    "observed_number",
)

# At run time it may not be a socket itself: the layout of a mixed class must be that of the socket class alone.
if TYPE_CHECKING:
    _Mixin = socket.socket
else:
    _Mixin = object

_Socket = TypeVar("_Socket", bound=socket.socket)


class ObservedSocket(Observing, socket.socket):
    """A `socket.socket` that writes down what passes; made by `observe`."""

    __slots__ = ("servertest_observation",)

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        self.servertest_observation = UNOBSERVED
        super().__init__(family, type, proto, fileno)


def observe(sock: socket.socket, recorder: Recorder, number: int, *, side: Side = "server") -> socket.socket:
    """Record everything that passes through a connected stream socket.

    Use the socket that is returned; a plain ``socket.socket`` that was given is detached and empty afterwards. An
    instance of a subclass, such as `ssl.SSLSocket`, stays the same object and changes its class to a subclass of its
    own. Of TLS, the plain text is recorded.

    Args:
        sock: A connected stream socket.
        recorder: A `Transcript`, or what stands for one in another process.
        number: The connection's number, from ``recorder.connect()``.
        side: The side that this socket is on.

    Returns:
        A socket that behaves as the given one does.

    Raises:
        UsageError: The socket is observed already, is of another transport, or is no real socket.
    """
    _check(sock)
    if type(sock) is socket.socket:
        observed: Observing = _taken_over(sock, ObservedSocket)
    else:
        observed = _turned_into(sock, _observing_class(type(sock)))
    observed.servertest_observation = Observation(recorder, number, side)
    return observed


def observe_listener(listener: socket.socket, recorder: Recorder) -> socket.socket:
    """Record every connection that is accepted from a listening stream socket.

    Use the socket that is returned, as with `observe`. It can be handed to anything that calls ``accept()``, such as
    a plain function, a server class that adopts sockets, or an asyncio server.

    Args:
        listener: A listening stream socket.
        recorder: A `Transcript`, or what stands for one in another process.

    Returns:
        A listening socket whose ``accept()`` returns observed sockets.

    Raises:
        UsageError: The socket is of another transport, or is no real socket.
    """
    _check(listener)
    if type(listener) is socket.socket:
        observed: Listening = _taken_over(listener, ObservedListener)
    else:
        observed = _turned_into(listener, _subclass(Listening, type(listener)))
    observed.servertest_recorder = recorder
    return observed


def observe_context(context: ssl.SSLContext) -> None:
    """Keep up the observation of sockets that this context wraps in TLS: their plain text is recorded from then on.

    Otherwise the observation ends when an observed socket is wrapped, as the TLS socket takes its descriptor away.
    """
    from ._observing_tls import ObservingTls

    if not issubclass(context.sslsocket_class, ObservingTls):
        context.sslsocket_class = _observing_class(context.sslsocket_class)


def observed_number(sock: object, address: Any = None) -> int | None:
    """The number under which a socket's connection is recorded; None if it is not observed.

    Args:
        sock: Any socket.
        address: The peer, where the socket is one for datagrams.
    """
    if isinstance(sock, ObservedDatagramSocket):
        return sock.peers.number(address)
    if isinstance(sock, Observing) and sock.servertest_observation is not UNOBSERVED:
        return sock.servertest_observation.number
    return None


class Listening(_Mixin):
    """A listening socket that puts what it accepts under observation; see `ObservedListener`."""

    if not TYPE_CHECKING:
        __slots__ = ()

    servertest_recorder: Recorder

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept, and record that."""
        connection, client = super().accept()
        recorder = self.servertest_recorder
        return observe(connection, recorder, recorder.connect(client, _own_name(connection))), client


class ObservedListener(Listening, socket.socket):
    """A `socket.socket` that records what it accepts; made by `observe_listener`."""

    __slots__ = ("servertest_recorder",)


def _check(sock: socket.socket) -> None:
    if not isinstance(sock, socket.socket):
        raise UsageError(f"only real sockets can be observed, and this is a {type(sock).__qualname__}")
    if super(socket.socket, sock).type != socket.SOCK_STREAM:
        raise UsageError("observe() is for stream sockets: use observe_datagrams() for this one")
    number = observed_number(sock)
    if number is not None:
        raise UsageError(f"the socket is observed already, as connection {number}")


def _taken_over(sock: socket.socket, kind: type[_Socket]) -> _Socket:
    """A socket of that class on the descriptor of this one, which loses it."""
    timeout = sock.gettimeout()
    # Past the properties that look up the enumerations' members each time.
    family, type_ = super(socket.socket, sock).family, super(socket.socket, sock).type
    taken = kind(family, type_, sock.proto, sock.detach())
    taken.settimeout(timeout)
    return taken


def _turned_into(sock: socket.socket, kind: type[_Socket]) -> _Socket:
    """The same object, as an instance of a subclass of its class."""
    if not hasattr(sock, "__dict__"):
        raise UsageError(f"{type(sock).__qualname__} has __slots__ only: it cannot hold what observes it")
    sock.__class__ = kind
    assert isinstance(sock, kind)
    return sock


def _observing_class(kind: type[socket.socket]) -> type[Any]:
    """A subclass of a socket class whose instances can be observed."""
    # A TLS socket cannot exist before its module is loaded, and most programs need not load it.
    if "ssl" in sys.modules:
        from ._observing_tls import ObservingTls

        if issubclass(kind, sys.modules["ssl"].SSLSocket):
            return _subclass(ObservingTls, kind)
    return _subclass(Observing if kind.sendall is socket.socket.sendall else ObservingThrough, kind)


def _subclass(first: type[socket.socket], second: type[socket.socket]) -> type[Any]:
    made = _subclasses.get((first, second))
    if made is None:
        made = type(f"Observed{second.__name__}", (first, second), {"__module__": __name__})
        _subclasses[first, second] = made
    return made


_subclasses: dict[tuple[type, type], type] = {}


def _own_name(sock: socket.socket) -> Any:
    try:
        return sock.getsockname()
    except OSError:
        # Some systems take the name away when the client has reset the connection while it was queued.
        return None
