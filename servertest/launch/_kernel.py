"""What the operating system knows of this process: its descriptors, sockets and children.

Linux answers from /proc, without a helper and in microseconds. Elsewhere descriptors are found by asking about each
number, and children by ps(1), which is run only when the system says that there are any.

Nothing here waits for a peer, reaps a child or changes a socket: all of it may be asked about things that belong to
somebody else, in the middle of a hang.
"""

from __future__ import annotations

import _socket
import os
import select
import shlex
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._support import format_address

__all__ = (
    "ProcessFacts",
    "SocketFacts",
    "children",
    "descriptors",
    "end_of_pipe",
    "identity",
    "process_facts",
    "socket_facts",
    "started",
)

_PROC = "/proc"
_MOST_NUMBERS = 1024
_PS = ("/bin/ps", "-A", "-o", "pid=,ppid=,stat=,args=")
_PS_SECONDS = 2.0

# The numbers of tcp(7)'s TCP_INFO (include/net/tcp_states.h), in the words of RFC 9293, section 3.3.2.
_TCP_STATES = {
    1: "ESTABLISHED",
    2: "SYN-SENT (nobody has answered yet)",
    3: "SYN-RECEIVED",
    4: "FIN-WAIT-1 (closed here, the peer has not acknowledged it)",
    5: "FIN-WAIT-2 (closed here, the peer has not closed)",
    6: "TIME-WAIT",
    7: "CLOSED",
    8: "CLOSE-WAIT (the peer has closed, this side has not)",
    9: "LAST-ACK (closed by both, the peer has not acknowledged it)",
    10: "LISTEN",
    11: "CLOSING",
}

_INET_SORTS: dict[int, str] = {socket.SOCK_STREAM: "TCP", socket.SOCK_DGRAM: "UDP"}
_UNIX_SORTS: dict[int, str] = {socket.SOCK_STREAM: "Unix stream", socket.SOCK_DGRAM: "Unix datagram"}

_STRANGE = "family"  # whose addresses tell nothing: netlink, vsock, packet, ...

# proc_pid_stat(5), field 3.
_PROCESS_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "in uninterruptible sleep",
    "Z": "a zombie: it has exited and nobody has waited for it",
    "T": "stopped by a signal",
    "t": "stopped by a tracer",
    "I": "idle",
    "X": "dead",
}


# -- descriptors


def descriptors() -> dict[int, str]:
    """The open descriptors of this process, each with what it refers to, as readlink(2) on /proc/self/fd tells it.

    ``socket:[17]`` and ``pipe:[18]`` name one object of the kernel; ``anon_inode:[eventpoll]`` names only a sort;
    anything else is a path. Without /proc all are named ``sort:[device:inode]``.
    """
    try:
        directory = os.open(f"{_PROC}/self/fd", os.O_RDONLY | os.O_DIRECTORY)
    except (OSError, AttributeError):  # no /proc, no O_DIRECTORY, or no descriptor left to look with
        return _descriptors_by_number()
    try:
        return _read_links(directory)
    finally:
        os.close(directory)


def _read_links(directory: int) -> dict[int, str]:
    found = {}
    readlink = os.readlink
    for name in os.listdir(directory):
        try:
            found[int(name)] = readlink(name, dir_fd=directory)
        except OSError:  # closed since: above all listdir's own
            continue
    found.pop(directory, None)
    return found


def _descriptors_by_number() -> dict[int, str]:
    found = {}
    for number in range(_most_numbers()):
        try:
            found[number] = identity(number)
        except OSError:
            continue
    return found


def _most_numbers() -> int:
    if sys.platform == "win32":
        return _MOST_NUMBERS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_NUMBERS if soft < 0 else min(soft, _MOST_NUMBERS)


def identity(number: int) -> str:
    """What one descriptor refers to, in the notation of `descriptors`.

    Raises:
        OSError: It is not open.
    """
    try:
        return os.readlink(f"{_PROC}/self/fd/{number}")
    except OSError:
        facts = os.fstat(number)
    return f"{_sort(facts.st_mode)}:[{facts.st_dev}:{facts.st_ino}]"


