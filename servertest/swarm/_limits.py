"""How many descriptors a process may have."""

from __future__ import annotations

import contextlib

from .._support import UsageError

__all__ = ("SPARE", "raise_descriptor_limit", "require_descriptors")

SPARE = 64
"""Descriptors that a process needs beside those of the connections."""


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the limit of this process as far as that is allowed and needed.

    Args:
        wanted: Descriptors.

    Returns:
        How many it may have now.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return wanted if soft == unlimited else soft
    if hard != unlimited and hard < wanted:
        # Only a privileged process may do that.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
    most = wanted if hard == unlimited else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return int(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def require_descriptors(clients: int) -> None:
    """Make room for so many connections.

    Raises:
        UsageError: There is none.
    """
    allowed = raise_descriptor_limit(clients + SPARE)
    if allowed < clients + SPARE:
        raise UsageError(
            f"{clients} clients need {clients + SPARE} descriptors, and this process may have {allowed}: take at most "
            f"{max(allowed - SPARE, 0)} clients, or raise the hard limit (ulimit -Hn)"
        )
