"""What a simulation replaces while it runs, for the threads that belong to it. All others get the real thing.

Functions are replaced wherever a module has them under any name: programs say `from time import monotonic`. Classes stay what they are;
`socket.socket` is told to make simulated ones.
"""

from __future__ import annotations

import _socket
import _thread
import itertools
import os
import queue
import random
import select
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._support._processes import have_processes
from ..faults import derived_seed
from ._active import active, participant
from ._handles import EventFd, PipeReader, PipeWriter, failure, is_virtual
from ._locks import SimLock, SimRLock, SimSentinel, nanoseconds
from ._polling import SimEpoll, SimPoll, select_simulated
from ._socket import BareSocket, SimSocket, release_sockets, simulated_class

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("EPOCH", "MONOTONIC", "Patches")

#: What time.time() says at the beginning: 1 January 2030, a Tuesday, 00:00 UTC.
EPOCH = 1_893_456_000

#: What time.monotonic() says then. Not 0, which programs take for "never".
MONOTONIC = 1_000

#: Modules that belong to the world outside, whatever thread they run in.
_OUTSIDE = (
    "_frozen_importlib",
    "_pytest",
    "_thread",
    "coverage",
    "execnet",
    "hypothesis",
    "importlib",
    "pluggy",
    "pytest",
    "servertest.sim",
    "xdist",
)

_Function = Callable[..., Any]


class Patches:
    """All replacements, to be put in place and taken away.

    Args:
        kernel: The kernel of the simulation.
        seed: For `random`.
    """

    def __init__(self, kernel: Kernel, seed: int | str) -> None:
        self._kernel = kernel
        self._seed = seed
        self._set: list[tuple[Any, str, Any]] = []
        self._random: Any = None
        kernel.patches = self

    def install(self) -> None:
        """Put everything in place."""
        _scan.install(_table())
        self._class(selectors.SelectSelector, "_select", staticmethod(select.select))
        for name in ("PollSelector", "EpollSelector"):
            if hasattr(selectors, name):
                cls = getattr(selectors, name)
                made = staticmethod(select.poll) if name == "PollSelector" else select.epoll
                self._class(cls, "_selector_cls", made)
        self._put(socket.socket, "__new__", _new_socket)
        for name in _GUARDED:
            if hasattr(_socket.socket, name):
                self._put(socket.socket, name, _guarded(name))
        self._put(threading, "excepthook", self._excepthook(threading.excepthook))
        self._put(threading, "_counter", itertools.count(1).__next__)
        if "ssl" in sys.modules:
            self._put_ssl(sys.modules["ssl"])
        self._random = random.getstate()
        random.seed(derived_seed(self._seed, "random"))

    def _excepthook(self, before: Any) -> Any:
        def excepthook(given: Any, /) -> Any:
            # Who is made to end does so in silence, also where a test runner listens.
            if given.exc_type is not SystemExit or not self._kernel.current.killed:
                before(given)

        return excepthook

    def _put_ssl(self, ssl: Any) -> None:
        self._put(ssl.SSLContext, "_wrap_socket", _wrap_socket)

    def notice_ssl(self) -> None:
        """A program may load the module in the middle of a simulation."""
        ssl = sys.modules.get("ssl")
        if ssl is not None and "_wrap_socket" not in vars(ssl.SSLContext):
            self._put_ssl(ssl)

    def remove(self) -> None:
        """Put everything back."""
        random.setstate(self._random)
        while self._set:
            owner, name, before = self._set.pop()
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        _scan.remove()
        release_sockets()

    def _put(self, owner: Any, name: str, value: Any) -> None:
        self._set.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def _class(self, owner: Any, name: str, value: Any) -> None:
        self._put(owner, name, value)


_ABSENT = object()


