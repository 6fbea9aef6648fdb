"""Whether there are other processes."""

from __future__ import annotations

__all__ = ("have_processes",)


def have_processes() -> bool:
    """Whether child processes can be had. A simulation replaces this function where it runs, and says that they cannot."""
    return True
