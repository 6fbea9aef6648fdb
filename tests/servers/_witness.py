"""A server that remembers what became of its requests, for all tests that ask for the order of its hooks."""

from __future__ import annotations

import sys
from typing import Any

from servertest.servers import TCPServer

__all__ = ("WitnessMixIn",)


class WitnessMixIn(TCPServer):
    """Remembers which of its hooks were called, and what handlers raised; fails in those hooks that it is told to."""

    def __init__(self, handler: Any, **failing: BaseException) -> None:
        self.calls: list[str] = []
        self.errors: list[BaseException | None] = []
        self.failing = failing
        super().__init__(("127.0.0.1", 0), handler)

    def fail(self, where: str) -> None:
        """Raise what was asked for here, if anything was."""
        if where in self.failing:
            raise self.failing[where]

    def get_request(self) -> Any:
        self.calls.append("get_request")
        return super().get_request()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.calls.append("verify_request")
        self.fail("verify_request")
        return super().verify_request(request, client_address) and "refuse" not in self.failing

    def process_request(self, request: Any, client_address: Any) -> None:
        self.calls.append("process_request")
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.calls.append("finish_request")
        super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.calls.append("shutdown_request")
        super().shutdown_request(request)

    def close_request(self, request: Any) -> None:
        self.calls.append("close_request")
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.calls.append("handle_error")
        self.errors.append(sys.exception())
        self.fail("handle_error")
