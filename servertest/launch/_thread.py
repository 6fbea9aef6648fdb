"""The thread host: the server runs in a thread of the test's process, the quickest place there is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .._support import Deadline
from ._active import FORCED_GRACE, stack_of
from ._errors import HandlerError
from ._targets import title_of

if TYPE_CHECKING:
    from .._support import Address
    from ._host import Observer, Plan, Servable

__all__ = ("ThreadHost",)


class ThreadHost:
    """Builds the server in the caller, so that errors are raised there, and serves in a thread of its own.

    The thread closes the server as well, as soon as the loop has ended, for whatever reason: a server that died, or was
    shut down by its own handler, refuses clients from then on instead of letting them wait. If the loop does not end,
    because a synchronous handler does not, whoever stops the server closes it from outside at the deadline.
    """

    pid: int | None = None

    def __init__(self) -> None:
        self._servable: Servable | None = None
        self._observer: Observer | None = None
        self._thread: threading.Thread | None = None
        self._deadline: Deadline | None = None
        self._patience = 0.0
        self._closer = threading.Lock()
        self._forced: list[str] = []

    @property
    def address(self) -> Address:
        """Where clients reach the server."""
        return self._built.address

    @property
    def server(self) -> object:
        """The server object itself."""
        return self._built.server

    @property
    def _built(self) -> Servable:
        assert self._servable is not None, "the host was not started"
        return self._servable

    @property
    def alive(self) -> bool:
        """Whether the server serves."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_here(self) -> bool:
        """Whether the caller is the server: its loop, or one of its handlers."""
        works_in = getattr(self._servable, "works_in", None)
        here = threading.current_thread()
        return here is self._thread or (works_in is not None and works_in(here))

    def start(self, plan: Plan) -> None:
        """Build the server and start its thread. It is reachable at once: its socket is listening."""
        self._observer = plan.observer
        self._patience = plan.timeout
        self._servable = plan.target.build(plan)
        name = f"servertest {title_of(plan.target, plan.kind)}"
        # A daemon, in case it cannot be stopped: that is reported, and must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._servable.close(Deadline(0, "a server that never ran"))
            raise
        if (settled := self._settled) is not None:
            # Clients need not wait for it; but whoever counts descriptors must not find more of them later.
            begun = Deadline(plan.timeout, f"the loop of {title_of(plan.target, plan.kind)} to begin")
            if not settled.wait(begun.remaining()):
                error = begun.exceeded(note=self.dump())
                self.stop(Deadline(0, "a loop that does not begin"))
                raise error

    @property
    def _settled(self) -> threading.Event | None:
        """Set by servables that open descriptors when they begin to serve."""
        return getattr(self._servable, "settled", None)

    def _run(self) -> None:
        try:
            self._built.serve()
        except BaseException as error:  # noqa: BLE001 - carried to the test
            self._report(error, "serving loop")
        finally:
            if (settled := self._settled) is not None:
                settled.set()  # a loop that never began, or that nobody can look into
            if self._closer.acquire(blocking=False):
                self._close(self._deadline or Deadline(self._patience, "the handlers to end"))

    def _close(self, deadline: Deadline) -> None:
        try:
            self._forced += self._built.close(deadline)
        except BaseException as error:  # noqa: BLE001 - carried to the test
            self._report(error, "close")

    def _report(self, error: BaseException, where: str) -> None:
        if self._observer is not None:
            self._observer.failed(HandlerError.capture(error, where=where))

    def stop(self, deadline: Deadline) -> list[str]:
        """Ask the server to end, wait for it, and force it when the time is up."""
        if self._thread is None:
            return []
        self._deadline = deadline
        self._built.stop()
        self._thread.join(deadline.remaining())
        if self._thread.is_alive():
            self._force(deadline)
        forced, self._forced = self._forced, []
        return forced

    def _force(self, deadline: Deadline) -> None:
        assert self._thread is not None
        if self._closer.acquire(blocking=False):
            self._close(deadline)
            self._thread.join(FORCED_GRACE)
        else:
            # The thread is at it: it gives handlers, hooks and threads a grace each.
            self._thread.join(4 * FORCED_GRACE)
        if self._thread.is_alive() and not self._forced:
            self._forced.append(f"{self._what_holds()}:\n{stack_of(self._thread)}")

    def _what_holds(self) -> str:
        hook = getattr(self._servable, "hook", "")
        if not hook:
            return "the serving thread could not be ended"
        return f"{type(self._built.server).__name__}.{hook}() does not return"

    @property
    def faults(self) -> Any:
        """What goes wrong at the server's sockets, if anything may."""
        return getattr(self._servable, "faults", None)

    def remains(self) -> list[Any]:
        """What is still there after a stop that had to be forced: threads, and things with a descriptor."""
        remains = getattr(self._servable, "remains", None)
        threads = [self._thread] if self._thread is not None and self._thread.is_alive() else []
        return [*threads, *(() if remains is None else remains())]

    def dump(self) -> str:
        """What the server is doing."""
        if self._servable is None:
            return ""
        state = "" if self.alive else "its thread has ended\n"
        return state + self._servable.describe()
