"""The relay that all faulty sockets of a process share: it is there as long as somebody needs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from ._relay import Relay

__all__ = ("Share", "keeper")


class Share:
    """Starts the relay for the first who needs it, and stops it after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._relay: Relay | None = None
        self._users = 0

    def enter(self) -> Relay:
        """The relay, for one user more."""
        with self._lock:
            if self._relay is None:
                self._relay = Relay("servertest faulty sockets")
            self._users += 1
            return self._relay

    def leave(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            relay = None
            if not self._users:
                relay, self._relay = self._relay, None
        if relay is not None:
            relay.stop()

    def abandon(self) -> None:
        """The relay is another process's, and its sockets must not stay open here."""
        if self._relay is not None:
            self._relay.abandon()


class _Keeper:
    """The share of the calling thread: that of the process, in which a forked child begins anew, or that of a world of its own.

    Attributes:
        elsewhere: Answers with the share of the world, such as a simulation, to which the calling thread belongs; None if to none.
    """

    def __init__(self) -> None:
        self.elsewhere: Callable[[], Share | None] | None = None
        self._share = Share()

    def enter(self) -> Relay:
        """See `Share.enter`."""
        return self._of_caller().enter()

    def leave(self) -> None:
        """See `Share.leave`."""
        self._of_caller().leave()

    def abandon(self) -> None:
        """In a forked child."""
        share, self._share = self._share, Share()
        share.abandon()

    def _of_caller(self) -> Share:
        found = None if self.elsewhere is None else self.elsewhere()
        return self._share if found is None else found


keeper = _Keeper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=keeper.abandon)
