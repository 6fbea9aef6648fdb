"""What the sync and the asyncio clients have in common: everything that does not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._support import DEFAULT_TIMEOUT, Deadline, UsageError, format_address
from ._core import StreamCore
from ._faults import faults_of

if TYPE_CHECKING:
    import socket
    import ssl

    from .._support import Address
    from ..faults import Faults, Plan, Trace
    from ._datagram_core import DatagramCore
    from ._faults import ClientFaults
    from ._steps import Note

__all__ = ("DatagramFront", "StreamFront")


class _Front:
    """The settings of a client and the state of its connection."""

    def __init__(
        self,
        core: StreamCore | DatagramCore,
        timeout: float,
        on_deadline: Note,
        faults: ClientFaults | None = None,
    ) -> None:
        Deadline(timeout, "each call of a client")  # refuses what is no time
        self._faults = faults
        self._any = core
        self.timeout = timeout
        self.on_deadline = on_deadline

    def __repr__(self) -> str:
        state = " closed" if self.closed else f" from {format_address(self.local_address)}"
        return f"<{type(self).__name__} of {self._any.peer}{state}>"

    @property
    def socket(self) -> socket.socket:
        """The socket beneath, non-blocking, for its options. What is read from it directly is missing here."""
        return self._any.sock

    @property
    def address(self) -> Address:
        """The peer's address."""
        return self._any.address

    @property
    def local_address(self) -> Address:
        """The client's own address."""
        return self._any.local_address

    @property
    def closed(self) -> bool:
        """Whether the client was closed or reset."""
        return self._any.shared.closed

    @property
    def hits(self) -> Trace:
        """What its faults have decided: which, when, and how.

        Raises:
            UsageError: It has no faults.
        """
        return self._faulted().tell  # type: ignore[return-value]  # it is what faults_of() has made

    @property
    def faults(self) -> Plan:
        """What goes wrong around this client. To be set, too: others take their place at once, and None heals the connection.

        Raises:
            UsageError: It was made without ``faults=``, or cannot have these.
        """
        from ..wire._faulty import faults_on

        self._faulted()
        return faults_on(self._any.sock)

    @faults.setter
    def faults(self, faults: Faults) -> None:
        from ..wire import change_faults

        self._faulted()
        change_faults(self._any.sock, faults)

    def _faulted(self) -> ClientFaults:
        if self._faults is None:
            raise UsageError(f"{self!r} was made without faults=: its connection is its own")
        return self._faults

    @property
    def received(self) -> int:
        """How many bytes have come in all; with TLS, of plain text."""
        return self._any.received

    @property
    def sent(self) -> int:
        """How many bytes the system has taken in all; with TLS, of plain text."""
        return self._any.sent


class StreamFront(_Front):
    """The part of a stream client that does not wait."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        address: Address | None = None,
        on_deadline: Note = None,
        faults: Faults = None,
        seed: int | str = 0,
        connection: int = 1,
    ) -> None:
        around = faults_of(faults, seed, connection)
        self._core = StreamCore(sock if around is None else around.around(sock), address)
        super().__init__(self._core, timeout, on_deadline, around)

    @property
    def tls(self) -> ssl.SSLObject | None:
        """TLS as OpenSSL sees it (``version()``, ``getpeercert()``, ``cipher()``); None without TLS."""
        return None if self._core.tls is None else self._core.tls.object

    @property
    def ragged_eof(self) -> bool:
        """Whether a TLS stream ended without the server's ``close_notify``: it may have been cut off (RFC 8446, 6.1).

        Reads take such an end for the end, as the standard library does by default.
        """
        return self._core.tls is not None and self._core.tls.ragged_eof


class DatagramFront(_Front):
    """The part of a datagram client that does not wait."""

    def __init__(
        self,
        core: DatagramCore,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        on_deadline: Note = None,
    ) -> None:
        super().__init__(core, timeout, on_deadline, core.faults)
        self._core = core
