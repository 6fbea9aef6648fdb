"""The socket class of a simulation.

It is a real `socket.socket` that the system has given no descriptor: what is not overridden here and goes to the system meets EBADF, while
`isinstance`, `makefile()`, `dup()`, `accept()`, `with` and subclasses work as they are written.
"""

from __future__ import annotations

import _socket
import errno
import functools
import socket
import struct
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ..wire._faulty_calls import FaultyCalls, system_error
from ._active import active, participant
from ._datagrams import DatagramEnd
from ._errors import CannotSimulate
from ._handles import DATA, ROOM, failure, is_virtual
from ._locks import nanoseconds
from ._streams import StreamEnd

if TYPE_CHECKING:
    from ..wire._faulty_calls import CallFaults
    from ._kernel import Kernel

__all__ = ("BareSocket", "SimSocket", "release_sockets", "simulated_class")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")

#: What accept() says of somebody who has come and is gone again.
_GONE = ("ECONNABORTED", "ECONNREFUSED", "EPROTO")

_DONTWAIT = int(getattr(socket, "MSG_DONTWAIT", 0))
_WAITALL = int(getattr(socket, "MSG_WAITALL", 0))
_PEEK = int(socket.MSG_PEEK)
_TRUNC = int(getattr(socket, "MSG_TRUNC", 0))
_FLAGS = int(getattr(socket, "SOCK_NONBLOCK", 0)) | int(getattr(socket, "SOCK_CLOEXEC", 0))
_SOL = socket.SOL_SOCKET
_BUFFERS = (socket.SO_SNDBUF, socket.SO_RCVBUF)
_TIMEOUTS = tuple(getattr(socket, name) for name in ("SO_RCVTIMEO", "SO_SNDTIMEO") if hasattr(socket, name))


class BareSocket(socket.socket):
    """A socket of the simulation whose calls go as they are."""

    #: Before it has been opened.
    _sim_fd = -1

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        kernel = _kernel()
        descriptors = kernel.network.descriptors
        default = socket.getdefaulttimeout()
        if fileno is None:
            family = socket.AF_INET if family == -1 else family
            kind = socket.SOCK_STREAM if type == -1 else type
            end = kernel.network.new_end(int(family), int(kind) & ~_FLAGS, max(proto, 0), kernel.current.host)
            fileno = descriptors.add(end)
            if int(kind) & getattr(socket, "SOCK_NONBLOCK", 0):
                default = 0.0
        elif is_virtual(fileno):
            end = descriptors.get(fileno)
        else:
            raise kernel.refuse(f"a socket on the real descriptor {fileno}")
        self._sim_end: Any = end
        self._sim_timeout: float | None = default
        self._sim_fd = fileno
        _prime(self, end)
        _all_sockets.add(self)

    def __del__(self) -> None:
        fd = BareSocket.detach(self)
        if fd < 0:
            return
        whole = active.kernel
        gone = getattr(self.__dict__.get("_sim_end"), "gone", False)  # as its machine is
        if not gone and (whole is None or not whole.ending):  # who is made to end leaves things open
            warnings.warn(
                f"unclosed <socket.socket [simulated] fd={fd}>", ResourceWarning, stacklevel=2, source=self
            )
        kernel = participant()
        if kernel is not None:
            self._sim_give_back(kernel, fd)

    def fileno(self) -> int:
        """See `socket.socket`."""
        return self._sim_fd

    def detach(self) -> int:
        """See `socket.socket`."""
        self._closed = True
        # Gone altogether: who takes the descriptor over may take the other attributes as well, and has one of its own.
        return int(self.__dict__.pop("_sim_fd", -1))

    # -- timeouts

    def settimeout(self, value: float | None, /) -> None:
        """See `socket.socket`."""
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._sim()
        self._sim_timeout = None if value is None else float(value)

    def gettimeout(self) -> float | None:
        """See `socket.socket`."""
        return self._sim_timeout

    @property
    def timeout(self) -> float | None:
        """See `socket.socket`."""
        return self._sim_timeout

    def setblocking(self, flag: bool, /) -> None:
        """See `socket.socket`."""
        self._sim()
        self._sim_timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """See `socket.socket`."""
        return self._sim_timeout != 0.0

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
            raise _kernel().refuse("handing over descriptors")
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

    # -- states

    def getsockname(self) -> Any:
        """See `socket.socket`."""
        return self._sim().local

    def getpeername(self) -> Any:
        """See `socket.socket`."""
        return self._sim().peer_name()

    def shutdown(self, how: int, /) -> None:
        """See `socket.socket`."""
        kernel, end = self._begin()
        if isinstance(end, StreamEnd) and not end.inet and end.state == "new":
            end.down |= {socket.SHUT_RD: 1, socket.SHUT_WR: 2}.get(how, 3)
            return
        end.shut(how)
        kernel.progress()

    def setsockopt(self, level: int, name: int, *value: Any) -> None:
        """See `socket.socket`."""
        end = self._sim()
        given = value[0]
        if level == _SOL and name == socket.SO_LINGER:
            given = struct.unpack("ii", given)
        elif level == _SOL and name in _TIMEOUTS:
            seconds, microseconds = struct.unpack("ll", given)
            given = seconds + microseconds / 1e6
        elif level == _SOL and name in _BUFFERS and isinstance(given, int):
            given = max(given * 2, 4608 if name == socket.SO_SNDBUF else 2304)
        end.options[level, name] = given
        if level == _SOL and name in _BUFFERS and isinstance(end, StreamEnd) and end.peer is not None:
            for wire in (end.out, end.peer.out):
                if wire is not None:
                    wire.fit()

    def getsockopt(self, level: int, name: int, *size: Any) -> Any:
        """See `socket.socket`."""
        end = self._sim()
        if level == _SOL and name == socket.SO_ERROR:
            value: Any = end.report_error()
        else:
            value = end.options.get((level, name), _default_option(end, level, name))
        if not size:
            return int(value) if isinstance(value, (bool, int, float)) else value
        if isinstance(value, tuple):
            return struct.pack("ii", *value)[: size[0]]
        return (value if isinstance(value, bytes) else struct.pack("i", int(value)))[: size[0]]

    def get_inheritable(self) -> bool:
        """See `socket.socket`."""
        return bool(self._sim().options.get("inheritable", False))

    def set_inheritable(self, inheritable: bool) -> None:
        """See `socket.socket`."""
        self._sim().options["inheritable"] = bool(inheritable)

    # -- the end

    def _real_close(self, *ignored: Any) -> None:
        fd = BareSocket.detach(self)
        kernel = participant()
        if fd >= 0 and kernel is not None:
            self._sim_give_back(kernel, fd)

    def _sim_give_back(self, kernel: Kernel, fd: int) -> None:
        if kernel.network.descriptors.find(fd) is not None:
            kernel.point()
            kernel.progress()
            kernel.network.descriptors.close(fd)

    # -- inside

    def _sim(self) -> Any:
        """What the socket stands for.

        Raises:
            OSError: It is closed; EBADF.
        """
        if self.fileno() < 0:
            raise failure(errno.EBADF)
        return self._sim_end

    def _begin(self) -> tuple[Kernel, Any]:
        """At the beginning of each call: it may be somebody else's turn first."""
        kernel = _kernel()
        kernel.point()
        if self.fileno() < 0 or kernel.network.descriptors.find(self.fileno()) is None:
            raise failure(errno.EBADF)
        return kernel, self._sim_end

    def _sim_until(self, kernel: Kernel, *, sending: bool) -> int | None:
        timeout = self._sim_timeout
        if timeout is None and self._sim_end.options:
            timeout = self._sim_end.options.get((_SOL, _TIMEOUTS[sending])) if _TIMEOUTS else None
            timeout = timeout or None
        return None if timeout is None else kernel.now + nanoseconds(timeout)

    def _sim_too_late(self) -> None:
        if self._sim_timeout is None:
            raise failure(errno.EAGAIN)  # SO_RCVTIMEO, SO_SNDTIMEO
        raise TimeoutError("timed out")

    def _sim_do(
        self,
        kernel: Kernel,
        end: Any,
        attempt: Callable[[], T | None],
        what: str,
        *,
        at_once: bool = False,
        until: int | None = None,
        sending: bool = False,
    ) -> T:
        """Try until it is done, or the time is up."""
        result = attempt()
        if result is not None:
            return result
        if self._sim_timeout == 0 or (at_once and self._sim_timeout is None):
            kernel.tried()
            if end.watcher is not None and what == DATA:
                end.watcher.has_received(None)
            raise failure(errno.EAGAIN)
        if until is None:
            until = self._sim_until(kernel, sending=sending)
        while True:
            in_time = end.wait(what, until)
            if self.fileno() < 0 and self._sim_timeout is not None:
                raise failure(errno.EBADF)
            result = attempt()
            if result is not None:
                return result
            if not in_time:
                kernel.network.recorder.log(f"has waited too long for {what} {end.name}")
                self._sim_too_late()


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
            _kernel().network.sites.begin(self._sim_end)

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
        network = _kernel().network
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


