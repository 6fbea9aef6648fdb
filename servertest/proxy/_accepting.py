"""What goes wrong where a link accepts connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..faults import PASS, start_listener
from ..faults._listener_faults import refuse_what_needs_a_server

if TYPE_CHECKING:
    from .._support import Transport
    from ..faults import Calls, Decision, Entry, Plan, Verdict

__all__ = ("Accepting", "check_faults")

#: The errors of ``accept`` after which whoever has come is gone.
_GONE = {
    "ECONNABORTED": "a fault let it be aborted before it was accepted",
    "EPROTO": "a fault let it be aborted before it was accepted",
    "ECONNREFUSED": "a fault refused it",
}

#: Those that nobody sees: the call is made again by itself.
_UNSEEN = ("EINTR", "EAGAIN")


def check_faults(faults: Plan, transport: Transport) -> None:
    """Look whether faults can be at work in a link.

    Raises:
        UsageError: One cannot; the message says why, and what to do.
    """
    faults.check(transport, ("line", "listener"))
    refuse_what_needs_a_server(faults, "a link")


class Accepting:
    """The faults of a link's listener, in groups that come and go. Lives in the relay's thread.

    A connection counts as accepted when the relay has taken it; until then it waits in the system's queue, as with a server that
    is slow to accept.

    Args:
        seed: Where random numbers come from.
        number: The number of the connection that came last.
        tell: Is told each decision.

    Attributes:
        refuses: Whether nobody is to listen.
        backlog: How long the queue may be; None for as long as usual.
    """

    def __init__(self, seed: int | str, number: Callable[[], int], tell: Callable[[Decision], None]) -> None:
        self._seed = seed
        self._number = number
        self._tell_link = tell
        self._groups: dict[str, tuple[list[Entry], Calls]] = {}
        self._listening: dict[str, Verdict] = {}
        self._verdicts: dict[str, Verdict] | None = None
        self._since = 0.0
        self._failures = 0
        self._decided: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def refuses(self) -> bool:
        return any(verdict.error is not None for verdict in self._listening.values())

    @property
    def backlog(self) -> int | None:
        limits = [verdict.limit for verdict in self._listening.values() if verdict.limit is not None]
        return min(limits, default=None)

    @property
    def hesitates(self) -> bool:
        """Whether somebody who has come already might not be taken at once."""
        return bool(self._groups.keys() - {key for key, one in self._listening.items() if one.error})

    def put(self, key: str, faults: Plan | None, now: float) -> None:
        """Let these be at work in the place of those of this key; None for none. Those that are the same go on."""
        entries = [] if faults is None else [one for one in faults if one.fault.place == "listener"]
        if key in self._groups and self._groups[key][0] == entries:
            return
        self._groups.pop(key, None)
        self._listening.pop(key, None)
        if self._verdicts is not None:
            self._verdicts.pop(key, None)
        if faults is not None and entries:
            calls = start_listener(
                faults, seed=self._seed, opened=now, note=self._tell, number=self._next_number
            )
            self._groups[key] = entries, calls
            self._listen(key, now)

    def fate(self, now: float) -> tuple[float, str | None]:
        """What becomes of whoever is next in the queue: when, and the reason if it is not accepted then."""
        if self._verdicts is None:
            self._since = now
            asked = {key: calls.before("accept", 0, now) for key, (_, calls) in self._groups.items()}
            self._verdicts = {key: verdict for key, verdict in asked.items() if verdict is not PASS}
        verdicts = self._verdicts.values()
        errors = [one.error for one in verdicts if one.error is not None and one.error not in _UNSEEN]
        return self._since + max((one.delay for one in verdicts), default=0.0), errors[0] if errors else None

    def go_on(self, error: str | None, now: float) -> str | None:
        """That has come to pass; the next in the queue, or the next attempt, is another matter.

        Returns:
            Why whoever has come is to be turned away; None if not.
        """
        waited = self._verdicts is not None and any(one.delay for one in self._verdicts.values())
        self._verdicts = None
        if waited:
            for key in [key for key, one in self._listening.items() if one.limit is not None]:
                self._listen(key, now)
        if error is not None and error not in _GONE:
            self._failures += 1
        return None if error is None else _GONE.get(error)

    def take_decided(self) -> list[str]:
        """The names of the faults that have decided on whoever has now been taken."""
        decided, self._decided = self._decided, []
        return decided

    def _listen(self, key: str, now: float) -> None:
        verdict = self._groups[key][1].before("listen", 0, now)
        self._listening.pop(key, None)
        if verdict.error is not None or verdict.limit is not None:
            self._listening[key] = verdict
        self._decided.clear()  # that was about nobody in particular

    def _next_number(self) -> int:
        return self._number() + self._failures + 1

    def _tell(self, decision: Decision) -> None:
        self._decided.append(decision.fault)
        self._tell_link(decision)
