"""What goes wrong where a server accepts connections and finds somebody to serve them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from .._support import UsageError
from ._call_faults import Failing
from ._calls import PASS, Calls, Verdict
from ._fault import Fault, Place
from ._fields import count, one_of, optional_count, optional_seconds, seconds

if TYPE_CHECKING:
    from ._fault import Plan
    from ._stage import Site

__all__ = ("AcceptError", "FailFork", "FailThreadStart", "FullBacklog", "Refuse", "SlowAccept")

_NO_CONNECTIONS = "datagrams are not accepted, they come"


@dataclass(frozen=True)
class AcceptError(Fault):
    """``accept`` fails although somebody has come: the client was gone already (ECONNABORTED), or the process or the system
    has no descriptors left (EMFILE, ENFILE); see accept(2). With the latter two the connection stays in the queue.

    Attributes:
        error: The name of the ``errno``.
        nth: The first that fails, from 1.
        times: How many in a row; None for all from there on.
    """

    error: str = one_of(
        "ECONNABORTED", "ECONNABORTED", "EINTR", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPROTO"
    )
    nth: int = count(1)
    times: int | None = optional_count(1)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_CONNECTIONS
    place: ClassVar[Place] = "listener"

    def calls(self, site: Site) -> Calls:
        """Begin to count."""
        return Failing(site, "accept", self.error, self.nth, self.times)


@dataclass(frozen=True)
class FailThreadStart(Fault):
    """No thread can be started for a connection or a datagram: the limit of the system is reached (EAGAIN, pthread_create(3));
    Python raises RuntimeError.

    Attributes:
        nth: The first that fails, from 1.
        times: How many in a row; None for all from there on.
    """

    nth: int = count(1)
    times: int | None = optional_count(1)

    place: ClassVar[Place] = "listener"

    def calls(self, site: Site) -> Calls:
        """Begin to count."""
        return Failing(site, "thread", "EAGAIN", self.nth, self.times)


@dataclass(frozen=True)
class FailFork(Fault):
    """No process can be forked for a connection or a datagram: see fork(2).

    Attributes:
        error: "EAGAIN", the limit of processes is reached; or "ENOMEM".
        nth: The first that fails, from 1.
        times: How many in a row; None for all from there on.
    """

    error: str = one_of("EAGAIN", "EAGAIN", "ENOMEM")
    nth: int = count(1)
    times: int | None = optional_count(1)

    place: ClassVar[Place] = "listener"

    def calls(self, site: Site) -> Calls:
        """Begin to count."""
        return Failing(site, "fork", self.error, self.nth, self.times)


class _Late(Calls):
    def __init__(self, site: Site, delay: float) -> None:
        self._site = site
        self._delay = delay

    def before(self, call: str, size: int, now: float) -> Verdict:
        if call != "accept":
            return PASS
        self._site.note(now, f"accepts {self._delay:g} s later")
        return Verdict(delay=self._delay)


@dataclass(frozen=True)
class SlowAccept(Fault):
    """The connection is made, for the system does that, and the server comes to it late.

    Attributes:
        delay: Seconds.
    """

    delay: float = seconds(1.0)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_CONNECTIONS
    place: ClassVar[Place] = "listener"

    def calls(self, site: Site) -> Calls:
        """Begin to wait."""
        return _Late(site, self.delay)


class _Standstill(Calls):
    """Nobody is accepted from the moment on at which the first one has come, until the time is over."""

    def __init__(self, site: Site, duration: float) -> None:
        self._site = site
        self._duration = duration
        self._until: float | None = None

    @property
    def memory(self) -> float | None:
        return self._until

    @memory.setter
    def memory(self, memory: float | None) -> None:
        self._until = memory

    def before(self, call: str, size: int, now: float) -> Verdict:
        if call == "listen":
            return Verdict(limit=0) if self._until is None or now < self._until else PASS
        if call != "accept" or (self._until is not None and now >= self._until):
            return PASS
        if self._until is None:
            self._until = now + self._duration
            never = self._duration == inf
            self._site.note(now, "never accepts" if never else f"accepts {self._duration:g} s later")
        return Verdict(delay=self._until - now)


@dataclass(frozen=True)
class FullBacklog(Fault):
    """Nobody accepts, and the queue of the listener is as short as can be: the first client or two are connected to nobody, others
    get no answer at all (on Linux, listen(2)) and try again until their timeout.

    Attributes:
        duration: Seconds, counted from the first client, until the server accepts again; None for never.
    """

    duration: float | None = optional_seconds(None)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_CONNECTIONS
    place: ClassVar[Place] = "listener"

    def calls(self, site: Site) -> Calls:
        """Begin to wait."""
        return _Standstill(site, inf if self.duration is None else self.duration)


@dataclass(frozen=True)
class Refuse(Fault):
    """Nobody listens: clients get ECONNREFUSED.

    Without a trigger the listener goes: a link stops listening, keeps the address and the connections that it has; a server
    goes down as with ``server.down()``, which ends its connections; at a client ``connect`` fails. With a trigger a
    listener has to stay for the others: it takes those who are refused, and gives them RST at once; the server sees at the most
    ECONNABORTED.
    """

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "a datagram cannot be refused before it is sent: use Partition"
    place: ClassVar[Place] = "listener"
    at_connect: ClassVar = True

    def calls(self, site: Site) -> Calls:
        """Begin to refuse."""
        return _Refusing(site)


class _Refusing(Calls):
    def __init__(self, site: Site) -> None:
        self._site = site

    def before(self, call: str, size: int, now: float) -> Verdict:
        if call not in ("listen", "accept", "connect"):
            return PASS
        self._site.note(now, "refuses")
        return Verdict("ECONNREFUSED")


def refuse_what_needs_a_server(faults: Plan, who: str) -> None:
    """Refuse what only a server can have: the place that accepts is not always the one that serves.

    Raises:
        UsageError: There is such a fault.
    """
    for entry in faults:
        if entry.fault.name in (FailThreadStart.name, FailFork.name):
            raise UsageError(
                f"{type(entry.fault).__name__} cannot be done here: {who} starts no threads or processes: give it to the server"
            )


def refuse_refusal(faults: Plan) -> None:
    """Refuse what a socket that listens, and is its owner's, cannot do: `Refuse` without a trigger.

    Raises:
        UsageError: There is such a fault.
    """
    for entry in faults:
        if entry.fault.name == Refuse.name and entry.trigger is None:
            raise UsageError(
                "Refuse cannot be done here: who waits at a socket that listens no more would find it broken: close it, put a "
                "proxy in front, or refuse single connections, as with Refuse().on(first=1)"
            )