class _Scan:
    """Finds the names under which modules have what is replaced. It remembers them, for there are many modules."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int, list[str]]] = {}
        self._done: list[tuple[dict[str, Any], str, Any]] = []
        self._seen: dict[int, Any] = {}

    def install(self, table: dict[int, tuple[Any, Any]]) -> None:
        """Replace the keys' objects by the second of each pair."""
        if table.keys() != self._seen.keys():
            self._places.clear()
        self._seen = dict.fromkeys(table)
        for name, module in list(sys.modules.items()):
            try:
                variables = vars(module)
            except TypeError:
                continue
            if name.startswith(_OUTSIDE):
                continue
            for each in self._names(name, variables, table):
                original = variables.get(each)
                pair = table.get(id(original))
                if pair is not None and pair[0] is original:
                    self._done.append((variables, each, original))
                    variables[each] = pair[1]

    def _names(self, module: str, variables: dict[str, Any], table: dict[int, Any]) -> list[str]:
        known = self._places.get(module)
        if known is not None and known[:2] == (id(variables), len(variables)):
            return known[2]
        names = [name for name, value in list(variables.items()) if id(value) in table]
        self._places[module] = id(variables), len(variables), names
        return names

    def remove(self) -> None:
        """Put the originals back, also into modules that were loaded in the meantime."""
        while self._done:
            variables, name, original = self._done.pop()
            variables[name] = original
        back = {id(new): old for _, (old, new) in _table_cache.items()}
        for name, module in list(sys.modules.items()):
            if name not in self._places and not name.startswith(_OUTSIDE):
                try:
                    variables = vars(module)
                except TypeError:
                    continue
                for each, value in list(variables.items()):
                    if id(value) in back:
                        variables[each] = back[id(value)]


_scan = _Scan()
_table_cache: dict[int, tuple[Any, Any]] = {}


def _table() -> dict[int, tuple[Any, Any]]:
    """What is replaced by what, by the identity of the original."""
    if not _table_cache:
        for original, replacement in _replacements():
            _table_cache[id(original)] = (original, replacement)
    return _table_cache


def _replacements() -> list[tuple[Any, Any]]:
    pairs: list[tuple[Any, Any]] = [*_clocks(), *_threads(), *_files(), *_refusals()]
    pairs += [
        (select.select, _either(select.select, select_simulated)),
        (have_processes, _either(have_processes, lambda kernel: False)),
        (_socket.dup, _on_virtual(_socket.dup, lambda kernel, fd: _dup(kernel, fd))),
        (_socket.close, _on_virtual(_socket.close, lambda kernel, fd: kernel.network.descriptors.close(fd))),
        (_socket.getaddrinfo, _either(_socket.getaddrinfo, _getaddrinfo)),
        (_socket.gethostbyname, _either(_socket.gethostbyname, _gethostbyname)),
        (_socket.gethostname, _either(_socket.gethostname, lambda kernel: kernel.current.host.name)),
        (_socket.gethostbyaddr, _either(_socket.gethostbyaddr, _gethostbyaddr)),
        (_socket.getnameinfo, _either(_socket.getnameinfo, _getnameinfo)),
    ]
    if hasattr(_socket, "socketpair"):
        pairs.append((_socket.socketpair, _either(_socket.socketpair, _socketpair)))
    if hasattr(select, "poll"):
        pairs.append((select.poll, _either(select.poll, SimPoll)))
    if hasattr(select, "epoll"):
        pairs.append((select.epoll, _class_of(select.epoll, SimEpoll)))
    simple = getattr(queue, "_PySimpleQueue", None)
    if simple is not None and queue.SimpleQueue is not simple:
        pairs.append((queue.SimpleQueue, _class_of(queue.SimpleQueue, lambda kernel: simple())))
    return pairs


def _either(real: _Function, simulated: _Function) -> _Function:
    """A function that is the one or the other, by the thread that calls it."""

    def either(*args: Any, **keywords: Any) -> Any:
        kernel = participant()
        if kernel is None:
            return real(*args, **keywords)
        return simulated(kernel, *args, **keywords)

    either.__name__ = getattr(real, "__name__", "either")
    return either


def _on_virtual(real: _Function, simulated: _Function) -> _Function:
    """A function on descriptors: what it does depends on whose the descriptor is."""

    def on_virtual(fd: Any, *args: Any, **keywords: Any) -> Any:
        if is_virtual(fd):
            kernel = participant()
            if kernel is None:
                raise failure(9)
            return simulated(kernel, fd, *args, **keywords)
        return real(fd, *args, **keywords)

    on_virtual.__name__ = getattr(real, "__name__", "on_virtual")
    return on_virtual


