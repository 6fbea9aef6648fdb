"""The `swarm` fixture: crowds that end with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..swarm import Crowd, swarm

if TYPE_CHECKING:
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

    def __init__(self, seed: int) -> None:
        self._seed = seed
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
            options: clients, duration, per_second, seed, probe, engine: as for `servertest.swarm.swarm`.
        """
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
