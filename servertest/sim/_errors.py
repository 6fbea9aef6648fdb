"""What a simulation has to complain of."""

# ruff: noqa: N818 (named by what happened, as all errors here)

from __future__ import annotations

from .._support import ServertestError, UsageError

__all__ = ("CannotSimulate", "Deadlock", "Livelock", "NotDeterministic", "SimulationError", "Stalled")


class SimulationError(ServertestError, RuntimeError):
    """The simulated program cannot go on."""


class Deadlock(SimulationError):
    """Everybody waits, and nothing will ever happen; the message is the table of who waits for what."""


class Livelock(SimulationError):
    """Somebody asks again and again for what cannot happen; the message is the table of who does what."""


class Stalled(SimulationError):
    """A thread of the simulation waits for something outside of it, or computes without end."""


class NotDeterministic(SimulationError):
    """The same seed gave two histories; the message shows the first line in which they differ."""


class CannotSimulate(UsageError, OSError):
    """The program asked for something that exists only outside: a process, a real socket, a name on the Internet."""
