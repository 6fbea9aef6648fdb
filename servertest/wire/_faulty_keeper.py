"""The relay that all faulty sockets of a process share: it is there as long as somebody needs it."""

from __future__ import annotations

import os
import threading

from ._relay import Relay

__all__ = ("keeper",)


class _Keeper:
    """Starts the relay for the first who needs it, and stops it after the last. A forked child begins anew."""

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
        """In a forked child: the relay is the parent's, and its sockets must not stay open here."""
        relay = self._relay
        self.__init__()  # type: ignore[misc]
        if relay is not None:
            relay.abandon()


keeper = _Keeper()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=keeper.abandon)