def _class_of(real: Any, simulated: _Function) -> Any:
    """Stands for a class: makes the one or the other, and knows the instances of both."""

    class Meta(type):
        def __call__(cls, *args: Any, **keywords: Any) -> Any:
            kernel = participant()
            return real(*args, **keywords) if kernel is None else simulated(kernel, *args, **keywords)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, real) or type(instance) in made

        def __getattr__(cls, name: str) -> Any:
            return getattr(real, name)

        def __getitem__(cls, item: Any) -> Any:
            return cls

        def __or__(cls, other: Any) -> Any:
            return real | other

    made = tuple(
        kind
        for kind in (simulated, SimLock, getattr(queue, "_PySimpleQueue", None))
        if isinstance(kind, type)
    )
    return Meta(real.__name__, (), {"__module__": real.__module__, "__doc__": real.__doc__})


# -- clocks


def _clocks() -> list[tuple[Any, Any]]:
    pairs: list[tuple[Any, Any]] = [(time.sleep, _either(time.sleep, _sleep))]
    for name, start in (("monotonic", MONOTONIC), ("perf_counter", MONOTONIC), ("time", EPOCH)):
        for suffix in ("", "_ns"):
            real = getattr(time, name + suffix)
            pairs.append((real, _clock(real, start, suffix)))
    for name in ("localtime", "gmtime", "ctime"):
        real = getattr(time, name)
        pairs.append((real, _calendar(real)))
    for name, places in (("strftime", 1), ("asctime", 0)):
        pairs.append((getattr(time, name), _formatter(getattr(time, name), places)))
    pairs.append((os.urandom, _either(os.urandom, lambda kernel, size: random.randbytes(size))))  # noqa: S311 - it has to repeat
    return pairs


def _sleep(kernel: Kernel, seconds: float, /) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    kernel.sleep(nanoseconds(seconds))


def _clock(real: _Function, start: int, suffix: str) -> _Function:
    base = start * 1_000_000_000

    def clock() -> Any:
        kernel = participant()
        if kernel is None:
            return real()
        kernel.looked()
        return base + kernel.now if suffix else start + kernel.now / 1e9

    clock.__name__ = real.__name__
    return clock


def _calendar(real: _Function) -> _Function:
    def calendar(seconds: float | None = None, /) -> Any:
        kernel = participant()
        if seconds is None and kernel is not None:
            seconds = EPOCH + kernel.now / 1e9
        return real(seconds)

    calendar.__name__ = real.__name__
    return calendar


def _formatter(real: _Function, places: int) -> _Function:
    def formatter(*args: Any) -> Any:
        kernel = participant()
        if len(args) == places and kernel is not None:
            args = (*args, time.localtime())
        return real(*args)

    formatter.__name__ = real.__name__
    return formatter


# -- threads


def _threads() -> list[tuple[Any, Any]]:
    pairs: list[tuple[Any, Any]] = [
        (_thread.allocate_lock, _either(_thread.allocate_lock, lambda kernel: SimLock())),
        (_thread.RLock, _class_of(_thread.RLock, lambda kernel: SimRLock())),
        (_thread.get_ident, _get_ident),
        (_thread.start_new_thread, _either(_thread.start_new_thread, _start_new_thread)),
    ]
    if isinstance(threading.Lock, type):
        pairs.append((threading.Lock, _class_of(threading.Lock, lambda kernel: SimLock())))
    if hasattr(_thread, "_set_sentinel"):
        pairs.append((_thread._set_sentinel, _either(_thread._set_sentinel, _set_sentinel)))
    if hasattr(_thread, "start_joinable_thread"):
        start = _thread.start_joinable_thread
        pairs.append((start, _either(start, _start_joinable_thread)))
        handle: Any = _thread._ThreadHandle  # type: ignore[attr-defined]
        pairs.append((handle, _class_of(handle, lambda kernel: _SimThreadHandle())))
    return pairs


_real_get_ident = _thread.get_ident


