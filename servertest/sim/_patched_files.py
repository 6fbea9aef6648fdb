"""Descriptors of the simulation, where programs use the functions of the system on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._handles import EventFd, PipeReader, PipeWriter
from ._replacing import either, on_virtual
from ._socket import SimSocket

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("dup", "files")

_Function = Callable[..., Any]


def files() -> list[tuple[Any, Any]]:
    """Functions on descriptors, each with what replaces it."""
    pairs = [
        (os.close, on_virtual(os.close, lambda kernel, fd: kernel.network.descriptors.close(fd))),
        (os.read, on_virtual(os.read, _read)),
        (os.write, on_virtual(os.write, _write)),
        (os.dup, on_virtual(os.dup, lambda kernel, fd, *more: dup(kernel, fd))),
        (os.set_inheritable, on_virtual(os.set_inheritable, lambda kernel, fd, flag: None)),
        (os.get_inheritable, on_virtual(os.get_inheritable, lambda kernel, fd: False)),
        (os.pipe, either(os.pipe, _pipe)),
    ]
    if hasattr(os, "set_blocking"):
        pairs.append((os.set_blocking, on_virtual(os.set_blocking, _set_blocking)))
    if hasattr(os, "pipe2"):
        pairs.append((os.pipe2, either(os.pipe2, _pipe)))
    if hasattr(os, "eventfd"):
        pairs += [
            (os.eventfd, either(os.eventfd, _eventfd)),
            (
                os.eventfd_read,
                on_virtual(os.eventfd_read, lambda kernel, fd: kernel.network.handle(fd).read()),
            ),
            (os.eventfd_write, on_virtual(os.eventfd_write, _eventfd_write)),
        ]
    if sys.platform != "win32":
        import fcntl

        pairs.append((fcntl.ioctl, on_virtual(fcntl.ioctl, _ioctl)))
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


def dup(kernel: Kernel, fd: int) -> int:
    """What the call of the same name does."""
    descriptors = kernel.network.descriptors
    return int(descriptors.add(descriptors.get(fd)))
