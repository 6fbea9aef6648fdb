"""A plain function that gets the listening socket, or the bound datagram socket, and does the rest itself."""

from __future__ import annotations

import errno
import functools
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

from ._active import ActivityBook, stack_of
from ._listener import StoppableListener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._support import Address, Deadline
    from ._faults import ServerFaults
    from ._host import Plan
    from ._wakeup import Wakeup

__all__ = ("FunctionServable",)


class FunctionServable:
    """Runs the function; to stop it, its socket fails under it, and its connections see end of file.

    What the function raises after that is the end that was asked for, and no error.
    """

    def __init__(self, function: Callable[[Any], object], plan: Plan) -> None:
        assert plan.listener is not None
        self.server: object = function
        self._function = function
        self._book = ActivityBook(plan.observer)
        self._wakeup: Wakeup | None = None
        self._thread: threading.Thread | None = None
        self.address = cast("Address", plan.listener.getsockname())
        self.faults = None if plan.faults is None else _faults(plan)
        self._socket = (
            self._datagram_socket(plan) if plan.kind.transport == "datagram" else self._listener(plan)
        )

    def _listener(self, plan: Plan) -> socket.socket:
        assert plan.listener is not None
        handshake = None
        if plan.tls is not None:
            from ._handshake import Handshake

            handshake = Handshake(plan.tls)
            self._wakeup = handshake.cancelled
        return StoppableListener(plan.listener, self._book, handshake=handshake, faults=self.faults)

    def _datagram_socket(self, plan: Plan) -> socket.socket:
        assert plan.listener is not None
        sock = plan.listener if self.faults is None else self.faults.datagrams(plan.listener)
        sock = self._book.observe_datagrams(sock)
        receiving = ("recv", "recvfrom", "recv_into", "recvfrom_into", "recvmsg")
        methods = {
            name: self._until_stopped(getattr(type(sock), name)) for name in receiving if hasattr(sock, name)
        }
        # The same object as an instance of a subclass: it is still a socket, and a recording one if it was.
        sock.__class__ = type("StoppableDatagramSocket", (type(sock),), {"__slots__": (), **methods})
        return sock

    def _until_stopped(self, receive: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(receive)
        def receive_until_stopped(*args: Any, **kwargs: Any) -> Any:
            result = None
            try:
                if not self._book.stopping:
                    result = receive(*args, **kwargs)
            except OSError:
                if not self._book.stopping:
                    raise
            if self._book.stopping:
                raise OSError(errno.EBADF, "servertest has stopped this server")
            return result

        return receive_until_stopped

    def serve(self) -> None:
        """Run the function to its end."""
        self._thread = threading.current_thread()
        try:
            self._function(self._socket)
        except OSError:
            if not self._book.stopping:
                raise

    def stop(self) -> None:
        """End the function's wait for clients."""
        self._book.stop()
        if self._wakeup is not None:
            self._wakeup.fire()
        if self.faults is not None:
            self.faults.interrupt()
        if isinstance(self._socket, StoppableListener):
            self._socket.interrupt()
        else:
            self._interrupt_datagrams()

    def _interrupt_datagrams(self) -> None:
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RD)
        except OSError:
            pass  # Linux says "not connected" and wakes the receiver all the same

    def close(self, deadline: Deadline) -> list[str]:
        """Close the socket; if the function still runs, shut its connections down first."""
        self.stop()
        forced = []
        if (
            self._thread is not None
            and self._thread.is_alive()
            and self._thread is not threading.current_thread()
        ):
            self._book.forget_closed()
            told = f"the function {self._name} did not return:\n{stack_of(self._thread)}"
            forced = ["\n".join(filter(None, (told, self._book.describe())))]
            self._book.force()
        self._socket.close()
        if self.faults is not None:
            self.faults.finish(deadline)
        if self._wakeup is not None:
            self._wakeup.close()
        return forced

    def remains(self) -> Iterator[Any]:
        """Connections that the function did not let go of when it was to end."""
        yield from (one.connection for one in self._book if one.connection is not None)

    @property
    def _name(self) -> str:
        return getattr(self._function, "__qualname__", repr(self._function))

    def describe(self) -> str:
        """Where the function is, and its connections."""
        self._book.forget_closed()
        parts = [self._book.describe()]
        if self._thread is not None:
            parts.insert(0, f"the function {self._name}:\n{stack_of(self._thread)}")
        return "\n".join(part for part in parts if part)


def _faults(plan: Plan) -> ServerFaults:
    from ._faults import ServerFaults

    faults = ServerFaults(plan.faults, plan)  # type: ignore[arg-type]  # only where there are some
    faults.begin()
    return faults
