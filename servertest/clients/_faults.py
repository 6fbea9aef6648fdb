"""Faults around a client: the network as this client alone sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._dial import fail_with

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .._support import Address, Transport
    from ..faults import Decision, Faults

__all__ = ("ClientFaults", "before_connect", "faults_of")


@dataclass(frozen=True, slots=True)
class ClientFaults:
    """What goes wrong around a client.

    Attributes:
        faults: Faults joined with ``|``, or their text.
        seed: Where random numbers come from.
        connection: The connection's number for triggers and random numbers, from 1.
        tell: Is told each decision.
    """

    faults: Faults
    seed: int | str
    connection: int
    tell: Callable[[Decision], None]

    def before_connect(self, transport: Transport) -> None:
        """The client is about to connect.

        Raises:
            UsageError: A fault cannot work at a client.
            OSError: The call is to fail.
        """
        from ..faults import plan, start_calls
        from ..wire._faulty_calls import CallFaults

        wanted = plan(self.faults)
        wanted.check(transport, ("line", "calls"))
        calls = CallFaults(self.connection)
        started = start_calls(
            wanted,
            seed=self.seed,
            connection=self.connection,
            transport=transport,
            opened=calls.opened,
            note=self.tell,
        )
        calls.put("", started)
        calls.before("connect")

    def around(self, sock: socket.socket) -> socket.socket:
        """The same connection behind its faults. Use the socket that is returned."""
        from ..wire import faulty

        return faulty(
            sock, self.faults, seed=self.seed, side="client", connection=self.connection, trace=self.tell
        )


def faults_of(faults: Faults, seed: int | str, connection: int) -> ClientFaults | None:
    """What the arguments of a client say; None if nothing is to go wrong, now or later."""
    if faults is None:
        return None
    from ..faults import Trace

    return ClientFaults(faults, seed, connection, Trace())


def before_connect(
    faults: Faults, seed: int | str, connection: int, transport: Transport, address: Address
) -> None:
    """A client is about to connect: refuse faults that cannot work at one, and let the call fail if one says so.

    Raises:
        UsageError: A fault cannot work at a client.
        OSError: As from connect(2).
    """
    around = faults_of(faults, seed, connection)
    assert around is not None
    try:
        around.before_connect(transport)
    except OSError as error:
        fail_with(error, address)
