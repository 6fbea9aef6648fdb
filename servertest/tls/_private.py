"""Where private keys may lie: in memory, or in files that nobody else can open."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("readable_path", "write_private")


@contextmanager
def readable_path(secret: bytes) -> Iterator[str]:
    """A path from which this process can read some bytes for as long as the block lasts.

    `ssl.SSLContext.load_cert_chain` takes a private key from a file and from nowhere else (CPython issue 60691). On
    Linux that is an anonymous file in memory (``memfd_create(2)``), which never has a name in any directory.
    Elsewhere, and where ``/proc`` is missing, it is a file with mode 0600 in a new directory with mode 0700, and both
    are removed when the block ends; a process that is killed inside the block leaves them behind.
    """
    descriptor = _memory_file()
    if descriptor is None:
        directory = Path(tempfile.mkdtemp(prefix="servertest-"))
        try:
            yield str(write_private(directory / "key.pem", secret))
        finally:
            shutil.rmtree(directory)
        return
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(secret)
        yield _descriptor_path(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> Path:
    """Create a file that only its owner can read (mode 0600 from its first moment on).

    Raises:
        FileExistsError: There is something at this path, be it a dangling link.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
    except BaseException:
        path.unlink()
        raise
    return path


def _memory_file() -> int | None:
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("servertest-key")
    except OSError:  # an old kernel, or a sandbox that forbids it
        return None
    if os.access(_descriptor_path(descriptor), os.R_OK):
        return descriptor
    os.close(descriptor)
    return None


def _descriptor_path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"
