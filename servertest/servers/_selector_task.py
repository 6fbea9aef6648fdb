"""Request handlers that wait without holding up their thread: what they wait for, and what goes on with them afterwards.

A handler's `handle()` is a generator or a coroutine, which to the one who runs it are the same: something that stops at each `yield` (or
at an `await` that leads to one) and can be made to go on. Whatever it yields here is a Wait. A Task runs one such life from its
first step to its last:

    begin       the Wait was yielded: arrange with the loop to be called, and remember the task
    resume      called by the loop, through the Wait: go on, to the next Wait or to the end
    expire      the handler's `timeout` has passed: TimeoutError is raised where the handler waits
    forget      something else ends the wait; the task must not be called any more
    detach      the loop ends but the wait does not; the next loop has it begin once more

All of it happens in the thread of the loop, or when no loop runs, so nothing here needs a lock.
"""

from __future__ import annotations

import selectors
from time import monotonic
from types import AsyncGeneratorType, CoroutineType, GeneratorType, coroutine

from ._base import _front
from ._loop import Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, ParamSpec, Protocol, TypeVar

    from ._loop import Timer
    from ._selector_channel import Channel

    P = ParamSpec("P")
    T = TypeVar("T")

    class Steps(Generator["Wait", None, T]):
        """Something to await, or to `yield from` in a generator."""

        def __await__(self) -> Generator[Wait, None, T]: ...

    class Limits(Protocol):
        """Says, at any time, how many seconds a wait that begins now may take. A request handler is one."""

        @property
        def timeout(self) -> float | None: ...

    class Owner(Protocol):
        """Who is told how the life of a task ended."""

        def _servertest_task_ended(self, task: Task, error: BaseException | None) -> None:
            """Called inside the except block if there is an error. One that is no Exception is raised again afterwards."""


__all__ = (
    "DONE",
    "GIVE_WAY",
    "READ",
    "WRITE",
    "Ready",
    "Sleep",
    "Task",
    "Wait",
    "end",
    "is_unfinished",
    "run_alone",
    "steps",
    "waits",
)

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

#: How often a handler that was told to end may wait for something instead.
_PATIENCE = 10


if TYPE_CHECKING:

    def waits(function: Callable[P, Generator[Wait, None, T]]) -> Callable[P, Steps[T]]:
        """Mark a generator function whose result may be awaited too."""

else:
    waits = coroutine


class Wait:
    """What a handler waits for."""

    __slots__ = ()

    def begin(self, task: Task) -> None:
        """Have the loop call `task.resume()` when the time has come. An exception raised here is raised in the handler instead."""
        raise NotImplementedError

    def forget(self, task: Task) -> None:
        """The task waits no more."""

    def detach(self, task: Task) -> None:
        """The task's loop ends; begin() will be called again in the next one."""
        self.forget(task)

    def expire(self, task: Task) -> None:
        """The time that the task was to wait has passed."""
        self.forget(task)
        task.resume(TimeoutError(self.complaint(task)))

    def complaint(self, task: Task) -> str:
        """What to say when it took too long."""
        raise NotImplementedError


