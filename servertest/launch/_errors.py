"""Errors that happened at the server, and the list in which they wait for the test."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias, overload

from .._support import DEFAULT_TIMEOUT, Deadline, Mismatch, RemoteError, UsageError
from ..transcript import describe_error

__all__ = ("Errors", "ExpectedError", "HandlerError")

ErrorTypes: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class HandlerError:
    """An exception that left a handler, one of its hooks or the serving loop.

    Attributes:
        type_name: Name of the exception's class, with its module unless built in.
        message: The exception as text.
        exception: The exception itself; from another process a copy, or a `RemoteError` if it could not be copied.
        traceback_text: The traceback as Python prints it.
        connection: Number of the connection in the transcript; 0 if it concerns none.
        where: What was running: "handle", "setup", "serving loop", ...
    """

    type_name: str
    message: str
    exception: BaseException
    traceback_text: str
    connection: int = 0
    where: str = "handler"

    @classmethod
    def capture(
        cls, exception: BaseException, *, where: str = "handler", connection: int = 0
    ) -> HandlerError:
        """Describe an exception while its traceback is still at hand."""
        type_name, message, text = describe_error(exception)
        return cls(type_name, message, exception, text, connection, where)

    def __str__(self) -> str:
        place = f"{self.where}, connection {self.connection}" if self.connection else self.where
        if "\n" in self.message:
            return f"{self.type_name} (in {place}): {self.message}"
        return (
            f"{self.type_name}: {self.message} (in {place})"
            if self.message
            else f"{self.type_name} (in {place})"
        )

    def is_a(self, types: ErrorTypes, match: str | re.Pattern[str] | None = None) -> bool:
        """Whether it is of one of these classes, and its message has the pattern in it."""
        wanted = types if isinstance(types, tuple) else (types,)
        if not isinstance(self.exception, wanted) and not self._stands_for(wanted):
            return False
        return match is None or re.search(match, self.message) is not None

    def _stands_for(self, wanted: tuple[type[BaseException], ...]) -> bool:
        """For an exception that could not be brought over from its process: by the name of its class."""
        names = (f"{one.__module__}.{one.__qualname__}".removeprefix("builtins.") for one in wanted)
        return isinstance(self.exception, RemoteError) and self.type_name in names


class Errors(Sequence[HandlerError]):
    """What went wrong at a server and was not claimed yet, in the order in which it came. It may grow at any time."""

    def __init__(self) -> None:
        self._errors: list[HandlerError] = []
        self._expected: list[ExpectedError] = []
        self._changed = threading.Condition(threading.RLock())

    def __repr__(self) -> str:
        return f"<Errors: {'; '.join(map(str, self._errors)) or 'none'}>"

    def __len__(self) -> int:
        return len(self._errors)

    def __iter__(self) -> Iterator[HandlerError]:
        return iter(list(self._errors))

    @overload
    def __getitem__(self, index: int) -> HandlerError: ...
    @overload
    def __getitem__(self, index: slice) -> list[HandlerError]: ...
    def __getitem__(self, index: int | slice) -> HandlerError | list[HandlerError]:
        return self._errors[index]

    def add(self, error: HandlerError) -> None:
        """Take an error in, unless somebody has claimed it beforehand."""
        with self._changed:
            for expected in self._expected:
                if expected.standing and expected.wants(error):
                    self._expected.remove(expected)
                    return
            self._errors.append(error)
            self._changed.notify_all()

    def pop(self, index: int = -1, *, timeout: float = DEFAULT_TIMEOUT) -> HandlerError:
        """Claim an error: it no longer fails the test. Waits for one if there is none yet.

        Args:
            index: Which one, as for a list; the last one by default.
            timeout: Seconds to wait for it. A handler's error is here before its client sees the connection close,
                unless the server runs in another process.

        Raises:
            DeadlineExceeded: There was no error.
        """
        needed = index + 1 if index >= 0 else -index
        deadline = Deadline(timeout, f"an error at the server (number {index} of those not claimed)")
        with self._changed:
            self._wait(lambda: len(self._errors) >= needed, deadline)
            if len(self._errors) < needed:
                raise deadline.exceeded()
            return self._errors.pop(index)

    def clear(self) -> list[HandlerError]:
        """Claim all errors that are here, and return them."""
        with self._changed:
            errors, self._errors = self._errors, []
            return errors

    def expect(self, expected: ExpectedError) -> list[HandlerError]:
        """Know of a block that waits for an error; returns those that were here before it."""
        with self._changed:
            self._expected.append(expected)
            return list(self._errors)

    def claim(self, expected: ExpectedError, deadline: Deadline) -> HandlerError | None:
        """Claim the first error that is wanted.

        Returns:
            The error; None if none comes in time, or if one has come that nobody wants.
        """
        with self._changed:
            self._wait(
                lambda: any(map(expected.wants, self._errors)) or self.unexpected(expected) != [], deadline
            )
            found = next(filter(expected.wants, self._errors), None)
            if found is not None:
                # By identity: two exceptions may well be equal in all that is compared.
                self._errors = [error for error in self._errors if error is not found]
            if found is not None or not expected.standing:
                self._expected.remove(expected)
            return found

    def unexpected(self, expected: ExpectedError) -> list[HandlerError]:
        """The errors that have come since a block began, and that no block wants."""
        before = set(map(id, expected.before))
        return [
            error
            for error in self._errors
            if id(error) not in before and not any(one.wants(error) for one in self._expected)
        ]

    def _wait(self, met: Callable[[], bool], deadline: Deadline) -> None:
        while not met() and not deadline.expired:
            self._changed.wait(deadline.remaining())


def _check_types(types: Any) -> None:
    for one in types if isinstance(types, tuple) else (types,):
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise UsageError(f"expects_error() takes a class of exceptions, or a tuple of them, not {one!r}")


class ExpectedError:
    """The block of `Running.expects_error`.

    An error that was there before the block counts as well, if nobody has claimed it: what a handler raises while the
    test enters the block would otherwise be expected or not as luck has it.

    Attributes:
        error: The error that was claimed, once the block has ended.
        standing: Whether the block has failed before its error came: the error is claimed whenever it comes.
        before: What had come and was not claimed when the block began.
    """

    def __init__(
        self,
        errors: Errors,
        types: ErrorTypes,
        match: str | re.Pattern[str] | None,
        timeout: float,
        catch_up: Callable[[], object] = lambda: None,
    ) -> None:
        _check_types(types)
        self._errors = errors
        self._types = types
        self._match = match
        self._timeout = timeout
        self._catch_up = catch_up
        self.error: HandlerError | None = None
        self.standing = False
        self.before: list[HandlerError] = []

    def wants(self, error: HandlerError) -> bool:
        """Whether it is one of those that the block waits for."""
        return error.is_a(self._types, self._match)

    def __enter__(self) -> Self:
        self.before = self._errors.expect(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._catch_up()
        if error is not None:
            self.standing = True
            self.error = self._errors.claim(self, Deadline(0, "an expected error at the server"))
            return
        deadline = Deadline(self._timeout, "an expected error at the server")
        self.error = self._errors.claim(self, deadline)
        if self.error is None:
            raise Mismatch(self._complaint(deadline))

    @property
    def exception(self) -> BaseException:
        """The exception that was claimed."""
        assert self.error is not None, "the block has not ended"
        return self.error.exception

    def _complaint(self, deadline: Deadline) -> str:
        types = self._types if isinstance(self._types, tuple) else (self._types,)
        what = " or ".join(one.__name__ for one in types)
        like = f" with a message that matches {self._pattern!r}" if self._match is not None else ""
        within = f" within {self._timeout:g} s" if deadline.expired else ""
        came = "\n".join(f"  {error}" for error in self._errors)
        instead = f"what came instead:\n{came}" if came else "no error came at all"
        return f"expected {what}{like} at the server{within}; {instead}"

    @property
    def _pattern(self) -> str:
        return self._match.pattern if isinstance(self._match, re.Pattern) else str(self._match)
