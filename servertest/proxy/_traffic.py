"""Who passes through a link, from coming to end, and what is known of them."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._support import HandlerFailed, SocketDirectory, UsageError, family_of, hard_reset
from ..faults import Trace
from ..transcript import Connect, Transcript
from ..wire._relay_connection import RelayedConnection
from ..wire._relay_datagrams import RelayedPeer
from ._opening import Opening, open_connection
from ._record import STATES, LinkConnection
from ._settings import context_for_clients, context_for_server

if TYPE_CHECKING:
    from .._support import Address
    from ..faults import Decision
    from ..faults._standing import Standing
    from ..transcript import Direction
    from ..wire._relay import Relay
    from ..wire._relay_datagrams import DatagramEnd
    from ..wire._relay_leg import Leg
    from ..wire._relay_passage import Passage
    from ._record import State
    from ._settings import Settings

__all__ = ("Traffic",)

#: Connections that have ended and are remembered.
_REMEMBERED = 10_000


class Traffic:
    """Takes clients to the server, and keeps the books. Its methods are for the relay's thread; what it says may be read from any.

    Args:
        settings: What the link was asked for.
        relay: Carries everything.
        address: Where clients come in.
        standing: The faults at work, which somebody else changes.

    Attributes:
        transcript: What passes between clients and here; None if recording is off.
        upstream_transcript: What passes between here and the server.
        trace: What faults decide.
        errors: What has raised and should not.
        count: The number of the connection that came last.
        upstream_family: The family of the server's address.
        client_context: With what clients are answered; None where TLS passes.
        client_credential: What clients trust then, if that is known.
        server_context: With what the server is talked to; None without TLS.
        server_hostname: The name to check there.
    """

    def __init__(self, settings: Settings, relay: Relay, address: Address, standing: Standing) -> None:
        self.settings = settings
        self.relay = relay
        recording = settings.recording
        self.transcript = Transcript() if recording is True else recording or None
        self.upstream_transcript = (
            None if self.transcript is None else Transcript(started=self.transcript.started)
        )
        self.trace = Trace()
        self.errors: list[Exception] = []
        self.count = 0
        self.upstream_family = family_of(settings.upstream)
        self.client_context, self.client_credential = context_for_clients(settings, address)
        self.server_context, self.server_hostname = context_for_server(settings)
        self._address = address
        self._standing = standing
        self._excuse_at: Callable[[Any], object] | None = getattr(settings.server, "expect_cut", None)
        self._passed = [0, 0, 0, 0]  # on connections that have ended
        self._live: dict[int, LinkConnection] = {}
        self._ended: deque[LinkConnection] = deque(maxlen=_REMEMBERED)
        self._openings: set[Opening] = set()
        self._directory: SocketDirectory | None = None
        self._lock = threading.RLock()

    # -- what passed

    @property
    def connections(self) -> list[LinkConnection]:
        """See `Link.connections`."""
        with self._lock:
            known = [*self._ended, *self._live.values()]
        return sorted(known, key=lambda one: one.number)

    @property
    def passed(self) -> dict[Direction, tuple[int, int]]:
        """See `Link.passed`."""

        def count() -> list[int]:
            with self._lock:
                counts = [self._passed, *(record.count_passed() for record in self._live.values())]
            return [sum(column) for column in zip(*counts, strict=True)]

        try:
            # In the relay's thread, or bytes that have just been delivered might not be counted yet.
            sums = self.relay.call(count)
        except UsageError:
            sums = count()  # it was stopped
        return {"upstream": (sums[0], sums[1]), "downstream": (sums[2], sums[3])}

    # -- clients of streams

    def accepted(self, near: socket.socket, address: Any, decided: Iterable[str] = ()) -> None:
        """A client has come.

        Args:
            near: Its socket.
            address: Its address.
            decided: The faults that have decided on it already.
        """
        open_connection(self, near, self._enter(address, decided))

    def turned_away(self, near: socket.socket, address: Any, reason: str, decided: Iterable[str]) -> None:
        """A client has come, and a fault does not let it in."""
        self.not_opened(self._enter(address, decided), reason)
        hard_reset(near)

    def opening(self, opening: Opening) -> None:
        """A client has not got through at once."""
        self._openings.add(opening)
        opening.advance()

    def opened(
        self, record: LinkConnection, client: Leg, server: Leg, opening: Opening | None = None
    ) -> None:
        """A client has got through to the server."""
        if opening is not None:
            self._openings.discard(opening)
        if self.upstream_transcript is not None or self._excuse_at is not None:
            record.far = server.sock.getsockname()
        if record.hit is not None:
            self._excuse(record)
        if self.upstream_transcript is not None:
            made = Connect(self.upstream_transcript.now(), record.number, record.far, self.settings.upstream)
            self.upstream_transcript.add(made)
        connection = RelayedConnection(
            self.relay,
            client,
            server,
            seed=self.settings.seed,
            number=record.number,
            tell=self.tell,
            on_end=self._passage_ended,
            opened=record.opened,
        )
        self._carry(connection, record)

    def not_opened(self, record: LinkConnection, reason: str, opening: Opening | None = None) -> None:
        """A client has not got through."""
        if opening is not None:
            self._openings.discard(opening)
        if self.transcript is not None:
            self.transcript.note(record.number, reason)
            self.transcript.close(record.number, "server", "rst")
        self._end(record, "failed", reason)

    # -- peers that exchange datagrams

    def peer_came(
        self, client: DatagramEnd, server: DatagramEnd, address: Any, on_end: Callable[[RelayedPeer], object]
    ) -> RelayedPeer:
        """A datagram has come from somebody new."""
        record = self._enter(address, ())
        for transcript, end in ((self.transcript, client), (self.upstream_transcript, server)):
            if transcript is not None:
                transcript.name_peer(record.number, end.peer)

        def ended(peer: RelayedPeer) -> None:
            on_end(peer)
            self._passage_ended(peer)

        peer = RelayedPeer(
            self.relay,
            client,
            server,
            seed=self.settings.seed,
            number=record.number,
            tell=self.tell,
            on_end=ended,
        )
        self._carry(peer, record)
        return peer

    def upstream_socket(self) -> socket.socket:
        """A datagram socket that is connected to the server, and has a name to which it can answer."""
        sock = socket.socket(self.upstream_family, socket.SOCK_DGRAM)
        try:
            if self.upstream_family == getattr(socket, "AF_UNIX", None):
                sock.bind(self._upstream_name())
            sock.setblocking(False)
            sock.connect(self.settings.upstream)
        except BaseException:
            sock.close()
            raise
        return sock

    def _upstream_name(self) -> str:
        if os.path.exists("/proc/net/unix"):
            return ""  # the kernel picks a name
        if self._directory is None:
            self._directory = SocketDirectory()
        return self._directory.path()

    # -- all of them

    def each(self, change: Callable[[Any], object]) -> None:
        """Do this to whatever passes now."""
        for record in list(self._live.values()):
            passage = record.passage
            if passage is not None:
                try:
                    change(passage)
                except Exception as error:  # noqa: BLE001 - a trigger's own function
                    passage.fail(error)

    def cut(self, *, reset: bool) -> None:
        """End whatever passes now."""
        for opening in list(self._openings):
            opening.give_up(ConnectionAbortedError("the link goes down"))
        for record in list(self._live.values()):
            passage = record.passage
            if passage is not None:
                self._excuse(record)
                if reset:
                    passage.reset()
                else:
                    passage.force()

    def drain(self) -> threading.Event:
        """Carry what has arrived; the event comes when it has been taken."""
        self.each(lambda passage: passage.drain())
        passages = [record.passage for record in self._live.values()]
        busy = {one for one in passages if one is not None and not one.is_drained}
        drained = threading.Event()

        def settled(passage: Passage) -> None:
            busy.discard(passage)
            if not busy:
                drained.set()

        for passage in busy:
            passage.on_drained = settled
        if not busy:
            drained.set()
        return drained

    def close(self) -> None:
        """Give back what it holds, when nothing passes any more."""
        if self._directory is not None:
            self._directory.close()

    def expect_cut(self, address: Any) -> None:
        """See `Link.expect_cut`."""
        with self._lock:
            found = [record for record in self._live.values() if record.client == address]
        for record in found:
            self._excuse(record)

    # -- what is told

    def note(self, number: int, text: str) -> None:
        """Write a remark into the transcript."""
        if self.transcript is not None:
            self.transcript.note(number, text)

    def failed(self, error: Exception) -> None:
        """Something has raised that should not."""
        self.errors.append(error)
        self.note(0, f"{type(error).__name__}: {error}")

    def tell(self, decision: Decision) -> None:
        """A fault has decided something."""
        self.trace.add(decision)
        record = self._live.get(decision.connection)
        if record is not None:
            if record.hit is None:
                self._excuse(record)
            record.count(decision.fault)
        self._show(decision)
        self.note(decision.connection, f"{decision.fault}, {decision.direction}: {decision.what}")

    def take_complaint(self, link: object) -> str:
        """See `Link.take_complaint`."""
        errors, self.errors = self.errors, []
        lines = [f"{type(error).__name__}: {error}" for error in errors]
        return f"a fault or a trigger of {link} raised: {'; '.join(lines)}" if lines else ""

    def raise_errors(self, link: object) -> None:
        """Raise what has raised here.

        Raises:
            HandlerFailed: Something has.
        """
        first = self.errors[:1]
        if complaint := self.take_complaint(link):
            raise HandlerFailed(complaint) from first[0]

    # -- the books

    def _enter(self, address: Any, decided: Iterable[str]) -> LinkConnection:
        self.count += 1
        record = LinkConnection(self.count, address, monotonic())
        for fault in decided:
            record.count(fault)
        with self._lock:
            self._live[record.number] = record
        if self.settings.watch is not None:
            self._show(record)
        if self.transcript is not None and self.settings.transport == "stream":
            self.transcript.add(Connect(self.transcript.now(), record.number, address, self._address))
        return record

    def _carry(self, passage: Passage, record: LinkConnection) -> None:
        record.begin(passage)
        if self.settings.watch is not None:
            self._show(record)
        try:
            self.relay.carry(passage, self._standing.groups)
        except Exception as error:  # noqa: BLE001 - a trigger's own function: for `stop`, not for others' connections
            if passage.error is not error:  # else its end has told of it
                self._excuse(record)
                self.failed(error)

    def _show(self, event: LinkConnection | Decision) -> None:
        if self.settings.watch is not None:
            self.settings.watch(event)

    def _excuse(self, record: LinkConnection) -> None:
        """The server is not to blame for what becomes of this connection."""
        if self._excuse_at is not None and record.far is not None:
            self._excuse_at(record.far)

    def _passage_ended(self, passage: Passage) -> None:
        record = self._live.get(passage.number)
        if passage.error is not None:
            if record is not None:
                self._excuse(record)
            self.failed(passage.error)
        if record is not None:
            self._end(record, STATES[passage.end or "reset"])

    def _end(self, record: LinkConnection, state: State, reason: str = "") -> None:
        record.end(state, monotonic(), reason)
        totals = self._passed
        with self._lock:
            self._live.pop(record.number, None)
            self._ended.append(record)
            for way, size in enumerate(record.count_passed()):
                totals[way] += size
        if self.settings.watch is not None:
            self._show(record)
