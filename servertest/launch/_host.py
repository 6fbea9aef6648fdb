"""The seam between what is put under test (a target) and where it runs (a host).

A target knows how to make the thing that serves; a host knows where: in a thread of this process, in a process of
its own, as a command. They meet in a `Plan`, which holds everything that is needed to build the server, and in a
`Servable`, which is the server once built::

    caller                      where the host is
    ------                      -----------------
    host.start(plan)     ...    servable = plan.target.build(plan)
                                servable.serve()              # blocks
    host.stop(deadline)  ...    servable.stop()               # asks, never waits
                                servable.close(deadline)      # waits, then forces; says what it forced

Everything that happens is told to the plan's `Observer`. In the test's own process that is the running server's
transcript and list of errors; in another process it forwards both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import socket

    from .._support import Address, Deadline
    from ..faults import Decision
    from ..tls import ServerCredential
    from ..transcript import Transcript
    from ._errors import HandlerError
    from ._faults import FaultSetup
    from ._kinds import Kind

__all__ = ("Host", "Observer", "Plan", "Servable", "Target")


class Observer(Protocol):
    """Whom the server tells what happens to it. All of it may be used from any thread."""

    @property
    def transcript(self) -> Transcript | None:
        """Where the sockets of the server are recorded, or None when recording is off; elsewhere, a `Recorder`."""

    def failed(self, error: HandlerError) -> None:
        """Take an exception that left a handler, a hook or the serving loop."""

    def decided(self, decision: Decision) -> None:
        """Take a decision of a fault."""


@dataclass(slots=True)
class Plan:
    """All that is needed to build and run a server, wherever that happens.

    A process host pickles it without `listener` and `observer` and puts its own in their place (`dataclasses.replace`).

    Attributes:
        target: What is to be served.
        kind: Transport, family, concurrency, TLS and host.
        observer: Whom the server tells what happens.
        listener: A socket that is bound, and listening if it is a stream; None for targets that bind their own
            (`target.binds`): a whole server class, a factory, an instance, a command.
        address: Where a target that binds its own socket should do so; port 0 or a path that does not exist yet.
        tls: Certificate, key and profile for TLS, or None. Plain data: an `ssl.SSLContext` could not travel.
        timeout: How long handlers may take to end when the server is stopped, in seconds.
        faults: What is to go wrong at the server's sockets; None if they are to be left alone.
        options: Whatever else the caller gave that only the host understands.
    """

    target: Target
    kind: Kind
    observer: Observer | None = None
    listener: socket.socket | None = None
    address: Address | None = None
    tls: ServerCredential | None = None
    timeout: float = 10.0
    faults: FaultSetup | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@runtime_checkable
class Servable(Protocol):
    """A server that is built, and is run by whoever built it."""

    @property
    def address(self) -> Address:
        """Where clients reach it, as `getsockname` tells it."""

    @property
    def server(self) -> object:
        """The object behind it: a `socketserver` instance, an event loop's server, a function."""

    def serve(self) -> None:
        """Serve until stopped, in the calling thread; raise what the serving loop raised."""

    def stop(self) -> None:
        """Ask for the end, and return at once: accept nothing more, and let idle connections see end of file.

        Callable from any thread, from a signal handler that interrupts `serve`, before `serve`, and again.
        """

    def close(self, deadline: Deadline) -> list[str]:
        """Wait until handlers have ended or the deadline passed, force what is left, release everything.

        Called after `stop`: by the thread that has come back from `serve`, or by another one if that thread never
        comes back.

        Returns:
            A sentence for each thing that had to be forced or could not be stopped; nothing in the good case.
        """

    def describe(self) -> str:
        """What it is doing now: connections with state and last bytes, handler threads and children with stacks."""


class Target(Protocol):
    """Something that can be put up. Plain data: it is built where the host is."""

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def binds(self) -> bool:
        """Whether it makes its own socket, at `Plan.address`."""

    @property
    def repeatable(self) -> bool:
        """Whether it can be built more than once (a ready-made instance cannot, so it cannot be restarted)."""

    def check(self, kind: Kind) -> None:
        """Refuse a kind that it does not go with; called before anything is bound.

        Raises:
            UsageError: The message says which kinds do.
        """

    def build(self, plan: Plan) -> Servable:
        """Make the server.

        Raises:
            UsageError: The target does not go with the plan's kind.
            OSError: The address could not be bound.
        """


class Host(Protocol):
    """Where a server runs."""

    @property
    def address(self) -> Address:
        """Where clients reach the server; known once `start` has returned."""

    @property
    def server(self) -> object:
        """The server object if it lives in this process, otherwise None."""

    @property
    def pid(self) -> int | None:
        """The server's process if it is not this one."""

    def start(self, plan: Plan) -> None:
        """Build the server and return once it serves; raise what went wrong."""

    def stop(self, deadline: Deadline) -> list[str]:
        """End the server by the deadline, and say what had to be forced (nothing: a clean end)."""

    def dump(self) -> str:
        """What the server is doing now, for a person who wonders why it hangs."""