class Task:
    """One request handler (or TLS handshake) on its way."""

    __slots__ = (
        "_life",
        "_limits",
        "_step",
        "_timer",
        "channel",
        "client_address",
        "closing",
        "deadline",
        "loop",
        "owner",
        "request",
        "wait",
    )

    def __init__(self, life: Generator[Any, None, None], limits: Limits, client_address: Any) -> None:
        self._life = life
        self._step = life.send
        self._limits: Limits | None = limits
        self._timer: Timer | None = None
        self.client_address = client_address
        self.request: Any = None
        self.loop: Loop | None = None
        self.owner: Owner | None = None
        self.channel: Channel | None = None
        self.wait: Wait | None = None
        self.deadline: float | None = None
        self.closing = False

    @property
    def peer(self) -> str:
        """Who is at the other end, for messages."""
        return f"the client at {self.client_address!r}" if self.client_address else "the client"

    @property
    def limit(self) -> float | None:
        """The seconds that a wait may take, or None."""
        return self._limits.timeout if self._limits is not None else None

    # -- from step to step ------------------------------------------------------------------------------------------------

    def start(self, loop: Loop, owner: Owner) -> bool:
        """Take the first step. Returns whether there is something to wait for; raises what the life raises."""
        self.loop = loop
        self.owner = owner
        return self._advance(None)

    def resume(self, error: BaseException | None = None) -> None:
        """Go on, with `error` raised where the handler waits if it is given. What comes of it is the owner's business."""
        self.wait = None
        self.deadline = None
        owner = self.owner
        assert owner is not None
        try:
            if self._advance(error):
                return
        except BaseException as failure:
            error = None  # its traceback holds this frame
            owner._servertest_task_ended(self, failure)
            if not isinstance(failure, Exception):
                raise
        else:
            owner._servertest_task_ended(self, None)

    def _advance(self, error: BaseException | None) -> bool:
        while True:
            try:
                wait = self._step(None) if error is None else self._life.throw(error)
            except StopIteration:
                self._end()
                return False
            except BaseException:
                error = None
                self._end()
                raise
            if wait is None:
                wait = GIVE_WAY
            try:
                wait.begin(self)
            except Exception as problem:  # noqa: BLE001 - raised in the handler, where it belongs
                error = _explain(wait, problem)
            else:
                self.wait = wait
                return True

    def _end(self) -> None:
        self._drop_timer()
        # Handler and connection are let go of, so that they go at once and not when the garbage is collected.
        self._limits = None
        self.channel = None
        self.loop = None

    def close(self) -> None:
        """End the life where it waits, so that its finally blocks run; what these would wait for is cut short too.

        Raises:
            BaseException: what the life raised on its end; RuntimeError if it would not end.
        """
        self.closing = True
        wait, self.wait = self.wait, None
        if wait is not None and self.loop is not None:
            wait.forget(self)
        try:
            end(self._life)
        finally:
            self._end()

    # -- time -------------------------------------------------------------------------------------------------------------

    def expect(self, seconds: float | None) -> None:
        """Have the wait expire after so many seconds; None: never.

        This is called for each wait. So the timer is set only if there is none, or if it would ring too late; if it rings early, it is set again.
        """
        if seconds is None:
            return
        deadline = self.deadline = monotonic() + seconds
        timer = self._timer
        if timer is not None:
            if timer.when <= deadline:
                return
            timer.cancel()
        assert self.loop is not None
        self._timer = self.loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        deadline, wait, loop = self.deadline, self.wait, self.loop
        if deadline is None or wait is None or loop is None:
            return
        if deadline > monotonic():
            self._timer = loop.call_at(deadline, self._ring)
        else:
            wait.expire(self)

    def _drop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    # -- from loop to loop ------------------------------------------------------------------------------------------------

    def detach(self) -> None:
        """Let go of a loop that ends, while its selector still lives."""
        if self.wait is not None:
            self.wait.detach(self)
        if self.channel is not None:
            self.channel.leave_loop()
        self._drop_timer()
        self.loop = None

    def attach(self, loop: Loop) -> None:
        """Go on to wait, in another loop. The time between the two counts."""
        self.loop = loop
        wait, deadline = self.wait, self.deadline
        if self.channel is not None:
            self.channel.join_loop()
        if wait is None:
            return
        try:
            wait.begin(self)
        except Exception as problem:  # noqa: BLE001 - raised in the handler, where it belongs
            self.resume(problem)
            return
        if deadline is not None:
            self.expect(deadline - monotonic())


class _GiveWay(Wait):
    """Waits until all others have had their turn."""

    __slots__ = ()

    def begin(self, task: Task) -> None:
        loop = task.loop
        assert loop is not None

        def go_on() -> None:
            if task.wait is self and task.loop is loop:  # else it was closed, or has gone to another loop
                task.resume()

        loop.call_soon(go_on)


class Sleep(Wait):
    """Waits for some seconds, whatever the handler's timeout is."""

    __slots__ = ("_due",)

    def __init__(self, seconds: float) -> None:
        self._due = monotonic() + seconds

    def begin(self, task: Task) -> None:
        task.expect(max(self._due - monotonic(), 0.0))

    def expire(self, task: Task) -> None:
        task.resume()


