"""What goes wrong in the calls that a program makes on its own socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._calls import PASS, Calls, Verdict
from ._fault import Fault, Place
from ._fields import byte_count, count, one_of, optional_count

if TYPE_CHECKING:
    from ._stage import Site

__all__ = ("FailCall", "Interrupt", "ShortReads", "ShortWrites", "SpuriousReadiness")

_WHOLE = "a datagram is read and written whole or not at all"
_ERRORS = (
    "EAGAIN",
    "ECONNABORTED",
    "ECONNREFUSED",
    "ECONNRESET",
    "EHOSTUNREACH",
    "EINTR",
    "EIO",
    "EMFILE",
    "EMSGSIZE",
    "ENETDOWN",
    "ENETUNREACH",
    "ENFILE",
    "ENOBUFS",
    "ENOMEM",
    "ENOTCONN",
    "EPIPE",
    "ETIMEDOUT",
)


class Failing(Calls):
    """Lets some calls of a kind fail.

    Args:
        site: Where.
        call: Which calls.
        error: With what.
        nth: The first that fails, from 1.
        times: How many in a row; None for all from there on.
    """

    def __init__(self, site: Site, call: str, error: str, nth: int, times: int | None) -> None:
        self._site = site
        self._call = call
        self._verdict = Verdict(error)
        self._first = nth
        self._end = None if times is None else nth + times
        self._count = 0

    @property
    def memory(self) -> int:
        return self._count

    @memory.setter
    def memory(self, memory: int) -> None:
        self._count = memory

    def before(self, call: str, size: int, now: float) -> Verdict:
        if call != self._call:
            return PASS
        self._count += 1
        if self._count < self._first or (self._end is not None and self._count >= self._end):
            return PASS
        self._site.note(now, f"fails {call} {self._count} with {self._verdict.error}")
        return self._verdict


class _Limiting(Calls):
    def __init__(self, site: Site, call: str, size: int) -> None:
        self._site = site
        self._call = call
        self._limit = size
        self._noted = False

    def before(self, call: str, size: int, now: float) -> Verdict:
        if call != self._call or size <= self._limit:
            return PASS
        if not self._noted:
            self._noted = True
            self._site.note(now, f"lets {call} move {self._limit} bytes at most")
        return Verdict(limit=self._limit)


@dataclass(frozen=True)
class ShortReads(Fault):
    """``recv`` returns fewer bytes than there are: who takes a read for a message is found out. As Go's
    ``iotest.OneByteReader``.

    Attributes:
        size: Bytes that it returns at most.
    """

    size: int = byte_count(1, least=1)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _WHOLE
    place: ClassVar[Place] = "calls"

    def calls(self, site: Site) -> Calls:
        """Begin to limit."""
        return _Limiting(site, "recv", self.size)


@dataclass(frozen=True)
class ShortWrites(Fault):
    """``send`` takes fewer bytes than it is given: who does not look at what it returns, or use ``sendall``, loses the rest.

    Attributes:
        size: Bytes that it takes at most.
    """

    size: int = byte_count(1, least=1)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _WHOLE
    place: ClassVar[Place] = "calls"

    def calls(self, site: Site) -> Calls:
        """Begin to limit."""
        return _Limiting(site, "send", self.size)


@dataclass(frozen=True)
class FailCall(Fault):
    """A call fails with an error of the system.

    Attributes:
        call: "recv", "send", "connect" or "shutdown", whatever the variant.
        error: The name of its ``errno``.
        nth: The first that fails, from 1.
        times: How many in a row; None for all from there on.
    """

    call: str = one_of("recv", "recv", "send", "connect", "shutdown")
    error: str = one_of("ECONNRESET", *_ERRORS)
    nth: int = count(1)
    times: int | None = optional_count(1)

    place: ClassVar[Place] = "calls"

    def calls(self, site: Site) -> Calls:
        """Begin to count."""
        return Failing(site, self.call, self.error, self.nth, self.times)


@dataclass(frozen=True)
class Interrupt(Fault):
    """A call is interrupted by a signal: ``EINTR``, which Python hides (PEP 475) unless the signal's handler raises.

    Attributes:
        call: "recv", "send", "accept" or "connect", whatever the variant.
        nth: The first that is interrupted, from 1.
        times: How many in a row; None for all from there on.
    """

    call: str = one_of("recv", "recv", "send", "accept", "connect")
    nth: int = count(1)
    times: int | None = optional_count(1)

    place: ClassVar[Place] = "calls"

    def calls(self, site: Site) -> Calls:
        """Begin to count."""
        return Failing(site, self.call, "EINTR", self.nth, self.times)


@dataclass(frozen=True)
class SpuriousReadiness(Fault):
    """A selector says that the socket is ready, and then the call would block: ``EAGAIN``. As Linux does with datagrams whose
    checksum is wrong (select(2), BUGS).

    Attributes:
        call: "recv", "send" or "accept", whatever the variant.
        nth: The first that would block, from 1.
        times: How many in a row; None for all from there on.
    """

    call: str = one_of("recv", "recv", "send", "accept")
    nth: int = count(1)
    times: int | None = optional_count(1)

    place: ClassVar[Place] = "calls"

    def calls(self, site: Site) -> Calls:
        """Begin to count."""
        return Failing(site, self.call, "EAGAIN", self.nth, self.times)
