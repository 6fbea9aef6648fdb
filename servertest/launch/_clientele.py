"""The clients that a test has of a server: those that it leaves open are closed with the server, and those with faults are told apart."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..faults import History

__all__ = ("Clientele",)

#: Seconds that a handler may go on with a client of ours that the test has left open, before that client is closed.
_CLIENT_GRACE = 0.25

#: Of so many clients with faults, the last ones, it is kept what their faults did.
_HISTORIES = 100

#: From so many clients on it is looked which of them are closed.
_FEW = 16


class Clientele:
    """The clients of one server.

    Attributes:
        closed: The addresses of those that were closed because the server stopped.
        histories: What the faults of the last clients that have faults did.
    """

    def __init__(self) -> None:
        self.closed: set[Any] = set()
        self.histories: deque[History] = deque(maxlen=_HISTORIES)
        self._clients: list[Any] = []
        self._sweep_at = _FEW
        self._faulty = itertools.count(1)
        self._began = monotonic()

    def number(self) -> int:
        """The number of the next client that has faults, from 1."""
        return next(self._faulty)

    def add(self, client: Any) -> None:
        """Keep the client, so that one which the test drops stays open until the stop; closed ones are not kept for long."""
        self._clients.append(client)
        if len(self._clients) >= self._sweep_at:
            self._clients = [one for one in self._clients if not one.closed]
            self._sweep_at = max(_FEW, 2 * len(self._clients))

    def note_faults(self, client: Any, settings: dict[str, Any]) -> bool:
        """Keep what the faults of a client do. Returns whether it has any."""
        if settings.get("faults") is None:
            return False
        from ..faults import History, plan

        who = f"client {settings['connection']}"
        self.histories.append(
            History(who, plan(settings["faults"]), settings["seed"], client.hits, self._began)
        )
        return True

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Close the clients that the test has left open: after the stop, or if they hold it up, a moment after its beginning."""
        left = [client for client in self._clients if not client.closed]
        self._clients.clear()
        if not left:
            yield
            return
        timer = threading.Timer(_CLIENT_GRACE, self._close, args=(left,))
        timer.daemon = True
        timer.name = "servertest closes clients"
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            self._close(left)

    def _close(self, clients: list[Any]) -> None:
        for client in clients:
            self.closed.add(client.local_address)
            client.close()