class _Sockets:
    """All sockets of the simulation, to be let go of when it ends."""

    def __init__(self) -> None:
        import weakref

        self._all: weakref.WeakSet[BareSocket] = weakref.WeakSet()
        self.add = self._all.add

    def release(self) -> None:
        """They stand for nothing any more."""
        for sock in list(self._all):
            BareSocket.detach(sock)
        self._all.clear()


_all_sockets = _Sockets()
_classes: dict[type, type] = {}


def _prime(sock: BareSocket, end: Any) -> None:
    """Let the part of a socket that is written in C know what it is, and have no descriptor."""
    lent = _socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        socket.socket.__init__(sock, end.family, end.kind, end.proto, lent.fileno())
        _socket.socket.detach(sock)
    finally:
        lent.close()


def release_sockets() -> None:
    """At the end of a simulation."""
    _all_sockets.release()


def _kernel() -> Kernel:
    kernel = participant()
    if kernel is None:
        if active.kernel is None:
            raise failure(errno.EBADF)
        raise CannotSimulate("a socket of the simulation was used by a thread that does not belong to it")
    return kernel


def _has(end: StreamEnd, size: int) -> bool:
    return len(end.incoming) >= size or end.fin or bool(end.down & 1) or bool(end.pending)


def _room(view: memoryview, nbytes: int) -> int:
    if nbytes < 0:
        raise ValueError("negative buffersize in recv_into")
    if nbytes > len(view):
        raise ValueError("buffer too small for requested bytes")
    return nbytes or len(view)


def _default_option(end: Any, level: int, name: int) -> Any:
    if level == _SOL:
        return {
            socket.SO_TYPE: int(end.kind),
            socket.SO_ACCEPTCONN: end.state == "listening",
            socket.SO_LINGER: (0, 0),
            socket.SO_SNDBUF: 212_992,
            socket.SO_RCVBUF: 212_992,
            getattr(socket, "SO_DOMAIN", -1): int(end.family),
            getattr(socket, "SO_PROTOCOL", -1): int(end.proto),
        }.get(name, 0)
    return 0
