"""Unix socket paths that are short enough, private, and gone afterwards."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
import weakref
from typing import TYPE_CHECKING

from ._errors import AddressError, UsageError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ("SocketDirectory", "check_path", "path_limit")

# sun_path holds 108 bytes on Linux and 104 on macOS and the BSDs (unix(7), unix(4)); the last one is the NUL.
_LIMIT = 107 if sys.platform.startswith("linux") else 103


def path_limit() -> int:
    """How many bytes a Unix socket path may have on this platform."""
    return _LIMIT


def check_path(path: str | bytes) -> None:
    """Make sure that the system can bind a Unix socket here. An abstract name (leading NUL) may have as many bytes
    after the NUL.

    Raises:
        AddressError: The path is empty, too long, or holds a NUL.
    """
    raw = os.fsencode(path)
    name = raw[1:] if raw.startswith(b"\0") else raw
    if not raw:
        raise AddressError("a Unix socket path must not be empty")
    if len(name) > _LIMIT:
        raise AddressError(
            f"the Unix socket path {os.fsdecode(raw)!r} has {len(name)} bytes; the limit here is {_LIMIT}:"
            " take a shorter directory, or leave the address out to get a short temporary one"
        )
    if name is raw and b"\0" in raw:
        raise AddressError(f"the Unix socket path {os.fsdecode(raw)!r} holds a NUL byte")


class SocketDirectory:
    """A private directory (mode 0700) for Unix sockets, under the shortest temporary directory that is writable.

    `path` hands out names in it; `close`, or leaving the ``with`` block, removes it with all that it holds. A forked
    child may drop its copy: only the process that made the directory removes it.
    """

    def __init__(self) -> None:
        self.directory = _make_directory()
        self._count = 0
        self._finalizer = weakref.finalize(self, _forgotten, self.directory, os.getpid())

    def __repr__(self) -> str:
        return f"<SocketDirectory {self.directory}{' closed' if self.closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the directory has been removed."""
        return not self._finalizer.alive

    def path(self, hint: str = "s") -> str:
        """A path in the directory that was not handed out before, with nothing there yet.

        Args:
            hint: Begins the name; cut where the whole path would become too long.

        Raises:
            UsageError: The directory is closed, or the hint holds a slash or a NUL.
            AddressError: Even the shortest name does not fit.
        """
        if self.closed:
            raise UsageError(f"the socket directory {self.directory} is closed")
        if "/" in hint or "\0" in hint:
            raise UsageError(f"{hint!r} is to begin a file name: leave out the slash or NUL")
        self._count += 1
        suffix = f"{self._count}"
        room = _LIMIT - len(os.fsencode(os.path.join(self.directory, suffix)))
        path = os.path.join(self.directory, _cut(hint, room) + suffix)
        check_path(path)
        return path

    def close(self) -> None:
        """Remove the directory and everything in it. Twice is once."""
        detached = self._finalizer.detach()
        if detached is not None:
            _remove(self.directory, detached[2][1])


def _make_directory() -> str:
    """Raises AddressError if even the shortest temporary directory leaves no room for a name."""
    wanted = tempfile.gettempdir()
    candidates = [wanted, "/tmp", "/var/tmp"] if os.name == "posix" else [wanted]  # noqa: S108 (mkdtemp makes it private)
    usable = [place for place in candidates if os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)]
    shortest = min(usable or [wanted], key=lambda place: len(os.fsencode(place)))
    return tempfile.mkdtemp(prefix="st-", dir=shortest)


def _cut(hint: str, room: int) -> str:
    """The hint's beginning that has at most ``room`` bytes, whole characters only."""
    while hint and len(os.fsencode(hint)) > room:
        hint = hint[:-1]
    return hint


def _remove(directory: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(directory)


def _forgotten(directory: str, owner: int) -> None:
    if os.getpid() != owner:
        return
    _remove(directory, owner)
    warnings.warn(f"the socket directory {directory} was not closed", ResourceWarning, stacklevel=2)
