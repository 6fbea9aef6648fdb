"""The socket class of a simulation.

It is a real `socket.socket` that the system has given no descriptor: what is not overridden here and goes to the system meets EBADF, while
`isinstance`, `makefile()`, `dup()`, `accept()`, `with` and subclasses work as they are written.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from ..wire._faulty_calls import FaultyCalls
from ._bare_socket import BareSocket
from ._socket_base import kernel_of_caller, release_sockets

if TYPE_CHECKING:
    from ..wire._faulty_calls import CallFaults

__all__ = ("BareSocket", "SimSocket", "release_sockets", "simulated_class")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

_classes: dict[type, type] = {}


class SimSocket(FaultyCalls, BareSocket):
    """What `socket.socket()` gives inside a simulation."""

    @property
    def servertest_calls(self) -> CallFaults:
        """What goes wrong in its calls: its own, or else what the network has for this end."""
        own: CallFaults | None = self.__dict__.get("_sim_calls")
        return own if own is not None else self._sim_end.calls

    @servertest_calls.setter
    def servertest_calls(self, calls: CallFaults) -> None:
        self.__dict__["_sim_calls"] = calls

    def bind(self, address: Any, /) -> None:
        """See `socket.socket`."""
        super().bind(address)
        if self.type == socket.SOCK_DGRAM:
            kernel_of_caller().network.sites.begin(self._sim_end)

    def connect(self, address: Any, /) -> None:
        """See `socket.socket`."""
        self._sim_may_connect()
        BareSocket.connect(self, address)

    def connect_ex(self, address: Any, /) -> int:
        """See `socket.socket`."""
        try:
            self._sim_may_connect()
        except OSError as error:
            return error.errno or 0
        return BareSocket.connect_ex(self, address)

    def _sim_may_connect(self) -> None:
        network = kernel_of_caller().network
        network.sites.begin(self._sim_end)
        try:
            self.servertest_calls.before("connect", timeout=self.gettimeout())
        except OSError:
            network.recorder.connections += 1  # it would have been one
            raise


def simulated_class(kind: type[socket.socket]) -> type[socket.socket]:
    """The class whose instance is made when a program makes one of `kind`: a subclass of both."""
    if issubclass(kind, SimSocket):
        return kind
    if kind is socket.socket:
        return SimSocket
    made = _classes.get(kind)
    if made is None:
        body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        made = _classes[kind] = type(kind.__name__, (kind, SimSocket), body)
    return made
