"""Networks as testers name them."""

from __future__ import annotations

from collections.abc import Mapping

from ._fault import Plan

__all__ = ("presets",)


def presets() -> Mapping[str, Plan]:
    """All presets by name."""
    return {}
