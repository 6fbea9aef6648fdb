"""ErrorCollectorMixIn: errors of handlers are kept, and can be raised where somebody looks at them."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ("ErrorCollectorMixIn",)


class ErrorCollectorMixIn:
    """Keeps what handlers raised instead of printing it. It goes first among the bases.

    `collected_errors` holds the exceptions in the order in which they came, each with the client's address as a note. raise_collected_errors() raises
    them. Errors in the children of a forking server stay there: collect them in the child, or launch the server with servertest.
    """

    @property
    def collected_errors(self) -> list[BaseException]:
        """What handlers raised so far. The list may be changed: what is taken out is not raised."""
        errors: list[BaseException] = self.__dict__.setdefault("_ErrorCollectorMixIn__errors", [])
        return errors

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep the exception that is being handled."""
        error = sys.exc_info()[1]
        if error is None:
            raise RuntimeError("handle_error() was called outside an except block")
        error.add_note(f"while serving a request from {client_address!r}")
        self.collected_errors.append(error)

    def raise_collected_errors(self) -> None:
        """Raise what was collected, and forget it: a single exception as it is, several as an ExceptionGroup. Nothing, if there is nothing."""
        errors = self.collected_errors[:]
        self.collected_errors.clear()
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup(f"{len(errors)} requests to {type(self).__name__} failed", errors)
