"""What the API answers when it cannot do what it was asked for."""

# ruff: noqa: N818 (named as the errors are that it belongs to)

from __future__ import annotations

from typing import Any

from ..._support import UsageError

__all__ = ("ApiProblem",)


class ApiProblem(UsageError):
    """A request that cannot be met.

    Attributes:
        message: What is wrong.
        status: The HTTP status.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.status)

    @property
    def body(self) -> dict[str, Any]:
        """As the answer says it."""
        return {"error": self.message, "status": self.status}


def bad_body(problem: object) -> ApiProblem:
    """The body is malformed, or holds what cannot be."""
    return ApiProblem(f"bad request body: {problem}")


def missing(field: str) -> ApiProblem:
    """A field that has to be there is not."""
    return ApiProblem(f"missing required field: {field}")


def no_such_proxy() -> ApiProblem:
    """There is no proxy of this name."""
    return ApiProblem("proxy not found", 404)


def no_such_toxic() -> ApiProblem:
    """The proxy has no toxic of this name."""
    return ApiProblem("toxic not found", 404)


def proxy_exists() -> ApiProblem:
    """The name is taken."""
    return ApiProblem("proxy already exists", 409)


def toxic_exists() -> ApiProblem:
    """The name is taken."""
    return ApiProblem("toxic already exists", 409)