class Ready(Wait):
    """Waits until a descriptor is readable or writable. Only one wait at a time for each descriptor."""

    __slots__ = ("_events", "_fd", "_loop", "_task")

    def __init__(self, fileobj: Any, events: int) -> None:
        self._fd: int = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._events = events
        self._loop: Loop | None = None
        self._task: Task | None = None

    def begin(self, task: Task) -> None:
        loop = task.loop
        assert loop is not None
        if self._fd < 0:
            raise ValueError("cannot wait for a file that is closed")
        loop.watch(self._fd, self._events, self._on_ready)
        self._loop, self._task = loop, task
        task.expect(task.limit)

    def _on_ready(self, events: int) -> None:
        task = self._task
        assert task is not None
        self.forget(task)
        task.resume()

    def forget(self, task: Task) -> None:
        loop, self._loop, self._task = self._loop, None, None
        if loop is not None:
            loop.unwatch(self._fd)

    def complaint(self, task: Task) -> str:
        what = "readable" if self._events == READ else "writable"
        return f"descriptor {self._fd} was not {what} within {task.limit} s"


GIVE_WAY: Wait = _GiveWay()


@waits
def _nothing() -> Generator[Wait, None, None]:
    return
    yield


#: An awaitable for what is done already. It has ended, so that awaiting it costs next to nothing, as often as one likes.
DONE: Steps[None] = _nothing()
next(DONE, None)


def steps(result: Any) -> Any:
    """What setup(), handle() or finish() returned, as something to `yield from`: a generator, a coroutine, or an awaitable.

    Anything else is ignored, as the standard module ignores what these methods return.

    Raises:
        TypeError: it is an asynchronous generator, which only `async for` can run.
    """
    if isinstance(result, (GeneratorType, CoroutineType)):
        return result
    if isinstance(result, AsyncGeneratorType):
        raise TypeError(
            f"{result.__qualname__}() is an asynchronous generator: use `await` in it without `yield`, "
            "or `yield from` without `async`"
        )
    return result.__await__() if hasattr(result, "__await__") else DONE


def end(work: Any) -> None:
    """Close a generator or a coroutine, and what it waits for instead of ending, too.

    Raises:
        BaseException: what it raised on its end; RuntimeError if it would not end.
    """
    for _ in range(_PATIENCE):
        try:
            work.close()
            return
        except RuntimeError:  # it ignored GeneratorExit, or so it says
            if not is_unfinished(work):
                raise
    raise RuntimeError(
        f"{work.__qualname__}() was told to end, and waited for something else {_PATIENCE} times"
    )


def is_unfinished(work: Any) -> bool:
    """Whether a generator or a coroutine has still something to do."""
    return getattr(work, "gi_frame", None) is not None or getattr(work, "cr_frame", None) is not None


def _explain(wait: Any, problem: Exception) -> Exception:
    """What to raise in the handler, when it yielded something that cannot be waited for."""
    if not isinstance(wait, Wait):
        return TypeError(
            f"handle() gave {wait!r} to the server to wait for, which the server does not know. In a generator, write `yield from "
            "self.rfile.readline()` and not `yield`; in a coroutine, await what rfile, wfile and the handler's own methods "
            "return (asyncio's need the loop of asyncio)"
        )
    if isinstance(problem, KeyError):
        return RuntimeError(f"cannot wait for the same descriptor twice at a time: {problem}")
    return problem


class _Alone:
    """The owner of a task that is seen through where no loop runs."""

    def __init__(self) -> None:
        self.over = False
        self.error: BaseException | None = None

    def _servertest_task_ended(self, task: Task, error: BaseException | None) -> None:
        self.over = True
        self.error = error


def run_alone(task: Task) -> None:
    """See a task through to its end in the calling thread, where no loop runs. Raises what it raises."""
    owner = _Alone()
    loop = Loop(())
    with _front()._ServerSelector() as selector:
        loop.selector = selector
        if not task.start(loop, owner):
            return
        try:
            loop.run_while(selector, lambda: not owner.over)
        except BaseException:
            if not owner.over:
                task.close()
            raise
    error, owner.error = owner.error, None
    if error is not None:
        try:
            raise error
        finally:
            del error  # its traceback holds this frame
