"""The command line: `servertest check`, `serve`, `proxy`, `faults`, `kinds`. It holds no logic: what it shows is computed below it."""

from __future__ import annotations

from ._main import *

__all__ = ("main",)