def _get_ident() -> int:
    kernel = active.kernel
    ident = _real_get_ident()
    if kernel is not None and kernel.running == ident:
        return kernel.current.shown_ident
    return ident


def _start_new_thread(kernel: Kernel, function: _Function, args: Any, kwargs: Any = None, /) -> int:
    if kwargs:
        plain, function = function, lambda *given: plain(*given, **kwargs)
    thread = getattr(function, "__self__", None)
    if not isinstance(thread, threading.Thread):
        return kernel.spawn(function, tuple(args)).shown_ident
    return int(_spawn(kernel, thread, function, tuple(args)).shown_ident)


def _spawn(kernel: Kernel, thread: threading.Thread, function: _Function, args: tuple[Any, ...]) -> Any:
    inner: Any = thread
    if not isinstance(inner._started._cond._lock, SimLock):
        inner._started = threading.Event()  # made before the simulation: who starts it would wait for real
    task = kernel.spawn(function, args, thread.name)
    task.owner = thread
    limbo: Any = threading._limbo  # type: ignore[attr-defined]
    task.on_end.append(lambda: limbo.pop(thread, None))
    return task


def _set_sentinel(kernel: Kernel) -> SimSentinel:
    """The lock that Python 3.11 and 3.12 release when a thread has ended."""
    lock = SimSentinel()
    # Not through release(): a thread that has ended cannot be made to wait.
    kernel.current.on_end.append(lambda: _let_go(kernel, lock))
    return lock


def _let_go(kernel: Kernel, lock: SimLock) -> None:
    lock._locked = False
    lock._holder = None
    for task in lock._waiters:
        kernel.wake(task)
    lock._waiters.clear()


class _SimThreadHandle:
    """What Python 3.13 joins a thread by."""

    def __init__(self) -> None:
        self._lock = SimLock()
        self._done = False
        self.ident = 0

    def is_done(self) -> bool:
        """Whether the thread has ended."""
        return self._done

    def join(self, timeout: float | None = None) -> None:
        """Wait for that."""
        if self._done or participant() is None:
            return
        if self._lock.acquire(True, -1 if timeout is None else max(timeout, 0)):
            self._lock.release()

    def _set_done(self) -> None:
        self._done = True


def _start_joinable_thread(
    kernel: Kernel, function: _Function, handle: Any = None, daemon: bool = True
) -> Any:
    thread: Any = getattr(function, "__self__", None)
    if not isinstance(handle, _SimThreadHandle):
        handle = _SimThreadHandle()
        if isinstance(thread, threading.Thread):
            thread._handle = handle  # type: ignore[attr-defined]
    handle._lock._locked = True

    def end() -> None:
        handle._done = True
        _let_go(kernel, handle._lock)

    if isinstance(thread, threading.Thread):
        task = _spawn(kernel, thread, function, ())
    else:
        task = kernel.spawn(function, ())
    task.on_end.append(end)
    handle.ident = task.shown_ident
    handle._lock._holder = task
    return handle


# -- descriptors


def _files() -> list[tuple[Any, Any]]:
    pairs = [
        (os.close, _on_virtual(os.close, lambda kernel, fd: kernel.network.descriptors.close(fd))),
        (os.read, _on_virtual(os.read, _read)),
        (os.write, _on_virtual(os.write, _write)),
        (os.dup, _on_virtual(os.dup, lambda kernel, fd, *more: _dup(kernel, fd))),
        (os.set_inheritable, _on_virtual(os.set_inheritable, lambda kernel, fd, flag: None)),
        (os.get_inheritable, _on_virtual(os.get_inheritable, lambda kernel, fd: False)),
        (os.pipe, _either(os.pipe, _pipe)),
    ]
    if hasattr(os, "set_blocking"):
        pairs.append((os.set_blocking, _on_virtual(os.set_blocking, _set_blocking)))
    if hasattr(os, "pipe2"):
        pairs.append((os.pipe2, _either(os.pipe2, _pipe)))
    if hasattr(os, "eventfd"):
        pairs += [
            (os.eventfd, _either(os.eventfd, _eventfd)),
            (
                os.eventfd_read,
                _on_virtual(os.eventfd_read, lambda kernel, fd: kernel.network.handle(fd).read()),
            ),
            (os.eventfd_write, _on_virtual(os.eventfd_write, _eventfd_write)),
        ]
    if sys.platform != "win32":
        import fcntl

        pairs.append((fcntl.ioctl, _on_virtual(fcntl.ioctl, _ioctl)))
    return pairs


