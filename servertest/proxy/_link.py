"""A link: one address that leads to one server, and everything that can go wrong on the way."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._support import Addressed, HandlerFailed, format_address, reachable
from ..faults import History, derived_seed, plan
from ..faults._standing import Standing
from ._accepting import check_faults
from ._door import Door
from ._listening import Place
from ._traffic import Traffic

if TYPE_CHECKING:
    from .._support import Address, Transport
    from ..faults import Faults, Plan, Trace
    from ..transcript import Direction, Transcript
    from ..wire._relay import Relay
    from ..wire._relay_passage import Passage
    from ._record import LinkConnection
    from ._settings import Settings

__all__ = ("Link",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

#: Clients with faults whose histories are kept.
_HISTORIES = 100

#: Seconds that `Link.stop` gives those who have not yet taken what has come for them.
_DRAINING = 0.5


class Link(Addressed):
    """One address that leads to one server, from its making to `stop`. As a context manager it is stopped at the end of the block.

    Made by `Proxy.link` or `link`. May be used from any thread.

    Attributes:
        settings: What it was asked for.
        seed: Where random numbers come from; give it again to have the same.
    """

    def __init__(self, settings: Settings, relay: Relay, on_stop: Callable[[Link], object]) -> None:
        self.settings = settings
        self.seed = settings.seed
        self.relay = relay
        self._started = monotonic()
        self._client_histories: deque[History] = deque(maxlen=_HISTORIES)
        self._on_stop = on_stop
        self._standing = Standing()
        self._standing.add("", settings.faults)
        self._clients: list[Any] = []
        self._faulty_clients = itertools.count(1)
        self._lock = threading.RLock()
        self._stopped = False
        self._place = Place(settings.transport, settings.family, settings.listen)
        try:
            self._traffic = Traffic(settings, relay, self._place.address, self._standing)
            self._door = Door(self._place, self._traffic, up=settings.up)
            relay.call(lambda: self._door.begin(self._standing))
        except BaseException:
            self._place.close()
            raise

    # -- where it is

    @property
    def address(self) -> Address:
        """Where clients reach it: a pair, a path, or an abstract name."""
        return reachable(self._place.address)

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
        return self._door.is_open

    def __repr__(self) -> str:
        faults = self._standing.plan
        through = f" through {faults!r}" if faults else ""
        state = ", stopped" if self._stopped else "" if self.is_up else ", down"
        return f"<{self}{through}, seed {self.seed!r}{state}>"

    def __str__(self) -> str:
        return f"Link from {format_address(self.address)} to {format_address(self.upstream)}"

    # -- what passed

    @property
    def transcript(self) -> Transcript | None:
        """What passed between clients and here; None if recording is off."""
        return self._traffic.transcript

    @property
    def upstream_transcript(self) -> Transcript | None:
        """What passed between here and the server. Connections have the same numbers in both."""
        return self._traffic.upstream_transcript

    @property
    def trace(self) -> Trace:
        """What the faults decided."""
        return self._traffic.trace

    @property
    def connections(self) -> list[LinkConnection]:
        """All connections in the order in which clients came, the last ten thousand of those that have ended included."""
        return self._traffic.connections

    @property
    def hits(self) -> Counter[str]:
        """How many decisions each fault has made, by its name in the plan. `trace` has which connection, when and what."""
        return self.trace.counts

    @property
    def passed(self) -> dict[Direction, tuple[int, int]]:
        """Bytes received and delivered each way, on all connections that there ever were."""
        return self._traffic.passed

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
            self._door.put(name, group)
            self._traffic.each(lambda passage: passage.add_faults(name, group))
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
            self._door.put(key, group)
            self._traffic.each(lambda passage: passage.replace_faults(key, group))

        self.relay.call(update)

    def remove(self, key: str) -> None:
        """Take faults away; what they held goes on at once.

        Raises:
            UsageError: There are none under this key, or the link was stopped.
        """

        def remove() -> None:
            self._standing.remove(key)
            self._door.put(key, None)
            self._traffic.each(lambda passage: passage.remove_faults(key))

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
                self._door.put(key, None)
            group = (
                self._standing.replace("", wanted)
                if "" in self._standing.groups
                else self._standing.add("", wanted)[1]
            )
            self._door.put("", group)

            def apply(passage: Passage) -> None:
                for key in others:
                    passage.remove_faults(key)
                passage.replace_faults("", group)

            self._traffic.each(apply)

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

    # -- down and up

    @contextlib.contextmanager
    def down(self, *, reset: bool = False) -> Iterator[Self]:
        """A block in which clients are refused; those that are connected are cut off. The address stays taken.

        Args:
            reset: Whether those who are connected get RST instead of FIN.
        """
        was_up = not self._door.is_down
        self.disable(reset=reset)
        try:
            yield self
        finally:
            if was_up and self.running:
                self.enable()

    def disable(self, *, reset: bool = False) -> None:
        """Go down until `enable`; see `down`. Nothing happens if it is down."""

        def disable() -> None:
            self._door.shut()
            self._traffic.cut(reset=reset)

        self.relay.call(disable)

    def enable(self) -> None:
        """Come up again on the same address. Nothing happens if it is up."""
        self.relay.call(self._door.open)

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

    def expect_rude(self, addresses: Iterable[Any]) -> None:
        """Clients at these addresses are slow or rude on purpose: tell the server, who knows them by the link's own addresses.

        Args:
            addresses: The clients' own, as the link has accepted them.
        """
        expect = getattr(self.settings.server, "expect_rude", None)
        if expect is not None:
            rude = set(addresses)
            # Unix clients mostly have no name.
            expect(
                one.far
                for one in self.connections
                if one.far is not None and (one.client in rude or not isinstance(one.client, tuple))
            )

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
        if self._traffic.client_credential is not None:
            context, name = self._traffic.client_credential.client_context(), hostname_for(self.address)
        elif self._traffic.server_context is None and getattr(getattr(server, "kind", None), "tls", None):
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
            self._traffic.close()
            for client in self._clients:
                client.close()
            self._on_stop(self)
        self._traffic.raise_errors(self)

    def _drain(self) -> threading.Event:
        self._door.close()
        return self._traffic.drain()

    def _halt(self) -> None:
        self._door.close()
        self._traffic.cut(reset=False)

    def take_complaint(self) -> str:
        """What faults and triggers of one's own have raised so far; it is forgotten then. Nothing if there is nothing."""
        return self._traffic.take_complaint(self)

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

    def expect_cut(self, address: Any) -> None:
        """The connection from this address is meant to break: see `Running.expect_cut`. For links that lead here."""
        self._traffic.expect_cut(address)
