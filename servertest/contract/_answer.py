"""Answers of which something else than bytes says whether they are right, and where they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._support import Deadline, DeadlineExceeded, Mismatch, preview
from ..transcript import Expected, Framing, matches

__all__ = ("Accepts", "Answer", "take_answer")


@dataclass(frozen=True, slots=True)
class Accepts:
    """A function that says whether an answer is right. One that raises has not said so: the answer may not be complete.

    Attributes:
        function: The function.
    """

    function: Callable[[bytes], object]

    def __call__(self, received: bytes) -> bool:
        """What it says."""
        return not self.objection(received)

    def objection(self, received: bytes) -> str:
        """Why it does not accept an answer; nothing if it does."""
        name = getattr(self.function, "__qualname__", repr(self.function)).rpartition("<locals>.")[2]
        try:
            return "" if self.function(received) else f"{name} does not accept it"
        except Exception as error:  # noqa: BLE001 - it is the author's, and says what it does not like
            return f"{name} raises {type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class Answer:
    """Wait for an answer: a step of a script, where bytes alone do not say when it is complete.

    Attributes:
        expected: What it is to be.
        framing: Where it ends. Without, it ends with the bytes with which the function accepts it.
        line: The line of the file.
    """

    expected: Expected
    framing: Framing | None = None
    line: int = 0


def take_answer(answer: Answer, client: Any) -> None:
    """Wait for it.

    Args:
        answer: What is awaited.
        client: Of streams or datagrams; its timeout holds for the whole.

    Raises:
        Mismatch: It is another one.
        OSError: It does not come, or the connection has ended.
    """
    if hasattr(client, "receive"):
        _judge(answer, client.receive())
    elif answer.framing is not None:
        _judge(answer, answer.framing.wrap(client.read_message(answer.framing)))
    else:
        _take_what_is_accepted(answer, client)


def _judge(answer: Answer, received: bytes) -> None:
    if not matches(answer.expected, received):
        raise Mismatch(f"{_why(answer.expected, received)}\nreceived {preview(received, 300)}")


def _why(expected: Expected, received: bytes) -> str:
    if isinstance(expected, Accepts):
        return expected.objection(received)
    return f"expected {expected!r}"


def _take_what_is_accepted(answer: Answer, client: Any) -> None:
    received = b""
    deadline = Deadline(client.timeout, "an answer that is accepted")
    while not matches(answer.expected, received):
        try:
            data = client.read_some(timeout=deadline.remaining())
        except DeadlineExceeded:
            if received:
                _judge(answer, received)
            raise
        if not data:
            _judge(answer, received)
        received += data
