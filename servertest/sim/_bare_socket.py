"""The calls on a socket of a simulation: connecting, accepting, receiving and sending."""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..wire._faulty_calls import system_error
from ._datagrams import DatagramEnd
from ._handles import DATA, ROOM, failure
from ._socket_base import SocketBase, kernel_of_caller
from ._streams import StreamEnd

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("BareSocket",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

#: What accept() says of somebody who has come and is gone again.
_GONE = ("ECONNABORTED", "ECONNREFUSED", "EPROTO")

_DONTWAIT = int(getattr(socket, "MSG_DONTWAIT", 0))
_WAITALL = int(getattr(socket, "MSG_WAITALL", 0))
_PEEK = int(socket.MSG_PEEK)
_TRUNC = int(getattr(socket, "MSG_TRUNC", 0))


class BareSocket(SocketBase):
    """A socket of the simulation whose calls go as they are."""

    # -- the beginning

    def bind(self, address: Any, /) -> None:
        """See `socket.socket`."""
        kernel, end = self._begin()
        kernel.network.bind(end, address)
        kernel.progress()

    def listen(self, backlog: int = 128, /) -> None:
        """See `socket.socket`."""
        kernel, end = self._begin()
        if not isinstance(end, StreamEnd):
            raise failure(errno.EOPNOTSUPP)
        kernel.network.listen(end, backlog)
        kernel.progress()

    def connect(self, address: Any, /) -> None:
        """See `socket.socket`."""
        code = self._sim_connect(address)
        if code:
            raise failure(code)

    def connect_ex(self, address: Any, /) -> int:
        """See `socket.socket`."""
        try:
            return self._sim_connect(address)
        except socket.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno

    def _sim_connect(self, address: Any) -> int:
        kernel, end = self._begin()
        network = kernel.network
        kernel.progress()
        if isinstance(end, DatagramEnd):
            network.connect_datagrams(end, address)
            return 0
        code: int = network.connect(end, address)
        if code == 0 or self._sim_timeout == 0:
            return code
        until = self._sim_until(kernel, sending=True)
        if code == errno.EAGAIN:
            while network.connect(end, address) == errno.EAGAIN:
                if not end.wait("room in the backlog for", until):
                    self._sim_too_late()
            return 0
        while end.state == "connecting":
            if not end.wait(f"an answer from {network.shown(end.remote)} to", until) and (
                end.state == "connecting"
            ):
                self._sim_too_late()
        code = end.report_error()
        end.in_progress = False
        return code

    def _accept(self) -> tuple[int, Any]:
        kernel, end = self._begin()
        if not isinstance(end, StreamEnd):
            raise failure(errno.EOPNOTSUPP)
        if end.calls.active:
            self._sim_before_accept(kernel, end)
        made = self._sim_do(kernel, end, end.take_connection, "a connection to")
        kernel.network.recorder.log(f"accepts {made.number}")
        return kernel.network.descriptors.add(made), made.remote

    def _sim_before_accept(self, kernel: Kernel, end: StreamEnd) -> None:
        """Somebody has come: what may go wrong now."""
        self._sim_do(
            kernel, end, lambda: end.state != "listening" or bool(end.queue) or None, "a connection to"
        )
        for verdict in end.calls.verdicts("accept"):
            if verdict.delay:
                end.calls.wait(verdict.delay)
                kernel.network.sites.set_backlog(end)
            error = verdict.error
            if error in (None, "EINTR") or (error == "EAGAIN" and self._sim_timeout != 0):
                continue
            if error in _GONE and end.queue:
                kernel.network.turn_away(end)
            raise system_error("ECONNABORTED" if error == "ECONNREFUSED" else str(error))

    # -- receiving

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """See `socket.socket`."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        kernel, end = self._begin()
        if isinstance(end, DatagramEnd):
            return self._sim_datagram(kernel, end, flags)[0][:bufsize]
        return self._sim_receive(kernel, end, bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """See `socket.socket`."""
        with memoryview(buffer).cast("B") as view:
            size = _room(view, nbytes)
            kernel, end = self._begin()
            if isinstance(end, DatagramEnd):
                whole = self._sim_datagram(kernel, end, flags)[0]
                data = whole[:size]
                view[: len(data)] = data
                return len(whole) if flags & _TRUNC else len(data)
            data = self._sim_receive(kernel, end, size, flags)
            view[: len(data)] = data
            return len(data)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """See `socket.socket`."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        kernel, end = self._begin()
        if isinstance(end, DatagramEnd):
            data, sender = self._sim_datagram(kernel, end, flags)
            return data[:bufsize], sender or None
        return self._sim_receive(kernel, end, bufsize, flags), None

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """See `socket.socket`."""
        with memoryview(buffer).cast("B") as view:
            size = _room(view, nbytes)
            data, sender = BareSocket.recvfrom(self, size, flags)
            view[: len(data)] = data
            return len(data), sender

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[Any], int, Any]:
        """See `socket.socket`."""
        kernel, end = self._begin()
        if isinstance(end, DatagramEnd):
            whole, sender = self._sim_datagram(kernel, end, flags)
            return whole[:bufsize], [], _TRUNC if len(whole) > bufsize else 0, sender or None
        return self._sim_receive(kernel, end, bufsize, flags), [], 0, None

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[Any], int, Any]:
        """See `socket.socket`."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data, ancillary, given, sender = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        start = 0
        for view in views:
            part = data[start : start + len(view)]
            view[: len(part)] = part
            start += len(part)
        return len(data), ancillary, given, sender

    def _sim_receive(self, kernel: Kernel, end: Any, size: int, flags: int) -> bytes:
        peek = bool(flags & _PEEK)
        if flags & _WAITALL and self._sim_timeout is None and not flags & _DONTWAIT:
            return self._sim_receive_all(kernel, end, size, peek)
        data: bytes = self._sim_do(
            kernel, end, lambda: end.receive(size, peek=peek), DATA, at_once=bool(flags & _DONTWAIT)
        )
        self._sim_received(kernel, end, data, peek)
        return data

    def _sim_received(self, kernel: Kernel, end: Any, data: bytes, peek: bool) -> None:
        if not data:
            kernel.tried()  # whoever asks for more after the end, and again, is not to be waited for
        if not peek:
            kernel.network.recorder.stream(end, data, sends=False)

    def _sim_receive_all(self, kernel: Kernel, end: Any, size: int, peek: bool) -> bytes:
        whole = b""
        while len(whole) < size:
            if peek:
                enough = lambda: end.receive(size, peek=True) if _has(end, size) else None  # noqa: E731
                return bytes(self._sim_do(kernel, end, enough, DATA))
            try:
                part = self._sim_do(kernel, end, functools.partial(end.receive, size - len(whole)), DATA)
            except OSError:
                if whole:
                    break
                raise
            if not part:
                break
            whole += part
        self._sim_received(kernel, end, whole, peek=False)
        return whole

    def _sim_datagram(self, kernel: Kernel, end: DatagramEnd, flags: int) -> tuple[bytes, Any]:
        peek = bool(flags & _PEEK)
        found: tuple[bytes, Any] = self._sim_do(
            kernel, end, lambda: end.receive(peek=peek), "a datagram for", at_once=bool(flags & _DONTWAIT)
        )
        return found

    # -- sending

    def send(self, data: Any, flags: int = 0, /) -> int:
        """See `socket.socket`."""
        with memoryview(data) as given, given.cast("B") as view:
            kernel, end = self._begin()
            if isinstance(end, DatagramEnd):
                return self._sim_send_datagram(kernel, end, bytes(view), None, flags)
            sent = self._sim_do(
                kernel,
                end,
                lambda: end.transmit(view),
                ROOM,
                at_once=bool(flags & _DONTWAIT),
                sending=True,
            )
            if self._sim_timeout is None and not flags & _DONTWAIT and sent < len(view):
                sent += self._sim_send_rest(kernel, end, view[sent:])
            kernel.network.recorder.stream(end, bytes(view[:sent]), sends=True)
            return int(sent)

    def _sim_send_rest(self, kernel: Kernel, end: Any, view: memoryview) -> int:
        """A socket that blocks takes all that it is given, or as much as it can before an error."""
        sent = 0
        while sent < len(view):
            try:
                rest = view[sent:]
                sent += self._sim_do(kernel, end, functools.partial(end.transmit, rest), ROOM, sending=True)
            except OSError:
                break
        return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """See `socket.socket`."""
        with memoryview(data) as given, given.cast("B") as view:
            kernel, end = self._begin()
            if isinstance(end, DatagramEnd):
                self._sim_send_datagram(kernel, end, bytes(view), None, flags)
                return
            until = self._sim_until(kernel, sending=True)
            start = 0
            while True:
                part = view[start:]
                sent = self._sim_do(
                    kernel,
                    end,
                    functools.partial(end.transmit, part),
                    ROOM,
                    at_once=bool(flags & _DONTWAIT),
                    until=until,
                    sending=True,
                )
                kernel.network.recorder.stream(end, bytes(part[:sent]), sends=True)
                start += sent
                if start >= len(view):
                    return

    def sendto(self, data: Any, *flags_and_address: Any) -> int:
        """See `socket.socket`."""
        if not 1 <= len(flags_and_address) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(flags_and_address)} given)")
        flags = flags_and_address[0] if len(flags_and_address) == 2 else 0
        address = flags_and_address[-1]
        kernel, end = self._begin()
        if isinstance(end, DatagramEnd):
            with memoryview(data) as given:
                return self._sim_send_datagram(kernel, end, given.tobytes(), address, flags)
        if end.state == "connected" and not end.inet:
            raise failure(errno.EISCONN)
        return BareSocket.send(self, data, flags)

    def sendmsg(
        self, buffers: Iterable[Any], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None, /
    ) -> int:
        """See `socket.socket`."""
        if list(ancdata):
            raise kernel_of_caller().refuse("handing over descriptors")
        data = b"".join(memoryview(buffer).tobytes() for buffer in buffers)
        kernel, end = self._begin()
        if isinstance(end, DatagramEnd):
            return self._sim_send_datagram(kernel, end, data, address, flags)
        return BareSocket.send(self, data, flags)

    def _sim_send_datagram(
        self, kernel: Kernel, end: DatagramEnd, data: bytes, address: Any, flags: int
    ) -> int:
        self._sim_do(
            kernel,
            end,
            lambda: end.transmit(data, address) or None,
            "room for a datagram from",
            at_once=bool(flags & _DONTWAIT),
            sending=True,
        )
        return len(data)

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        # os.sendfile() knows real descriptors only; the caller then goes through send().
        raise socket._GiveupOnSendfile("a simulated socket")  # type: ignore[attr-defined]


def _has(end: StreamEnd, size: int) -> bool:
    return len(end.incoming) >= size or end.fin or bool(end.down & 1) or bool(end.pending)


def _room(view: memoryview, nbytes: int) -> int:
    if nbytes < 0:
        raise ValueError("negative buffersize in recv_into")
    if nbytes > len(view):
        raise ValueError("buffer too small for requested bytes")
    return nbytes or len(view)
