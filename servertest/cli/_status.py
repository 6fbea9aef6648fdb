"""Exit statuses, told apart so that scripts can tell a finding from a breakage of ours."""

from __future__ import annotations

__all__ = ("BROKEN", "FINE", "FOUND", "INTERRUPTED", "UNHEARD", "USAGE")

FINE = 0
FOUND = 1
USAGE = 2
BROKEN = 3
INTERRUPTED = 130
UNHEARD = 141
