"""The page on slow clients names all that there is."""

from __future__ import annotations

from pathlib import Path

from servertest.clients.behaviours import behaviours
from servertest.swarm import PROFILES

ROOT = Path(__file__).parents[2]


def test_every_behaviour_is_in_the_table() -> None:
    page = (ROOT / "docs" / "slow-clients.md").read_text(encoding="utf-8")

    assert [kind.__name__ for kind in behaviours.values() if f"| `{kind.__name__}` |" not in page] == []


def test_the_modes_of_slowhttptest_are_there() -> None:
    modes = [profile.about for profile in PROFILES.values() if "slowhttptest" in profile.about]

    assert [about.split()[1] for about in modes] == ["-H:", "-B:", "-R:", "-X:"]