def end_of_pipe(number: int) -> str:
    """Which end of a pipe a descriptor is: "read", "write", or "unknown" where that cannot be told."""
    if sys.platform == "win32":
        return "unknown"
    import fcntl

    try:
        return "write" if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY else "read"
    except OSError:
        return "unknown"


def _sort(mode: int) -> str:
    sorts = {
        stat.S_IFSOCK: "socket",
        stat.S_IFIFO: "pipe",
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFCHR: "device",
    }
    return sorts.get(stat.S_IFMT(mode), "descriptor")


# -- sockets


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """A socket as the kernel sees it.

    Attributes:
        descriptor: Its number.
        protocol: "TCP", "UDP", "Unix stream", "Unix datagram", "family AF_NETLINK", ...
        local: Its own address, None if it has none yet.
        peer: The address it is connected to, None if it is not.
        listening: Whether it accepts connections.
        state: The state of a connection in words, "" where there is nothing to tell.
        unread: Bytes (for datagrams: of the next one) that have come and have not been read; None if unknown.
        unsent: Bytes written to a TCP connection that the peer has not acknowledged; None if unknown.
        queue: Of a listening TCP socket: connections that wait for accept(), and how many may.
    """

    descriptor: int
    protocol: str
    local: Any = None
    peer: Any = None
    listening: bool = False
    state: str = ""
    unread: int | None = None
    unsent: int | None = None
    queue: tuple[int, int] | None = None

    @property
    def title(self) -> str:
        """What it is, in a phrase: ``TCP connection 127.0.0.1:80 -> 127.0.0.1:4711``."""
        if self.protocol.startswith(_STRANGE):
            return f"{self.protocol} socket"
        if self.listening:
            return f"{self.protocol} socket listening on {format_address(self.local)}"
        if self.local == self.peer == "":
            return f"one end of a {self.protocol} socket pair"
        if self.peer is not None:
            return f"{self.protocol} connection {format_address(self.local)} -> {format_address(self.peer)}"
        if self.has_address:
            return f"{self.protocol} socket bound to {format_address(self.local)}"
        return f"{self.protocol} socket, neither bound nor connected"

    @property
    def has_address(self) -> bool:
        """Whether it is bound to an address that others could use."""
        return bool(self.local) and not (isinstance(self.local, tuple) and self.local[1] == 0)

    @property
    def details(self) -> str:
        """Its state and its queues, or ""."""
        parts = [self.state] if self.state else []
        if self.queue is not None:
            parts.append("{} waiting to be accepted (at most {})".format(*self.queue))
        if self.unread is not None:
            parts.append(f"{self.unread} bytes not read")
        if self.unsent:
            parts.append(f"{self.unsent} bytes not acknowledged")
        return "; ".join(parts)


def socket_facts(subject: socket.socket | int) -> SocketFacts | None:
    """What the kernel knows of a socket, given the object or its descriptor; None if it is closed or no socket."""
    number = subject if isinstance(subject, int) else subject.fileno()
    try:
        duplicate = os.dup(number)
    except OSError:
        return None
    try:
        sock = _adopt(duplicate)
    except OSError:
        os.close(duplicate)
        return None
    try:
        return _read_socket(number, sock)
    finally:
        sock.close()


def _adopt(descriptor: int) -> _socket.socket:
    """A socket object on a descriptor, made without a change to the open file that others share.

    The C class, because tests replace `socket.socket` with one that forbids. The flag, because where a default
    time-out is set the constructor would otherwise make the open file non-blocking.
    """
    if hasattr(socket, "SOCK_NONBLOCK"):
        return _socket.socket(-1, socket.SOCK_NONBLOCK, -1, descriptor)
    blocking = os.get_blocking(descriptor)
    sock = _socket.socket(-1, -1, -1, descriptor)
    os.set_blocking(descriptor, blocking)
    return sock


