"""The same over TLS: faults meet what is in the records, or the records themselves."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...wire._line import FINISHED
from .._buffer import ReceiveBuffer
from .._tls import TlsSession
from ._course import Course
from ._session import Session

if TYPE_CHECKING:
    import socket

    from ...wire._line import Output
    from ._course import Role

__all__ = ("SecureCourse",)


class SecureCourse(Course):
    """A course that speaks TLS.

    Args:
        role: What it does; it has a context.
        number: The client's number, from 1.
        sock: A socket that does not block.
        now: When it began to connect.
    """

    __slots__ = ("_buffer", "_shaken", "_tls")

    def __init__(self, role: Role, number: int, sock: socket.socket, now: float) -> None:
        super().__init__(role, number, sock, now)
        assert role.tls is not None
        self._tls = TlsSession(role.tls, role.server_hostname)
        self._buffer = ReceiveBuffer()
        self._shaken = False

    def _start(self, now: float) -> None:
        role = self.role
        if role.script.beneath_tls:
            # Records are put into its line as they come; it has nothing to say by itself.
            bare = replace(role.script, payload=b"", head=b"", repeat=0, ending="stay")
            self.session = Session(bare, role.seed, self.number, role.transport, now)
        self._shake(now)

    def _shake(self, now: float) -> None:
        try:
            self._shaken = self._tls.handshake()
        except ssl.SSLError as error:
            self._failed(error, now)
            return
        if not self._shaken:
            return
        role = self.role
        if not role.script.beneath_tls:
            self.session = Session(role.script, role.seed, self.number, role.transport, now)
            return
        for _ in range(role.script.repeat or 1):
            self._encrypt(role.script.head + role.script.payload)

    def _outgoing(self, now: float) -> Sequence[Output]:
        beneath = self.role.script.beneath_tls
        if beneath or self.session is None:
            records = self._records()
            if self.session is None:
                return records
            for record in records:
                self.session.push(record, now)
            return self.session.take(now)
        out: list[Output] = []
        for output in self.session.take(now):
            if isinstance(output, bytes):
                self._encrypt(output)
                self.sent += len(output)
                continue
            if output is FINISHED:
                self._tls.close_notify()
            out += [*self._records(), output]
        return [*out, *self._records()]

    def _records(self) -> list[bytes]:
        unsent = self._tls.unsent
        if not unsent:
            return []
        records = bytes(unsent)
        unsent.clear()
        return [records]

    def _encrypt(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.encrypt(view) :]

    def _incoming(self, data: bytes, now: float) -> None:
        self._tls.feed(data)
        if not self._shaken:
            self._shake(now)
        if not self._shaken or self.is_over():
            return
        try:
            self._tls.decrypt_into(self._buffer)
        except ssl.SSLError as error:
            self._failed(error, now)
            return
        if came := self._buffer.take(len(self._buffer)):
            self._came(came, now)
        if self._buffer.eof and not self.is_over():
            self._heard_the_end(now)

    def _failed(self, error: ssl.SSLError, now: float) -> None:
        self.error = f"TLS: {error.reason or error}"
        try:
            for alert in self._records():
                self.sock.send(alert)
        except OSError:
            pass  # the alert is a courtesy
        self.finish("failed", now)

    def _took(self, count: int) -> None:
        """Records were taken; what is in them was counted before."""

    @property
    def _done(self) -> bool:
        return super()._done and self._shaken
