"""Random bytes in the place of those that were sent, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._actions import Action, Close, Finish, Send
from ._fault import Fault
from ._fields import byte_count
from ._stage import Passed, Stage

if TYPE_CHECKING:
    from ..transcript import Direction
    from ._stage import Site

__all__ = ("EmptyReply", "Garbage", "RandomDataThenClose")

_BLOCK = 256
_NO_CLOSE = "datagrams have no connection that could be closed: use Garbage, or Partition"


class _Noise:
    """Random bytes that are the same however many are taken at once."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ready = bytearray()

    def take(self, size: int) -> bytes:
        while len(self._ready) < size:
            self._ready += self._site.draws.randbytes(_BLOCK)
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken


@dataclass(frozen=True)
class Garbage(Fault):
    """Random bytes arrive, as many as were sent: a peer that speaks another protocol, or the wrong key.

    Attributes:
        after_bytes: Bytes of the stream, or of each datagram, that arrive as they are.
    """

    after_bytes: int = byte_count(0)

    def stage(self, site: Site) -> Stage:
        """Begin to replace."""
        return _Replacing(self, site)


class _Replacing(Stage):
    def __init__(self, fault: Garbage, site: Site) -> None:
        self._fault = fault
        self._site = site
        self._noise = _Noise(site)
        self._streams = site.transport == "stream"
        self._passed = Passed()
        self._begun = False

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        passed = self._passed if self._streams else Passed()
        before, behind = passed.split(data, self._fault.after_bytes)
        if behind and not self._begun:
            self._begun = True
            self._site.note(now, f"sends garbage after {self._fault.after_bytes} bytes")
        return (Send(before + self._noise.take(len(behind))),)


class _Answering(Stage):
    """Waits for the first byte, and then closes; perhaps with other bytes before."""

    def __init__(self, site: Site, size: int) -> None:
        self._site = site
        self._size = size
        self._done = False

    def data(self, data: bytes, now: float) -> Iterable[Action]:
        if self._done:
            return
        self._done = True
        self._site.note(now, f"sends {self._size} random bytes and closes" if self._size else "closes")
        if self._size:
            yield Send(_Noise(self._site).take(self._size))
        yield Close()

    def end(self, now: float) -> Iterable[Action]:
        return () if self._done else (Finish(),)


@dataclass(frozen=True)
class RandomDataThenClose(Fault):
    """Instead of what is sent, random bytes arrive, and then the end of the connection. As WireMock's
    ``RANDOM_DATA_THEN_CLOSE``, with data that is random indeed. Not aimed, it is for what servers send.

    Attributes:
        size: How many bytes.
    """

    size: int = byte_count(64)

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_CLOSE
    usual_direction: ClassVar[Direction | None] = "downstream"

    def stage(self, site: Site) -> Stage:
        """Begin to wait for the first byte."""
        return _Answering(site, self.size)


@dataclass(frozen=True)
class EmptyReply(Fault):
    """Instead of the first byte that is sent, the end of the connection arrives. As WireMock's ``EMPTY_RESPONSE``. Not aimed, it
    is for what servers send: they do get their request.
    """

    carried_by: ClassVar = frozenset({"stream"})
    why_not: ClassVar = _NO_CLOSE
    usual_direction: ClassVar[Direction | None] = "downstream"

    def stage(self, site: Site) -> Stage:
        """Begin to wait for the first byte."""
        return _Answering(site, 0)
