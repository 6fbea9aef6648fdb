"""Errors that happened at the server, and the list in which they wait for the test."""

from __future__ import annotations

import traceback
from dataclasses import dataclass

__all__ = ("HandlerError",)


@dataclass(frozen=True, slots=True)
class HandlerError:
    """An exception that left a handler, one of its hooks or the serving loop.

    Attributes:
        type_name: Name of the exception's class, with its module unless built in.
        message: The exception as text.
        exception: The exception itself; from another process a copy, or a `RemoteError` if it could not be copied.
        traceback_text: The traceback as Python prints it.
        connection: Number of the connection in the transcript; 0 if it concerns none.
        where: What was running: "handler", "serving loop", "handle_error", ...
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
        kind = type(exception)
        module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
        text = "".join(traceback.format_exception(exception))
        return cls(f"{module}{kind.__qualname__}", str(exception), exception, text, connection, where)
