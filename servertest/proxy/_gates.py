"""Where clients come in: connections that are accepted, and datagrams that are told apart by their senders."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import OrderedDict
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._support import format_address
from ..wire._relay_datagrams import DatagramEnd, RelayedPeer
from ..wire._relay_leg import make_prompt
from ..wire._relay_poller import ENDED, READABLE, WRITABLE

if TYPE_CHECKING:
    from ._door import Door
    from ._traffic import Traffic

__all__ = ("DatagramGate", "StreamGate")

#: Clients or datagrams taken in one go, so that what is open already is not kept waiting.
_TURN = 32

#: Clients who may have come and wait to be taken.
_QUEUE = 1024

#: Seconds to wait for descriptors when the process has none left.
_PAUSE = 0.05

_WAIT = (BlockingIOError, InterruptedError, ConnectionAbortedError)


class StreamGate:
    """Accepts connections for a link. Lives in the relay's thread."""

    def __init__(self, door: Door, traffic: Traffic, sock: socket.socket) -> None:
        self._door = door
        self._traffic = traffic
        self._sock = sock
        self.readable = True
        self.writable = True
        self.timer_at: float | None = None
        self._open = True
        self._closing = False
        make_prompt(sock)  # what is accepted inherits it
        traffic.relay.watch(sock.fileno(), self)
        self.pump()

    def ready(self, events: int) -> None:
        """Somebody has come."""
        self.readable = True
        self.pump()

    def due(self, now: float) -> None:
        """There may be descriptors again, or a fault that lets clients wait does so no longer."""
        self.readable = True
        self.pump()

    def failed(self, error: Exception) -> None:
        """Accepting has raised."""
        self._traffic.failed(error)

    def pump(self) -> None:
        """Take those who have come."""
        for _ in range(_TURN):
            if not (self._open and self.readable):
                return
            try:
                reason = self._look_at_faults() if self._door.accepting and not self._closing else None
                if self.readable:
                    self._take(reason)
            except _WAIT:
                self.readable = False
            except OSError as error:
                self.readable = False
                self._pause(error)
        self._traffic.relay.again(self)

    def take_all(self) -> None:
        """Take all who have come by now, before it is closed: no fault hits them any more. Hardly more than a queue can hold."""
        self._closing = True
        self.readable = True
        for _ in range(_QUEUE // _TURN):
            if self.readable:
                self.pump()

    def _take(self, reason: str | None) -> None:
        sock, address = self._sock.accept()
        accepting = self._door.accepting
        decided = accepting.take_decided() if accepting else ()
        if reason is None:
            self._traffic.accepted(sock, address, decided)
        else:
            self._traffic.turned_away(sock, address, reason, decided)

    def _look_at_faults(self) -> str | None:
        """Why the next client is to be turned away; None if it is not. It is not taken now if nothing is `readable` after this.

        Raises:
            OSError: The call is to fail; the client stays in the queue.
        """
        if not _somebody_has_come(self._sock):
            self.readable = False
            return None
        now = monotonic()
        when, error = self._door.accepting.fate(now)
        if when > now:
            self.readable = False
            if when != inf:
                self._traffic.relay.call_at(when, self)
            return None
        reason = self._door.accepting.go_on(error, now)
        self._door.set_backlog()
        if error is not None and reason is None:
            number = getattr(errno, error)
            raise OSError(number, os.strerror(number))
        return reason

    def close(self) -> None:
        """Accept nobody any more. The socket stays open."""
        self._open = False
        self.timer_at = None
        self._traffic.relay.unwatch(self._sock.fileno(), self, stays_open=True)

    def _pause(self, error: OSError) -> None:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            raise error
        self._traffic.note(0, f"no connection can be accepted: {error}")
        self._traffic.relay.call_at(monotonic() + _PAUSE, self)


def _somebody_has_come(sock: socket.socket) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class DatagramGate:
    """Takes datagrams for a link, and keeps a socket towards the server for each sender."""

    def __init__(self, traffic: Traffic, sock: socket.socket) -> None:
        self._traffic = traffic
        self._sock = sock
        self.readable = True
        self.writable = True
        self.timer_at: float | None = None
        self._open = True
        self._peers: OrderedDict[Any, RelayedPeer] = OrderedDict()
        traffic.relay.watch(sock.fileno(), self)
        self.pump()

    def ready(self, events: int) -> None:
        """Datagrams have come, or can be sent."""
        if events & WRITABLE:
            for peer in list(self._peers.values()):
                if peer.downstream.pending:
                    peer.downstream.flush()
        if events & (READABLE | ENDED):
            self.readable = True
            self.pump()

    def due(self, now: float) -> None:
        """Look for peers that have been idle for too long, or go on where a peer could take no more."""
        self._forget_idle(now)
        self.pump()

    def failed(self, error: Exception) -> None:
        """Taking datagrams has raised."""
        self._traffic.failed(error)

    def pump(self) -> None:
        """Take the datagrams that have come."""
        room = self._traffic.relay.room
        for _ in range(_TURN):
            if not (self._open and self.readable):
                return
            try:
                size, address = self._sock.recvfrom_into(room)
            except _WAIT:
                self.readable = False
            except ConnectionRefusedError:
                pass  # the answer to a datagram that was sent before, to a client that is gone
            else:
                self._take(bytes(room[:size]), address)
        self._traffic.relay.again(self)

    def close(self) -> None:
        """Take nothing any more. The socket stays open."""
        self._open = False
        self.timer_at = None
        self._traffic.relay.unwatch(self._sock.fileno(), self, stays_open=True)

    def take_all(self) -> None:
        """Take what has come by now, though hardly more than a queue can hold."""
        self.readable = True
        for _ in range(_QUEUE // _TURN):
            if self.readable:
                self.pump()

    def forget(self, peer: RelayedPeer) -> None:
        """This one has ended."""
        key = _key(peer.client.address)
        if self._peers.get(key) is peer:
            del self._peers[key]

    def _take(self, data: bytes, address: Any) -> None:
        key = _key(address)
        peer = self._peers.get(key)
        if peer is None:
            peer = self._enter(key, address)
            if peer is None:
                return
        self._peers.move_to_end(key)
        try:
            peer.upstream.put(data)
        except Exception as error:  # noqa: BLE001 - a trigger's own function; this peer's, not everybody's
            peer.fail(error)

    def _enter(self, key: Any, address: Any) -> RelayedPeer | None:
        settings = self._traffic.settings
        while len(self._peers) >= settings.max_peers:
            next(iter(self._peers.values())).close()
        try:
            far = self._traffic.upstream_socket()
        except OSError as error:
            self._traffic.note(0, f"a datagram from {format_address(address)} was lost: {error}")
            return None
        client = DatagramEnd(
            self._sock, self._traffic.transcript, address or "", shared=True, address=address
        )
        server = DatagramEnd(far, self._traffic.upstream_transcript, far.getsockname())
        self._peers[key] = peer = self._traffic.peer_came(client, server, address, self.forget)
        if self.timer_at is None:
            self._traffic.relay.call_at(monotonic() + settings.idle_timeout, self)
        return peer

    def _forget_idle(self, now: float) -> None:
        limit = self._traffic.settings.idle_timeout
        for peer in list(self._peers.values()):
            if now - peer.last >= limit:
                peer.close()
        if self._peers:
            oldest = min(peer.last for peer in self._peers.values())
            self._traffic.relay.call_at(oldest + limit, self)


def _key(address: Any) -> Any:
    return address or None
