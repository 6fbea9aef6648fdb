"""What all calls on a socket of a simulation stand upon."""

from __future__ import annotations

import _socket
import errno
import socket
import struct
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._active import active, participant
from ._errors import CannotSimulate
from ._handles import DATA, failure, is_virtual
from ._locks import nanoseconds
from ._streams import StreamEnd

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("SocketBase", "kernel_of_caller", "release_sockets")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")


_FLAGS = int(getattr(socket, "SOCK_NONBLOCK", 0)) | int(getattr(socket, "SOCK_CLOEXEC", 0))
_SOL = socket.SOL_SOCKET
_BUFFERS = (socket.SO_SNDBUF, socket.SO_RCVBUF)
_TIMEOUTS = tuple(getattr(socket, name) for name in ("SO_RCVTIMEO", "SO_SNDTIMEO") if hasattr(socket, name))


class SocketBase(socket.socket):
    """What all calls on a socket of the simulation stand upon: its descriptor, its timeout, its states."""

    #: Before it has been opened.
    _sim_fd = -1

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        kernel = kernel_of_caller()
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
        all_sockets.add(self)

    def __del__(self) -> None:
        fd = SocketBase.detach(self)
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
        fd = SocketBase.detach(self)
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
        kernel = kernel_of_caller()
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


class Sockets:
    """All sockets of the simulation, to be let go of when it ends."""

    def __init__(self) -> None:
        import weakref

        self._all: weakref.WeakSet[SocketBase] = weakref.WeakSet()
        self.add = self._all.add

    def release(self) -> None:
        """They stand for nothing any more."""
        for sock in list(self._all):
            SocketBase.detach(sock)
        self._all.clear()


all_sockets = Sockets()


def _prime(sock: SocketBase, end: Any) -> None:
    """Let the part of a socket that is written in C know what it is, and have no descriptor."""
    lent = _socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        socket.socket.__init__(sock, end.family, end.kind, end.proto, lent.fileno())
        _socket.socket.detach(sock)
    finally:
        lent.close()


def release_sockets() -> None:
    """At the end of a simulation."""
    all_sockets.release()


def kernel_of_caller() -> Kernel:
    """The kernel of the thread that uses a socket.

    Raises:
        OSError: The simulation is over.
        CannotSimulate: The thread does not belong to it.
    """
    kernel = participant()
    if kernel is None:
        if active.kernel is None:
            raise failure(errno.EBADF)
        raise CannotSimulate("a socket of the simulation was used by a thread that does not belong to it")
    return kernel


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
