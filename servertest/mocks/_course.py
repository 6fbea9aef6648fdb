"""Where in its script a conversation is: what has come, what may come now, and what is owed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._script import Block, Script
    from ._step import Step

__all__ = ("Scenarios",)


class Scenarios:
    """The states of the named scenarios, which all connections of a server share."""

    def __init__(self, changed: Callable[[], object] = lambda: None) -> None:
        self._states: dict[str, str] = {}
        self._changed = changed

    def __getitem__(self, name: str) -> str:
        return self._states.get(name, "start")

    def __setitem__(self, name: str, state: str) -> None:
        self._states[name] = state
        self._changed()

    def __str__(self) -> str:
        return ", ".join(f"{name} is {state!r}" for name, state in sorted(self._states.items()))


class Course:
    """A conversation's way through its script, which may grow meanwhile. It knows nothing of bytes.

    Args:
        script: The script.
        scenarios: The states that all conversations share.

    Attributes:
        state: That of this conversation.
    """

    def __init__(self, script: Script, scenarios: Scenarios) -> None:
        self.state = "start"
        self._script = script
        self._scenarios = scenarios
        self._counts: dict[Step, int] = {}
        self._position = 0

    @property
    def owed(self) -> list[Step]:
        """The steps that have to come and have not, the server's own ones included."""
        with self._script.setting.lock:
            return [
                step
                for block in self._script.blocks[self._position :]
                for step in block.steps
                if self._owes(step)
            ]

    def count(self, step: Step) -> int:
        """How many times a step has come."""
        return self._counts.get(step, 0)

    def passed_over(self, step: Step) -> bool:
        """Whether the script has gone on without this step, which did not have to come."""
        with self._script.setting.lock:
            return any(step in block.steps for block in self._script.blocks[: self._position])

    def is_after(self, index: int | None) -> None:
        """The conversation has come to this block, or was there before; None for steps that are in none."""
        self._position = max(self._position, index or 0)

    def occurs(self, step: Step) -> None:
        """A step has come, and what it says of states holds."""
        self._counts[step] = self.count(step) + 1
        if step.next_state is not None:
            self.state = step.next_state
        for name, state in step.next_scenes.items():
            self._scenarios[name] = state

    def candidates(self) -> list[tuple[int | None, Step]]:
        """The steps that may come now, those in order first; with the number of their block."""
        script = self._script
        with script.setting.lock:
            found: list[tuple[int | None, Step]] = list(self._in_order())
            found += [(None, step) for step in script.asides if self._counts_now(step)]
            if script.fallback is not None:
                found.append((None, script.fallback))
        return found

    def _in_order(self) -> Iterator[tuple[int, Step]]:
        blocks = self._script.blocks
        for index in range(self._position, len(blocks)):
            block = blocks[index]
            if block.own is not None:
                return
            for step in block.steps:
                if self.count(step) < step.most and self._counts_now(step):
                    yield index, step
            if not self._is_satisfied(block):
                return

    def _is_satisfied(self, block: Block) -> bool:
        return all(self.count(step) >= step.least for step in block.steps)

    def _counts_now(self, step: Step) -> bool:
        return step.state in (None, self.state) and all(
            self._scenarios[name] == state for name, state in step.scenes.items()
        )

    def next_own(self) -> Step | None:
        """The step that is the server's own and is to be done now."""
        blocks = self._script.blocks
        while self._position < len(blocks):
            block = blocks[self._position]
            if block.own is not None:
                if not self._counts_now(block.own):
                    return None
                self._position += 1
                return block.own
            following = next((later for later in blocks[self._position + 1 :] if later.steps), None)
            exhausted = all(self.count(step) >= step.most for step in block.steps)
            server_goes_on = following is not None and following.own is not None and self._is_satisfied(block)
            if not exhausted and not server_goes_on:
                return None
            self._position += 1
        return None

    def _owes(self, step: Step) -> bool:
        return self.count(step) < (1 if step.matcher is None else step.least)
