"""The kernel of a simulation: whose turn it is, and what time it is.

Every task is a real thread, and one of them has the baton. Who has to wait picks the next by itself and hands the baton over, which costs one
switch of threads, and none if it is the next. When nobody can run, the clock jumps to the next timer; when there is none, nothing will ever
happen, and that is reported. Computing takes no virtual time.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import sys
import threading
from _thread import get_ident, start_new_thread
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ._errors import CannotSimulate, Deadlock, Livelock, Stalled
from ._task import ENDED, FROZEN, PARKED, READY, RUNNING, Task
from ._watchdog import Watchdog

if TYPE_CHECKING:
    from ._history import EventLog
    from ._strategies import Strategy

__all__ = ("Kernel",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

#: How much an operation that changes nothing weighs, and from when on the task is taken for one that waits by asking.
TRIED, LOOKED, TOUCHED = 100, 10, 1
_SPINNING = 10_000

#: Spins in a row without any progress after which nothing is expected any more: with no timer, and for those who look at the clock.
_LIVELOCK = 2_000
_LIVELOCK_BY_CLOCK = 200_000

_LONG_AGO = -1_000_000

#: Waits in a row that ended because their time was up, without anything else happening anywhere.
_MERE_WAITS = 2_000_000

#: Poll intervals of serving loops in a row in which nothing happened anywhere.
_IDLE_POLLS = 20_000

#: How often a task is told to end before it is left where it is.
_KILLS = 50

#: Real seconds that whoever has the baton gets to come to its next step, when somebody was interrupted.
_SEIZE = 5.0

#: The first identity of a thread that the program sees.
_FIRST_IDENT = 1_000_001


class Kernel:
    """Schedules the tasks of one simulation.

    Args:
        strategy: Decides who goes on.
        log: Takes what happens.
        patience: Real seconds after which a task that does not come back is taken for stuck.

    Attributes:
        now: Virtual nanoseconds since the simulation began.
        running: The thread that has the baton, as the system names it; 0 while nobody has.
        current: The task that has the baton.
        inside: Whether the kernel itself is at work: then nobody can be made to wait.
        failure: What ends the simulation, if something has.
        steps: How often the baton was passed or kept.
    """

    def __init__(self, strategy: Strategy, log: EventLog, patience: float = 30.0) -> None:
        self.strategy = strategy
        self.log = log
        self.now = 0
        self.running = 0
        self.inside = False
        self.ended = False
        self.ending = False
        self.failure: BaseException | None = None
        self.steps = 0
        self.tasks: list[Task] = []
        self.ready: list[Task] = []
        self.network: Any = None
        self.patches: Any = None
        self._timers: list[tuple[int, int, Any, Any]] = []
        self._sequence = itertools.count()
        self._spin = 0
        self._spun = 0
        self._looked_at = _LONG_AGO
        self._step = 0
        self._idle_polls = 0
        self._loops_sleep_until = 0
        self._mere_waits = 0
        self._settling: list[Task] = []
        self._watchdog = Watchdog(self, patience)
        self.current = self.main = Task(0, "test", None)

    # -- beginning and end

    def enter(self, host: Any) -> None:
        """The calling thread becomes the first task, and has the baton."""
        main = self.main
        main.host = host
        main.ident = main.shown_ident = get_ident()
        main.state = RUNNING
        self.tasks.append(main)
        self.running = main.ident
        self._watchdog.start()

    def leave(self) -> None:
        """End all other tasks, one by one, and stop being there."""
        self.ending = True
        for task in list(self.tasks):
            if task is not self.main and task.state not in (ENDED, FROZEN):
                self._end(task)
        self.ended = True
        self.running = 0
        self._watchdog.stop()

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Let the test's own thread do something outside of the simulation, which stands still meanwhile."""
        before, self.running = self.running, 0
        try:
            yield
        finally:
            self.running = before

    def _end(self, task: Task) -> None:
        """Have a task end by itself, whatever it does about it."""
        task.killed = True
        if task.state == PARKED:
            self._make_ready(task, woken=False)
        if task in self.ready:
            self.ready.remove(task)
        self._pass_baton(self.main, task)

    # -- tasks

    def spawn(self, function: Callable[..., object], args: tuple[Any, ...], name: str = "") -> Task:
        """Start a task. It runs when it is its turn."""
        if self.ending:
            raise RuntimeError("can't start new thread: the simulation is over")
        faults = self.current.starts and self.current.starts()
        if faults and any(verdict.error for verdict in faults.verdicts("thread")):
            raise RuntimeError("can't start new thread")
        number = len(self.tasks)
        task = Task(number, name or f"task {number}", self.current.host)
        task.shown_ident = _FIRST_IDENT + number
        self.tasks.append(task)
        task.ident = start_new_thread(self._run, (task, function, args))
        self.ready.append(task)
        self.progress()
        return task

    def _run(self, task: Task, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        task.baton.acquire()
        try:
            if not task.killed:
                function(*args)
        except SystemExit:
            pass
        except BaseException as error:  # noqa: BLE001 - as a thread does
            if not task.killed:
                hook: Any = sys.unraisablehook
                hook(_Unraisable(error, function))
        finally:
            if task.state != FROZEN:
                self._ended(task)

    def _ended(self, task: Task) -> None:
        task.state = ENDED
        task.killed = True
        for call in task.on_end:
            call()
        task.on_end.clear()
        task.owner = task.owner and _Named(task.owner.name)
        self.progress()
        if self.ending:
            self._give(self.main)
        else:
            self._give(self._pick(task))

    def kill(self, tasks: list[Task]) -> None:
        """Let these tasks end at once, as their machine has: not the one that asks."""
        for task in tasks:
            if task is not self.current and task.state not in (ENDED, FROZEN):
                task.killed = True
                if task.state == PARKED:
                    self._make_ready(task, woken=False)

    # -- waiting

    def park(self, what: Any, until: int | None = None) -> bool:
        """Wait until somebody wakes the current task.

        Args:
            what: What for, in words, or an object that says so as a string.
            until: The longest, in virtual nanoseconds since the beginning; None for ever.

        Returns:
            False if the time is up.
        """
        task = self.current
        if task.killed:
            self._die(task)
        if self.inside:
            raise CannotSimulate(f"a callback of the simulation must not wait, and waits for {what}")
        task.what = what
        task.since = self.now
        task.woken = False
        task.state = PARKED
        if until is not None:
            heapq.heappush(self._timers, (until, next(self._sequence), task, task.token))
        self._spin = 0
        self._switch(task)
        return task.woken

    def wake(self, task: Task) -> None:
        """Something has happened that a task waits for."""
        if task.state == PARKED:
            self._make_ready(task, woken=True)

    def sleep(self, nanoseconds: int) -> None:
        """Let time pass."""
        if nanoseconds <= 0:
            self.give_way()
        else:
            self.park("its time to sleep", self.now + nanoseconds)

    def call_at(self, when: int, call: Callable[[], object]) -> None:
        """Call something at a time, in the kernel: it must not wait."""
        heapq.heappush(self._timers, (max(when, self.now), next(self._sequence), None, call))

    def give_way(self) -> None:
        """Let others run first who could."""
        task = self.current
        if task.killed:
            self._die(task)
        if self.ready and not self.inside and not self.ending:
            task.state = READY
            chosen = self.strategy.next(task, self.ready)
            self.ready.remove(chosen)
            self.ready.append(task)
            self._pass_baton(task, chosen)
        else:
            self.tried()

    def settle(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Let all others go on until they wait; those who let others go on as well are not waited for.

        Args:
            stop: Says when that is enough.
        """
        self._settling.append(self.current)
        try:
            while not stop() and any(task not in self._settling for task in self.ready):
                self.give_way()
        finally:
            self._settling.remove(self.current)

    def point(self, kind: str = "io") -> None:
        """The current task is about to do something that others may notice: it may have to make way."""
        if not self.ready or self.inside or self.ending:
            return
        task = self.current
        chosen = self.strategy.interrupt(task, self.ready, kind)
        if chosen is not None and not task.killed:
            if self.strategy.tells:
                self.log.add(self.now, task.title, f"makes way for {chosen.title}{_place(task)}")
            task.state = READY
            self.ready.remove(chosen)
            self.ready.append(task)
            self._pass_baton(task, chosen)

    # -- those who wait by asking

    def progress(self) -> None:
        """Something has happened."""
        self._spin = self._spun = self._step = 0
        self._idle_polls = self._loops_sleep_until = self._mere_waits = 0
        self._looked_at = _LONG_AGO

    def tried(self) -> None:
        """Something was asked for that is not there yet."""
        self._spin += TRIED
        if self._spin >= _SPINNING:
            self._spins()

    def looked(self) -> None:
        """The time was asked for."""
        self._spin += LOOKED
        self._looked_at = self._spun
        if self._spin >= _SPINNING:
            self._spins()

    def touched(self) -> None:
        """A lock was taken that was free: those who ask again and again for what stands behind it do no more than that."""
        self._spin += TOUCHED
        if self._spin >= _SPINNING:
            self._spins()

    def _spins(self) -> None:
        """The current task goes round and round: let the others go on, or time."""
        if self.inside or self.ending or self.current.killed:
            self._spin = 0
            return
        self._spin = _SPINNING - 1_000
        self._spun += 1
        task = self.current
        if self.ready and self._spun % (len(self.ready) + 2):
            self.give_way()
            return
        due = self._next_due()
        looks = self._spun - self._looked_at < 3
        if self._spun > (_LIVELOCK_BY_CLOCK if looks else _LIVELOCK):
            raise Livelock(self.table("somebody asks again and again, and nothing happens any more"))
        if due is not None or looks:
            self._step = min(max(self._step * 2, 1_000_000), 100_000_000)
            until = self.now + self._step
            if due is not None and (due < until or not looks):
                until = max(due, self.now + 1)
            spun, looked = self._spun, self._looked_at
            self.park("time to pass, asking again and again", until)
            self._spun, self._looked_at, self._spin = spun, looked, _SPINNING - 1_000
            task.what = ""

    def polled_in_vain(self, task: Task) -> None:
        """A serving loop has looked around and found nothing to do."""
        self._idle_polls += 1
        if self._idle_polls <= _IDLE_POLLS + 2_000 * len(self.tasks):
            return
        awaited = self._awaited_time()
        if awaited is not None:
            self._loops_sleep_until = awaited  # a wait of years shall not take years
        else:
            self._idle_polls = 0
            self._fail(Deadlock(self.table("nobody can go on; only serving loops look around now and then")))
            if self.main.state == PARKED:
                self._make_ready(self.main, woken=False)

    def in_loop_until(self, until: int) -> int:
        """How long a serving loop may wait: longer than it wants to, if nothing has happened for very long."""
        return max(until, self._loops_sleep_until)

    def _awaited_time(self) -> int | None:
        """The first time that something else than a serving loop waits for."""
        return min(
            (
                when
                for when, _, owner, token in self._timers
                if owner is None or (owner.token == token and not owner.polls)
            ),
            default=None,
        )

    def sleepers(self) -> list[Task]:
        """Who goes on by itself when its time has come; the test is not among them."""
        return [
            owner
            for _, _, owner, token in self._timers
            if owner is not None and owner is not self.main and owner.token == token
        ]

    def crossed_locks(self) -> list[Task]:
        """Tasks each of which waits for a lock that the next one has; none if there are no such."""
        for first in self.tasks:
            chain: list[Task] = []
            task: Task | None = first
            while task is not None and task.state == PARKED and task not in chain:
                chain.append(task)
                task = getattr(task.what, "holder", None)
            if task is not None and task in chain:
                return chain[chain.index(task) :]
        return []

    # -- passing the baton

    def _switch(self, task: Task) -> None:
        chosen = self._pick(task)
        if chosen is task:
            task.state = RUNNING
            self.steps += 1
            self._resume(task)
        else:
            self._pass_baton(task, chosen)

    def _pass_baton(self, task: Task, chosen: Task) -> None:
        self._give(chosen)
        try:
            task.baton.acquire()
        except BaseException:
            # A signal handler has raised, in a thread that does not have its turn.
            self._seize(task)
            raise
        self._resume(task)

    def _give(self, chosen: Task) -> None:
        self.steps += 1
        self.current = chosen
        chosen.state = RUNNING
        self.running = chosen.ident
        chosen.baton.release()

    def _resume(self, task: Task) -> None:
        if task.failure is not None:
            failure, task.failure = task.failure, None
            raise failure
        if task.killed:
            self._die(task)

    def _die(self, task: Task) -> None:
        task.kills += 1
        if task.kills > _KILLS:
            task.state = FROZEN
            _unregister(task)
            self._give(self.main if self.ending else self._pick(task))
            task.baton.acquire()  # for ever: its program does not let it end
        # Exactly this class: of no other does a thread end in silence.
        raise SystemExit("the simulation of this thread is over")

    def _seize(self, task: Task) -> None:
        """Take the baton back from whoever has it, at its next step."""
        self._fail(Stalled("the simulation was interrupted"))
        if task.state == PARKED:
            self._make_ready(task, woken=False)
        task.failure = None
        self.interrupted = task
        if not task.baton.acquire(timeout=_SEIZE):
            if (
                self.current is not task
            ):  # else it had just come, and the handler was called as soon as it had
                self._abandon(self.current)
            self.interrupted = None
            if task in self.ready:
                self.ready.remove(task)
            self.current = task
            self.running = task.ident
            task.state = RUNNING

    interrupted: Task | None = None

    def _abandon(self, holder: Task) -> None:
        holder.state = FROZEN
        holder.killed = True
        holder.kills = _KILLS
        _unregister(holder)

    def _pick(self, task: Task) -> Task:
        """Who is next; time goes on if nobody can run."""
        while True:
            if self.interrupted is not None and self.interrupted.state == READY:
                chosen, self.interrupted = self.interrupted, None
                self.ready.remove(chosen)
                return chosen
            timers = self._timers
            while timers and timers[0][0] <= self.now:
                self._fire()
            ready = self.ready
            if ready:
                chosen = self.strategy.next(task, ready) if len(ready) > 1 else ready[0]
                ready.remove(chosen)
                return chosen
            due = self._next_due()
            if due is None:
                self._fail(Deadlock(self.table("nobody can ever go on")))
                self._make_ready(self.main, woken=False)
            else:
                self.now = due

    def _next_due(self) -> int | None:
        timers = self._timers
        while timers:
            when, _, owner, token = timers[0]
            if owner is None or owner.token == token:
                return when
            heapq.heappop(timers)
        return None

    def _fire(self) -> None:
        _, _, owner, token = heapq.heappop(self._timers)
        if owner is None:
            self.inside = True
            try:
                token()
            except BaseException as error:  # noqa: BLE001 - raised in the test
                self._fail(error)
                if self.main.state == PARKED:
                    self._make_ready(self.main, woken=False)
            finally:
                self.inside = False
        elif owner.token == token:
            self._make_ready(owner, woken=False)
            self._mere_waits += 1
            if self._mere_waits > _MERE_WAITS:
                self._mere_waits = 0
                self._fail(Livelock(self.table("time passes and passes, and nothing else happens any more")))
                if self.main.state == PARKED:
                    self._make_ready(self.main, woken=False)

    def _make_ready(self, task: Task, *, woken: bool) -> None:
        task.token += 1
        task.woken = woken
        task.state = READY
        self.ready.append(task)
        if woken:
            self._spun = self._step = 0
            self._idle_polls = self._loops_sleep_until = self._mere_waits = 0
            self._looked_at = _LONG_AGO

    # -- what goes wrong

    def _fail(self, error: BaseException) -> None:
        """Let the test know."""
        if self.failure is None:
            self.failure = error
        if self.main.failure is None:
            self.main.failure = error

    def refuse(self, what: str) -> CannotSimulate:
        """What to raise where something exists only outside; the test gets to know it, whoever catches it."""
        error = CannotSimulate(f"{what} cannot be simulated")
        if self.failure is None:
            self.failure = error
        return error

    def table(self, headline: str) -> str:
        """Who waits for what, for people."""
        rows = [task.row(self.now) for task in self.tasks if task.state != ENDED]
        return f"{headline}, at {self.now / 1e9:g} s:\n" + "\n".join(f"  {row}" for row in rows)

    @property
    def activity(self) -> int:
        """Changes whenever a thread asks for something, also if that is nothing new."""
        return self._spin + self._spun

    def leave_behind(self, holder: Task, error: Stalled) -> None:
        """Give the baton of a task that does not come back to the test. Called by nobody's task."""
        self._abandon(holder)
        self._fail(error)
        main = self.main
        if main.state == PARKED:
            main.token += 1
        if main in self.ready:
            self.ready.remove(main)
        self._give(main)


def _unregister(task: Task) -> None:
    """A thread that is left behind goes by the name that the system has for it: there is no simulation to tell it another."""
    known: Any = threading._active  # type: ignore[attr-defined]
    thread = known.pop(task.shown_ident, None)
    if thread is not None:
        known[task.ident] = thread
        thread._ident = task.ident


def _place(task: Task) -> str:
    frame = task.frame()
    if frame is None:
        return ""
    return f" at {frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


class _Named:
    """What is left of a thread that has ended: its name. The thread itself may hold much."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Unraisable:
    """What `sys.unraisablehook` takes."""

    def __init__(self, error: BaseException, function: Any) -> None:
        self.exc_type = type(error)
        self.exc_value = error
        self.exc_traceback = error.__traceback__
        self.err_msg = "Exception ignored in thread started by"
        self.object = function
