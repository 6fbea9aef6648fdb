"""Asks the API as any client would, with nothing but HTTP and JSON."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from servertest.proxy.toxiproxy import ApiServer
from tests.proxy.conftest import LIMIT

__all__ = ("Api", "Reply")


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        status: The HTTP status.
        body: What its JSON says, or its text; None for an empty one.
        headers: The headers.
    """

    status: int
    body: Any
    headers: http.client.HTTPMessage

    @property
    def error(self) -> str:
        """What is wrong; the body's status has to be the answer's."""
        assert self.body["status"] == self.status
        return str(self.body["error"])


class Api:
    """A client on a connection of its own for each request."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request. A body that is neither bytes nor None goes as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        client = http.client.HTTPConnection(*self.server.address, timeout=LIMIT)
        try:
            client.request(method, path, body, headers)
            return read(client)
        finally:
            client.close()


def read(client: http.client.HTTPConnection) -> Reply:
    response = client.getresponse()
    text = response.read()
    is_json = (response.headers.get("Content-Type") or "").startswith("application/json")
    body = json.loads(text) if is_json else text.decode() or None
    return Reply(response.status, body, response.headers)