def _read_socket(number: int, sock: _socket.socket) -> SocketFacts:
    protocol = _protocol(sock)
    local, peer = _name(sock.getsockname), _name(sock.getpeername)
    info = _tcp_info(sock) if protocol == "TCP" else b""
    if _option(sock, socket.SOL_SOCKET, getattr(socket, "SO_ACCEPTCONN", None)):
        return SocketFacts(number, protocol, local, listening=True, queue=_accept_queue(info))
    return SocketFacts(
        descriptor=number,
        protocol=protocol,
        local=local,
        peer=peer,
        state=_TCP_STATES.get(info[0], "") if info else _unix_state(number, protocol),
        unread=_queued(number, "FIONREAD"),
        unsent=_queued(number, "TIOCOUTQ") if protocol == "TCP" else None,
    )


def _unix_state(number: int, protocol: str) -> str:
    """Whether a Unix stream's peer has closed, or does not read: there the kernel counts buffers, not bytes."""
    if protocol != "Unix stream" or not hasattr(select, "POLLRDHUP"):
        return ""
    events = select.poll()
    events.register(number, select.POLLRDHUP)
    if events.poll(0):
        return "the peer has closed"
    return "the peer has not read all that was written" if _queued(number, "TIOCOUTQ") else ""


def _option(sock: _socket.socket, level: int, option: int | None) -> int:
    if option is None:
        return 0
    try:
        return sock.getsockopt(level, option)
    except OSError:
        return 0


def _protocol(sock: _socket.socket) -> str:
    family, sort = sock.family, _option(sock, socket.SOL_SOCKET, socket.SO_TYPE)
    if family in (socket.AF_INET, socket.AF_INET6):
        return _INET_SORTS.get(sort, "raw IP")
    if family == getattr(socket, "AF_UNIX", None):
        return _UNIX_SORTS.get(sort, "Unix")
    try:
        return f"{_STRANGE} {socket.AddressFamily(family).name}"
    except ValueError:
        return f"{_STRANGE} {family}"


