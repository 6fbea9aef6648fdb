"""Where a message ends on a stream: rules that cut bytes into messages, and make bytes of messages.

A stream has no messages: what one side writes at once may arrive in pieces, and two writes in one. A framing says where
messages really end, so that a packet is never mistaken for one. It knows no socket: bytes in, messages out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from .._support import Mismatch, Transport, UsageError, count_bytes, preview

__all__ = (
    "BadFrame",
    "ByFunction",
    "Cut",
    "Cutter",
    "Datagrams",
    "Delimited",
    "FixedSize",
    "Framing",
    "LengthPrefixed",
    "WholeStream",
    "check_framing",
)

#: Nobody means a message of this size: a length that says so was not one.
MOST = 64 << 20


class BadFrame(Mismatch):
    """Bytes are no message of the framing, and will not become one."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The first message of a stream.

    Attributes:
        message: What it says, without what marks its end.
        size: How many bytes of the stream it takes.
    """

    message: bytes
    size: int


class Framing(ABC):
    """Says where messages end. A value without state: one serves any number of connections.

    Attributes:
        marks_end: Whether the end of a message can be seen before the stream ends.
    """

    marks_end: ClassVar[bool] = True

    @abstractmethod
    def cut(self, data: bytes | bytearray, *, ended: bool = False) -> Cut | None:
        """The first message, or None if it is not complete.

        Args:
            data: What has come and was not cut off yet.
            ended: Whether nothing more will come.

        Raises:
            BadFrame: Whatever comes, it cannot be a message.
        """

    @abstractmethod
    def wrap(self, message: bytes) -> bytes:
        """The bytes that stand for a message on the stream.

        Raises:
            UsageError: The message cannot be said in this framing.
        """


@dataclass(frozen=True, slots=True)
class Delimited(Framing):
    r"""Each message ends with a delimiter, which is no part of it.

    Attributes:
        delimiter: At least one byte, such as ``b"\r\n"``.
        max_size: Bytes that a message may have.
    """

    delimiter: bytes = b"\n"
    max_size: int = MOST

    def __post_init__(self) -> None:
        delimiter: object = self.delimiter
        if not isinstance(delimiter, bytes) or not delimiter:
            raise UsageError(f"Delimited: a delimiter is at least one byte, not {delimiter!r}")
        _check_size("Delimited: max_size", self.max_size, 1)

    def cut(self, data: bytes | bytearray, *, ended: bool = False) -> Cut | None:
        """Up to the first delimiter."""
        end = data.find(self.delimiter)
        if (end if end >= 0 else len(data) - len(self.delimiter) + 1) > self.max_size:
            raise BadFrame(f"no {self.delimiter!r} within {self.max_size} bytes: {preview(data)}")
        return None if end < 0 else Cut(bytes(data[:end]), end + len(self.delimiter))

    def wrap(self, message: bytes) -> bytes:
        """The message and the delimiter."""
        data = message + self.delimiter
        # Not only in the midst of it: the end of a message and the beginning of its delimiter may be one, too.
        if data.find(self.delimiter) < len(message):
            raise UsageError(
                f"a message in {self} cannot hold the delimiter, which ends it: {preview(message)}; leave it out"
            )
        return data


@dataclass(frozen=True, slots=True)
class FixedSize(Framing):
    """All messages have the same number of bytes.

    Attributes:
        size: That number, at least 1.
    """

    size: int

    def __post_init__(self) -> None:
        _check_size("FixedSize: size", self.size, 1)

    def cut(self, data: bytes | bytearray, *, ended: bool = False) -> Cut | None:
        """The first so many bytes."""
        return Cut(bytes(data[: self.size]), self.size) if len(data) >= self.size else None

    def wrap(self, message: bytes) -> bytes:
        """The message, which must have the right size."""
        if len(message) != self.size:
            raise UsageError(
                f"a message in {self} has {count_bytes(self.size)}, not {len(message)}: {preview(message)}"
            )
        return message


@dataclass(frozen=True, slots=True)
class LengthPrefixed(Framing):
    """Each message begins with its length, which is no part of it.

    Attributes:
        width: Bytes of the length, at least 1.
        order: "big" or "little".
        counts_itself: Whether the length counts its own bytes too.
        max_size: Bytes that a message may have: a length beyond that is none.
    """

    width: int = 4
    order: Literal["big", "little"] = "big"
    counts_itself: bool = False
    max_size: int = MOST

    def __post_init__(self) -> None:
        _check_size("LengthPrefixed: width", self.width, 1)
        _check_size("LengthPrefixed: max_size", self.max_size, 0)
        if self.order not in ("big", "little"):
            raise UsageError(f'LengthPrefixed: order is "big" or "little", not {self.order!r}')

    def cut(self, data: bytes | bytearray, *, ended: bool = False) -> Cut | None:
        """As many bytes as the length says."""
        if len(data) < self.width:
            return None
        said = int.from_bytes(data[: self.width], self.order)
        size = said - self._own
        if not 0 <= size <= self.max_size:
            raise BadFrame(
                f"{bytes(data[: self.width]).hex(' ')} is no length of a message in {self}: {preview(data)}"
            )
        end = self.width + size
        return Cut(bytes(data[self.width : end]), end) if len(data) >= end else None

    def wrap(self, message: bytes) -> bytes:
        """The length and the message."""
        said = len(message) + self._own
        if len(message) > self.max_size or said >= 1 << (8 * self.width):
            raise UsageError(f"a message of {count_bytes(len(message))} is too long for {self}")
        return said.to_bytes(self.width, self.order) + message

    @property
    def _own(self) -> int:
        return self.width if self.counts_itself else 0


@dataclass(frozen=True, slots=True)
class ByFunction(Framing):
    """A function says where messages end.

    Attributes:
        size: Is given what has come; returns how many bytes the first message takes, or None while that cannot be told.
            It is asked again with more; a message it has seen complete stays complete.
    """

    size: Callable[[bytes], int | None]

    def __post_init__(self) -> None:
        if not callable(self.size):
            raise UsageError(f"ByFunction: size is something to call with what has come, not {self.size!r}")

    def cut(self, data: bytes | bytearray, *, ended: bool = False) -> Cut | None:
        """As many bytes as the function says."""
        size = self.size(bytes(data))
        if size is None or size > len(data):
            return None
        if size < 1:
            raise UsageError(f"ByFunction: a message takes at least one byte, and the function said {size!r}")
        return Cut(bytes(data[:size]), size)

    def wrap(self, message: bytes) -> bytes:
        """The message as it is: the function knows where it ends."""
        return message


@dataclass(frozen=True, slots=True)
class WholeStream(Framing):
    """All that comes until the sender is done is one message."""

    marks_end: ClassVar[bool] = False

    def cut(self, data: bytes | bytearray, *, ended: bool = False) -> Cut | None:
        """Everything, once it has ended; an empty stream holds no message."""
        return Cut(bytes(data), len(data)) if ended and data else None

    def wrap(self, message: bytes) -> bytes:
        """The message as it is; what ends it is the end of the stream."""
        return message


@dataclass(frozen=True, slots=True)
class Datagrams(Framing):
    """Each datagram is a message. For datagrams alone: the pieces of a stream are cut by chance."""

    def cut(self, data: bytes | bytearray, *, ended: bool = False) -> Cut | None:
        """All of it."""
        return Cut(bytes(data), len(data))

    def wrap(self, message: bytes) -> bytes:
        """The message as it is."""
        return message


class Cutter:
    """Cuts one stream into messages, as its bytes come.

    Args:
        framing: The rule.

    Attributes:
        rest: What has come and is no whole message yet.
    """

    __slots__ = ("_ended", "_framing", "rest")

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._ended = False
        self.rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with these bytes.

        Raises:
            BadFrame: What has come is no message, and will not become one.
        """
        self.rest += data
        yield from self._messages()

    def end(self) -> Iterator[bytes]:
        """The messages that are complete now that nothing more comes.

        Raises:
            BadFrame: The stream ended in the midst of a message.
        """
        self._ended = True
        yield from self._messages()
        if self.rest:
            raise BadFrame(f"the stream ended in the midst of a message: {preview(self.rest)}")

    def _messages(self) -> Iterator[bytes]:
        while self.rest and (cut := self._framing.cut(self.rest, ended=self._ended)) is not None:
            del self.rest[: cut.size]
            yield cut.message


def check_framing(framing: object, transport: Transport) -> None:
    """Refuse what does not say where messages end on this transport.

    Raises:
        UsageError: It says what to do.
    """
    if not isinstance(framing, Framing):
        raise UsageError(
            f"framing: a Framing of servertest.transcript says where messages end, such as Delimited(b'\\n'), not {framing!r}"
        )
    if transport == "stream" and isinstance(framing, Datagrams):
        raise UsageError(
            "framing: the packets of a stream are cut by chance; say where its messages really end"
        )


def _check_size(what: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{what} is a whole number from {least} up, not {value!r}")
