"""The `swarm` fixture: crowds that end with the test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..swarm import Crowd, swarm

if TYPE_CHECKING:
    from typing import TextIO

    import pytest

    from ..swarm import Profiled

__all__ = ("Swarms",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

_SECONDS = 10.0
"""Seconds that a crowd stays in a test where nothing else was said."""


class Swarms:
    """Sends crowds to servers. Call it as you would `servertest.swarm.swarm`.

    In a test a crowd stays ten seconds at most, unless ``duration=`` says otherwise; its seed is the test's own.
    """

    def __init__(self, seed: int, config: pytest.Config) -> None:
        self._seed = seed
        self._config = config
        self._terminal: TextIO | None = None
        self._crowds: list[Crowd] = []

    @property
    def crowds(self) -> tuple[Crowd, ...]:
        """The crowds so far, in that order."""
        return tuple(self._crowds)

    def __call__(self, server: Any, profile: Profiled, **options: Any) -> Crowd:
        """A crowd that comes to a server: use it with ``with``.

        Args:
            server: A running server, or an address.
            profile: A behaviour, several, the name of a built-in profile, plain data, a file.
            options: clients, duration, per_second, seed, probe, engine, progress: as for `servertest.swarm.swarm`;
                the progress is shown in the terminal, whatever pytest captures.
        """
        if options.get("progress") is True:
            options["progress"] = self._open_terminal()
        crowd = swarm(server, profile, most_seconds=_SECONDS, **{"seed": self._seed, **options})
        self._crowds.append(crowd)
        return crowd

    def sections(self) -> list[tuple[str, str]]:
        """Title and text for each crowd that is over, to be shown with a failed test."""
        return [
            (f"servertest swarm: {crowd.profile.name or number}", str(crowd.result))
            for number, crowd in enumerate(self._crowds, 1)
            if crowd.over
        ]

    def close(self) -> None:
        """End those that still go on."""
        for crowd in self._crowds:
            crowd.close()
        if self._terminal is not None:
            self._terminal.close()

    def _open_terminal(self) -> TextIO | bool:
        """Where progress is seen though standard error is captured; several processes of xdist have no place to share."""
        if "PYTEST_XDIST_WORKER" in os.environ:
            return False
        if self._terminal is None:
            capture = self._config.pluginmanager.getplugin("capturemanager")
            assert capture is not None
            with capture.global_and_fixture_disabled():
                self._terminal = os.fdopen(os.dup(2), "w")
        return self._terminal