def _name(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OSError:
        return None


def _tcp_info(sock: _socket.socket) -> bytes:
    """The start of Linux's struct tcp_info: the state, and at 24 and 28 a listener's queue and its bound."""
    if sys.platform != "linux":
        return b""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return b""


def _accept_queue(info: bytes) -> tuple[int, int] | None:
    if len(info) < 32:
        return None
    waiting, most = struct.unpack_from("=II", info, 24)
    return waiting, most


def _queued(number: int, request: str) -> int | None:
    if sys.platform == "win32":
        return None
    import fcntl
    import termios

    try:
        answer = fcntl.ioctl(number, getattr(termios, request), b"\0" * 4)
    except (OSError, AttributeError):
        return None
    return int(struct.unpack("i", answer)[0])


# -- children


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process as the kernel sees it.

    Attributes:
        pid: Its number.
        parent: Its parent's.
        state: One letter, see proc_pid_stat(5): "R", "S", "D", "Z", "T", ...
        command: Its command line as for a shell; the bare name in brackets if it has none any more.
        started: When it started, in clock ticks since boot: tells it from a later process of the same number.
        waits_in: The kernel function it sleeps in, or "".
        deaf_to: Of SIGTERM and SIGINT, those that it ignores or blocks.
    """

    pid: int
    parent: int
    state: str
    command: str
    started: int = 0
    waits_in: str = ""
    deaf_to: tuple[str, ...] = ()

    @property
    def zombie(self) -> bool:
        """Whether it has ended and waits for its parent to take notice."""
        return self.state == "Z"

    @property
    def doing(self) -> str:
        """Its state in words: ``sleeping (in do_wait), ignores or blocks SIGTERM``."""
        words = _PROCESS_STATES.get(self.state, f"in state {self.state}")
        if self.waits_in:
            words += f" (in {self.waits_in})"
        if self.deaf_to:
            words += f", ignores or blocks {' and '.join(self.deaf_to)}"
        return words


def children() -> dict[int, int]:
    """The children of this process, zombies too: their numbers, each with the time at which it started.

    Costs a microsecond if there are none. Empty where the system cannot tell (macOS before Python 3.13, Windows).
    """
    if not _any_children():
        return {}
    if os.path.isdir(f"{_PROC}/self"):
        try:
            return _children_by_task() if os.path.exists(_task_file()) else _children_by_parent()
        except OSError:  # no descriptor left to look with
            return {}
    return {facts.pid: facts.started for facts in _ps() if facts.parent == os.getpid()}


def _any_children() -> bool:
    if not hasattr(os, "waitid"):
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _task_file(thread: int | None = None) -> str:
    pid = os.getpid()
    return f"{_PROC}/{pid}/task/{thread or pid}/children"


def _children_by_task() -> dict[int, int]:
    """Ask for the children of each thread (proc_tid_children(5); not every kernel is built with it)."""
    found = {}
    for thread in os.listdir(f"{_PROC}/self/task"):
        for number in _read(_task_file(int(thread))).split():
            parent_and_start = _parent_and_start(int(number))
            if parent_and_start is not None:
                found[int(number)] = parent_and_start[1]
    return found


_strangers: tuple[int, frozenset[str]] = (0, frozenset())


def _children_by_parent() -> dict[int, int]:
    """Ask every process for its parent, but each stranger only once: nobody becomes our child later.

    Unless this is the first process of a container, which inherits orphans.
    """
    global _strangers  # a cache; the pair is replaced whole, so threads need no lock
    me = os.getpid()
    known = _strangers[1] if _strangers[0] == me != 1 else frozenset()
    names = frozenset(os.listdir(_PROC))
    found = {}
    for name in names - known:
        facts = _parent_and_start(int(name)) if name.isdecimal() else None
        if facts is not None and facts[0] == me:
            found[int(name)] = facts[1]
    _strangers = (me, names.difference(map(str, found)))
    return found


def started(pid: int) -> int:
    """When a process was started, in the notation of `children`; 0 if it is gone or the system does not tell."""
    parent_and_start = _parent_and_start(pid)
    return parent_and_start[1] if parent_and_start else 0


def _parent_and_start(pid: int) -> tuple[int, int] | None:
    fields = _stat(pid)
    return (int(fields[1]), int(fields[19])) if fields else None


def _stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the third on (the second, a name, may hold anything); [] if it is gone."""
    return _read(f"{_PROC}/{pid}/stat").rpartition(")")[2].split()


def process_facts(pid: int) -> ProcessFacts | None:
    """What the kernel knows of a process, None if it is gone (reaped) or the system does not tell."""
    if not os.path.isdir(f"{_PROC}/self"):
        return next((facts for facts in _ps() if facts.pid == pid), None)
    fields = _stat(pid)
    if not fields:
        return None
    state = fields[0]
    # A process in state D may hold the lock that reading its command line needs, and keep us waiting.
    command = _read(f"{_PROC}/{pid}/cmdline") if state != "D" else ""
    return ProcessFacts(
        pid=pid,
        parent=int(fields[1]),
        state=state,
        command=_shell_words(command) or f"[{_read(f'{_PROC}/{pid}/comm').strip()}]",
        started=int(fields[19]),
        waits_in=_read(f"{_PROC}/{pid}/wchan").strip("0\n"),
        deaf_to=() if state == "Z" else _deaf_to(pid),
    )


def _shell_words(command: str) -> str:
    return shlex.join(command.rstrip("\0").split("\0")) if command else ""


def _deaf_to(pid: int) -> tuple[str, ...]:
    mask = 0
    for line in _read(f"{_PROC}/{pid}/status").splitlines():
        if line.startswith(("SigBlk:", "SigIgn:")):
            mask |= int(line.split()[1], 16)
    return tuple(number.name for number in (signal.SIGTERM, signal.SIGINT) if mask >> (number - 1) & 1)


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:  # gone, or not for us
        return ""


def _ps() -> list[ProcessFacts]:
    """All processes, as ps(1) lists them; nothing if it cannot be run. It is itself one of our children: left out."""
    import subprocess

    try:
        with subprocess.Popen(_PS, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
            try:
                output, _ = process.communicate(timeout=_PS_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return []
    except OSError:
        return []
    rows = [line.split(maxsplit=3) for line in output.decode("utf-8", "replace").splitlines()]
    found = [ProcessFacts(int(row[0]), int(row[1]), row[2][0], row[3]) for row in rows if len(row) == 4]
    return [facts for facts in found if facts.pid != process.pid]
