"""A WSGI application, served by wsgiref's handler on any stream server."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.util import FileWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("wsgi_handler",)


class _Handler(WSGIRequestHandler):
    """wsgiref's request handler, with an application of its own instead of its server's.

    wsgiref answers 500 to whatever the application raises, and prints it. Here the client gets that answer, too; and then
    the exception goes on to the server, which reports it as any handler's.
    """

    application: Callable[..., Iterable[bytes]]

    def setup(self) -> None:
        """Make the rest of what wsgiref expects of a server of its own kind."""
        super().setup()
        self.failed: BaseException | None = None
        client: object = self.client_address
        if not isinstance(client, tuple):
            # A Unix client has no host, and the WSGI environment wants one.
            self.client_address = ("127.0.0.1", 0)
        address: Any = self.server.server_address
        name, port = address[:2] if isinstance(address, tuple) else ("localhost", 0)
        environ = {
            "SERVER_NAME": name,
            "SERVER_PORT": str(port),
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REMOTE_HOST": "",
            "CONTENT_LENGTH": "",
            "SCRIPT_NAME": "",
        }
        if hasattr(self.request, "cipher"):
            environ["HTTPS"] = "on"  # wsgiref tells wsgi.url_scheme by it
        # Only what the handler reads of its server; not the server itself, which is somebody's own.
        self.server = cast("Any", SimpleNamespace(base_environ=environ, get_app=lambda: self._call))

    def finish(self) -> None:
        """Let the error out, now that the client has its answer."""
        super().finish()
        if self.failed is not None:
            raise self.failed

    def _call(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The application, with its errors kept."""
        try:
            chunks = type(self).application(environ, start_response)
        except BaseException as error:
            self.failed = error
            raise
        # wsgiref sends a file of its own kind in a way of its own.
        return chunks if isinstance(chunks, FileWrapper) else _Chunks(chunks, self)

    def get_stderr(self) -> Any:
        """Where wsgi.errors goes; and what wsgiref prints of an error, which is reported as it is."""
        return _Errors(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the transcript has it all."""


class _Errors:
    """Standard error, until the application has failed."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler

    def write(self, text: str) -> int:
        return sys.stderr.write(text) if self._handler.failed is None else len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        sys.stderr.flush()


class _Chunks:
    """What the application has returned, watched while it is iterated."""

    def __init__(self, chunks: Iterable[bytes], handler: _Handler) -> None:
        self._chunks = chunks
        self._handler = handler
        if hasattr(chunks, "close"):
            self.close = chunks.close

    def __len__(self) -> int:
        # wsgiref asks, to send a Content-Length where there is one chunk; TypeError is the answer of a generator.
        return len(cast("Any", self._chunks))

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except GeneratorExit:
            raise  # the client went away, and nobody wants the rest
        except BaseException as error:
            self._handler.failed = error
            raise


def wsgi_handler(application: Callable[..., Iterable[bytes]]) -> type[WSGIRequestHandler]:
    """A handler class that serves this application."""
    return type("WSGIHandler", (_Handler,), {"application": staticmethod(application)})
