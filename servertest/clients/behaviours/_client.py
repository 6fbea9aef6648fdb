"""The behaving client for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._support import DEFAULT_TIMEOUT
from .._core import hostname_of
from .._steps import run
from ._carrying import dial, make_role, poll_once, steps
from ._front import BehavingFront

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from typing import Self

    from ..._support import Address, Transport
    from .._steps import Note
    from ._behaviour import Behaving
    from ._outcome import Outcome

__all__ = ("BehavingClient",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class BehavingClient(BehavingFront):
    """A client that behaves as it was told, whenever it is let `run`; between the runs it does nothing."""

    @classmethod
    def connect(
        cls,
        address: Address,
        behaviour: Behaving,
        *,
        transport: Transport = "stream",
        timeout: float = DEFAULT_TIMEOUT,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        source: Address | None = None,
        on_deadline: Note = None,
        seed: int | str = 0,
        connection: int = 1,
    ) -> Self:
        """Connect to a server. With TLS, the handshake is a part of the behaviour.

        Args:
            address: A ``(host, port)`` pair, a Unix path, or an abstract name (leading NUL).
            behaviour: What it does: a value, or its text.
            transport: "stream" or "datagram".
            timeout: Seconds for connecting, and then for each run.
            tls: Speak TLS, trusting what this context trusts.
            server_hostname: The name or IP address that the certificate must be for; the address's host by default.
            source: The client's own address.
            on_deadline: Called when connecting takes too long; what it returns is added to the error's message.
            seed: Where random numbers come from.
            connection: The client's number, from 1: each number has its own random numbers.

        Raises:
            UsageError: The behaviour makes no sense there.
            PeerRefused, AddressError, DeadlineExceeded, OSError: As for `StreamClient.connect`.
        """
        chosen, role = make_role(behaviour, transport, seed, tls, server_hostname or hostname_of(address))
        dialled = run(dial(address, role, source), timeout, on_deadline)
        return cls(chosen, dialled, dialled.begin(role, connection), address, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def run(self, seconds: float | None = None) -> Outcome:
        """Carry the behaviour on, until the connection has ended or the time is up, whichever comes first.

        Args:
            seconds: How long; the client's ``timeout`` by default.

        Returns:
            How it fares.
        """
        carrying = steps(self._course, self._limit(seconds))
        need = next(carrying, None)
        while need is not None:
            try:
                need = carrying.send(poll_once(need))
            except StopIteration:
                break
        return self.outcome

    def close(self) -> None:
        """Close the connection, without waiting. Twice is once."""
        self._stop()
