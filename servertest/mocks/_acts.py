"""What a scripted server can do: each act turns a moment into cues. A new one is a class here or anywhere; `Step.do` takes it."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from .._support import Transport, UsageError
from ..transcript import check_framing
from ._matching import shown
from ._values import Frame, Raw, Request, Sayable, Template

if TYPE_CHECKING:
    from ..transcript import Framing

__all__ = ("Act", "Cue", "Ending", "Moment")


class Ending(Enum):
    """What a server does besides sending."""

    FINISH = "half-close"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Cue:
    """Something to be done.

    Attributes:
        what: Bytes to be sent at once (for datagrams: as one), or an ending.
        after: Seconds after the cue before it.
    """

    what: bytes | Ending
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """When an act is played.

    Attributes:
        request: What the client has sent; an empty one where the server acts on its own.
        framing: That of the server's messages; None if they have none.
        transport: "stream" or "datagram".
        draws: Random numbers that repeat.
    """

    request: Request
    framing: Framing | None
    transport: Transport
    draws: random.Random


class Act(ABC):
    """One thing that a server does. A value; ``str()`` of it stands in reports.

    Attributes:
        carried_by: The transports on which it can be done.
    """

    carried_by: ClassVar[tuple[Transport, ...]] = ("stream", "datagram")

    @abstractmethod
    def play(self, moment: Moment) -> Iterable[Cue]:
        """What is to be done, in order."""

    @abstractmethod
    def __str__(self) -> str:
        """As one would write it."""


Pieces: TypeAlias = "int | Sequence[int] | None"


@dataclass(frozen=True, slots=True)
class Reply(Act):
    """Send something.

    Attributes:
        data: What.
        delay: Seconds before it begins.
        pieces: Into how many pieces of about the same size it is cut; or their sizes, of which the last one takes the rest.
        pause: Seconds between two pieces.
        slowly: Bytes per second at most; pieces of a byte each if nothing else is said.
    """

    data: Sayable
    delay: float = 0.0
    pieces: Pieces = None
    pause: float = 0.0
    slowly: float | None = None

    verb: ClassVar[str] = "reply"

    def __post_init__(self) -> None:
        if not isinstance(self.data, (bytes, Template, Frame, Raw)) and not callable(self.data):
            raise UsageError(
                f"{self.verb}: bytes, a Template, a Frame, Raw bytes or a function can be sent, not {self.data!r}"
            )
        check_seconds(self.verb, "delay", self.delay)
        check_seconds(self.verb, "pause", self.pause)
        if self.slowly is not None and not 0 < self.slowly < math.inf:
            raise UsageError(
                f"{self.verb}: slowly is a number of bytes per second above 0, not {self.slowly!r}"
            )
        sizes = [self.pieces] if isinstance(self.pieces, int) else self.pieces or ()
        if not all(is_count(size) for size in sizes):
            raise UsageError(
                f"{self.verb}: pieces is a number of pieces, or their sizes in bytes, not {self.pieces!r}"
            )

    def play(self, moment: Moment) -> Iterator[Cue]:
        """The bytes in their pieces, each after its pause."""
        data = said(self.data, moment, self.verb)
        wait = self.delay
        for piece in self._pieces(data):
            yield Cue(piece, wait + self._time(piece))
            wait = self.pause

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self.pieces is None and self.slowly is None:
            yield data
            return
        at = 0
        for size in self._sizes(len(data)):
            if piece := data[at : at + size]:
                yield piece
            at += size
        if at < len(data) or not data:
            yield data[at:]

    def _sizes(self, size: int) -> Iterable[int]:
        if isinstance(self.pieces, int):
            short, more = divmod(size, self.pieces)
            return [short + (number < more) for number in range(self.pieces)]
        return self.pieces if self.pieces is not None else [1] * size

    def _time(self, piece: bytes) -> float:
        return 0.0 if self.slowly is None else len(piece) / self.slowly

    def __str__(self) -> str:
        how = [
            f"after {self.delay:g} s" * bool(self.delay),
            ""
            if self.pieces is None
            else f"in {self.pieces} pieces"
            if isinstance(self.pieces, int)
            else f"in pieces of {list(self.pieces)}",
            f"{self.pause:g} s apart" * bool(self.pause),
            "" if self.slowly is None else f"at {self.slowly:g} B/s",
        ]
        details = ", ".join(filter(None, how))
        return f"{self.verb} {what_is_said(self.data)}{f'  ({details})' if details else ''}"


@dataclass(frozen=True, slots=True)
class Push(Act):
    """Send something unasked, once or again and again.

    Attributes:
        data: What.
        delay: Seconds before the first time.
        times: How many times.
        every: Seconds between two of them.
    """

    data: Sayable
    delay: float = 0.0
    times: int = 1
    every: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.data, (bytes, Template, Frame, Raw)) and not callable(self.data):
            raise UsageError(
                f"push: bytes, a Template, a Frame, Raw bytes or a function can be sent, not {self.data!r}"
            )
        check_seconds("push", "delay", self.delay)
        check_seconds("push", "every", self.every)
        if not is_count(self.times):
            raise UsageError(f"push: times is a whole number from 1 up, not {self.times!r}")

    def play(self, moment: Moment) -> Iterator[Cue]:
        """The same bytes, as often as asked."""
        for number in range(self.times):
            yield Cue(said(self.data, moment, "push"), self.every if number else self.delay)

    def __str__(self) -> str:
        often = f"{self.times} times, {self.every:g} s apart" if self.times > 1 else ""
        details = ", ".join(filter(None, (f"after {self.delay:g} s" * bool(self.delay), often)))
        return f"push {what_is_said(self.data)}{f'  ({details})' if details else ''}"


@dataclass(frozen=True, slots=True)
class _End(Act):
    """Ends something.

    Attributes:
        delay: Seconds before that.
    """

    delay: float = 0.0

    carried_by: ClassVar[tuple[Transport, ...]] = ("stream",)
    ending: ClassVar[Ending] = Ending.CLOSE

    def __post_init__(self) -> None:
        check_seconds(self.ending.value, "delay", self.delay)

    def play(self, moment: Moment) -> Iterator[Cue]:
        """The end."""
        yield Cue(self.ending, self.delay)

    def __str__(self) -> str:
        return self.ending.value + (f"  (after {self.delay:g} s)" if self.delay else "")


class Shutting(_End):
    """Close the connection in order (FIN)."""

    __slots__ = ()


class HalfClosing(_End):
    """Finish sending (FIN) and go on receiving."""

    __slots__ = ()
    ending: ClassVar[Ending] = Ending.FINISH


class Reset(_End):
    """Cut the connection off (RST)."""

    __slots__ = ()
    ending: ClassVar[Ending] = Ending.RESET


class Hang(_End):
    """Say nothing more, take no notice of anything, and keep the connection open until the server is stopped."""

    __slots__ = ()
    carried_by: ClassVar[tuple[Transport, ...]] = ("stream", "datagram")
    ending: ClassVar[Ending] = Ending.HANG


@dataclass(frozen=True, slots=True)
class Garbage(Act):
    """Send random bytes: the same for the same seed.

    Attributes:
        size: How many bytes.
        delay: Seconds before that.
    """

    size: int = 64
    delay: float = 0.0

    def __post_init__(self) -> None:
        check_seconds("garbage", "delay", self.delay)
        if not is_count(self.size):
            raise UsageError(f"garbage: size is a whole number of bytes from 1 up, not {self.size!r}")

    def play(self, moment: Moment) -> Iterator[Cue]:
        """The bytes, as no message of any framing."""
        yield Cue(moment.draws.randbytes(self.size), self.delay)

    def __str__(self) -> str:
        return f"garbage, {self.size} B" + (f"  (after {self.delay:g} s)" if self.delay else "")


def said(data: Sayable, moment: Moment, verb: str) -> bytes:
    """The bytes that go to the client.

    Raises:
        UsageError: They cannot be had: no such variable, a function that returns something else, a message that the framing
            cannot say.
    """
    if isinstance(data, Raw):
        return data.data
    framing = moment.framing
    if isinstance(data, Frame):
        framing = data.framing or framing
        if framing is None:
            raise UsageError(f"{verb}: a Frame needs a framing, or a mock server that has one")
    message = _filled(data.message if isinstance(data, Frame) else data, moment.request, verb)
    if isinstance(message, Raw):
        return message.data
    return message if framing is None else framing.wrap(message)


def _filled(data: object, request: Request, verb: str) -> bytes | Raw:
    if callable(data):
        data = data(request)
    if isinstance(data, Template):
        return data.fill(request.variables)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    if isinstance(data, Raw):
        return data
    raise UsageError(f"{verb}: bytes are sent, and not {data!r}")


def check_sayable(data: object, framing: Framing | None, transport: Transport, verb: str) -> None:
    """Refuse what could never be sent, where the script is written and not when a client comes.

    Raises:
        UsageError: It says why.
    """
    if isinstance(data, Frame) and data.framing is not None:
        check_framing(data.framing, transport)
    constant = data.message if isinstance(data, Frame) else data
    if isinstance(constant, (bytes, Raw)):
        said(data, Moment(Request(b""), framing, transport, random.Random(0)), verb)  # type: ignore[arg-type]  # noqa: S311


def what_is_said(data: object) -> str:
    """As reports show it."""
    if isinstance(data, Frame):
        return f"a frame of {what_is_said(data.message)}"
    if isinstance(data, Raw):
        return f"raw {shown(data.data)}"
    if isinstance(data, Template):
        return shown(data.text)
    if isinstance(data, bytes):
        return shown(data)
    name = getattr(data, "__qualname__", None) or repr(data)
    return f"what {str(name).rpartition('<locals>.')[2]}() returns"


def check_seconds(verb: str, name: str, value: object) -> None:
    """Refuse what is no length of time.

    Raises:
        UsageError: It names the field.
    """
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise UsageError(f"{verb}: {name} is a number of seconds from 0 up, not {value!r}")


def is_count(value: object) -> bool:
    """Whether it is a whole number from 1 up."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