def _ioctl(kernel: Kernel, fd: int, request: int, buffer: Any = 0, mutate: bool = True) -> Any:
    import termios

    if request != termios.FIONREAD:
        raise kernel.refuse("ioctl()")
    end: Any = kernel.network.handle(fd)
    size = len(end.incoming) if hasattr(end, "incoming") else len(end.queue[0][0]) if end.queue else 0
    if isinstance(buffer, (bytes, bytearray)) or hasattr(buffer, "tobytes"):
        import struct

        packed = struct.pack("i", size)
        if isinstance(buffer, bytes):
            return packed
        memoryview(buffer).cast("B")[: len(packed)] = packed
    return 0


def _eventfd(kernel: Kernel, value: int, flags: int = 0) -> int:
    return int(kernel.network.descriptors.add(EventFd(value, flags)))


def _eventfd_write(kernel: Kernel, fd: int, value: int) -> None:
    kernel.network.handle(fd).write(value)
    kernel.point()


def _pipe(kernel: Kernel, flags: int = 0) -> tuple[int, int]:
    reader = PipeReader()
    writer = PipeWriter(reader)
    reader.blocking = writer.blocking = not flags & getattr(os, "O_NONBLOCK", 0)
    add = kernel.network.descriptors.add
    return add(reader), add(writer)


def _set_blocking(kernel: Kernel, fd: int, blocking: bool) -> None:
    kernel.network.handle(fd).blocking = blocking


def _read(kernel: Kernel, fd: int, size: int) -> bytes:
    handle = kernel.network.handle(fd)
    if isinstance(handle, EventFd):
        return handle.read().to_bytes(8, sys.byteorder)
    if isinstance(handle, PipeReader):
        return handle.read(size)
    return _borrowed(kernel, fd, lambda sock: sock.recv(size))  # type: ignore[no-any-return]


def _write(kernel: Kernel, fd: int, data: Any) -> int:
    handle = kernel.network.handle(fd)
    if isinstance(handle, EventFd):
        handle.write(int.from_bytes(data, sys.byteorder))
        return 8
    if isinstance(handle, PipeWriter):
        return handle.write(bytes(data))
    return _borrowed(kernel, fd, lambda sock: sock.send(data))  # type: ignore[no-any-return]


def _borrowed(kernel: Kernel, fd: int, call: _Function) -> Any:
    """Use a descriptor as a socket for one call."""
    sock = SimSocket(fileno=fd)
    sock._sim_timeout = None
    try:
        return call(sock)
    finally:
        sock.detach()


def _dup(kernel: Kernel, fd: int) -> int:
    descriptors = kernel.network.descriptors
    return int(descriptors.add(descriptors.get(fd)))


# -- sockets and names

#: Methods that would go to the system on a socket that was made outside, and not come back.
_GUARDED = (
    "_accept",
    "connect",
    "connect_ex",
    "recv",
    "recv_into",
    "recvfrom",
    "recvfrom_into",
    "recvmsg",
    "recvmsg_into",
    "send",
    "sendall",
    "sendmsg",
    "sendto",
)


def _new_socket(cls: Any, *args: Any, **keywords: Any) -> Any:
    kernel = participant()
    if kernel is None:
        return _socket.socket.__new__(cls)
    if cls is not socket.socket:
        kernel.patches.notice_ssl()
    return _socket.socket.__new__(simulated_class(cls))


def _guarded(name: str) -> _Function:
    real = getattr(_socket.socket, name)
    simulated = getattr(BareSocket, name)

    def guarded(self: Any, *args: Any, **keywords: Any) -> Any:
        if isinstance(self, BareSocket):
            # Who goes past a subclass, as in socket.socket.recv(tls_socket, 100), means the socket below.
            return simulated(self, *args, **keywords)
        kernel = participant()
        if kernel is not None:
            raise kernel.refuse("a socket that was made outside of the simulation")
        return real(self, *args, **keywords)

    guarded.__name__ = name
    return guarded


