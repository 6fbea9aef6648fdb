"""What goes wrong where a server accepts connections and finds somebody to serve them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar

from ._call_faults import Failing
from ._calls import PASS, Calls, Verdict
from ._fault import Fault, Place
from ._fields import count, one_of, optional_count, optional_seconds, seconds

if TYPE_CHECKING:
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


class _Waiting(Calls):
    def __init__(self, site: Site, delay: float, backlog: int | None = None) -> None:
        self._site = site
        self._delay = delay
        self._backlog = backlog

    def before(self, call: str, size: int, now: float) -> Verdict:
        if call == "listen" and self._backlog is not None:
            return Verdict(limit=self._backlog)
        if call != "accept":
            return PASS
        self._site.note(now, "never accepts" if self._delay == inf else f"accepts {self._delay:g} s later")
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
        return _Waiting(site, self.delay)


@dataclass(frozen=True)
class FullBacklog(Fault):
    """Nobody accepts, and the queue of the listener is as short as can be: the first client or two are connected to nobody, others
    get no answer at all (on Linux, listen(2)) and try again until their timeout.

    Attributes:
        duration: Seconds until the server accepts again; None for never.
    """

    duration: float | None = optional_seconds(None)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_CONNECTIONS
    place: ClassVar[Place] = "listener"

    def calls(self, site: Site) -> Calls:
        """Begin to wait."""
        return _Waiting(site, inf if self.duration is None else self.duration, 0)


@dataclass(frozen=True)
class Refuse(Fault):
    """Nobody listens: clients get ECONNREFUSED."""

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = "a datagram cannot be refused before it is sent: use Partition"
    place: ClassVar[Place] = "listener"
    instead: ClassVar = "take the server or the link down: with server.down(), or with link.down()"

    def calls(self, site: Site) -> Calls:
        """Begin to refuse."""
        return _Refusing(site)


class _Refusing(Calls):
    def __init__(self, site: Site) -> None:
        self._site = site

    def before(self, call: str, size: int, now: float) -> Verdict:
        if call not in ("listen", "accept"):
            return PASS
        self._site.note(now, "refuses")
        return Verdict("ECONNREFUSED")
