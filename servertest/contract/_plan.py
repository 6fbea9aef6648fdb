"""What a scripted client does, and what came of it: plain data, which goes to the subject's process and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = (
    "DatagramPlan",
    "Delivery",
    "Ended",
    "Ending",
    "Failed",
    "Family",
    "Piece",
    "Plan",
    "Record",
    "Wait",
    "describe_record",
)

Ending: TypeAlias = Literal["fin", "close", "reset", "silence"]
"""fin: the client finishes sending, and reads on. close: it closes. reset: it cuts the connection off (RST; on Unix sockets it
closes with something unread). silence: it stays, and sends nothing more."""

Family: TypeAlias = Literal["inet", "inet6", "unix"]

Ended: TypeAlias = Literal["returned", "raised", "silent", "spinning", "hung", "died"]
"""returned, raised: the handler did. silent: it still waits for a client that says nothing more. spinning: it asks again and
again for what will never come. hung: it did not come back in time. died: its process ended."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that arrive together, when the handler waits for input.

    Attributes:
        data: The bytes.
        pause: Seconds of virtual time that the handler has to wait for them.
    """

    data: bytes
    pause: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One conversation from the client's side. Nothing in it depends on the speed of the machine.

    Attributes:
        pieces: What the client sends; each piece when the handler waits for input and has had all before it.
        ending: What it does when the handler waits after the last piece.
        early_end: Whether it ends at once, before the handler starts; all pieces are sent then, too.
        send_limit: The handler's `send` takes at most so many bytes at once.
        reset_after: The client cuts the connection off when it has received so many bytes.
        inner: Another conversation, held from beginning to end in the midst of this one ...
        at_wait: ... when the handler waits for input for the so-manieth time (from 0) ...
        at_send: ... or has sent so many bytes ...
        at_step: ... or before the so-manieth step (from 0) of the subject's own code, see `Record.steps`.
        before: Conversations that go before it on the same server; nothing is said of them.
        after: Conversations that follow, once this one and the inner one are over.
        count_steps: Whether to find the steps at which it could be interrupted.
        measure: Whether to measure memory and processor time.
        due: How many bytes of replies there must be once so many bytes were sent: (sent, received). Threads of the handler get a moment to
            write them. Empty where it is not known; None where it is of no interest either, and threads get no longer than until all of them wait.
        family: "inet", "inet6" or "unix": what address the client has.
        times: How often it is held; what is left behind is counted then, see `Record.left` and `Record.growth`.
        turn: Seconds of real time in which an inner conversation has to get on if it is not held up.
        patience: Seconds of virtual time after which somebody who still waits for a silent client waits for ever.
    """

    pieces: tuple[Piece, ...] = ()
    ending: Ending = "fin"
    early_end: bool = False
    send_limit: int | None = None
    reset_after: int | None = None
    inner: Plan | None = None
    at_wait: int | None = None
    at_send: int | None = None
    at_step: int | None = None
    before: tuple[Plan, ...] = ()
    after: tuple[Plan, ...] = ()
    count_steps: bool = False
    measure: bool = False
    due: tuple[tuple[int, int], ...] | None = None
    family: Family = "inet"
    times: int = 1
    turn: float = 0.04
    patience: float = 3600.0

    @classmethod
    def of(cls, *pieces: bytes, ending: Ending = "fin") -> Plan:
        """A client that sends these pieces one by one, and then ends like that."""
        return cls(pieces=tuple(Piece(data) for data in pieces), ending=ending)

    @property
    def sent(self) -> bytes:
        """All that the client sends."""
        return b"".join(piece.data for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Wait:
    """A moment at which the handler waited for input.

    Attributes:
        sent: Bytes that had been sent to it by then.
        received: Bytes that the client had received by then: replies that are due are among them.
        at: Virtual time in seconds since the beginning.
    """

    sent: int
    received: int
    at: float


@dataclass(frozen=True, slots=True)
class Failed:
    """An exception that left the handler.

    Attributes:
        type_name: Its class, with the module unless it is built in.
        message: Its text.
        traceback_text: As Python prints it.
        mild: Whether it is an OSError out of finish(): the last bytes of a reply to somebody who has gone.
        thread: The name of the thread that it ended, if the handler had begun one.
    """

    type_name: str
    message: str
    traceback_text: str
    mild: bool = False
    thread: str = ""

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


@dataclass(frozen=True, slots=True)
class Record:
    """What came of a plan.

    Attributes:
        outcome: How the handler ended.
        received: All that the client received.
        waits: When the handler waited for input.
        failure: What left the handler.
        elapsed: Virtual seconds from the beginning to the end of the handler.
        silence: Virtual seconds of them since the client had last said something.
        ended_before: Bytes of the plan that were not sent, as the handler ended before.
        left: What was left behind each time: threads, descriptors, children.
        growth: Blocks of memory that stay allocated each time.
        notes: What the handler did to its server.
        memory: Bytes by which the address space grew, if that was measured.
        cpu: Seconds of processor time, likewise.
        held_up: Whether the inner conversation could not get on before the outer one did.
        inner: What came of the inner conversation.
        after: What came of those that followed.
        steps: The subject's steps, as (file, line, what), if they were counted.
        stacks: Where it stood, if it did not come back.
    """

    outcome: Ended = "returned"
    received: bytes = b""
    waits: tuple[Wait, ...] = ()
    failure: Failed | None = None
    elapsed: float = 0.0
    silence: float = 0.0
    ended_before: int = 0
    left: tuple[str, ...] = ()
    growth: float = 0.0
    notes: tuple[str, ...] = ()
    memory: int = 0
    cpu: float = 0.0
    held_up: bool = False
    inner: Record | None = None
    after: tuple[Record, ...] = ()
    steps: tuple[tuple[str, int, str], ...] = ()
    stacks: str = ""
    events: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with how it ended, and those in its midst and after it; nothing if all ended in order."""
        own = describe_record(self)
        inner = self.inner.problems if self.inner is not None else ()
        return (*([own] if own else []), *inner, *(what for one in self.after for what in one.problems))

    @property
    def unharmed(self) -> bool:
        """Whether the handler came to an end in order, or waits as it should for a silent client."""
        return self.outcome in ("returned", "silent") or (self.failure is not None and self.failure.mild)

    def due(self, sent: int) -> bytes:
        """What had come when the handler, having had so many bytes, waited for more (or ended)."""
        marks = [wait.received for wait in self.waits if wait.sent == sent]
        return self.received[: marks[-1]] if marks else self.received


@dataclass(frozen=True, slots=True, kw_only=True)
class DatagramPlan:
    """Datagrams that reach the handler one after the other.

    Attributes:
        datagrams: Number of the sender (from 0), and what it sends.
        nameless: Whether senders have no address, as Unix sockets that are not bound.
        family: "inet", "inet6" or "unix": what addresses they have.
        measure: Whether to measure memory and processor time.
        times: How often all of it comes; what is left behind is counted then.
    """

    datagrams: tuple[tuple[int, bytes], ...]
    nameless: bool = False
    family: Family = "inet"
    measure: bool = False
    times: int = 1

    @classmethod
    def of(cls, *datagrams: bytes) -> DatagramPlan:
        """One sender, and what it sends."""
        return cls(datagrams=tuple((0, data) for data in datagrams))

    @property
    def sent(self) -> bytes:
        """All that is sent."""
        return b"".join(data for _, data in self.datagrams)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of a datagram plan.

    Attributes:
        outcome: How the handler ended: as in a `Record`.
        replies: For each datagram what came back, as (number of the sender that it came to, bytes).
        failure: What left the handler.
        number: Of which datagram, from 0.
        left: What was left behind each time.
        growth: Blocks of memory that stay allocated each time.
        memory: Bytes by which the address space grew, if that was measured.
        notes: What the handler did to its server.
        stacks: Where it stood, if it did not come back.
    """

    outcome: Ended = "returned"
    replies: tuple[tuple[tuple[int, bytes], ...], ...] = ()
    failure: Failed | None = None
    number: int = 0
    left: tuple[str, ...] = ()
    growth: float = 0.0
    memory: int = 0
    notes: tuple[str, ...] = ()
    stacks: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with how it ended; nothing if it ended in order."""
        own = describe_record(self)
        return (own,) if own else ()

    @property
    def received(self) -> bytes:
        """All that came back."""
        return b"".join(data for replies in self.replies for _, data in replies)


def describe_record(record: Record | Delivery) -> str:
    """What is wrong with how a conversation ended, as the end of a sentence; nothing if it ended in order."""
    if record.outcome == "spinning":
        return "the handler asks again and again for what will never come, without waiting"
    if record.outcome == "hung":
        return "the handler does not come back"
    if record.outcome == "died":
        return f"the handler ends its process: {record.stacks}"
    if record.failure is not None and not record.failure.mild:
        thread = f" in thread {record.failure.thread}" if record.failure.thread else ""
        return f"the handler raises {_short(record.failure)}{thread}"
    return ""


def _short(failure: Failed) -> str:
    name = failure.type_name.rpartition(".")[2]
    message = failure.message if len(failure.message) <= 100 else failure.message[:100] + "..."
    return f"{name}: {message}" if message else name
