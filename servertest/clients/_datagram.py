"""The datagram client for threads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar, overload

from .._support import DEFAULT_TIMEOUT
from ._datagram_core import open_datagram
from ._faults import faults_of
from ._fronts import DatagramFront
from ._steps import run

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .._support import Address
    from ..faults import Faults
    from ._core import Data
    from ._steps import Note, Operation

__all__ = ("DatagramClient",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")


class DatagramClient(DatagramFront):
    """A client for datagram servers: UDP and Unix. Every wait has a deadline. Made by `connect`.

    ``timeout`` is, in seconds, for the whole of a call, as with `StreamClient`. A datagram that an `expect` found wrong, or
    that was too long for a `receive`, is still there for the next call.
    """

    @classmethod
    def connect(
        cls,
        address: Address,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        bind: bool = True,
        connected: bool = True,
        source: Address | None = None,
        on_deadline: Note = None,
        faults: Faults = None,
        seed: int | str = 0,
        connection: int = 1,
    ) -> Self:
        """Make a socket that talks to a server.

        Args:
            address: A ``(host, port)`` pair, a Unix path, or an abstract name (leading NUL).
            timeout: Seconds that each call may take.
            bind: Give a Unix socket a name of its own, without which no answer can reach it: a short path in a private
                directory, removed by `close`, or an abstract name if the server has one. UDP sockets always have one.
            connected: Take datagrams from the server's address only, and learn that nobody listens there. With False,
                anybody may answer, as with TFTP, where the answer comes from another port.
            source: The client's own address, instead. A Unix path is removed by `close`.
            on_deadline: Called when a deadline passes; what it returns is added to the error's message.
            faults: What goes wrong between this client and the server: `faulty` says what can.
            seed: Where faults have their random numbers from.
            connection: The number that the server has as a peer, for faults, from 1.

        Raises:
            PeerRefused: There is no such Unix server any more. On UDP the first call after `send` finds out.
            AddressError: It is no address, or a host name that cannot be resolved.
            OSError: As from connect(2) and bind(2).
        """
        operation = open_datagram(
            address,
            bind=bind,
            connected=connected,
            source=source,
            faults=faults_of(faults, seed, connection),
        )
        core = run(operation, timeout, on_deadline)
        return cls(core, timeout=timeout, on_deadline=on_deadline)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: Data, *, timeout: float | None = None) -> int:
        """Send one datagram to the server.

        Returns:
            How many bytes were sent: all of them.

        Raises:
            PeerRefused: Nobody listens there; on UDP this is about an earlier datagram.
            DeadlineExceeded: The server's queue stayed full (Unix sockets).
            OSError: As from send(2): ``EMSGSIZE`` if it is too long for one datagram.
        """
        return self._run(self._core.send(data), timeout)

    def send_to(self, data: Data, address: Address, *, timeout: float | None = None) -> int:
        """Send one datagram to another address.

        Returns:
            How many bytes were sent: all of them.

        Raises:
            PeerRefused, DeadlineExceeded, OSError: As for `send`.
        """
        return self._run(self._core.send_to(data, address), timeout)

    def receive(self, max_bytes: int = 65536, *, timeout: float | None = None) -> bytes:
        """Receive one datagram; ``b""`` is an empty one.

        Raises:
            Mismatch: It is longer than ``max_bytes``. It is not cut, but still there for the next call.
            PeerRefused: Nobody listens where the last one was sent.
            DeadlineExceeded: None came.
        """
        return self._run(self._core.receive(max_bytes), timeout)

    def receive_from(self, max_bytes: int = 65536, *, timeout: float | None = None) -> tuple[bytes, Address]:
        """Receive one datagram and tell who sent it: None for a Unix socket without a name.

        Raises:
            Mismatch, PeerRefused, DeadlineExceeded: As for `receive`.
        """
        return self._run(self._core.receive_from(max_bytes), timeout)

    @overload
    def expect(self, expected: bytes, *, timeout: float | None = None) -> bytes: ...
    @overload
    def expect(self, expected: re.Pattern[bytes], *, timeout: float | None = None) -> re.Match[bytes]: ...
    def expect(
        self, expected: bytes | re.Pattern[bytes], *, timeout: float | None = None
    ) -> bytes | re.Match[bytes]:
        """Receive one datagram that is these bytes, or that a pattern matches from its first byte to its last.

        Returns:
            The bytes, or the match.

        Raises:
            Mismatch: It is another one; the message shows where. It is still there for the next call.
            PeerRefused, DeadlineExceeded: As for `receive`.
        """
        return self._run(self._core.expect(expected), timeout)

    def close(self) -> None:
        """Close the socket and remove its path, if it has one. Twice is once."""
        self._core.close()

    def _run(self, operation: Operation[T], timeout: float | None) -> T:
        return run(operation, self.timeout if timeout is None else timeout, self.on_deadline)
