"""A thread of the simulation."""

from __future__ import annotations

import sys
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

__all__ = ("ENDED", "FROZEN", "PARKED", "READY", "RUNNING", "Task")

READY, RUNNING, PARKED, ENDED, FROZEN = "ready", "runs", "waits", "ended", "frozen"

#: Frames of these say nothing about what a thread does.
_INNER = ("/threading.py", "/selectors.py", "/socket.py", "/socketserver.py", "/queue.py")

_SIMULATION, _PACKAGE = __file__.rpartition("/")[0], __file__.rpartition("/sim/")[0]


class Task:
    """A real thread that runs only while it holds the baton.

    Attributes:
        number: From 0, in the order in which they were started; 0 is the test itself.
        name: What it is called in tables.
        baton: Locked; whoever releases it lets this task run.
        ident: The identity of the thread for the system.
        shown_ident: The one that the program sees: the same in each run.
        host: The simulated machine that it runs on.
        what: What it waits for.
        since: Since when, in nanoseconds of virtual time.
        state: One of the five.
        token: Changes whenever a wait ends, so that a timer knows whether it is still wanted.
        woken: Whether the last wait ended because of an event, not because its time was up.
        decisions: How often it was asked who shall go on: a place in the schedule.
        killed: Whether it is to end.
        kills: How often it has been told.
        failure: What to raise in it when it goes on.
        on_end: Is called when it has ended.
        starts: Tells what goes wrong when it starts threads.
    """

    __slots__ = (
        "baton",
        "decisions",
        "failure",
        "host",
        "ident",
        "killed",
        "kills",
        "name",
        "number",
        "on_end",
        "owner",
        "polls",
        "shown_ident",
        "since",
        "starts",
        "state",
        "token",
        "what",
        "woken",
    )

    def __init__(self, number: int, name: str, host: Any) -> None:
        self.number = number
        self.name = name
        self.baton = allocate_lock()
        self.baton.acquire()
        self.ident = 0
        self.shown_ident = 0
        self.host = host
        self.what: Any = ""
        self.since = 0
        self.state = READY
        self.token = 0
        self.woken = False
        self.polls = 0
        self.decisions = 0
        self.killed = False
        self.kills = 0
        self.failure: BaseException | None = None
        self.on_end: list[Any] = []
        self.owner: Any = None
        self.starts: Any = None

    def __repr__(self) -> str:
        return f"<Task {self.number} {self.title} {self.state}>"

    @property
    def title(self) -> str:
        """Its name; a thread may have been given another since it was started."""
        return str(getattr(self.owner, "name", None) or self.name)

    def frame(self) -> FrameType | None:
        """Where it is: the innermost frame that is the program's own."""
        innermost = sys._current_frames().get(self.ident)
        for own in (_PACKAGE, _SIMULATION):
            frame = innermost
            while frame is not None:
                if not frame.f_code.co_filename.startswith(own) and not frame.f_code.co_filename.endswith(
                    _INNER
                ):
                    return frame
                frame = frame.f_back
        return innermost

    def row(self, now: int) -> str:
        """A line of the table of who waits for what."""
        frame = self.frame()
        place = ""
        if frame is not None:
            file = frame.f_code.co_filename.rpartition("/")[2]
            place = f", at {file}:{frame.f_lineno} in {frame.f_code.co_name}"
        if self.state == PARKED:
            doing = f"waits for {self.what} since {(now - self.since) / 1e9:g} s"
        else:
            doing = {READY: "could run", RUNNING: "runs"}.get(self.state, self.state)
        return f"{self.title}: {doing}{place}"
