"""A swarm's progress in a terminal."""

from __future__ import annotations

from importlib import util
from typing import TYPE_CHECKING, Any

from .._support import UsageError

if TYPE_CHECKING:
    from typing import TextIO

    from ._probe import Probed
    from ._progress import Progress

__all__ = ("Bar", "has_rich")


def has_rich() -> bool:
    """Whether there is what draws it."""
    return util.find_spec("rich") is not None


class Bar:
    """A line that says how far a swarm is, and goes away at the end. Where the file is no terminal nothing is shown.

    Args:
        file: The terminal.
        name: What the swarm is called.
        seconds: How long it stays at most.

    Raises:
        UsageError: rich is not installed.
    """

    def __init__(self, file: TextIO, name: str, seconds: float) -> None:
        if not has_rich():
            raise UsageError("a progress bar needs rich: install servertest[cli]")
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._seconds = seconds
        self._shown: Any = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            TextColumn("{task.fields[probe]}"),
            console=Console(file=file),
            transient=True,
            auto_refresh=False,
            disable=not file.isatty(),
        )
        self._task = self._shown.add_task(name, total=seconds, state="", probe="")
        self._shown.start()

    def update(self, progress: Progress, probe: Probed | None) -> None:
        """Show how it stands.

        Args:
            progress: The swarm.
            probe: The newest probe, if there is one.
        """
        self._shown.update(
            self._task,
            completed=min(progress.seconds, self._seconds),
            state=str(progress),
            probe="" if probe is None else _words(probe),
            refresh=True,
        )

    def end(self) -> None:
        """Take it away. Twice is once."""
        self._shown.stop()


def _words(probe: Probed) -> str:
    return f"probe {probe.latency * 1000:.0f} ms" if probe.served else "probe not served"
