"""One root, and a leaf for each way in which a peer, a handler or a caller can go wrong.

Each leaf is also the built-in error that a caller would catch anyway. Errors cross process boundaries here, so each
survives pickling with its attributes.
"""

# ruff: noqa: N818 (named by what happened, as in "except PeerClosed": "Error" says nothing more)

from __future__ import annotations

import errno
from typing import Any

from ._bytes import what_came

__all__ = (
    "AddressError",
    "AddressInUse",
    "DeadlineExceeded",
    "HandlerFailed",
    "LeakFound",
    "Mismatch",
    "PeerClosed",
    "PeerRefused",
    "PeerReset",
    "RemoteError",
    "ServertestError",
    "StillRunning",
    "UnknownKeyword",
    "UsageError",
)


class ServertestError(Exception):
    """Root of everything that servertest raises on its own account."""

    @property
    def servertest_headline(self) -> str:
        """One line of the message, for summaries."""
        return str(self).partition("\n")[0]


class UsageError(ServertestError, ValueError):
    """The caller asked for something that cannot be; the message says what to do instead."""


class UnknownKeyword(UsageError, TypeError):
    """A function was given a keyword that it does not know; the message names the one that was probably meant."""


class AddressError(UsageError):
    """An address is malformed, too long for the system, or of a family that is missing here."""


class AddressInUse(ServertestError, OSError):
    """Something else holds the address; ``errno`` is ``EADDRINUSE``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # Set afterwards: given to OSError together with the text it would put "[Errno 98]" before our sentence.
        self.errno = errno.EADDRINUSE


class DeadlineExceeded(ServertestError, TimeoutError):
    """A wait did not end in time.

    Attributes:
        what: What was waited for, as it stands in the message after "for".
        seconds: The whole time that was allowed.
        so_far: The bytes that had come by then and are still there to be read; None where none were awaited.
    """

    def __init__(self, what: str, seconds: float, so_far: bytes | None = None, note: str = "") -> None:
        came = "" if so_far is None else f"; {what_came(so_far)}"
        super().__init__(f"waited {seconds:g} s for {what}{came}" + (f"\n{note}" if note else ""))
        self.what = what
        self.seconds = seconds
        self.so_far = so_far
        self._note = note

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.seconds, self.so_far, self._note)


class PeerClosed(ServertestError, ConnectionError, EOFError):
    """The peer closed the connection in the middle of what was being read, or takes nothing more.

    Attributes:
        so_far: The bytes that had come by then and are still there to be read.
    """

    def __init__(self, message: str, so_far: bytes = b"") -> None:
        super().__init__(message)
        self.so_far = so_far

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.so_far)


class PeerReset(ServertestError, ConnectionResetError):
    """The peer cut the connection off (TCP RST); ``errno`` is ``ECONNRESET``.

    Attributes:
        so_far: The bytes that had come by then and are still there to be read.
    """

    def __init__(self, message: str, so_far: bytes = b"") -> None:
        super().__init__(message)
        self.errno = errno.ECONNRESET
        self.so_far = so_far

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.so_far)


class PeerRefused(ServertestError, ConnectionRefusedError):
    """Nobody listens at the address; ``errno`` is ``ECONNREFUSED``."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.ECONNREFUSED


class Mismatch(ServertestError, AssertionError):
    """The peer sent something else than was expected; the message shows both."""


class HandlerFailed(ServertestError, AssertionError):
    """A handler, a hook or the serving loop raised, and nobody had claimed the error."""


class StillRunning(ServertestError, RuntimeError):
    """Something did not end by itself and had to be forced; the message is the dump of what it was doing."""


class LeakFound(ServertestError, AssertionError):
    """A test left something behind: a thread, a child, a descriptor, a path."""


class RemoteError(ServertestError):
    """Stands for an exception of another process that could not be brought over whole.

    Attributes:
        type_name: The name of the exception's class there.
        traceback_text: The traceback as it was printed there.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.type_name, self.message, self.traceback_text)


# What users read in a traceback is what they may import.
for _name in __all__:
    globals()[_name].__module__ = "servertest"
