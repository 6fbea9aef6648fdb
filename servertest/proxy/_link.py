"""A link: one address that leads to one server, and everything that can go wrong on the way."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._support import HandlerFailed, SocketDirectory, UsageError, family_of, format_address, hard_reset
from ..faults import History, Trace, derived_seed, plan
from ..faults._standing import Standing
from ..transcript import Connect, Transcript
from ..wire._relay_connection import RelayedConnection
from ..wire._relay_datagrams import RelayedPeer
from ._accepting import Accepting, check_faults
from ._gates import DatagramGate, StreamGate
from ._listening import Place
from ._opening import Opening
from ._record import STATES, LinkConnection
from ._settings import context_for_clients, context_for_server

if TYPE_CHECKING:
    from .._support import Address, Transport
    from ..faults import Decision, Faults, Plan
    from ..transcript import Direction
    from ..wire._relay import Relay
    from ..wire._relay_datagrams import DatagramEnd
    from ..wire._relay_leg import Leg
    from ._record import State
    from ._settings import Settings

__all__ = ("Link",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

#: Connections that have ended and are remembered.
_REMEMBERED = 10_000

#: Clients with faults whose histories are kept.
_HISTORIES = 100

#: Seconds that `Link.stop` gives those who have not yet taken what has come for them.
_DRAINING = 0.5

#: Where to reach a link that listens on all addresses.
_REACHABLE = {"::": "::1", "0.0.0.0": "127.0.0.1"}  # noqa: S104 - looked up, not bound


class Link:
    """One address that leads to one server, from its making to `stop`. As a context manager it is stopped at the end of the block.

    Made by `Proxy.link` or `link`. May be used from any thread.

    Attributes:
        settings: What it was asked for.
        seed: Where random numbers come from; give it again to have the same.
        transcript: What passed between clients and here; None if recording is off.
        upstream_transcript: What passed between here and the server. Connections have the same numbers in both.
        trace: What the faults decided.
    """

    def __init__(self, settings: Settings, relay: Relay, on_stop: Callable[[Link], object]) -> None:
        self.settings = settings
        self.seed = settings.seed
        self.relay = relay
        recording = settings.recording
        self.transcript: Transcript | None = Transcript() if recording else None
        self.upstream_transcript: Transcript | None = (
            Transcript(started=self.transcript.started) if self.transcript else None
        )
        self.trace = Trace()
        self._started = monotonic()
        self._client_histories: deque[History] = deque(maxlen=_HISTORIES)
        self.errors: list[Exception] = []
        self._on_stop = on_stop
        self._standing = Standing()
        self._standing.add("", settings.faults)
        self._count = 0
        self._passed = [0, 0, 0, 0]  # on connections that have ended
        self._live: dict[int, LinkConnection] = {}
        self._ended: deque[LinkConnection] = deque(maxlen=_REMEMBERED)
        self._openings: set[Opening] = set()
        self._clients: list[Any] = []
        self._faulty_clients = itertools.count(1)
        self._directory: SocketDirectory | None = None
        self._lock = threading.RLock()
        self._stopped = False
        self._down = not settings.up
        self.accepting = Accepting(self.seed, lambda: self._count, self._tell)
        self._gate: StreamGate | DatagramGate | None = None
        self.upstream_family = family_of(settings.upstream)
        self._place = Place(settings.transport, settings.family, settings.listen)
        try:
            self.client_context, self._client_credential = context_for_clients(settings, self._place.address)
            self.server_context, self.server_hostname = context_for_server(settings)
            relay.call(self._begin)
        except BaseException:
            self._place.close()
            raise

    # -- where it is

    @property
    def address(self) -> Address:
        """Where clients reach it: a pair, a path, or an abstract name."""
        address = self._place.address
        if isinstance(address, tuple) and address[0] in _REACHABLE:
            return (_REACHABLE[address[0]], *address[1:])
        return address

    @property
    def host(self) -> str:
        """The host of its address.

        Raises:
            UsageError: It has none: it is a Unix socket.
        """
        return str(self._inet("host")[0])

    @property
    def port(self) -> int:
        """The port of its address.

        Raises:
            UsageError: It has none: it is a Unix socket.
        """
        return int(self._inet("port")[1])

    @property
    def path(self) -> str:
        """The path of its Unix socket.

        Raises:
            UsageError: It has none: it is not a Unix socket, or an abstract one.
        """
        address = self.address
        if isinstance(address, tuple) or os.fsencode(address)[:1] == b"\0":
            raise UsageError(f"{self} has no path; its address is {format_address(address)}")
        return os.fsdecode(address)

    def _inet(self, what: str) -> tuple[Any, ...]:
        address = self.address
        if not isinstance(address, tuple):
            raise UsageError(f"{self} has no {what}; its address is {format_address(address)}")
        return address

    @property
    def upstream(self) -> Address:
        """Where the server is."""
        return self.settings.upstream

    @property
    def transport(self) -> Transport:
        """What passes: "stream" or "datagram"."""
        return self.settings.transport

    @property
    def running(self) -> bool:
        """Whether it was not stopped."""
        return not self._stopped

    @property
    def is_up(self) -> bool:
        """Whether it takes clients: it is neither down nor stopped, and no `Refuse` is at work."""
        return self._gate is not None

    def __repr__(self) -> str:
        faults = self._standing.plan
        through = f" through {faults!r}" if faults else ""
        state = ", stopped" if self._stopped else "" if self.is_up else ", down"
        return f"<{self}{through}, seed {self.seed!r}{state}>"

    def __str__(self) -> str:
        return f"Link from {format_address(self.address)} to {format_address(self.upstream)}"

    # -- what passed

    @property
    def connections(self) -> list[LinkConnection]:
        """All connections in the order in which clients came, the last ten thousand of those that have ended included."""
        with self._lock:
            known = [*self._ended, *self._live.values()]
        return sorted(known, key=lambda one: one.number)

    @property
    def hits(self) -> Counter[str]:
        """How many decisions each fault has made, by its name in the plan. `trace` has which connection, when and what."""
        return self.trace.counts

    @property
    def passed(self) -> dict[Direction, tuple[int, int]]:
        """Bytes received and delivered each way, on all connections that there ever were."""

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

    @property
    def histories(self) -> list[History]:
        """Faults, seed and what was decided: here, and around the last hundred clients of `connect` that have faults of their own."""
        return [
            History("link", self.settings.faults, self.seed, self.trace, self._started),
            *self._client_histories,
        ]

    # -- faults

    @property
    def plan(self) -> Plan:
        """The faults that are at work, in the order in which bytes meet them."""
        return self._standing.plan

    @property
    def fault_groups(self) -> dict[str, Plan]:
        """The same by the keys under which they were added; those from the beginning are under ""."""
        with self._lock:
            return {key: group for key, group in self._standing if group or key}

    def add(self, faults: Faults, *, key: str | None = None) -> str:
        """Let faults be at work from now on, behind the others: on all connections, also those that exist.

        No byte that is on its way is lost by that, nor by a change or a removal.

        Args:
            faults: The faults.
            key: A name for `update` and `remove`; made up if left out.

        Returns:
            The key.

        Raises:
            UsageError: A fault cannot be at work here, the key is taken, or the link was stopped.
        """
        wanted = self._checked(faults)

        def add() -> str:
            name, group = self._standing.add(key, wanted)
            self._accept_through(name, group)
            self._each(lambda passage: passage.add_faults(name, group))
            return name

        return self.relay.call(add)

    def update(self, key: str, faults: Faults) -> None:
        """Put other faults in the place of those. A fault that is the same goes on as it was.

        Raises:
            UsageError: A fault cannot be at work here, there are none under this key, or the link was stopped.
        """
        wanted = self._checked(faults)

        def update() -> None:
            group = self._standing.replace(key, wanted)
            self._accept_through(key, group)
            self._each(lambda passage: passage.replace_faults(key, group))

        self.relay.call(update)

    def remove(self, key: str) -> None:
        """Take faults away; what they held goes on at once.

        Raises:
            UsageError: There are none under this key, or the link was stopped.
        """

        def remove() -> None:
            self._standing.remove(key)
            self._accept_through(key, None)
            self._each(lambda passage: passage.remove_faults(key))

        self.relay.call(remove)

    def set(self, faults: Faults = None) -> None:
        """Let these faults be at work, and no others: those from the beginning and all that were added are taken away.

        Raises:
            UsageError: A fault cannot be at work here, or the link was stopped.
        """
        wanted = self._checked(faults)

        def exchange() -> None:
            others = [key for key, _ in self._standing if key]
            for key in others:
                self._standing.remove(key)
                self._accept_through(key, None)
            group = (
                self._standing.replace("", wanted)
                if "" in self._standing.groups
                else self._standing.add("", wanted)[1]
            )
            self._accept_through("", group)

            def apply(passage: RelayedConnection | RelayedPeer) -> None:
                for key in others:
                    passage.remove_faults(key)
                passage.replace_faults("", group)

            self._each(apply)

        self.relay.call(exchange)

    @contextlib.contextmanager
    def faults(self, faults: Faults) -> Iterator[Self]:
        """A block in which these faults are at work, too.

        Raises:
            UsageError: A fault cannot be at work here, or the link was stopped.
        """
        key = self.add(faults)
        try:
            yield self
        finally:
            if self.running and key in self._standing.groups:
                self.remove(key)

    def _checked(self, faults: Faults) -> Plan:
        wanted = plan(faults)
        check_faults(wanted, self.transport)
        return wanted

    def _accept_through(self, key: str, group: Plan | None) -> None:
        """Let the faults of this group that work where connections are accepted be these."""
        self.accepting.put(key, group, monotonic())
        self._settle()

    def _each(self, change: Callable[[Any], object]) -> None:
        for record in list(self._live.values()):
            passage = record.passage
            if passage is not None:
                try:
                    change(passage)
                except Exception as error:  # noqa: BLE001 - a trigger's own function
                    passage.fail(error)

    # -- down and up

    @contextlib.contextmanager
    def down(self, *, reset: bool = False) -> Iterator[Self]:
        """A block in which clients are refused; those that are connected are cut off. The address stays taken.

        Args:
            reset: Whether those who are connected get RST instead of FIN.
        """
        was_up = not self._down
        self.disable(reset=reset)
        try:
            yield self
        finally:
            if was_up and self.running:
                self.enable()

    def disable(self, *, reset: bool = False) -> None:
        """Go down until `enable`; see `down`. Nothing happens if it is down."""

        def disable() -> None:
            self._down = True
            self._settle()
            self._cut(reset=reset)

        self.relay.call(disable)

    def enable(self) -> None:
        """Come up again on the same address. Nothing happens if it is up."""

        def enable() -> None:
            self._down = False
            self._settle()

        self.relay.call(enable)

    def _begin(self) -> None:
        for key, group in self._standing:
            self.accepting.put(key, group, monotonic())
        if self._down or self.accepting.refuses:
            self._place.down()
        else:
            self._open_gate()
            self.set_backlog()

    def _settle(self) -> None:
        """Take clients, or do not, as faults and `disable` have it."""
        if self._stopped:
            return
        gate = self._gate
        if self._down or self.accepting.refuses:
            if isinstance(gate, StreamGate) and not (self._down or self.accepting.hesitates):
                gate.take_all()  # they are connected, as far as they know
            self._close_gate()
            self._place.down()
        elif gate is None:
            self._place.up()
            self._open_gate()
        elif isinstance(gate, StreamGate):
            gate.due(monotonic())  # who was let wait may come in now
        self.set_backlog()

    def set_backlog(self) -> None:
        """Let the queue of clients be as long as faults let it be."""
        if self.transport == "stream":
            self._place.set_backlog(self.accepting.backlog)

    def _open_gate(self) -> None:
        sock = self._place.sock
        assert sock is not None
        self._gate = (StreamGate if self.transport == "stream" else DatagramGate)(self, sock)

    def _close_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.close()

    def _cut(self, *, reset: bool) -> None:
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

    # -- clients

    def connect(self, **options: Any) -> Any:
        """A client that is connected to it: a `StreamClient`, or a `DatagramClient` if datagrams pass here.

        With TLS it trusts the certificate of whoever it gets to talk to: the link's, if the client's side of TLS ends here,
        else the server's. A client that is still open at `stop` is closed then.

        Args:
            options: As for the client's own ``connect``: timeout, source, tls, server_hostname, ... With ``faults`` the network
                is bad for this client alone; those that have faults are numbered from 1, with a seed made of the link's.
        """
        from ..clients import connect

        settings = self._client_options(options)
        client = connect(self.address, transport=self.transport, **settings)
        self._clients = [one for one in self._clients if not one.closed]
        self._clients.append(client)
        self._remember_faults(client, settings)
        return client

    async def connect_async(self, **options: Any) -> Any:
        """As `connect`, for asyncio; the test has to close the client."""
        from ..clients import connect_async

        settings = self._client_options(options)
        client = await connect_async(self.address, transport=self.transport, **settings)
        self._remember_faults(client, settings)
        return client

    def _remember_faults(self, client: Any, settings: dict[str, Any]) -> None:
        if settings.get("faults") is not None:
            who, faults = f"client {settings['connection']}", plan(settings["faults"])
            self._client_histories.append(History(who, faults, settings["seed"], client.hits, self._started))

    def _client_options(self, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("faults") is not None:
            number = next(self._faulty_clients)
            options = {"seed": derived_seed(self.seed, "clients"), "connection": number, **options}
        if "tls" in options:
            return options
        from ..tls import hostname_for

        server = self.settings.server
        if self._client_credential is not None:
            context, name = self._client_credential.client_context(), hostname_for(self.address)
        elif self.server_context is None and getattr(getattr(server, "kind", None), "tls", None):
            context, name = server.client_context(), hostname_for(server.address)
        else:
            return options
        return {"tls": context, "server_hostname": name, **options}

    # -- its end

    def stop(self, timeout: float | None = None) -> None:
        """Stop it: nobody is taken any more, connections see end of file, the address is free. The second time nothing happens.

        What has arrived here by then still goes on, the FIN or RST behind it included, unless a fault holds it; a side that does not
        read gets half a second for it.

        Args:
            timeout: Seconds, instead of those of its settings.

        Raises:
            StillRunning: The relay's thread does not end; the message says what it is doing.
            HandlerFailed: A trigger, or a fault of one's own, has raised.
        """
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        try:
            if self.relay.running:
                seconds = self.settings.timeout if timeout is None else timeout
                self.relay.call(self._drain, timeout=seconds).wait(min(_DRAINING, seconds))
                self.relay.call(self._halt, timeout=seconds)
            else:
                self._halt()
        finally:
            self._place.close()
            if self._directory is not None:
                self._directory.close()
            for client in self._clients:
                client.close()
            self._on_stop(self)
        self._raise_errors()

    def _drain(self) -> threading.Event:
        """Carry what has arrived; the event comes when it has been taken."""
        if isinstance(self._gate, DatagramGate):
            self._gate.take_all()
        self._close_gate()
        self._each(lambda passage: passage.drain())
        passages = [record.passage for record in self._live.values()]
        busy = {one for one in passages if one is not None and not one.is_drained}
        drained = threading.Event()

        def settled(passage: RelayedConnection | RelayedPeer) -> None:
            busy.discard(passage)
            if not busy:
                drained.set()

        for passage in busy:
            passage.on_drained = settled
        if not busy:
            drained.set()
        return drained

    def _halt(self) -> None:
        self._close_gate()
        self._cut(reset=False)

    def take_complaint(self) -> str:
        """What faults and triggers of one's own have raised so far; it is forgotten then. Nothing if there is nothing."""
        errors, self.errors = self.errors, []
        lines = [f"{type(error).__name__}: {error}" for error in errors]
        return f"a fault or a trigger of {self} raised: " + "; ".join(lines) if lines else ""

    def _raise_errors(self) -> None:
        first = self.errors[:1]
        if complaint := self.take_complaint():
            raise HandlerFailed(complaint) from first[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except HandlerFailed as failure:
            if error is None:
                raise
            error.add_note(f"{type(failure).__name__}: {failure}")

    # -- for its parts, in the relay's thread

    def accepted(self, near: socket.socket, address: Any) -> None:
        """A client has come."""
        record = self._enter(address)
        if self.transcript is not None:
            self.transcript.add(Connect(self.transcript.now(), record.number, address, self._place.address))
        opening = Opening(self, near, record)
        self._openings.add(opening)
        opening.advance()

    def turned_away(self, near: socket.socket, address: Any, reason: str) -> None:
        """A client has come, and a fault does not let it in."""
        record = self._enter(address)
        if self.transcript is not None:
            self.transcript.add(Connect(self.transcript.now(), record.number, address, self._place.address))
            self.transcript.note(record.number, reason)
            self.transcript.close(record.number, "server", "rst")
        hard_reset(near)
        self._end(record, "failed", reason)

    def opened(self, opening: Opening, client: Leg, server: Leg) -> None:
        """A client has got through to the server."""
        self._openings.discard(opening)
        record = opening.record
        record.far = here = server.sock.getsockname()
        if record.hit is not None:
            self._excuse(record)
        if self.upstream_transcript is not None:
            self.upstream_transcript.add(
                Connect(self.upstream_transcript.now(), record.number, here, self.upstream)
            )
        passage = RelayedConnection(
            self.relay,
            client,
            server,
            seed=self.seed,
            number=record.number,
            tell=self._tell,
            on_end=self._passage_ended,
            opened=record.opened,
        )
        record.begin(passage)
        self._show(record)
        self._carry(passage, record)

    def opening_failed(self, opening: Opening, reason: str) -> None:
        """A client has not got through."""
        self._openings.discard(opening)
        record = opening.record
        if self.transcript is not None:
            self.transcript.note(record.number, reason)
            self.transcript.close(record.number, "server", "rst")
        self._end(record, "failed", reason)

    def peer_came(self, client: DatagramEnd, server: DatagramEnd, address: Any) -> RelayedPeer:
        """A datagram has come from somebody new."""
        record = self._enter(address)
        for transcript, end in ((self.transcript, client), (self.upstream_transcript, server)):
            if transcript is not None:
                transcript.name_peer(record.number, end.peer)
        peer = RelayedPeer(
            self.relay,
            client,
            server,
            seed=self.seed,
            number=record.number,
            tell=self._tell,
            on_end=self._passage_ended,
        )
        record.begin(peer)
        self._show(record)
        self._carry(peer, record)
        return peer

    def _carry(self, passage: RelayedConnection | RelayedPeer, record: LinkConnection) -> None:
        try:
            self.relay.carry(passage, self._standing.groups)
        except Exception as error:  # noqa: BLE001 - a trigger's own function: for `stop`, not for others' connections
            self._excuse(record)
            self.failed(error)

    def upstream_socket(self) -> socket.socket:
        """A datagram socket that is connected to the server, and has a name to which it can answer."""
        sock = socket.socket(self.upstream_family, socket.SOCK_DGRAM)
        try:
            if self.upstream_family == getattr(socket, "AF_UNIX", None):
                sock.bind(self._upstream_name())
            sock.setblocking(False)
            sock.connect(self.upstream)
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

    def note(self, number: int, text: str) -> None:
        """Write a remark into the transcript."""
        if self.transcript is not None:
            self.transcript.note(number, text)

    def failed(self, error: Exception) -> None:
        """Something has raised that should not."""
        self.errors.append(error)
        self.note(0, f"{type(error).__name__}: {error}")

    def _enter(self, address: Any) -> LinkConnection:
        self._count += 1
        record = LinkConnection(self._count, address, monotonic())
        for fault in self.accepting.take_decided():
            record.count(fault)
        with self._lock:
            self._live[record.number] = record
        self._show(record)
        return record

    def _show(self, event: LinkConnection | Decision) -> None:
        if self.settings.watch is not None:
            self.settings.watch(event)

    def _tell(self, decision: Decision) -> None:
        self.trace.add(decision)
        record = self._live.get(decision.connection)
        if record is not None:
            if record.hit is None:
                self._excuse(record)
            record.count(decision.fault)
        self._show(decision)
        self.note(decision.connection, f"{decision.fault}, {decision.direction}: {decision.what}")

    def _excuse(self, record: LinkConnection) -> None:
        """The server is not to blame for what becomes of this connection."""
        expect_cut = getattr(self.settings.server, "expect_cut", None)
        if expect_cut is not None and record.far is not None:
            expect_cut(record.far)

    def expect_cut(self, address: Any) -> None:
        """The connection from this address is meant to break: see `Running.expect_cut`. For links that lead here."""
        with self._lock:
            found = [record for record in self._live.values() if record.client == address]
        for record in found:
            self._excuse(record)

    def _passage_ended(self, passage: RelayedConnection | RelayedPeer) -> None:
        record = self._live.get(passage.number)
        if passage.error is not None:
            if record is not None:
                self._excuse(record)
            self.failed(passage.error)
        if isinstance(passage, RelayedPeer) and isinstance(self._gate, DatagramGate):
            self._gate.forget(passage)
        if record is not None:
            self._end(record, STATES[passage.end or "reset"])

    def _end(self, record: LinkConnection, state: State, reason: str = "") -> None:
        record.end(state, monotonic(), reason)
        with self._lock:
            self._live.pop(record.number, None)
            self._ended.append(record)
            self._passed = [a + b for a, b in zip(self._passed, record.count_passed(), strict=True)]
        self._show(record)
