"""Server objects that are started and stopped, and run somewhere of their own: a thread, an event loop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .._support import Deadline, UsageError
from ._active import ActivityBook, stack_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._support import Address
    from ._host import Plan

__all__ = ("StartStopServable",)


class StartStopServable:
    """Starts the object when it is made, so that errors are raised there, and stops it at the end.

    Its connections are its own: nothing is recorded, and its handlers' errors are its own affair.
    """

    def __init__(self, made: Any, plan: Plan, address: Address | None) -> None:
        self.server: object = made
        if plan.faults is not None:
            raise UsageError(
                f"faults= cannot get into {type(made).__name__}, whose sockets are its own: put a proxy in front of it"
            )
        self._made = made
        self._book = ActivityBook(plan.observer)
        self._end = threading.Event()
        self._error: BaseException | None = None
        self._stopper: threading.Thread | None = None
        starting = Deadline(plan.timeout, f"start() of {type(made).__name__} to return")
        thread = self._call(made.start)
        thread.join(starting.remaining())
        if thread.is_alive():
            raise starting.exceeded(note=stack_of(thread))
        if self._error is not None:
            raise self._error
        try:
            self.address: Address = _address_of(made, address)
        except BaseException:
            self.close(Deadline(plan.timeout, f"stop() of {type(made).__name__} to return"))
            raise

    def _call(self, method: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                method()
            except BaseException as error:  # noqa: BLE001 - carried to whoever waits for the thread
                self._error = error

        thread = threading.Thread(target=run, name=f"servertest {method.__name__}()", daemon=True)
        thread.start()
        return thread

    def serve(self) -> None:
        """Wait for the end: the object serves by itself."""
        self._end.wait()

    def stop(self) -> None:
        """Let `serve` return."""
        self._end.set()

    def close(self, deadline: Deadline) -> list[str]:
        """Call the object's `stop`; leave it behind if it does not return."""
        self.stop()
        thread = self._stopper = self._call(self._made.stop)
        thread.join(deadline.remaining())
        if thread.is_alive():
            return [f"stop() of {type(self._made).__name__} does not return:\n{stack_of(thread)}"]
        if self._error is not None:
            self._book.failed(None, self._error, where="stop")
        return []

    def remains(self) -> list[threading.Thread]:
        """The thread in which `stop` is being called and does not return."""
        return [self._stopper] if self._stopper is not None and self._stopper.is_alive() else []

    def describe(self) -> str:
        """All that is known."""
        return f"{type(self._made).__name__} runs by itself; its connections are not known"


def _address_of(made: Any, given: Address | None) -> Address:
    """Where it listens: as its attributes say, or as it was told if that left nothing open."""
    for holder in (made, getattr(made, "server", None), getattr(made, "_server", None)):
        for find in (_own_address, _first_socket, _host_and_port):
            found: Address | None = find(holder)
            if found is not None:
                return found
    if given is not None and not (isinstance(given, tuple) and given[1] == 0):
        return given
    raise UsageError(
        f"{type(made).__name__} does not say where it listens: give it an attribute server_address, or say "
        "held_port=True (to serve.factory or FactoryTarget), so that its factory gets a port number"
    )


def _own_address(holder: Any) -> Any:
    address = getattr(holder, "server_address", None)
    return address if isinstance(address, (str, bytes)) or _is_bound(address) else None


def _first_socket(holder: Any) -> Any:
    sockets = getattr(holder, "sockets", None)
    return sockets[0].getsockname() if sockets else None


def _host_and_port(holder: Any) -> Any:
    host = next((getattr(holder, name) for name in ("host", "hostname") if hasattr(holder, name)), None)
    pair = (host, getattr(holder, "port", None))
    return pair if _is_bound(pair) else None


def _is_bound(address: Any) -> bool:
    if not isinstance(address, tuple) or len(address) < 2:
        return False
    return isinstance(address[0], str) and isinstance(address[1], int) and address[1] != 0
