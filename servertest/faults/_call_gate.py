"""What stands before a fault of calls that does not work from the first byte to the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ._calls import PASS, Calls, Verdict
from ._gate import MEMORY, searcher
from ._triggers import Trigger, includes

if TYPE_CHECKING:
    from .._support import Transport

__all__ = ()


class CallGate(Calls):
    """Lets calls be made as they are until what its trigger waits for has passed, each way by itself.

    Where a number of bytes is waited for, calls on a stream stop at that byte: when the fault begins does not depend on how
    much a call asks for.

    Args:
        calls: The fault.
        trigger: When it works.
        transport: What passes.
    """

    def __init__(self, calls: Calls, trigger: Trigger, transport: Transport) -> None:
        self._calls = calls
        self._streams = transport == "stream"
        self._ways = {way: _Way(trigger) for way in ("recv", "send")}

    def before(self, call: str, size: int, now: float) -> Verdict:
        way = self._ways["recv" if call == "recv" else "send"]
        if way.open:
            return self._calls.before(call, size, now)
        rest = way.missing
        return Verdict(limit=rest) if self._streams and 0 < rest < size else PASS

    def moved(self, call: str, data: bytes) -> None:
        self._ways[call].add(data)
        self._calls.moved(call, data)


class _Way:
    """What has passed one way."""

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self._search: Callable[[bytes, bytes], int | None] | None = searcher(trigger.pattern)
        self._past = b""
        self._datagrams = 0
        self.missing = trigger.after_bytes or 0

    @property
    def open(self) -> bool:
        """Whether the next call is one that the trigger means."""
        datagram = self._trigger.datagram
        return (
            self.missing <= 0
            and self._search is None
            and (datagram is None or includes(datagram, self._datagrams + 1))
        )

    def add(self, data: bytes) -> None:
        self.missing -= len(data)
        self._datagrams += 1
        if self._search is not None:
            if self._search(self._past, data) is not None:
                self._search = None
            self._past = (self._past + data)[-MEMORY:]