class _Detachable:
    """What `_socket.socketpair()` gives; `socket.socketpair()` takes its descriptor away."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def detach(self) -> int:
        """The descriptor."""
        return self._fd


def _socketpair(
    kernel: Kernel, family: int = socket.AF_UNIX, type: int = socket.SOCK_STREAM, proto: int = 0
) -> tuple[Any, Any]:
    if int(family) != socket.AF_UNIX:
        raise failure(95)
    network = kernel.network
    ends = [network.new_end(int(family), int(type) & 0xF, proto, kernel.current.host) for _ in range(2)]
    if int(type) & 0xF == socket.SOCK_DGRAM:
        ends[0].partner, ends[1].partner = ends[1], ends[0]
        ends[0].remote = ends[1].remote = ""
    else:
        network.join_ends(ends[0], ends[1], 0)
        ends[0].remote = ends[1].remote = ""
    first, second = (_Detachable(network.descriptors.add(end)) for end in ends)
    return first, second


def _getaddrinfo(
    kernel: Kernel, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Any]:
    passive = flags & socket.AI_PASSIVE
    if host is None and passive:
        host = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - what the system answers
    found = kernel.network.lookup(host, kernel.current.host)
    if found is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    number = _port(port)
    kinds = [
        (kind, protocol)
        for kind, protocol in ((socket.SOCK_STREAM, 6), (socket.SOCK_DGRAM, 17), (socket.SOCK_RAW, 0))
        if type in (0, kind) and proto in (0, protocol)
    ]
    if ":" in found or (family == socket.AF_INET6 and host in ("localhost", None)):
        address: Any = (found if ":" in found else "::1", number, 0, 0)
        given = socket.AF_INET6
    else:
        address, given = (found, number), socket.AF_INET
    if family not in (0, given):
        raise socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported")
    return [(int(given), int(kind), protocol, "", address) for kind, protocol in kinds]


def _port(port: Any) -> int:
    if port is None:
        return 0
    if isinstance(port, bytes):
        port = port.decode()
    if isinstance(port, int) or port.isdecimal():
        return int(port)
    return socket.getservbyname(port)


def _gethostbyname(kernel: Kernel, name: str) -> str:
    found = kernel.network.lookup(name, kernel.current.host)
    if found is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return str(found)


def _gethostbyaddr(kernel: Kernel, address: str) -> tuple[str, list[str], list[str]]:
    for host in kernel.network.hosts.values():
        if address in (host.address, host.name) or (host.name == "localhost" and address == "::1"):
            return host.name, [], [host.address]
    raise socket.herror(1, "Unknown host")


def _getnameinfo(kernel: Kernel, address: Any, flags: int) -> tuple[str, str]:
    return str(address[0]), str(address[1])


def _wrap_socket(self: Any, sock: Any, *arguments: Any, **keywords: Any) -> Any:
    import _ssl

    base: Any = _ssl._SSLContext
    if isinstance(sock, SimSocket):
        from ._tls import wrap_simulated

        return wrap_simulated(self, base._wrap_bio, sock, arguments, keywords)
    return base._wrap_socket(self, sock, *arguments, **keywords)


# -- what exists only outside


def _refusals() -> list[tuple[Any, Any]]:
    names = ("_exit", "abort", "fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "sendfile")
    pairs = [
        (getattr(os, name), _refused(getattr(os, name), f"os.{name}()"))
        for name in names
        if hasattr(os, name)
    ]
    try:
        import _posixsubprocess
    except ImportError:
        return pairs
    pairs.append((_posixsubprocess.fork_exec, _refused(_posixsubprocess.fork_exec, "a child process")))
    return pairs


def _refused(real: _Function, what: str) -> _Function:
    def refuse(kernel: Kernel, *args: Any, **keywords: Any) -> Any:
        raise kernel.refuse(what)

    return _either(real, refuse)
