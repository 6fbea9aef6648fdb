"""What has happened in a conversation that follows a script: as expected, instead of it, or in its functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._step import Step
    from ._values import Request

__all__ = ("Occurrence", "Trouble", "Unexpected")


@dataclass(eq=False, slots=True)
class Occurrence:
    """A step that has come.

    Attributes:
        step: The step.
        request: What the client has sent; empty for what the server does on its own.
        time: When.
        played: How many of the step's acts have been put into the queue.
        waiting: How many cues of each act have not been done yet.
    """

    step: Step
    request: Request
    time: float
    played: int = 0
    waiting: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"step {self.step.number}"


@dataclass(frozen=True, slots=True)
class Unexpected:
    """Something that came and that no step expected.

    Attributes:
        request: What.
        awaited: The steps that could have come instead.
        midst: Whether the client ended in the midst of it.
        state: The state that the conversation was in.
    """

    request: Request
    awaited: tuple[Step, ...]
    midst: bool
    state: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A function of the script that has raised, or a reply that could not be made.

    Attributes:
        step: The step.
        error: The exception.
        time: When.
    """

    step: Step
    error: Exception
    time: float
