"""Who holds an address that somebody else wants: asked of the kernel (Linux only) once a bind has failed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._support import format_address
from ._kernel import descriptors, process_facts, socket_facts
from ._leak_origins import is_socket

if TYPE_CHECKING:
    from .._support import Address

__all__ = ("describe_holder",)

_INET_TABLES = ("tcp", "tcp6", "udp", "udp6")


def describe_holder(address: Address | None) -> str:
    """Half a sentence about who holds an address; "" if that cannot be told."""
    if address is None or not os.path.isdir("/proc/net"):
        return ""
    inodes = set(_inodes(address))
    if not inodes:
        return "" if isinstance(address, tuple) else _what_lies_there(os.fsdecode(address))
    return _in_this_process(inodes) or _in_another(inodes)


def _what_lies_there(path: str) -> str:
    if not os.path.lexists(path):
        return ""
    if not is_socket(path):
        return "what is there is no socket"
    return "no process holds it: the file is left over from a socket that was closed"


def _inodes(address: Address) -> Iterator[str]:
    """The kernel's numbers for the sockets that are bound to an address."""
    if not isinstance(address, tuple):
        name = format_address(address)
        yield from (line[6] for line in _table("unix") if line[7:] == [name])
        return
    port = f"{address[1]:04X}"
    for table in _INET_TABLES:
        for line in _table(table):
            # A socket that is listening, or not connected, has no remote port; others are merely connections there.
            if line[1].endswith(f":{port}") and line[2].endswith(":0000"):
                yield line[9]


def _table(name: str) -> Iterator[list[str]]:
    """The lines of proc_pid_net(5), split, without the head."""
    with contextlib.suppress(OSError), open(f"/proc/net/{name}", encoding="utf-8", errors="replace") as file:
        next(file)
        yield from (line.split() for line in file)


def _in_this_process(inodes: set[str]) -> str:
    for number, target in descriptors().items():
        if target.startswith("socket:") and target.strip("socket:[]") in inodes:
            facts = socket_facts(number)
            return f"it is held by this process: {facts.title if facts else 'a socket'} (descriptor {number})"
    return ""


def _in_another(inodes: set[str]) -> str:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if inodes.isdisjoint(_sockets_of(pid)):
            continue
        facts = process_facts(int(pid))
        return f"it is held by process {pid}" + (f": {facts.command}" if facts else "")
    return ""


def _sockets_of(pid: str) -> Iterator[str]:
    """The kernel's numbers for the sockets of a process, as far as it lets us look."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.startswith("socket:["):
                    yield target[8:-1]
