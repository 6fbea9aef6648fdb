"""Where links come from."""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from .._support import STOP_TIMEOUT, UsageError
from ..wire._relay import Relay
from ._link import Link
from ._settings import LinkOptions, settings_for

if TYPE_CHECKING:
    from ..faults import Faults

__all__ = ("Proxy", "link")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class Proxy:
    """Any number of links that share one thread. As a context manager it is stopped at the end of the block.

    The thread begins with the first link. May be used from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._relay: Relay | None = None
        self._links: list[Link] = []
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Proxy: {len(self._links)} links{', stopped' if self._stopped else ''}>"

    @property
    def links(self) -> list[Link]:
        """The links that were not stopped, in the order in which they were made."""
        with self._lock:
            return list(self._links)

    def link(self, upstream: Any, faults: Faults = None, **options: Unpack[LinkOptions]) -> Link:
        """An address that leads to a server, through faults.

        Args:
            upstream: The server: one that was launched, another link, an address, or an address as text. It need not be
                there yet: clients are then refused.
            faults: What goes wrong from the beginning, in both directions unless aimed; more may come later.
            options: By name, each with a usual value:

                * seed: Where random numbers come from; a new one if left out, which `Link.seed` and its repr tell.
                * listen: Where clients come in: an address, an address as text, or a family ("inet", "inet6", "dual", "unix",
                  "abstract"). A free loopback address of the server's family by default.
                * transport: "stream" or "datagram"; by default as the server says, which means "stream" for an address.
                * expose: Let `listen` be an address that other machines can reach (False).
                * transcript: Whether to record what passes (True); or a transcript, to record it there.
                * tls: Ends the client's side of TLS here, so that faults and transcript see plain text: True, a profile or its name,
                  an `Authority`, a server credential or an `ssl.SSLContext`. TLS passes through untouched if left out.
                * upstream_tls: Begins TLS towards the server here: True, an `Authority`, a client credential or a context.
                * server_hostname: The name to check at the server; by default that of its address.
                * connect_timeout: Seconds to wait for the server, and for each handshake (5).
                * idle_timeout: Seconds after which a datagram peer is forgotten that neither side says anything to (60).
                * max_peers: Datagram peers at a time (1024); the one that was idle longest makes way.
                * timeout: Seconds that `Link.stop` may take (10).
                * up: Whether it takes clients from the beginning (True); else from `Link.enable` on.
                * watch: Is told of each connection when it comes, when it is open and when it has ended, and of each decision of
                  a fault; in the thread that carries everything, so it must not wait.

        Raises:
            UsageError: Something cannot be; the message names the argument, or the fault and the reason.
            AddressInUse: Something else holds the address.
        """
        settings = settings_for(upstream, faults, **options)
        with self._lock:
            if self._stopped:
                raise UsageError("the proxy was stopped: make another one")
            if self._relay is None:
                self._relay = Relay("servertest proxy")
            made = Link(settings, self._relay, self._forget)
            self._links.append(made)
        return made

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop all links, and the thread. The second time nothing happens.

        Args:
            timeout: Seconds, for each of them.

        Raises:
            StillRunning: The thread does not end; the message says what it is doing.
            HandlerFailed: A trigger, or a fault of one's own, has raised.
        """
        with self._lock:
            self._stopped = True
            relay, self._relay = self._relay, None
        with contextlib.ExitStack() as stack:
            if relay is not None:
                stack.callback(relay.stop, timeout)
            for made in self.links:
                stack.callback(made.stop, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _forget(self, gone: Link) -> None:
        with self._lock:
            self._links = [one for one in self._links if one is not gone]


def link(upstream: Any, faults: Faults = None, **options: Unpack[LinkOptions]) -> Link:
    """A link with a thread of its own, which ends with it. For the arguments see `Proxy.link`.

    Raises:
        UsageError: Something cannot be; the message names the argument, or the fault and the reason.
        AddressInUse: Something else holds the address.
    """
    checked = settings_for(upstream, faults, **options)
    relay = Relay("servertest link")
    try:
        return Link(checked, relay, lambda made: relay.stop(made.settings.timeout))
    except BaseException:
        relay.stop()
        raise
