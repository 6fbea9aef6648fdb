"""What a link knows of a connection, while it lives and afterwards."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._support import format_address

if TYPE_CHECKING:
    from ..wire._relay_passage import End, Passage

__all__ = ("LinkConnection", "State")

State: TypeAlias = Literal["connecting", "open", "finished", "reset", "closed", "failed"]

STATES: dict[End, State] = {"finished": "finished", "reset": "reset", "forced": "closed"}


class LinkConnection:
    """A connection through a link; for datagrams, a peer.

    It is alive: what it says changes as long as the connection lasts.

    Attributes:
        number: From 1, in the order in which clients came. Faults draw their random numbers from it.
        client: The client's address.
        opened: When it was accepted, on the clock of `time.monotonic`.
        reason: Why there is no connection to the server; "" if there is, or was, one.
    """

    __slots__ = (
        "_ended",
        "_passed",
        "_state",
        "client",
        "far",
        "hit",
        "number",
        "opened",
        "passage",
        "reason",
    )

    def __init__(self, number: int, client: Any, opened: float) -> None:
        self.number = number
        self.client = client
        self.opened = opened
        self.reason = ""
        self.far: Any = None  # our own address towards the server
        self.hit: Counter[str] | None = None
        self.passage: Passage | None = None
        self._state: State = "connecting"
        self._ended: float | None = None
        self._passed = (0, 0, 0, 0)

    def __repr__(self) -> str:
        hits = "".join(f", {fault} x{count}" for fault, count in self.hits.items())
        return f"<LinkConnection {self.number} from {format_address(self.client)}: {self.state}{hits}>"

    @property
    def state(self) -> State:
        """One of "connecting", "open", "finished" in order by both sides, "reset", "closed" by the link, "failed" to connect."""
        passage = self.passage
        if passage is not None and passage.end is not None:
            return STATES[passage.end]
        return self._state

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("connecting", "open")

    @property
    def ended(self) -> float | None:
        """When it ended, on the clock of `time.monotonic`; None while it lives."""
        return self._ended

    @property
    def hits(self) -> Counter[str]:
        """How many decisions each fault has made on it, by the fault's name in the plan."""
        return Counter(self.hit)

    @property
    def upstream_received(self) -> int:
        """Bytes that came from the client."""
        return self.count_passed()[0]

    @property
    def upstream_delivered(self) -> int:
        """Bytes that the server's socket has taken."""
        return self.count_passed()[1]

    @property
    def downstream_received(self) -> int:
        """Bytes that came from the server."""
        return self.count_passed()[2]

    @property
    def downstream_delivered(self) -> int:
        """Bytes that the client's socket has taken."""
        return self.count_passed()[3]

    def count_passed(self) -> tuple[int, int, int, int]:
        """Bytes received and delivered upstream, and downstream."""
        passage = self.passage
        if passage is None:
            return self._passed
        up, down = passage.directions
        return up.received, up.delivered, down.received, down.delivered

    # -- for the link

    def begin(self, passage: Passage) -> None:
        """It is open."""
        self.passage = passage
        self._state = "open"

    def end(self, state: State, when: float, reason: str = "") -> None:
        """It has ended."""
        self._passed = self.count_passed()
        self.passage = None
        self._state = state
        self._ended = when
        self.reason = reason

    def count(self, fault: str) -> None:
        """A fault has decided something."""
        if self.hit is None:
            self.hit = Counter()
        self.hit[fault] += 1
